//! Rows that are past their time and that the database has not dropped yet.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use message_webhook::{
    domain::{Clock, SystemClock},
    store::{Lifecycle, MessageStore, scylla::ScyllaStore},
};
use scylla::{client::session_builder::SessionBuilder, value::CqlTimeuuid};
use uuid::{Builder, Uuid};

use crate::{
    conformance::fixture::{accepted, message, sender, sid, up_to},
    support::{
        eventually,
        ring::{self, Keyspace},
    },
};

/// More expired rows than Cassandra goes through for one answer.
const EXPIRED: u64 = 100_200;
/// Ticks since 1582 at the beginning of 1970, and in a week, which is one partition of a sender's list.
const EPOCH: u64 = 0x01B2_1DD2_1381_4000;
const WEEK: u64 = 7 * 86_400 * 10_000_000;

fn attempt(ticks: u64, number: u64) -> Uuid {
    let [.., a, b, c, d, e] = number.to_be_bytes();
    Builder::from_gregorian_timestamp(ticks, 0, &[1, a, b, c, d, e]).into_uuid()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_a_sender_does_not_go_through_what_is_expired() {
    let Some(nodes) = ring::nodes() else { return };
    // In the middle of a week, so that the oldest one that is listed has what is expired, too.
    let now = EPOCH + u64::try_from(SystemClock.now().as_micros()).expect("after 1970") * 10;
    let retention = Duration::from_secs((now % WEEK + WEEK / 2) / 10_000_000);
    let keyspace = Keyspace::new(nodes, |options| options.retention = retention).await;
    let options = keyspace.options();
    let store = ScyllaStore::connect(options.clone(), Arc::new(SystemClock)).await.expect("a store");
    accepted(store.submit(message("m")).await.expect("decided"));
    let session = SessionBuilder::new().known_nodes(&options.nodes).build().await.expect("a session");
    let oldest = now - u64::try_from(retention.as_nanos() / 100).expect("some days");
    let from = sender("user");
    let insert = format!(
        "INSERT INTO {}.messages_by_sender (org_id, env, from_id, period, attempt_id, message_sid) \
         VALUES (?, ?, ?, ?, ?, 'gone') USING TTL 1",
        options.keyspace
    );
    let insert = session.prepare(insert).await.expect("prepared");
    let period = i32::try_from(oldest / WEEK).expect("small");
    let writing = (0..EXPIRED).map(|number| {
        let (session, insert, from) = (&session, &insert, &from);
        async move {
            let attempt = CqlTimeuuid::from(attempt(oldest - 10_000_000 - number, number));
            let values = (from.org.as_str(), from.env.as_str(), from.from_id.as_str(), period, attempt);
            session.execute_unpaged(insert, values).await.expect("written");
        }
    });
    stream::iter(writing).buffer_unordered(128).collect::<Vec<_>>().await;
    // By the database's own clock, which tells by a read of the last one.
    let last = attempt(oldest - 10_000_000 - (EXPIRED - 1), EXPIRED - 1);
    let read = format!(
        "SELECT message_sid FROM {}.messages_by_sender WHERE org_id = ? AND env = ? AND from_id = ? AND period = ? \
         AND attempt_id = ?",
        options.keyspace
    );
    eventually("the rows to expire", async || {
        let values = (from.org.as_str(), from.env.as_str(), from.from_id.as_str(), period, CqlTimeuuid::from(last));
        let rows = session.query_unpaged(read.as_str(), values).await.expect("read").into_rows_result().expect("rows");
        (rows.rows_num() == 0).then_some(())
    })
    .await;
    let page = store.list(&from, None, up_to(10)).await.expect("a page");
    assert_eq!(page.messages.iter().map(sid).collect::<Vec<_>>(), ["m"]);
    store.close().await.expect("closed");
}

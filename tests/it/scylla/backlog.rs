//! Much that submissions left half done, and what cannot be finished at all: the resolver comes through it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use message_webhook::{
    domain::{Kind, NewMessage, SystemClock},
    store::{
        FeedFrom, FeedOrder, FeedStart, FeedStore, Lifecycle, MessageStore,
        scylla::{Options, ScyllaStore},
    },
};
use scylla::client::session_builder::SessionBuilder;
use scylla_proxy::{Condition, Reaction, RequestReaction};

use super::frames::{Behind, CLAIM};
use crate::{
    conformance::fixture::{accepted, content, key, message, place_of, read_feed, sids, take},
    support::{
        eventually,
        leases::look,
        ring::{self, Keyspace},
        wire::Wire,
    },
};

const BACKLOG: usize = 4_000;
/// So long each look at a reference takes: as a busy database answers, and far too long for a whole page of them.
const SLOW: Duration = Duration::from_millis(40);
const READ_REFERENCE: &[&str] = &["SELECT org_id, env, message_sid, accepted_at", ".feed WHERE"];

fn one_slot(options: &mut Options) {
    (options.shards, options.slots) = (1, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_thousands_on_a_slow_database_is_resolved_by_a_fresh_process() {
    let Some(nodes) = ring::nodes() else { return };
    let mut wire = Wire::before(&nodes[0]).await;
    let keyspace = Keyspace::new(nodes, one_slot).await;
    let options = keyspace.options();
    let session = SessionBuilder::new().known_nodes(&options.nodes).build().await.expect("a session");
    let begun = look(&session, &options.keyspace, 0).await.expect("a lease");
    let store = Arc::new(ScyllaStore::connect(options.clone(), Arc::new(SystemClock)).await.expect("a store"));
    let submit = |number: usize| {
        let store = Arc::clone(&store);
        async move {
            let message = NewMessage::new(key(&format!("m{number}")), content(&format!("user-{}", number % 50), None));
            accepted(store.submit(message).await.expect("decided"));
        }
    };
    stream::iter((0..BACKLOG).map(submit)).buffer_unordered(48).collect::<Vec<_>>().await;
    store.close().await.expect("closed");
    // So it looks when all of them ended between their references and their claims, and nobody resolved since.
    let table = format!("{}.leases", options.keyspace);
    let ended = look(&session, &options.keyspace, 0).await.expect("a lease");
    let back = format!(
        "UPDATE {table} SET beat = {}, resolving_upto = {}, resolved_upto = {} WHERE name = 'resolver' AND slot = 0 IF beat = {}",
        ended.beat + 1,
        begun.resolving_upto,
        begun.resolved_upto,
        ended.beat
    );
    session.query_unpaged(back, &[]).await.expect("moved back");
    session.query_unpaged(format!("TRUNCATE {}.messages", options.keyspace), &[]).await.expect("truncated");

    let behind = Options { nodes: wire.nodes(), ..options.clone() };
    let known = ScyllaStore::connect_briefly(behind.clone(), Arc::new(SystemClock)).await.expect("a store");
    wire.learn().await;
    known.close().await.expect("closed");
    wire.heal();
    wire.on_requests(&wire.requests_of(READ_REFERENCE), &RequestReaction::delay(SLOW));
    let fresh = ScyllaStore::connect(behind, Arc::new(SystemClock)).await.expect("a store");
    tokio::time::timeout(Duration::from_secs(240), fresh.settle()).await.expect("resolved").expect("a mark");
    let (items, _) = read_feed(&fresh, place_of(&fresh, FeedStart::Start).await, 1_000).await;
    let delivered: BTreeSet<_> = sids(&items).into_iter().collect();
    assert_eq!((items.len(), delivered.len()), (BACKLOG, BACKLOG));
    fresh.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_cannot_be_settled_holds_up_no_other_of_its_slot() {
    let Some(mut behind) = Behind::new(|options| {
        one_slot(options);
        options.deadline = Duration::from_secs(1);
    })
    .await
    else {
        return;
    };
    let mut reader = behind.store.follow(FeedFrom::Start(FeedStart::Now), FeedOrder::Ordered).await.expect("a reader");
    let claims_of = |behind: &Behind, sid: &str| {
        behind.wire.requests_of(CLAIM).and(Condition::BodyContainsCaseSensitive(sid.as_bytes().into()))
    };
    let stuck = claims_of(&behind, "stuck");
    behind.wire.on_requests(&stuck, &RequestReaction::drop_frame());
    let error = behind.store.submit(message("stuck")).await.expect_err("not decided");
    assert_eq!(error.kind(), Kind::StoreUnavailable);
    for number in 0..3 {
        // The resolver is at the key that cannot be settled by now, or will be.
        let sid = format!("half-{number}");
        let once = claims_of(&behind, &sid).and(Condition::TrueForLimitedTimes(1));
        behind.wire.on_requests(&once, &RequestReaction::drop_frame());
        behind.store.submit(message(&sid)).await.expect_err("not decided");
        eventually(&sid, async || behind.store.get(&key(&sid)).await.expect("read")).await;
    }
    assert_eq!(behind.store.get(&key("stuck")).await.expect("read"), None);
    behind.wire.heal();
    assert_eq!(sids(&take(&mut *reader, 4).await), ["stuck", "half-0", "half-1", "half-2"]);
    behind.end().await;
}

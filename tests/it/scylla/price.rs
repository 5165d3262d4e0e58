//! What replicas ask of the database while there is nothing to do.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use message_webhook::store::{FeedFrom, FeedStart, FeedStore, Lifecycle, MessageStore, scylla::ScyllaStore};
use scylla::client::session_builder::SessionBuilder;
use scylla_proxy::{Reaction, RequestReaction};
use tokio::sync::mpsc::unbounded_channel;

use super::frames::{Behind, HEAD};
use crate::conformance::fixture::{ORDERS, accepted, message, sids, take};

/// Long enough for several cycles of everything.
const MEASURED: Duration = Duration::from_secs(10);

/// As keyspaces are by default.
async fn three_replicas() -> Option<(Behind, Vec<Arc<ScyllaStore>>)> {
    let behind = Behind::new(|options| {
        (options.shards, options.slots) = (64, 8);
        (options.window, options.reference_window) = (Duration::from_secs(10), Duration::from_secs(3));
        options.cycle = Duration::from_secs(2);
    })
    .await?;
    let stores = vec![Arc::clone(&behind.store), behind.another().await, behind.another().await];
    // Every lease is taken then, and what was accepted is resolved.
    behind.store.settle().await.expect("resolved");
    Some((behind, stores))
}

/// How many statements there were a second, in all and by their text.
async fn a_second(behind: &mut Behind, what: &str) -> f64 {
    let counted = behind.wire.count(MEASURED).await;
    let a_second = |count: usize| count as f64 / MEASURED.as_secs_f64();
    let by_text: BTreeMap<_, _> = counted.iter().map(|(text, count)| (text, a_second(*count))).collect();
    let all = a_second(counted.values().sum());
    println!("{what}: {all:.1} statements a second: {by_text:#?}");
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn three_idle_replicas_send_fewer_than_30_statements_a_second_with_a_stream_on_each() {
    let Some((mut behind, stores)) = three_replicas().await else { return };
    let without = a_second(&mut behind, "without streams").await;
    let mut streams = Vec::new();
    for store in &stores {
        for order in ORDERS {
            streams.push(store.follow(FeedFrom::Start(FeedStart::Now), order).await.expect("a reader"));
        }
    }
    let with = a_second(&mut behind, "with streams").await;
    assert!(without > 0.0 && with > without, "nothing was counted: {without}, {with}");
    assert!(without < 22.0, "{without} statements a second without streams");
    assert!(with < 30.0, "{with} statements a second with streams");
    drop(streams);
    for store in stores {
        store.close().await.expect("closed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_day_with_rows_in_many_buckets_they_are_not_listed_again_and_again() {
    let Some(mut behind) = Behind::new(|options| options.shards = 64).await else { return };
    let options = behind.keyspace.options();
    let database = SessionBuilder::new().known_nodes(&options.nodes).build().await.expect("a session");
    let buckets = format!("{}.feed_buckets", options.keyspace);
    let read = database.query_unpaged(format!("SELECT day, bucket FROM {buckets}"), ()).await.expect("read");
    let (day, bucket) = read.into_rows_result().expect("rows").first_row::<(i32, i32)>().expect("that of the first");
    for number in 0..600 {
        let (shard, bucket) = (number % 64, bucket - 1 - number / 64);
        let insert =
            format!("INSERT INTO {buckets} (day, shard, bucket, opened_at) VALUES ({day}, {shard}, {bucket}, 0)");
        database.query_unpaged(insert, ()).await.expect("written");
    }
    let other = behind.another().await;
    let mut readers = Vec::new();
    for order in ORDERS {
        readers.push(other.follow(FeedFrom::Start(FeedStart::Now), order).await.expect("a reader"));
    }
    accepted(behind.store.submit(message("m")).await.expect("decided"));
    for reader in &mut readers {
        assert_eq!(sids(&take(&mut **reader, 1).await), ["m"]);
    }
    let counted = behind.wire.count(Duration::from_secs(3)).await;
    let count =
        |words: &str| counted.iter().filter(|(text, _)| text.contains(words)).map(|(_, count)| count).sum::<usize>();
    assert_eq!(count("SELECT shard, bucket FROM"), 0, "{counted:#?}");
    assert!(count("message_sid FROM") > 0, "{counted:#?}");
    other.close().await.expect("closed");
    behind.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_resolver_reads_no_claim_of_what_its_own_process_accepted() {
    let Some(mut behind) = Behind::new(|options| (options.shards, options.slots) = (1, 1)).await else { return };
    // It has the lease then.
    behind.store.settle().await.expect("resolved");
    let other = behind.beside().await;
    let (tell, mut reads) = unbounded_channel();
    let heads = behind.wire.requests_of(HEAD);
    behind.wire.on_requests(&heads, &RequestReaction::noop().with_feedback_when_performed(tell));
    for number in 0..5 {
        accepted(behind.store.submit(message(&format!("own {number}"))).await.expect("decided"));
    }
    behind.store.settle().await.expect("resolved");
    assert_eq!(std::iter::from_fn(|| reads.try_recv().ok()).count(), 0);
    accepted(other.submit(message("another's")).await.expect("decided"));
    behind.store.settle().await.expect("resolved");
    assert_eq!(std::iter::from_fn(|| reads.try_recv().ok()).count(), 1);
    behind.end().await;
}

//! After a long outage of the resolver.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use message_webhook::{
    domain::{Clock, SystemClock},
    store::{
        FeedFrom, FeedOrder, FeedStart, FeedStore, Lifecycle, MessageStore,
        scylla::{Options, ScyllaStore},
    },
};
use scylla::client::session_builder::SessionBuilder;
use scylla_proxy::{Reaction, RequestReaction};
use tokio::sync::mpsc::unbounded_channel;

use crate::{
    conformance::fixture::{accepted, message, sids, take},
    support::{
        leases::look,
        ring::{self, Keyspace},
        wire::Wire,
    },
};

const SCAN: &[&str] = &["SELECT attempt_id, org_id", ".feed WHERE"];

/// As long as the outage was, a reader that moved over it ten seconds at a time would read so often, of each shard.
const STEPS: usize = 24 * 360;

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_waited_through_a_day_without_a_resolver_moves_on_at_once() {
    let Some(nodes) = ring::nodes() else { return };
    let mut wire = Wire::before(&nodes[0]).await;
    let keyspace = Keyspace::new(nodes, |options| (options.shards, options.slots) = (4, 1)).await;
    let options = keyspace.options();
    let session = Arc::new(SessionBuilder::new().known_nodes(&options.nodes).build().await.expect("a session"));
    // Ticks since 1582, a day ago.
    let ago = 0x01B2_1DD2_1381_4000 + (SystemClock.now().as_micros() - 86_400_000_000) * 10;
    let place = format!("{}.leases", options.keyspace);
    let begin = format!(
        "UPDATE {place} SET owner = 'another', beat = 1, resolving_upto = {ago}, resolved_upto = {ago} \
         WHERE name = 'resolver' AND slot = 0 IF beat = 0"
    );
    session.query_unpaged(begin, &[]).await.expect("moved");
    // Alive, and resolves nothing, until the reader is there.
    let is_there = Arc::new(AtomicBool::new(false));
    let beating = tokio::spawn({
        let (session, is_there) = (Arc::clone(&session), Arc::clone(&is_there));
        async move {
            let mut beat = 1;
            while !is_there.load(Ordering::SeqCst) {
                let next = format!(
                    "UPDATE {place} SET beat = {} WHERE name = 'resolver' AND slot = 0 IF beat = {beat}",
                    beat + 1
                );
                if session.query_unpaged(next, &[]).await.is_ok() {
                    beat += 1;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    });
    let behind = Options { nodes: wire.nodes(), ..options.clone() };
    let store = ScyllaStore::connect(behind, Arc::new(SystemClock)).await.expect("a store");
    wire.learn().await;
    wire.heal();
    accepted(store.submit(message("m")).await.expect("decided"));
    let mut reader = store.follow(FeedFrom::Start(FeedStart::Start), FeedOrder::Ordered).await.expect("a reader");
    let lease = look(&session, &options.keyspace, 0).await.expect("a lease");
    assert_eq!((lease.owner.as_str(), lease.resolved_upto), ("another", ago));
    let (tell, mut scans) = unbounded_channel();
    wire.on_requests(&wire.requests_of(SCAN), &RequestReaction::noop().with_feedback_when_performed(tell));
    is_there.store(true, Ordering::SeqCst);
    beating.await.expect("no panic");
    assert_eq!(sids(&take(&mut *reader, 1).await), ["m"]);
    let read = std::iter::from_fn(|| scans.try_recv().ok()).count();
    println!("outage: {read} reads of the feed");
    assert!(read < STEPS, "{read}");
    store.close().await.expect("closed");
}

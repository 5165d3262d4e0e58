//! Several replicas on one keyspace: each a store of its own, as each process has one.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use message_webhook::{
    domain::{Kind, NewMessage},
    store::{
        FeedFrom, FeedOrder, FeedStart, FeedStore, Lifecycle, MessageStore, Outcome, PageLimit, scylla::ScyllaStore,
    },
};
use scylla::client::session_builder::SessionBuilder;
use tokio::time::Instant;

use crate::{
    conformance::fixture::{
        ORDERS, PATIENCE, TestClock, accepted, content, duplicate, key, message, read_feed, read_on, sender, sid, sids,
        take, up_to,
    },
    support::ring::{self, Keyspace},
};

async fn replica(keyspace: &Keyspace) -> ScyllaStore {
    replica_with(keyspace, TestClock::running()).await
}

async fn replica_with(keyspace: &Keyspace, clock: TestClock) -> ScyllaStore {
    ScyllaStore::connect(keyspace.options(), Arc::new(clock)).await.unwrap()
}

async fn settle(store: &ScyllaStore) {
    tokio::time::timeout(PATIENCE, store.settle()).await.expect("resolved").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_that_ended_before_its_claim_is_finished_by_the_resolver_and_delivered_once() {
    let Some(nodes) = ring::nodes() else { return };
    let keyspace = Keyspace::new(nodes, |options| options.window = Duration::from_secs(4)).await;
    let (one, other) = (replica(&keyspace).await, replica(&keyspace).await);
    let options = keyspace.options();
    let database = SessionBuilder::new().known_nodes(&options.nodes).build().await.unwrap();
    let first = accepted(one.submit(message("m1")).await.unwrap());
    // It would remember that it has the claim.
    one.close().await.unwrap();
    // So it looks when the process ends between the references and the claim.
    let delete = format!(
        "DELETE FROM {}.messages WHERE org_id = 'acme' AND env = 'dev' AND message_sid = '{}' IF EXISTS",
        options.keyspace,
        key("m1").sid.as_str()
    );
    database.query_unpaged(delete, ()).await.unwrap();
    assert_eq!(other.get(&key("m1")).await.unwrap(), None);
    let mut followers = Vec::new();
    for order in ORDERS {
        followers.push(other.follow(FeedFrom::Start(FeedStart::Start), order).await.unwrap());
    }
    for follower in &mut followers {
        assert_eq!(sids(&take(&mut **follower, 1).await), ["m1"]);
    }
    assert_eq!(other.get(&key("m1")).await.unwrap(), Some(message("m1").into_message(first.accepted_at)));
    assert_eq!(duplicate(other.submit(message("m1")).await.unwrap()).0, first);
    settle(&other).await;
    for follower in &mut followers {
        assert_eq!(sids(&read_on(&mut **follower, 10).await.0), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_accepts_another_delivers_on_sight() {
    let Some(nodes) = ring::nodes() else { return };
    // As many shards as there are by default: they must not make it slow.
    let keyspace = Keyspace::new(nodes, |options| {
        (options.shards, options.slots) = (64, 8);
        (options.window, options.reference_window) = (Duration::from_secs(10), Duration::from_secs(3));
        options.cycle = Duration::from_secs(2);
    })
    .await;
    let (one, other) = (replica(&keyspace).await, replica(&keyspace).await);
    let mut follower = other.follow(FeedFrom::Start(FeedStart::Now), FeedOrder::Fast).await.unwrap();
    // Machines that do something else at the same time are allowed a second try.
    let mut rounds = Vec::new();
    for round in 0..4 {
        let mut delays = Vec::new();
        for number in 0..11 {
            let sid = format!("m{round}-{number}");
            let sent = NewMessage::new(key(&sid), content(&format!("user-{round}-{number}"), Some("Hello")));
            accepted(one.submit(sent).await.unwrap());
            let since = Instant::now();
            assert_eq!(sids(&take(&mut *follower, 1).await), [sid]);
            delays.push(since.elapsed());
        }
        delays.sort_unstable();
        rounds.push(delays[5]);
        if delays[5] < Duration::from_millis(300) {
            println!("median from accepted to delivered: {:?} of {delays:?}", delays[5]);
            return;
        }
    }
    panic!("the medians from accepted to delivered: {rounds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_closes_hands_its_slots_over_and_its_readers_go_on_elsewhere() {
    let Some(nodes) = ring::nodes() else { return };
    let keyspace = Keyspace::new(nodes, |_| {}).await;
    let one = replica(&keyspace).await;
    for number in 0..5 {
        accepted(one.submit(message(&format!("m{number}"))).await.unwrap());
    }
    settle(&one).await;
    let mut follower = one.follow(FeedFrom::Start(FeedStart::Start), FeedOrder::Ordered).await.unwrap();
    let begun = take(&mut *follower, 3).await;
    let other = replica(&keyspace).await;
    accepted(one.submit(message("m5")).await.unwrap());
    one.close().await.unwrap();
    accepted(other.submit(message("m6")).await.unwrap());
    settle(&other).await;
    let (rest, _) = read_feed(&other, begun[2].cursor.clone(), 10).await;
    assert_eq!(sids(&rest), ["m3", "m4", "m5", "m6"]);
}

/// 10 minutes and 40 days: below the retention and beyond it.
const STEPS: [Duration; 2] = [Duration::from_secs(600), Duration::from_hours(40 * 24)];

fn turn(clock: &TestClock, is_forward: bool, by: Duration) {
    if is_forward {
        clock.turn_forward(by);
    } else {
        clock.turn_back(by);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_starts_with_a_wrong_clock_accepts_nothing_and_the_others_go_on() {
    let Some(nodes) = ring::nodes() else { return };
    let keyspace = Keyspace::new(nodes, |_| {}).await;
    let good = replica(&keyspace).await;
    for (number, (is_forward, by)) in
        [(false, Duration::from_secs(8)), (true, Duration::from_secs(60))].iter().enumerate()
    {
        let clock = TestClock::running();
        turn(&clock, *is_forward, *by);
        let off = replica_with(&keyspace, clock.clone()).await;
        let unready = off.check().await.expect_err("the clock is off");
        assert_eq!(unready.kind(), Kind::StoreUnavailable);
        let sid = format!("m{number}");
        let refused = off.submit(message(&sid)).await.expect_err("the clock is off");
        assert!(refused.kind() == Kind::StoreUnavailable && refused.retry_after().is_some(), "{refused:?}");
        good.check().await.unwrap();
        let first = accepted(good.submit(message(&sid)).await.unwrap());
        clock.set_right();
        off.check().await.unwrap();
        assert_eq!(duplicate(off.submit(message(&sid)).await.unwrap()).0, first);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_far_forward_or_back_and_then_right_again_loses_nothing() {
    let Some(nodes) = ring::nodes() else { return };
    for (is_forward, by) in STEPS.into_iter().flat_map(|by| [(true, by), (false, by)]) {
        let keyspace = Keyspace::new(nodes.clone(), |_| {}).await;
        let clock = TestClock::running();
        let (good, off) = (replica(&keyspace).await, replica_with(&keyspace, clock.clone()).await);
        let mut readers = Vec::new();
        for store in [&good, &off] {
            for order in ORDERS {
                readers.push(store.follow(FeedFrom::Start(FeedStart::Now), order).await.unwrap());
            }
        }
        let place = readers[0].next(PageLimit { messages: 0, bytes: 0 }).await.unwrap().next;
        let before = accepted(off.submit(message("before")).await.unwrap());
        turn(&clock, is_forward, by);
        // At once, and not when the clocks are compared the next time.
        let refused = off.submit(message("refused")).await.expect_err("the clock is off");
        assert!(refused.kind() == Kind::StoreUnavailable && refused.retry_after().is_some(), "{refused:?}");
        assert_eq!(off.check().await.expect_err("the clock is off").kind(), Kind::StoreUnavailable);
        accepted(good.submit(message("meanwhile")).await.unwrap());
        // Nothing is past its retention because of it, and no reader's place.
        assert_eq!(off.get(&key("before")).await.unwrap().map(|message| message.accepted_at), Some(before.accepted_at));
        for order in ORDERS {
            readers.push(off.follow(FeedFrom::Cursor(place.clone()), order).await.unwrap());
        }
        let mut listed = off.list(&sender("user"), None, up_to(10)).await.unwrap().messages;
        listed.reverse();
        assert_eq!(listed.iter().map(sid).collect::<Vec<_>>(), ["before", "meanwhile"]);

        clock.set_right();
        let after = accepted(off.submit(message("refused")).await.unwrap());
        off.check().await.unwrap();
        let apart = after.accepted_at.as_micros().abs_diff(before.accepted_at.as_micros());
        assert!(apart < 60_000_000, "accepted {apart} µs after the first one");
        settle(&good).await;
        for (number, reader) in readers.iter_mut().enumerate() {
            let mut items = take(&mut **reader, 3).await;
            items.extend(read_on(&mut **reader, 10).await.0);
            let mut all = sids(&items);
            // On sight those of another replica come a little later.
            all.sort_unstable();
            assert_eq!(all, ["before", "meanwhile", "refused"], "reader {number}, {by:?}, forward: {is_forward}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_too_slow_for_the_log_reads_the_database_and_misses_nothing() {
    const MESSAGES: usize = 100;
    let Some(nodes) = ring::nodes() else { return };
    let keyspace = Keyspace::new(nodes, |_| {}).await;
    let store = Arc::new(replica(&keyspace).await);
    let mut followers = Vec::new();
    for order in ORDERS {
        let mut follower = store.follow(FeedFrom::Start(FeedStart::Now), order).await.unwrap();
        read_on(&mut *follower, 10).await;
        followers.push(follower);
    }
    // More than the log holds.
    let text = "x".repeat(200 * 1024);
    let submit = |number: usize| {
        let (store, text) = (Arc::clone(&store), text.clone());
        async move {
            let from = format!("user-{}", number % 7);
            let message = NewMessage::new(key(&format!("m{number}")), content(&from, Some(&text)));
            assert!(matches!(store.submit(message).await.unwrap(), Outcome::Accepted(_)));
        }
    };
    stream::iter((0..MESSAGES).map(submit)).buffer_unordered(8).collect::<Vec<_>>().await;
    settle(&store).await;
    for mut follower in followers {
        let items = take(&mut *follower, MESSAGES).await;
        let (more, _) = read_on(&mut *follower, 10).await;
        let mut all: Vec<_> = sids(&items).into_iter().chain(sids(&more)).collect();
        all.sort_unstable();
        let mut expected: Vec<_> = (0..MESSAGES).map(|number| format!("m{number}")).collect();
        expected.sort_unstable();
        assert_eq!(all, expected);
    }
}

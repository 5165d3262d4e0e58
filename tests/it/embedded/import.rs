//! What an import does to the order of time that the embedded store keeps.

use std::{sync::Arc, time::Duration};

use message_webhook::{
    domain::{Clock, Message},
    store::{
        FeedStart, Imported, MessageStore,
        embedded::{EmbeddedStore, Options},
    },
};

use super::tools::*;
use crate::conformance::fixture::{
    RETENTION, TestClock, accepted, duplicate, key, message, place_of, read_feed, sender, sid, sids, up_to,
};

const DAY: Duration = Duration::from_hours(24);

async fn open_at(dir: &std::path::Path, clock: &TestClock) -> EmbeddedStore {
    let options = Options { retention: RETENTION, ..options(dir) };
    let clock = Arc::new(clock.clone());
    tokio::task::spawn_blocking(|| EmbeddedStore::open(options, clock)).await.unwrap().unwrap().0
}

fn aged(clock: &TestClock, sid: &str, age: Duration) -> Message {
    message(sid).into_message(clock.now().saturating_sub(age))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_in_the_future_does_not_move_the_stores_own() {
    let (dir, clock) = (tempdir(), TestClock::new());
    let store = open_at(dir.path(), &clock).await;
    let future = message("future").into_message(clock.now().saturating_add(400 * DAY));
    assert_eq!(store.import(vec![future.clone()], true).await.unwrap(), [Imported::Taken]);
    let acceptance = accepted(store.submit(message("m1")).await.unwrap());
    assert_eq!(acceptance.accepted_at, clock.now());
    drop(store);
    let store = open_at(dir.path(), &clock).await;
    assert_eq!(accepted(store.submit(message("m2")).await.unwrap()).accepted_at, clock.now());
    assert_eq!(store.get(&future.key).await.unwrap(), Some(future));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_imported_late_outlives_a_crash_with_its_time_and_does_not_disturb_the_feed() {
    let (dir, clock) = (tempdir(), TestClock::new());
    let store = open_at(dir.path(), &clock).await;
    let early = clock.now();
    accepted(store.submit(message("m0")).await.unwrap());
    clock.advance(10 * DAY);
    let old: Vec<_> = (0..20).map(|number| aged(&clock, &format!("old{number}"), 15 * DAY)).collect();
    assert_eq!(store.import(old.clone(), false).await.unwrap(), [Imported::Taken; 20]);
    accepted(store.submit(message("m1")).await.unwrap());
    // As a crash would leave it.
    drop(store);
    let store = open_at(dir.path(), &clock).await;
    for old in &old {
        assert_eq!(store.get(&old.key).await.unwrap().as_ref(), Some(old));
        let (first, _) = duplicate(store.submit(message(sid(old))).await.unwrap());
        assert_eq!(first.accepted_at, old.accepted_at);
    }
    // Times are found by halving, which must not be led astray.
    for (start, expected) in [
        (FeedStart::Start, vec!["m0", "m1"]),
        (FeedStart::Time(early), vec!["m0", "m1"]),
        (FeedStart::Time(clock.now()), vec!["m1"]),
    ] {
        let place = place_of(&store, start).await;
        assert_eq!(sids(&read_feed(&store, place, 10).await.0), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_removes_imported_messages_with_their_neighbours_and_never_one_that_still_lives() {
    let (dir, clock) = (tempdir(), TestClock::new());
    let store = Arc::new(open_at(dir.path(), &clock).await);
    // Into an empty store, in the order of acceptance, as from a backup.
    let old = [aged(&clock, "a", 20 * DAY), aged(&clock, "b", 10 * DAY), aged(&clock, "c", DAY)];
    store.import(old.to_vec(), false).await.unwrap();
    accepted(store.submit(message("m1")).await.unwrap());
    for (days, left) in [(10, vec!["m1", "c", "b"]), (10, vec!["m1", "c"]), (9, vec!["m1"]), (1, vec![])] {
        clock.advance(days * DAY);
        let retained = Arc::clone(&store);
        tokio::task::spawn_blocking(move || retained.run_retention_now()).await.unwrap().unwrap();
        let listed = store.list(&sender("user"), None, up_to(10)).await.unwrap().messages;
        let listed: Vec<_> = listed.iter().map(sid).collect();
        assert_eq!(listed, left);
    }
    // The key of what is gone is free.
    accepted(store.submit(message("a")).await.unwrap());
    assert!(store.get(&key("b")).await.unwrap().is_none());
}

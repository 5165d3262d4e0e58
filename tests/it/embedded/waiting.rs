//! Who waits for whom: no caller can hold up the writer.

use std::{sync::Arc, time::Duration};

use message_webhook::store::{FeedFrom, FeedOrder, FeedStart, FeedStore, Lifecycle, MessageStore, Outcome};

use super::tools::*;
use crate::conformance::fixture::{PATIENCE, sids, take};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_are_never_polled_again_hold_up_nobody() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    let store = Arc::new(store);
    // Each is begun, so that it waits for the writer, and left there.
    let mut left = Vec::new();
    for number in 0..50 {
        let (store, message) = (Arc::clone(&store), numbered(number, 100));
        let mut submission = Box::pin(async move { store.submit(message).await });
        // Pending, unless the writer was faster than this thread.
        let _ = futures_util::poll!(submission.as_mut());
        left.push(submission);
    }
    for number in 50..60 {
        let outcome = tokio::time::timeout(PATIENCE, store.submit(numbered(number, 100))).await.unwrap().unwrap();
        assert!(matches!(outcome, Outcome::Accepted(_)));
    }
    drop(left);
    for number in 0..60 {
        let again = store.submit(numbered(number, 100)).await.unwrap();
        assert!(matches!(again, Outcome::Duplicate { .. }), "{number}: a dropped future undoes nothing");
    }
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_submission_waits_for_nobody() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    let begun = std::time::Instant::now();
    for number in 0..20 {
        store.submit(numbered(number, 100)).await.unwrap();
    }
    // A gate of any kind would be a matter of milliseconds each; the disk of a test is memory where there is some.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_misses_nothing_while_segments_are_sealed_under_it() {
    const MESSAGES: usize = 6000;
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    let store = Arc::new(store);
    let reader = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let start = FeedFrom::Start(FeedStart::Start);
            let mut follower = store.follow(start, FeedOrder::Fast).await.unwrap();
            take(&mut *follower, MESSAGES).await
        })
    };
    fill(&store, 0..MESSAGES, 1000).await;
    let items = reader.await.unwrap();
    let distinct: std::collections::HashSet<_> = sids(&items).into_iter().collect();
    assert_eq!((items.len(), distinct.len()), (MESSAGES, MESSAGES));
    store.close().await.unwrap();
}

//! A copy of the directory is put back: readers learn that what was accepted since is not here.

use message_webhook::{
    domain::Kind,
    store::{Cursor, FeedFrom, FeedOrder, FeedStart, FeedStore, Lifecycle},
};

use super::tools::*;
use crate::conformance::fixture::{follow_after, page_after, place_of, read_feed, up_to};

#[tokio::test]
async fn a_cursor_from_what_a_restore_lost_is_refused_also_when_the_store_has_grown_past_it() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    fill(&store, 0..20, 200).await;
    let kept = place_of(&store, FeedStart::Now).await;
    let backup = as_killed(dir.path());
    // Accepted after the backup, and read by somebody.
    fill(&store, 20..40, 200).await;
    let (items, left) = read_feed(&store, kept.clone(), 100).await;
    assert_eq!(items.len(), 20);
    store.close().await.unwrap();

    let (store, report) = open(backup.path()).await;
    assert_eq!(report.messages, 20);
    let cursors: Vec<Cursor> = items.iter().map(|item| item.cursor.clone()).chain([left]).collect();
    for beyond in [true, false] {
        for cursor in &cursors {
            let refused = follow_after(&store, cursor).await.map(drop).unwrap_err();
            assert_eq!(refused.kind(), Kind::CursorExpired, "beyond the end: {beyond}");
        }
        // What both histories have goes on without a gap.
        let (rest, _) = read_feed(&store, kept.clone(), 100).await;
        assert_eq!(rest.len(), if beyond { 0 } else { 100 });
        if beyond {
            fill(&store, 1000..1100, 200).await;
        }
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn an_index_from_beyond_the_end_of_the_log_proves_a_loss_and_is_refused() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    fill(&store, 0..20, 200).await;
    let backup = as_killed(dir.path());
    fill(&store, 20..3000, 1000).await;
    until("runs", || runs(dir.path()).len() >= 2).await;
    store.close().await.unwrap();
    // Somebody put the log back and left the index.
    for name in runs(dir.path()) {
        std::fs::copy(dir.path().join("index").join(&name), backup.path().join("index").join(&name)).unwrap();
    }
    let text = refusal(backup.path()).await;
    assert!(text.contains("beyond the end of the log"), "{text}");
}

#[tokio::test]
async fn a_cursor_outlives_the_segment_that_it_is_in() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    fill(&store, 0..5, 200).await;
    let cursor = place_of(&store, FeedStart::Now).await;
    fill(&store, 5..3000, 1000).await;
    let page = page_after(&store, &cursor, up_to(1)).await.unwrap();
    assert_eq!(page.items.len(), 1);
    let mut follower = store.follow(FeedFrom::Cursor(page.next), FeedOrder::Ordered).await.unwrap();
    let mut count = 1;
    loop {
        let items = follower.next(up_to(500)).await.unwrap().items;
        if items.is_empty() {
            break;
        }
        count += items.len();
    }
    assert_eq!(count, 2995);
    store.close().await.unwrap();
}

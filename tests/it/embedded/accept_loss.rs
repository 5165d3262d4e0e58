//! What is left when the operator goes on with `--accept-loss`.

use message_webhook::{
    domain::Kind,
    store::{FeedFrom, FeedOrder, FeedStart, FeedStore, KeyStore, Lifecycle, MessageStore, Outcome, embedded::Mode},
};

use super::{damage::cursor_in, tools::*};
use crate::conformance::fixture::{follow_after, new_key, sender, up_to};

#[tokio::test]
async fn after_an_accepted_loss_all_that_is_whole_is_there_and_it_is_never_refused_again() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    for number in 0..3 {
        fill(&store, number * 10..number * 10 + 10, 200).await;
    }
    let key = new_key("acme");
    store.create_key(key.clone()).await.unwrap();
    let dir = as_killed(dir.path());
    let path = segment(dir.path(), 1);
    let second = frames(&path)[1];
    let in_it = u32::from_le_bytes(read(&path, second + 12, 4).try_into().unwrap()) as usize;
    flip(&path, second + 30);
    refusal(dir.path()).await;
    let broken = std::fs::read(&path).unwrap();

    let (store, report) = open_for(dir.path(), Mode::AcceptLoss).await;
    assert_eq!(report.lost.len(), 1, "{report}");
    assert!(report.lost[0].contains(&format!("{in_it} record")), "{report}");
    assert!(report.to_string().contains("look through the keys"));
    assert_eq!(store.key(&key.id).await.unwrap(), Some(key));
    fill(&store, 100..110, 200).await;
    store.close().await.unwrap();
    assert!(std::fs::read(&path).unwrap() == broken, "a byte of the broken segment was changed");

    for _ in 0..2 {
        let (store, report) = open(dir.path()).await;
        assert!(report.lost.is_empty(), "{report}");
        let mut lost = Vec::new();
        for number in (0..30).chain(100..110) {
            let sent = numbered(number, 200);
            if store.get(sent.key()).await.unwrap().is_none() {
                lost.push(number);
            } else {
                assert!(matches!(store.submit(sent).await.unwrap(), Outcome::Duplicate { .. }), "{number}");
            }
        }
        assert_eq!(lost.len(), in_it, "{lost:?}");
        // Never a silent gap, for whoever reads over it.
        let mut follower = store.follow(FeedFrom::Start(FeedStart::Start), FeedOrder::Fast).await.unwrap();
        let before = follower.next(up_to(100)).await.unwrap().items.len();
        let error = follower.next(up_to(10)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::DataLoss);
        let rest = follow_after(&store, &cursor_in(&error)).await.unwrap().next(up_to(100)).await.unwrap();
        assert_eq!(before + rest.items.len(), 40 - in_it);
        store.close().await.unwrap();
    }
    // What was lost may be sent again.
    let (store, _) = open(dir.path()).await;
    let mut again = 0;
    for number in 0..30 {
        again += usize::from(matches!(store.submit(numbered(number, 200)).await.unwrap(), Outcome::Accepted(_)));
    }
    assert_eq!(again, in_it);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_store_in_order_is_opened_with_consent_as_without() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    fill(&store, 0..30, 200).await;
    store.close().await.unwrap();
    let (store, report) = open_for(dir.path(), Mode::AcceptLoss).await;
    assert!(report.lost.is_empty());
    assert_complete(&store, 0..30, 200).await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn an_end_that_nobody_can_read_and_a_segment_that_is_gone_are_losses_that_readers_are_told_of() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    fill(&store, 0..4000, 1000).await;
    store.close().await.unwrap();
    let newest = (1..).take_while(|number| segment(dir.path(), *number).exists()).last().unwrap();
    for gone in [1, 2] {
        let copy = as_killed(dir.path());
        std::fs::remove_file(segment(copy.path(), gone)).unwrap();
        assert_eq!(losses(copy.path()).await, 1, "segment {gone} is gone");
    }
    // Something that is no frame, far behind the end.
    let copy = as_killed(dir.path());
    let last = (1..=newest).rev().map(|number| segment(copy.path(), number)).find(|path| !frames(path).is_empty());
    let path = last.unwrap();
    let size = std::fs::metadata(&path).unwrap().len();
    // Not at the closing frame, which would be damage of its own.
    let closing = *frames(&path).last().unwrap();
    assert!(size - closing > 1 << 20, "room behind the end");
    write(&path, size - 100, b"garbage");
    assert_eq!(losses(copy.path()).await, 1, "an unreadable end");
}

/// How often a reader of the whole feed is told of a loss, after the operator has gone on; which is refused only once.
async fn losses(dir: &std::path::Path) -> usize {
    refusal(dir).await;
    let (store, report) = open_for(dir, Mode::AcceptLoss).await;
    assert!(!report.lost.is_empty());
    fill(&store, 9000..9010, 100).await;
    store.close().await.unwrap();
    let (store, report) = open(dir).await;
    assert!(report.lost.is_empty(), "{report}");
    let mut follower = store.follow(FeedFrom::Start(FeedStart::Start), FeedOrder::Fast).await.unwrap();
    let (mut losses, mut last) = (0, None);
    loop {
        match follower.next(up_to(500)).await {
            Ok(page) if page.items.is_empty() => break,
            Ok(page) => last = page.items.into_iter().next_back(),
            Err(error) => {
                assert_eq!(error.kind(), Kind::DataLoss);
                losses += 1;
                follower = follow_after(&store, &cursor_in(&error)).await.unwrap();
            }
        }
    }
    assert_eq!(crate::conformance::fixture::sid(&last.unwrap().message), "m9009");
    // What was lost is known or new, and never an error; lists go on past it.
    for number in 0..4000 {
        store.submit(numbered(number, 1000)).await.unwrap();
    }
    let (mut listed, mut token) = (0, None);
    loop {
        let page = store.list(&sender("user"), token.as_ref(), up_to(500)).await.unwrap();
        listed += page.messages.len();
        token = page.next;
        if token.is_none() {
            break;
        }
    }
    assert!(listed > 2000, "{listed}");
    store.close().await.unwrap();
    losses
}

//! What is left when the operator goes on with `--accept-loss`.

use message_webhook::{
    domain::Kind,
    store::{FeedFrom, FeedOrder, FeedStart, MessageStore, Outcome, embedded::Mode},
};

use super::{damage::cursor_in, tools::*};
use crate::conformance::fixture::{follow_after, new_key, up_to};

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
    flip(&path, second + 30);
    refusal(dir.path()).await;
    let broken = std::fs::read(&path).unwrap();

    let (store, report) = open_for(dir.path(), Mode::AcceptLoss).await;
    assert_eq!(report.lost.len(), 1, "{report}");
    assert!(report.lost[0].contains("10 records"), "{report}");
    assert!(report.to_string().contains("look through the keys"));
    assert_eq!(store.key(&key.id).await.unwrap(), Some(key));
    fill(&store, 100..110, 200).await;
    store.close().await.unwrap();
    assert!(std::fs::read(&path).unwrap() == broken, "a byte of the broken segment was changed");

    for _ in 0..2 {
        let (store, report) = open(dir.path()).await;
        assert!(report.lost.is_empty(), "{report}");
        for number in (0..10).chain(20..30).chain(100..110) {
            let sent = numbered(number, 200);
            assert!(store.get(sent.key()).await.unwrap().is_some(), "{number}");
            assert!(matches!(store.submit(sent).await.unwrap(), Outcome::Duplicate { .. }), "{number}");
        }
        // Never a silent gap, for whoever reads over it.
        let mut follower = store.follow(FeedFrom::Start(FeedStart::Start), FeedOrder::Fast).await.unwrap();
        assert_eq!(follower.next(up_to(10)).await.unwrap().items.len(), 10);
        let error = follower.next(up_to(10)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::DataLoss);
        let rest = follow_after(&store, &cursor_in(&error)).await.unwrap().next(up_to(100)).await.unwrap();
        assert_eq!(rest.items.len(), 20);
        store.close().await.unwrap();
    }
    // What was lost may be sent again.
    let (store, _) = open(dir.path()).await;
    assert!(matches!(store.submit(numbered(10, 200)).await.unwrap(), Outcome::Accepted(_)));
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

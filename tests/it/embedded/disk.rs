//! A disk that takes no more.

use message_webhook::{
    domain::Kind,
    store::{MessageStore, embedded::Options},
};

use super::{child, tools::*};
use crate::conformance::fixture::new_key;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_fails_ends_acceptance_and_loses_nothing() {
    let dir = tempdir();
    let said = child::output(child::command("fill", dir.path()));
    let kept: Vec<usize> = said.lines().filter_map(|line| line.strip_prefix("acknowledged ")?.parse().ok()).collect();
    assert!((5..100).contains(&kept.len()), "{said}");
    for part in [
        "error StoreUnavailable",
        "could not be made durable",
        "then StoreUnavailable",
        "check StoreUnavailable",
        "read true",
        "close fails: true",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let (store, report) = open(dir.path()).await;
    assert!(report.messages >= kept.len() as u64, "{report}");
    assert_complete(&store, kept.into_iter(), 50_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_nearly_full_takes_nothing_and_the_store_stays_whole() {
    let dir = tempdir();
    let (store, _) = try_open(Options { min_free_bytes: u64::MAX, ..options(dir.path()) }).await.unwrap();
    let key = new_key("acme");
    store.create_key(key.clone()).await.unwrap();
    let mut accepted = 0;
    let error = loop {
        match store.submit(numbered(accepted, 10)).await {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
        assert!(accepted < 100_000, "never refused");
    };
    assert_eq!(error.kind(), Kind::StoreUnavailable);
    assert!(error.cause().unwrap().to_string().contains("nearly full"));
    assert_eq!(store.check().await.unwrap_err().kind(), Kind::StoreUnavailable);
    // A key can be revoked nevertheless.
    let revoked = store.revoke_key(&key.id, key.created_at).await.unwrap().unwrap();
    assert_eq!(revoked.revoked_at, Some(key.created_at));
    assert!(accepted == 0 || store.get(numbered(0, 10).key()).await.unwrap().is_some());
    store.close().await.unwrap();
    let (store, report) = open(dir.path()).await;
    assert_eq!(report.messages, accepted as u64);
    fill(&store, accepted..accepted + 1, 10).await;
}

//! How a store is opened, by whom, and what is said of it.

use std::fs;

use message_webhook::store::{
    KeyStore, Lifecycle, MessageStore, TransferStore,
    embedded::{EmbeddedStore, Left, Mode, OpenError, Options},
};

use super::tools::*;
use crate::conformance::fixture::{message_saying, new_key};

#[tokio::test]
async fn a_store_has_one_owner_at_a_time() {
    let dir = tempdir();
    let (store, report) = open(dir.path()).await;
    assert_eq!(report.left, Left::New);
    let second = try_open(Options::new(dir.path())).await;
    assert!(matches!(second, Err(OpenError::Locked { .. })));
    store.close().await.unwrap();
    open(dir.path()).await.0.close().await.unwrap();
}

#[tokio::test]
async fn files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempdir();
    let data = dir.path().join("data");
    let (store, _) = open(&data).await;
    fill(&store, 0..3, 10).await;
    for path in [data.clone(), data.join("log"), data.join("index")] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700);
    }
    for path in [segment(&data, 1), data.join("LOCK")] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_store_that_is_only_read_is_not_changed_and_takes_nothing() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    fill(&store, 0..20, 50).await;
    store.create_key(new_key("acme")).await.unwrap();
    // Once as a kill leaves it, once closed in order.
    let killed = as_killed(dir.path());
    store.close().await.unwrap();
    for dir in [killed.path(), dir.path()] {
        let before = contents(dir);
        let (store, report) = open_for(dir, Mode::Read).await;
        assert_eq!(report.messages, 20);
        assert_eq!(store.keys(None).await.unwrap().len(), 1);
        let page = store.export(None, crate::conformance::fixture::up_to(100)).await.unwrap();
        assert_eq!(page.messages.len(), 20);
        assert!(store.submit(numbered(99, 10)).await.is_err());
        assert!(store.create_key(new_key("acme")).await.is_err());
        store.close().await.unwrap();
        assert_eq!(contents(dir), before);
    }
}

#[tokio::test]
async fn where_there_is_no_store_there_is_nothing_to_read() {
    let dir = tempdir();
    for path in [dir.path().to_owned(), dir.path().join("nowhere")] {
        let opened = try_open(Options { mode: Mode::Read, ..Options::new(&path) }).await;
        assert!(matches!(opened, Err(OpenError::Missing { .. })), "{:?}", opened.err());
        assert!(!path.join("log").exists());
    }
}

#[tokio::test]
async fn an_idle_start_and_stop_writes_no_frame() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    fill(&store, 0..5, 50).await;
    store.close().await.unwrap();
    let before = fs::read(segment(dir.path(), 1)).unwrap();
    for _ in 0..3 {
        let (store, report) = open(dir.path()).await;
        assert_eq!((report.left, report.messages), (Left::Clean, 5));
        store.close().await.unwrap();
    }
    assert!(fs::read(segment(dir.path(), 1)).unwrap() == before);
}

#[tokio::test]
async fn a_store_of_a_later_version_is_refused_and_not_touched() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    fill(&store, 0..5, 50).await;
    store.close().await.unwrap();
    // Both headers say version 2, with the right checksum.
    let path = segment(dir.path(), 1);
    let mut page = read(&path, 0, 4096);
    page[8] = 2;
    let checksum = xxhash_rust::xxh3::xxh3_64(&page[..4088]);
    page[4088..].copy_from_slice(&checksum.to_le_bytes());
    for at in [0, 4096] {
        write(&path, at, &page);
    }
    let before = contents(dir.path());
    for mode in [Mode::Serve, Mode::AcceptLoss, Mode::Read] {
        let opened = try_open(Options { mode, ..Options::new(dir.path()) }).await;
        assert!(matches!(opened, Err(OpenError::Newer { .. })), "{mode:?}");
    }
    assert_eq!(contents(dir.path()), before);
}

#[tokio::test]
async fn sealed_segments_get_runs_and_all_is_found_after_any_stop() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    fill(&store, 0..3000, 1000).await;
    until("runs of the sealed segments", || runs(dir.path()).len() >= 2).await;
    let killed = as_killed(dir.path());
    store.close().await.unwrap();
    for dir in [killed.path(), dir.path()] {
        let (store, report) = open(dir).await;
        assert_eq!(report.messages, 3000, "{report}");
        assert_complete(&store, 0..3000, 1000).await;
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn an_index_that_is_gone_is_made_again_from_the_log() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    fill(&store, 0..3000, 1000).await;
    store.close().await.unwrap();
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    let (store, report) = open(dir.path()).await;
    assert!(report.indexed > 0, "{report}");
    assert_complete(&store, 0..3000, 1000).await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_larger_body_limit_holds_for_a_store_that_was_made_with_a_smaller_one() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    let large = message_saying("large", &"x".repeat(900 * 1024));
    assert!(store.submit(large.clone()).await.is_err());
    store.close().await.unwrap();
    let options = Options { largest_record: Options::largest_record(1024 * 1024), ..Options::new(dir.path()) };
    let (store, _) = try_open(options).await.unwrap();
    store.submit(large.clone()).await.unwrap();
    assert_eq!(store.get(large.key()).await.unwrap().unwrap().content, *large.content());
    store.close().await.unwrap();
}

/// All files and what is in them.
fn contents(dir: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for part in ["log", "index"] {
        for entry in fs::read_dir(dir.join(part)).unwrap() {
            let path = entry.unwrap().path();
            all.push((path.display().to_string(), fs::read(path).unwrap()));
        }
    }
    all.sort();
    all
}

#[test]
fn a_store_is_opened_by_any_thread() {
    fn is_shareable<T: Send + Sync>() {}
    is_shareable::<EmbeddedStore>();
}

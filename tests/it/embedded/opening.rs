//! What the opening says.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use message_webhook::store::{
    MessageStore,
    embedded::{EmbeddedStore, Left, OpenError, Options},
};

use super::{child, tools::*};
use crate::conformance::fixture::{RETENTION, TestClock, key, new_key};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_report_tells_what_was_found() {
    let dir = tempdir();
    let (store, report) = open(dir.path()).await;
    assert_eq!((report.left, report.messages, report.oldest, report.keys), (Left::New, 0, None, 0));
    fill(&store, 0..20, 10).await;
    store.create_key(new_key("acme")).await.unwrap();
    store.close().await.unwrap();
    drop(store);

    let (store, report) = open(dir.path()).await;
    assert_eq!((report.left, report.messages, report.keys, report.rebuilt), (Left::Clean, 20, 1, 0));
    assert!(report.oldest.unwrap() <= report.newest.unwrap());
    let line = report.to_string();
    assert!(line.starts_with("store was closed in order: 20 messages from 20"), "{line}");
    assert!(line.contains(", 1 keys; opened in "), "{line}");
    fill(&store, 20..30, 10).await;
    drop(store);

    let (_, report) = open(dir.path()).await;
    assert_eq!((report.left, report.messages), (Left::Unclean, 30));
    assert!(report.to_string().starts_with("store was not closed in order: 30 messages"), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_opening_in_this_process_is_told() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    let error = try_open(options(dir.path())).await.err().unwrap();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("is open in another process"), "{error}");
    store.close().await.unwrap();
    open(dir.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_is_told() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    let run = |dir: &Path| child::output(child::command("open", dir));
    let said = run(dir.path());
    assert!(said.contains("refused: the data directory") && said.contains("is open in another process"), "{said}");
    store.close().await.unwrap();
    let said = run(dir.path());
    assert!(said.contains("opened: store was closed in order"), "{said}");
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_is_named() {
    let dir = tempdir();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    let mut places = vec![file.clone(), file.join("below"), "/proc/message-webhook".into()];
    // Permissions do not keep root out.
    if fs::write(closed.join("probe"), "").is_err() {
        places.push(closed);
    }
    for place in places {
        let error = try_open(options(&place)).await.err().unwrap();
        assert!(matches!(error, OpenError::NotWritable { .. }), "{error}");
        assert!(error.to_string().contains(place.to_str().unwrap()), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_opened_many_times_after_close_and_after_drop() {
    let dir = tempdir();
    for round in 0..6 {
        let (store, report) = open(dir.path()).await;
        assert_eq!(report.messages, round as u64 * 10);
        assert_complete(&store, 0..round * 10, 50).await;
        fill(&store, round * 10..(round + 1) * 10, 50).await;
        if round % 2 == 0 {
            store.close().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_of_journals_do_not_pile_up() {
    let dir = tempdir();
    for round in 0..5 {
        let (store, _) = open(dir.path()).await;
        fill(&store, round..round + 1, 10).await;
    }
    let copies = fs::read_dir(dir.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with("journals-"))
        .count();
    assert_eq!(copies, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_of_a_refused_opening_stay_however_often_it_is_tried_again() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    fill(&store, 0..100, 100).await;
    eventually("the mark knows all", || marked(dir.path()) == 100).await;
    drop(store);
    // Refused only after the engine opened and changed its files.
    let journal = &journals(dir.path())[0];
    let length = content_length(journal);
    punch(journal, length / 2..length);
    let before = fs::read(journal).unwrap();
    for _ in 0..4 {
        assert!(refusal(dir.path()).await.contains("journals-1"));
    }
    assert!(fs::read(dir.path().join("journals-1/0.jnl")).unwrap() == before, "the copy changed");
    accept_loss(dir.path()).await;
    assert!(fs::read(dir.path().join("journals-1.opened/0.jnl")).unwrap() == before, "the copy changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_that_was_cut_short_is_begun_again() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    drop(store);
    // As after a crash while the engine was being made: its last file is not there yet.
    fs::remove_file(dir.path().join("store/version")).unwrap();
    let (store, report) = open(dir.path()).await;
    assert_eq!(report.left, Left::New);
    fill(&store, 0..1, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgotten_messages_give_their_space_back() {
    let dir = tempdir();
    let clock = TestClock::new();
    let open = || {
        let options = Options { retention: RETENTION, memtable_bytes: 1 << 20, ..Options::new(dir.path()) };
        EmbeddedStore::open(options, Arc::new(clock.clone())).unwrap()
    };
    let space = || -> u64 {
        let tables = files(&dir.path().join("store/keyspaces"), |_| true);
        tables.iter().map(|path| fs::metadata(path).map_or(0, |file| file.len())).sum()
    };
    let (store, _) = open();
    fill(&store, 0..3000, 4000).await;
    clock.advance(RETENTION / 2);
    fill(&store, 3000..3100, 4000).await;
    store.flush_now().unwrap();
    let full = space();
    assert!(full > 8_000_000, "{full}");
    clock.advance(RETENTION / 2);
    store.run_retention_now().unwrap();
    // A table is taken away when its last reader is gone.
    eventually("less than a fifth", || space() < full / 5).await;
    assert_complete(&store, 3000..3100, 4000).await;
    assert!(store.get(&key("m0")).await.unwrap().is_none());
    // All of it may go, and the numbering goes on nevertheless.
    clock.advance(RETENTION);
    store.run_retention_now().unwrap();
    drop(store);
    assert!(space() < 300_000, "{}", space());
    let (store, report) = open();
    assert_eq!(report.messages, 0);
    fill(&store, 0..10, 4000).await;
    assert_complete(&store, 0..10, 4000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_runs_by_itself() {
    let dir = tempdir();
    let options = Options {
        retention: Duration::from_millis(200),
        retention_interval: Duration::from_millis(50),
        ..Options::new(dir.path())
    };
    let (store, _) = try_open(options.clone()).await.unwrap();
    fill(&store, 0..50, 100).await;
    let mut messages = 50;
    let mut store = Some(store);
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        store.take().unwrap().close().await.unwrap();
        let (next, report) = try_open(options.clone()).await.unwrap();
        store = Some(next);
        messages = report.messages;
        if messages == 0 {
            break;
        }
    }
    assert_eq!(messages, 0);
}

//! Index entries lag behind the messages: they are in memory until a flush writes them. Nobody who uses the store may
//! notice, and no crash at any step of a flush may lose one.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use message_webhook::{
    domain::Sender,
    store::{
        MessageStore, Outcome,
        embedded::{EmbeddedStore, Left, Options},
    },
};

use super::tools::*;
use crate::conformance::fixture::{plain, sender, sid, up_to};

const BYTES: usize = 100;

/// The numbers that the list of the one sender has, newest first, read in pages.
async fn listed(store: &EmbeddedStore, page: usize) -> Vec<usize> {
    listed_of(store, &sender("user"), page).await
}

async fn listed_of(store: &EmbeddedStore, sender: &Sender, page: usize) -> Vec<usize> {
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = store.list(sender, after.as_ref(), up_to(page)).await.unwrap();
        listed
            .extend(page.messages.iter().map(|message| sid(message).trim_start_matches('m').parse::<usize>().unwrap()));
        match page.next {
            Some(next) => after = Some(next),
            None => return listed,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_goes_on_from_memory_into_the_index() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    for (step, numbers) in [0..300, 300..310, 310..600].into_iter().enumerate() {
        let end = numbers.end;
        fill(&store, numbers, BYTES).await;
        for page in [7, 128, 1000] {
            assert!(listed(&store, page).await.into_iter().eq((0..end).rev()), "step {step}, pages of {page}");
        }
        store.flush_now().unwrap();
        assert!(listed(&store, 100).await.into_iter().eq((0..end).rev()), "step {step}, flushed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_falls_between_memory_and_the_index_while_one_hands_over_to_the_other() {
    const MESSAGES: usize = 400;
    let dir = tempdir();
    let store = Arc::new(open(dir.path()).await.0);
    let done = Arc::new(AtomicBool::new(false));
    let flushing = {
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        std::thread::spawn(move || {
            let mut flushes = 0;
            while !done.load(Ordering::Relaxed) {
                store.flush_now().unwrap();
                flushes += 1;
            }
            flushes
        })
    };
    for first in (0..MESSAGES).step_by(8) {
        fill(&store, first..first + 8, BYTES).await;
        for number in (first + 8).saturating_sub(24)..first + 8 {
            let sent = numbered(number, BYTES);
            assert!(store.get(sent.key()).await.unwrap().is_some(), "m{number} is not found");
            let again = store.submit(sent).await.unwrap();
            assert!(matches!(again, Outcome::Duplicate { .. }), "m{number} accepted twice");
        }
        assert!(listed(&store, 5000).await.into_iter().eq((0..first + 8).rev()), "after {first}");
    }
    done.store(true, Ordering::Relaxed);
    assert!(flushing.join().unwrap() > 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_index_has_is_remembered_however_much_it_is() {
    const MESSAGES: usize = 300;
    let dir = tempdir();
    // A single group is far more than is kept in memory otherwise.
    let (store, _) = try_open(Options { unindexed_messages: 4, ..options(dir.path()) }).await.unwrap();
    for first in [0, MESSAGES] {
        let twice = (first..first + MESSAGES).chain(first..first + MESSAGES);
        let outcomes = futures_util::future::join_all(twice.map(|number| store.submit(numbered(number, BYTES)))).await;
        let accepted = outcomes.into_iter().filter(|outcome| matches!(outcome, Ok(Outcome::Accepted(_)))).count();
        assert_eq!(accepted, MESSAGES);
    }
    // More than may be kept: it is written by itself.
    eventually("the indexes are written", || !tables(dir.path(), 2).is_empty() && !tables(dir.path(), 3).is_empty())
        .await;
    assert_complete(&store, 0..2 * MESSAGES, BYTES).await;
}

/// Puts a keyspace of one copy of a store in the place of another copy's.
fn graft(from: &Path, to: &Path, keyspace: usize) {
    let inside = format!("store/keyspaces/{keyspace}");
    fs::remove_dir_all(to.join(&inside)).unwrap();
    copy_dir(&from.join(&inside), &to.join(&inside));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_step_of_a_flush_loses_nothing() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    fill(&store, 0..60, BYTES).await;
    store.flush_now().unwrap();
    fill(&store, 60..100, BYTES).await;
    eventually("the mark knows all", || marked(dir.path()) == 100).await;
    drop(store);
    let before = copy(dir.path());
    // The same flush once more, from its beginning to its end, on a copy.
    let after = copy(before.path());
    let (store, report) = open(after.path()).await;
    assert_eq!((report.left, report.indexed, report.rebuilt), (Left::Unclean, 40, 0), "{report}");
    store.flush_now().unwrap();
    drop(store);
    let after = copy(after.path());
    // Keyspaces that had their tables when the process ended: messages (1), then one index (2), then the other (3).
    for done in [&[][..], &[1], &[1, 2], &[1, 2, 3]] {
        for has_new_mark in [false, true] {
            let crashed = copy(before.path());
            for keyspace in done {
                graft(after.path(), crashed.path(), *keyspace);
            }
            // The mark is written after the last step.
            if has_new_mark && done.len() < 3 {
                continue;
            }
            if has_new_mark {
                fs::copy(after.path().join("mark"), crashed.path().join("mark")).unwrap();
            }
            let (store, report) = open(crashed.path()).await;
            let lag = if done.len() == 3 { 0 } else { 40 };
            assert_eq!((report.messages, report.indexed, report.rebuilt), (100, lag, 0), "{done:?}: {report}");
            assert!(listed(&store, 30).await.into_iter().eq((0..100).rev()), "{done:?}");
            assert_complete(&store, 0..100, BYTES).await;
            fill(&store, 100..120, BYTES).await;
            store.close().await.unwrap();
            drop(store);
            let (store, report) = open(crashed.path()).await;
            assert_eq!((report.left, report.messages, report.indexed), (Left::Clean, 120, 0), "{done:?}: {report}");
            assert_complete(&store, 0..120, BYTES).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_lost_what_its_tables_had_is_made_again() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    fill(&store, 0..60, BYTES).await;
    drop(store);
    let before = copy(dir.path());
    let (store, _) = open(dir.path()).await;
    store.flush_now().unwrap();
    eventually("the mark knows the flush", || {
        fs::read(dir.path().join("mark")).unwrap()[40..48] == 60_u64.to_be_bytes()
    })
    .await;
    drop(store);
    for keyspace in [2, 3] {
        let damaged = copy(dir.path());
        graft(before.path(), damaged.path(), keyspace);
        let (store, report) = open(damaged.path()).await;
        assert_eq!((report.messages, report.rebuilt), (60, 60), "{report}");
        assert!(listed(&store, 30).await.into_iter().eq((0..60).rev()));
        assert_complete(&store, 0..60, BYTES).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_after_a_start_finds_the_indexes_written() {
    let dir = tempdir();
    let mut numbers = 0..40;
    for _ in 0..4 {
        let (store, _) = open(dir.path()).await;
        fill(&store, numbers.clone(), BYTES).await;
        drop(store);
        let (store, report) = open(dir.path()).await;
        assert_eq!((report.left, report.indexed, report.rebuilt), (Left::Unclean, 40, 0), "{report}");
        drop(store);
        let (store, report) = open(dir.path()).await;
        assert_eq!((report.left, report.indexed, report.rebuilt), (Left::Unclean, 0, 0), "{report}");
        let sids: BTreeSet<_> = listed(&store, 50).await.into_iter().collect();
        assert_eq!(sids, (0..numbers.end).collect());
        numbers = numbers.end..numbers.end + 40;
    }
}

/// A copy of a store that the version before wrote: 20 messages with their entries in tables, 20 in the journal alone.
fn of_the_version_before() -> tempfile::TempDir {
    let dir = tempdir();
    copy_dir(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/embedded/store-with-indexes-in-journal"),
        dir.path(),
    );
    dir
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_whose_index_entries_are_in_the_journal_opens_unchanged() {
    let dir = of_the_version_before();
    // Written once and kept: by any clock it must not be past its retention.
    let options = Options { retention: std::time::Duration::from_hours(24 * 365 * 500), ..options(dir.path()) };
    let (store, report) = try_open(options.clone()).await.unwrap();
    assert_eq!(
        (report.left, report.messages, report.keys, report.indexed, report.rebuilt),
        (Left::Unclean, 40, 1, 0, 0),
        "{report}"
    );
    let there = || (0..40).map(|number| plain(numbered(number, 60)));
    assert_kept(&store, there()).await;
    let its_sender = store.get(there().next().unwrap().key()).await.unwrap().unwrap().sender();
    assert!(listed_of(&store, &its_sender, 30).await.into_iter().eq((0..40).rev()));
    fill(&store, 40..60, 60).await;
    drop(store);
    let (store, report) = try_open(options.clone()).await.unwrap();
    assert_eq!((report.messages, report.indexed, report.rebuilt), (60, 20, 0), "{report}");
    store.flush_now().unwrap();
    store.close().await.unwrap();
    drop(store);
    let (store, report) = try_open(options).await.unwrap();
    assert_eq!((report.left, report.messages, report.keys), (Left::Clean, 60, 1), "{report}");
    assert_kept(&store, there()).await;
    assert_complete(&store, 40..60, 60).await;
    assert!(listed_of(&store, &its_sender, 30).await.into_iter().eq((0..40).rev()));
    assert!(listed(&store, 30).await.into_iter().eq((40..60).rev()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_of_a_store_whose_index_entries_are_in_the_journal_is_refused() {
    let dir = of_the_version_before();
    let journal = &journals(dir.path())[0];
    let length = content_length(journal);
    punch(journal, length * 3 / 4..length);
    let text = refusal(dir.path()).await;
    assert!(text.contains("to 40, are missing"), "{text}");
}

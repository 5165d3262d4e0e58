//! Files that are not as they were written. Either everything acknowledged is there once, or the opening refuses and
//! says what is missing.

use std::fs;

use message_webhook::store::{
    MessageStore, Outcome,
    embedded::{Left, OpenError},
};

use super::tools::*;
use crate::conformance::fixture::new_key;

const BYTES: usize = 500;

/// A store that was left without a close: messages in the journal alone, and a mark that knows them.
async fn left_behind(messages: usize) -> tempfile::TempDir {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    fill(&store, 0..messages, BYTES).await;
    eventually("the mark knows all", || marked(dir.path()) == messages as u64).await;
    drop(store);
    dir
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_last_commit_is_left_out_as_a_whole_and_nothing_else_is() {
    const TORN: usize = 1000;
    const TORN_BYTES: usize = 100_000;
    const PAGE: usize = 4096;
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    fill(&store, 0..40, BYTES).await;
    let (mark, before) = (fs::read(dir.path().join("mark")).unwrap(), content_length(&journals(dir.path())[0]));
    fill(&store, TORN..TORN + 1, TORN_BYTES).await;
    drop(store);
    let after = content_length(&journals(dir.path())[0]);
    assert!(after - before > TORN_BYTES);
    let pages = (before / PAGE)..=(after / PAGE);
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for round in 0..24 {
        let copy = copy(dir.path());
        fs::write(copy.path().join("mark"), &mark).unwrap();
        let journal = &journals(copy.path())[0];
        let mut bytes = fs::read(journal).unwrap();
        let mut lost = 0;
        for page in pages.clone() {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            // Few, half or most pages are lost; in the first round none, so that the rounds prove something.
            let is_lost = round > 0 && random % 8 < [1, 4, 7][round % 3];
            if is_lost {
                lost += 1;
                bytes[(page * PAGE).max(before)..((page + 1) * PAGE).min(after)].fill(0);
            }
        }
        fs::write(journal, bytes).unwrap();
        let (store, report) = open(copy.path()).await;
        assert_eq!(report.left, Left::Unclean);
        assert_complete(&store, 0..40, BYTES).await;
        let torn = numbered(TORN, TORN_BYTES);
        match store.get(torn.key()).await.unwrap() {
            Some(kept) => assert_eq!((kept.content, lost), (torn.content().clone(), 0)),
            None => assert!(lost > 0),
        }
        let again = matches!(store.submit(torn).await.unwrap(), Outcome::Accepted(_));
        assert_eq!(again, lost > 0, "round {round}");
        assert_complete(&store, [TORN].into_iter(), TORN_BYTES).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_in_the_journal_is_refused_by_name_and_nothing_is_touched() {
    let dir = left_behind(200).await;
    let journal = &journals(dir.path())[0];
    let (whole, length) = (fs::read(journal).unwrap(), content_length(journal));
    for place in [length / 4, length / 2, length / 4 * 3] {
        let mut bytes = whole.clone();
        bytes[place..place + 4096].fill(0);
        fs::write(journal, &bytes).unwrap();
        let text = refusal(dir.path()).await;
        assert!(text.contains("journal 0.jnl is damaged from byte"), "{text}");
        assert!(text.contains("journals-") && text.contains("--accept-loss"), "{text}");
        assert!(fs::read(journal).unwrap() == bytes, "the journal was changed");
    }
    fs::write(journal, whole).unwrap();
    let (store, _) = open(dir.path()).await;
    assert_complete(&store, 0..200, BYTES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_changed_byte_in_the_journal_is_refused() {
    let dir = left_behind(100).await;
    let length = content_length(&journals(dir.path())[0]);
    for place in (100..length * 9 / 10).step_by(length / 12) {
        let copy = copy(dir.path());
        let journal = &journals(copy.path())[0];
        let mut bytes = fs::read(journal).unwrap();
        bytes[place] ^= 0x10;
        fs::write(journal, bytes).unwrap();
        let text = refusal(copy.path()).await;
        assert!(text.contains("journal 0.jnl is damaged"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_whose_end_is_gone_is_refused_by_the_mark() {
    let dir = left_behind(200).await;
    let journal = &journals(dir.path())[0];
    let length = content_length(journal);
    punch(journal, length / 2..length);
    let text = refusal(dir.path()).await;
    assert!(text.contains("to 200, are missing"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_journal_is_refused() {
    let dir = left_behind(200).await;
    fs::remove_file(&journals(dir.path())[0]).unwrap();
    let text = refusal(dir.path()).await;
    assert!(text.contains("is missing") || text.contains("are missing"), "{text}");
}

/// Messages in a table and in a sealed journal, their index entries nowhere, and some more in the active journal. The sealed
/// journal stays for the key in it, which is in no table.
async fn one_keyspace_flushed() -> (tempfile::TempDir, usize) {
    // The engine writes a keyspace's memtable to a table when it has more than 64 MiB.
    const LARGE: usize = 336;
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    store.create_key(new_key("acme")).await.unwrap();
    fill(&store, 0..LARGE, 200_000).await;
    eventually("a journal is sealed", || journals(dir.path()).len() == 2 && !tables(dir.path(), 1).is_empty()).await;
    assert!(tables(dir.path(), 2).is_empty() && tables(dir.path(), 3).is_empty(), "the indexes were flushed too");
    fill(&store, LARGE..LARGE + 4, 200_000).await;
    eventually("the mark knows all", || marked(dir.path()) == LARGE as u64 + 4).await;
    drop(store);
    (dir, LARGE + 4)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_journal_that_is_damaged_takes_nothing_unnoticed() {
    let (dir, messages) = one_keyspace_flushed().await;
    let sealed = |dir: &std::path::Path| journals(dir).remove(0);
    let length = content_length(&sealed(dir.path()));

    let whole = copy(dir.path());
    let (store, report) = open(whole.path()).await;
    assert_eq!((report.messages, report.indexed, report.rebuilt), (messages as u64, messages as u64, 0));
    assert_complete(&store, 0..messages, 200_000).await;
    drop(store);

    // A hole with whole commits behind it is seen in the journal itself.
    let holed = copy(dir.path());
    punch(&sealed(holed.path()), length / 2..length / 2 + 4096);
    let text = refusal(holed.path()).await;
    assert!(text.contains("journal 0.jnl is damaged from byte"), "{text}");
    // The messages lie in a table, so in the end nothing is lost: the index is made again.
    let (store, report) = accept_loss(holed.path()).await;
    assert!(report.rebuilt > 0 && report.messages == messages as u64, "{report}");
    assert_complete(&store, 0..messages, 200_000).await;
    drop(store);

    // Where half of the journal is gone without a trace, its messages are in the table nevertheless.
    let cut = copy(dir.path());
    punch(&sealed(cut.path()), length / 2..length);
    let journal = fs::read(sealed(cut.path())).unwrap();
    let end = journal[..length / 2].windows(4).rposition(|bytes| bytes == b"FJL\x03").unwrap() + 4;
    punch(&sealed(cut.path()), end..length / 2);
    let (store, report) = open(cut.path()).await;
    assert_eq!((report.messages, report.indexed, report.rebuilt), (messages as u64, messages as u64, 0));
    assert_complete(&store, 0..messages, 200_000).await;
    drop(store);

    let gone = copy(dir.path());
    fs::remove_file(sealed(gone.path())).unwrap();
    let text = refusal(gone.path()).await;
    assert!(text.contains("changes of API keys are missing"), "{text}");
    let (store, report) = accept_loss(gone.path()).await;
    assert!(report.rebuilt > 0 && report.messages == messages as u64, "{report}");
    assert_complete(&store, 0..messages, 200_000).await;
}

/// Messages in tables and some more in the journal.
async fn with_tables() -> tempfile::TempDir {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    store.create_key(new_key("acme")).await.unwrap();
    fill(&store, 0..300, BYTES).await;
    store.flush_now().unwrap();
    fill(&store, 300..320, BYTES).await;
    eventually("the mark knows all", || marked(dir.path()) == 320).await;
    drop(store);
    dir
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_in_a_table_is_refused_by_name() {
    let dir = with_tables().await;
    for keyspace in 1..=4 {
        let count = tables(dir.path(), keyspace).len();
        assert!(count > 0, "keyspace {keyspace} has no table");
        for number in 0..count {
            let copy = copy(dir.path());
            let table = &tables(copy.path(), keyspace)[number];
            let length = fs::metadata(table).unwrap().len() as usize;
            punch(table, length / 8..length / 4);
            let text = refusal(copy.path()).await;
            assert!(text.contains(table.to_str().unwrap()) || text.contains("the engine cannot open"), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engine_files_that_are_gone_or_cut_are_refused() {
    let dir = with_tables().await;
    let all = files(&dir.path().join("store/keyspaces"), |_| true);
    assert!(all.len() > 8);
    for file in all {
        let inside = file.strip_prefix(dir.path()).unwrap();
        let (gone, cut) = (copy(dir.path()), copy(dir.path()));
        fs::remove_file(gone.path().join(inside)).unwrap();
        let length = fs::metadata(&file).unwrap().len();
        fs::File::options().write(true).open(cut.path().join(inside)).unwrap().set_len(length / 2).unwrap();
        for (what, copy) in [("gone", gone), ("cut", cut)] {
            match try_open(options(copy.path())).await {
                Err(OpenError::Damaged { .. }) => {}
                Err(error) => panic!("{what} {}: not called damaged: {error}", inside.display()),
                // Some files are left over from before and mean nothing.
                Ok((store, _)) => assert_complete(&store, 0..320, BYTES).await,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_without_its_mark_is_refused() {
    let dir = left_behind(20).await;
    let mark = dir.path().join("mark");
    let bytes = fs::read(&mark).unwrap();

    fs::remove_file(&mark).unwrap();
    let text = refusal(dir.path()).await;
    assert!(text.contains("the file 'mark', which tells what must be there, is missing"), "{text}");

    for place in (0..bytes.len()).step_by(6) {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        fs::write(&mark, changed).unwrap();
        let text = refusal(dir.path()).await;
        assert!(text.contains("'mark'") && text.contains("cannot be used"), "{text}");
    }

    let other = left_behind(20).await;
    fs::copy(other.path().join("mark"), &mark).unwrap();
    let text = refusal(dir.path()).await;
    assert!(text.contains("belongs to another store"), "{text}");

    fs::write(&mark, bytes).unwrap();
    let (store, _) = open(dir.path()).await;
    assert_complete(&store, 0..20, BYTES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_of_the_engines_files_is_refused() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    fill(&store, 0..50, BYTES).await;
    store.close().await.unwrap();
    drop(store);
    let older = copy(dir.path());
    let (store, _) = open(dir.path()).await;
    fill(&store, 50..90, BYTES).await;
    store.close().await.unwrap();
    drop(store);
    fs::copy(dir.path().join("mark"), older.path().join("mark")).unwrap();
    let text = refusal(older.path()).await;
    assert!(text.contains("40 messages, 51 to 90, are missing"), "{text}");
    fs::remove_dir_all(older.path().join("store")).unwrap();
    let text = refusal(older.path()).await;
    assert!(text.contains("the files of the engine, in 'store', are missing"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_change_of_a_key_is_refused() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    let key = new_key("acme");
    store.create_key(key.clone()).await.unwrap();
    let created = content_length(&journals(dir.path())[0]);
    store.revoke_key(&key.id, key.created_at).await.unwrap();
    let revoked = content_length(&journals(dir.path())[0]);
    fill(&store, 0..10, BYTES).await;
    drop(store);
    // The very last change counts too, however young the mark is.
    punch(&journals(dir.path())[0], created..content_length(&journals(dir.path())[0]).max(revoked));
    let text = refusal(dir.path()).await;
    assert!(text.contains("the last 1 changes of API keys are missing"), "{text}");
}

//! Stores in temporary directories, filled, left without a close, and damaged.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use message_webhook::{
    domain::{Error, NewMessage, SystemClock},
    store::{
        FeedStart, MessageStore, Outcome,
        embedded::{EmbeddedStore, OpenError, OpenReport, Options},
    },
};

pub use crate::conformance::fixture::tempdir;
use crate::conformance::fixture::{message_saying, place_of, read_feed};

/// Options with a limit of memtables that no test reaches, so that a test decides when tables are written.
pub fn options(dir: &Path) -> Options {
    Options { memtable_bytes: 1 << 40, ..Options::new(dir) }
}

pub async fn try_open(options: Options) -> Result<(EmbeddedStore, OpenReport), OpenError> {
    crate::support::said::listen();
    tokio::task::spawn_blocking(|| EmbeddedStore::open(options, Arc::new(SystemClock))).await.unwrap()
}

pub async fn open(dir: &Path) -> (EmbeddedStore, OpenReport) {
    try_open(options(dir)).await.unwrap()
}

pub async fn accept_loss(dir: &Path) -> (EmbeddedStore, OpenReport) {
    try_open(Options { accept_loss: true, ..options(dir) }).await.unwrap()
}

/// The text of the error with which the store in `dir` refuses to open.
pub async fn refusal(dir: &Path) -> String {
    match try_open(options(dir)).await {
        Ok((_, report)) => panic!("opened: {report}"),
        Err(error @ OpenError::Damaged { .. }) => error.to_string(),
        Err(error) => panic!("not called damaged: {error}"),
    }
}

/// A message whose body is told by its number.
pub fn numbered(number: usize, bytes: usize) -> NewMessage {
    let unit = format!("{number} ");
    let mut body = unit.repeat(bytes / unit.len() + 1);
    body.truncate(bytes);
    message_saying(&format!("m{number}"), &body)
}

/// Submits in groups, so that commits have several messages.
pub async fn fill(store: &EmbeddedStore, numbers: std::ops::Range<usize>, bytes: usize) {
    let numbers: Vec<usize> = numbers.collect();
    for group in numbers.chunks(16) {
        let submissions = group.iter().map(|number| store.submit(numbered(*number, bytes)));
        let outcomes: Vec<Result<Outcome, Error>> = futures_util::future::join_all(submissions).await;
        for outcome in outcomes {
            assert!(matches!(outcome.unwrap(), Outcome::Accepted(_)));
        }
    }
}

/// Each of these messages is there as it was sent, is in the feed once, and is a duplicate when it is sent again.
pub async fn assert_complete(store: &EmbeddedStore, numbers: impl Iterator<Item = usize>, bytes: usize) {
    assert_kept(store, numbers.map(|number| numbered(number, bytes))).await;
}

/// The same of any messages.
pub async fn assert_kept(store: &EmbeddedStore, messages: impl Iterator<Item = NewMessage>) {
    let start = place_of(store, FeedStart::Start).await;
    let (items, _) = read_feed(store, start, 100).await;
    let mut fed = std::collections::HashMap::new();
    for item in items {
        *fed.entry(item.message.key.sid.as_str().to_owned()).or_insert(0) += 1;
    }
    for sent in messages {
        let name = sent.key().sid.as_str().to_owned();
        let kept = store.get(sent.key()).await.unwrap().unwrap_or_else(|| panic!("{name} is lost"));
        assert_eq!(kept.content, *sent.content(), "{name}");
        assert_eq!(fed.get(&name), Some(&1), "{name} in the feed");
        let again = store.submit(sent).await.unwrap();
        assert!(matches!(again, Outcome::Duplicate { .. }), "{name} accepted twice");
    }
}

pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, target) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() {
            copy_dir(&path, &target);
        } else {
            fs::copy(path, target).unwrap();
        }
    }
}

/// A copy, which may be damaged, of a store that is not open.
pub fn copy(dir: &Path) -> tempfile::TempDir {
    // Without most of the zeros that a journal is laid out with, the first copy's successors are quick.
    for journal in journals(dir) {
        let length = content_length(&journal) as u64 + 10_000;
        fs::File::options().write(true).open(journal).unwrap().set_len(length).unwrap();
    }
    let copy = tempdir();
    copy_dir(dir, copy.path());
    copy
}

/// The last sequence that the mark knows.
pub fn marked(dir: &Path) -> u64 {
    u64::from_be_bytes(fs::read(dir.join("mark")).unwrap()[24..32].try_into().unwrap())
}

/// All files below `dir` for whose path `wanted` holds, sorted. A compaction may take files away meanwhile.
pub fn files(dir: &Path, wanted: impl Fn(&str) -> bool + Copy) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path, wanted));
        } else if wanted(path.to_str().unwrap()) {
            found.push(path);
        }
    }
    found.sort();
    found
}

pub fn journals(dir: &Path) -> Vec<PathBuf> {
    files(&dir.join("store"), |path| path.ends_with(".jnl"))
}

/// Tables of the keyspace that was made as the `number`th: 1 messages, 2 sids, 3 senders, 4 meta.
pub fn tables(dir: &Path, number: usize) -> Vec<PathBuf> {
    files(&dir.join(format!("store/keyspaces/{number}/tables")), |_| true)
}

/// Where the content of a file ends that is laid out in advance with zeros.
pub fn content_length(path: &Path) -> usize {
    content(&fs::read(path).unwrap())
}

fn content(bytes: &[u8]) -> usize {
    // Whole chunks first, which is fast in a build for tests too.
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut content = bytes;
    while let Some((head, &ZEROS)) = content.split_last_chunk() {
        content = head;
    }
    content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// Puts zeros in the place of a part of a file.
pub fn punch(path: &Path, range: std::ops::Range<usize>) {
    let mut bytes = fs::read(path).unwrap();
    bytes[range].fill(0);
    fs::write(path, bytes).unwrap();
}

/// Waits until `condition` holds.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..3000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

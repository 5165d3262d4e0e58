//! Stores in temporary directories: filled, left as a kill leaves them, and damaged.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use message_webhook::{
    domain::{Error, NewMessage, SystemClock},
    store::{
        FeedStart, MessageStore, Outcome,
        embedded::{EmbeddedStore, Mode, OpenError, OpenReport, Options},
    },
};

pub use crate::conformance::fixture::tempdir;
use crate::conformance::fixture::{PATIENCE, message_saying, place_of, read_feed};

/// The first frame of a segment whose snapshot takes a page, as those of a store with few keys do.
pub const FIRST_FRAME: u64 = 3 * 4096;
/// Bytes of a frame's header.
pub const FRAME_HEADER: u64 = 96;
/// Bytes of a record's head.
pub const HEAD: u64 = 80;

pub async fn try_open(options: Options) -> Result<(EmbeddedStore, OpenReport), OpenError> {
    crate::support::said::listen();
    tokio::task::spawn_blocking(|| EmbeddedStore::open(options, Arc::new(SystemClock))).await.unwrap()
}

pub async fn open(dir: &Path) -> (EmbeddedStore, OpenReport) {
    try_open(Options::new(dir)).await.unwrap()
}

pub async fn open_for(dir: &Path, mode: Mode) -> (EmbeddedStore, OpenReport) {
    try_open(Options { mode, ..Options::new(dir) }).await.unwrap()
}

/// The text of the error with which the store in `dir` refuses to open.
pub async fn refusal(dir: &Path) -> String {
    match try_open(Options::new(dir)).await {
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

/// Submits in groups, so that frames have several messages.
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
    let start = place_of(store, FeedStart::Start).await;
    let (items, _) = read_feed(store, start, 100).await;
    let mut fed = std::collections::HashMap::new();
    for item in items {
        *fed.entry(item.message.key.sid.as_str().to_owned()).or_insert(0) += 1;
    }
    for sent in numbers.map(|number| numbered(number, bytes)) {
        let name = sent.key().sid.as_str().to_owned();
        let kept = store.get(sent.key()).await.unwrap().unwrap_or_else(|| panic!("{name} is lost"));
        assert_eq!(kept.content, *sent.content(), "{name}");
        assert_eq!(fed.get(&name), Some(&1), "{name} in the feed");
        let again = store.submit(sent).await.unwrap();
        assert!(matches!(again, Outcome::Duplicate { .. }), "{name} accepted twice");
    }
}

/// The directory as a kill would leave it now: what was written is there, and nothing is closed.
pub fn as_killed(dir: &Path) -> tempfile::TempDir {
    let copy = tempdir();
    copy_dir(dir, copy.path());
    copy
}

pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, target) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() {
            copy_dir(&path, &target);
        } else if let Err(error) = fs::copy(path, target) {
            // A segment that was being made has got its name meanwhile.
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        }
    }
}

/// The file of segment `number`.
pub fn segment(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("log/{number:010}.log"))
}

/// The names of the files of the index.
pub fn runs(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join("index")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub fn read(path: &Path, at: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fs::File::open(path).unwrap().read_exact_at(&mut bytes, at).unwrap();
    bytes
}

pub fn write(path: &Path, at: u64, bytes: &[u8]) {
    fs::File::options().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

/// Turns one bit around.
pub fn flip(path: &Path, at: u64) {
    let byte = read(path, at, 1)[0];
    write(path, at, &[byte ^ 0x10]);
}

/// Where the frames of a segment are, by their magic, up to its end.
pub fn frames(path: &Path) -> Vec<u64> {
    let bytes = fs::read(path).unwrap();
    (0..bytes.len()).step_by(16).filter(|at| bytes[*at..].starts_with(b"MWfr")).map(|at| at as u64).collect()
}

/// Returns when `holds` does.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

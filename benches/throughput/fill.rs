//! A store of many messages of realistic sizes, made in this process: `scripts/fill N [DIR [SEED]]`.
//!
//! Sizes are log-normal around a median of 200 bytes of text, a quarter of the messages has a media URL, and one in a
//! hundred senders writes half of all. The same N and seed make the same messages. Message `n` is `msg_fill_<n>` of org
//! `bench` in dev, as the load generator names messages.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use message_webhook::{
    domain::{Environment, HostPolicy, MessageBuilder, NewMessage, OrgId, SystemClock, Timestamp},
    store::{
        Lifecycle, MessageStore, Outcome,
        embedded::{EmbeddedStore, Options},
    },
};

use super::chance::Chance;

/// The load generator's prefix of these messages' sids.
pub const PREFIX: &str = "fill";
pub const SEED: u64 = 1;
/// Submissions that are under way at once.
const IN_FLIGHT: usize = 4096;
const MEDIAN_TEXT: f64 = 200.0;
const SIGMA: f64 = 0.9;
const LONGEST_TEXT: usize = 16 * 1024;
/// So many messages come from one sender in the mean.
const MESSAGES_A_SENDER: u64 = 50;
const PROGRESS_EVERY: Duration = Duration::from_secs(10);
/// A store in which nothing has changed for so long has nothing more to do.
const AT_REST: Duration = Duration::from_secs(5);
const REST_WITHIN: Duration = Duration::from_secs(1200);

/// What was filled in, in bytes.
#[derive(Default)]
struct Filled {
    messages: u64,
    bytes: u64,
    text: u64,
    with_media: u64,
}

/// Makes the store and says what it took.
pub fn run(messages: u64, dir: &Path, seed: u64) {
    if let Some(above) = dir.parent() {
        fs::create_dir_all(above).expect("writable directory");
    }
    assert!(!dir.exists(), "{} is there already", dir.display());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let begun = Instant::now();
    let before = written();
    let (filled, took) = runtime.block_on(async {
        let (store, _) = EmbeddedStore::open(Options::new(dir), Arc::new(SystemClock)).expect("a new store");
        let filled = fill(&store, messages, seed, begun).await;
        let took = begun.elapsed();
        wait_for_rest(dir).await;
        store.close().await.expect("closed");
        (filled, took)
    });
    let (calls, pages) = (written().0 - before.0, written().1 - before.1);
    let each = |bytes: u64| bytes as f64 / messages as f64;
    let said = [
        format!(
            "{messages} messages of {:.0} bytes (text {:.0}, {:.0}% with media), seed {seed}, in {:.0} s: {:.0}/s; at rest after {:.0} s",
            each(filled.bytes),
            each(filled.text),
            each(filled.with_media) * 100.0,
            took.as_secs_f64(),
            messages as f64 / took.as_secs_f64(),
            begun.elapsed().as_secs_f64(),
        ),
        format!("on disk: {}", on_disk(dir, messages)),
        format!(
            "written: {:.0} bytes a message, {:.2} times what is in log; {:.0} bytes of pages",
            each(calls),
            calls as f64 / in_log(dir) as f64,
            each(pages)
        ),
    ];
    println!("{}", said.join("\n"));
    fs::write(mark_of(dir), said.join("\n")).expect("writable directory");
}

/// The store of `messages` below `dir`, made by another process where it is not there yet.
pub fn kept(dir: &Path, messages: u64) -> PathBuf {
    let store = dir.join(format!("filled-{messages}"));
    if !mark_of(&store).exists() {
        if store.exists() {
            fs::remove_dir_all(&store).expect("removable directory");
        }
        let mut fill = std::process::Command::new(std::env::current_exe().expect("this program"));
        fill.args(["fill", &messages.to_string()]).arg(&store);
        assert!(fill.status().expect("this program").success(), "no store was filled");
    }
    store
}

/// What was said when it was made.
pub fn said_of(store: &Path) -> String {
    fs::read_to_string(mark_of(store)).unwrap_or_default()
}

/// Says that the store is whole.
fn mark_of(store: &Path) -> PathBuf {
    store.with_extension("filled")
}

async fn fill(store: &EmbeddedStore, messages: u64, seed: u64, begun: Instant) -> Filled {
    let words = words();
    let mut filled = Filled::default();
    let mut said = Instant::now();
    let submissions = stream::iter(0..messages).map(|number| {
        let (message, text, media) = message(number, messages, seed, &words);
        filled.messages += 1;
        filled.bytes += size(&message);
        filled.text += text as u64;
        filled.with_media += u64::from(media);
        if said.elapsed() > PROGRESS_EVERY {
            said = Instant::now();
            eprintln!("{number} messages, {:.0}/s", number as f64 / begun.elapsed().as_secs_f64());
        }
        store.submit(message)
    });
    let taken = submissions.buffer_unordered(IN_FLIGHT).for_each(|outcome| {
        assert!(matches!(outcome.expect("accepted"), Outcome::Accepted(_)), "a new store has it already");
        std::future::ready(())
    });
    taken.await;
    filled
}

/// Message `number`, the bytes of its text, and whether it has a media URL.
fn message(number: u64, messages: u64, seed: u64, words: &str) -> (NewMessage, usize, bool) {
    let mut chance = Chance::new(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let senders = (messages / MESSAGES_A_SENDER).max(100);
    let among = if chance.below(2) == 0 { senders / 100 } else { senders };
    let sender = chance.below(among);
    let length = (MEDIAN_TEXT.ln() + SIGMA * chance.normal()).exp().round() as usize;
    let length = length.clamp(1, LONGEST_TEXT);
    let from = chance.below((words.len() - length) as u64) as usize;
    let mut builder = MessageBuilder::new(HostPolicy::PublicOnly);
    builder.from_id(format!("user_{sender:010}"));
    builder.message_sid(format!("msg_{PREFIX}_{number:010}"));
    builder.timestamp(Timestamp::from_seconds(1_672_531_200 + number.cast_signed() % 10_000_000));
    builder.body(words[from..from + length].to_owned());
    let media = chance.below(4) == 0;
    if media {
        let id = chance.below(u64::MAX);
        builder.image_url(format!("https://media.example.com/uploads/2025/{id:016x}/original.jpg"));
    }
    let org = OrgId::new("bench").expect("valid");
    (builder.build().expect("valid").into_message(org, Environment::Dev), length, media)
}

/// The bytes of all that a sender gave.
fn size(message: &NewMessage) -> u64 {
    let (key, content) = (message.key(), message.content());
    let media = content.media.as_ref().map_or(0, |media| media.url().as_str().len());
    let body = content.body.as_ref().map_or(0, String::len);
    (key.org.as_str().len() + key.sid.as_str().len() + content.from_id.as_str().len() + body + media) as u64
}

/// Text to cut pieces from; words of any language would do.
fn words() -> String {
    const WORDS: &str = "the of and to in is you that it he was for on are with as his they be at one have this from \
                         or had by hot but some what there we can out other were all your when up use word how said an \
                         each she which do their time if will way about many then them would write like so these her \
                         long make thing see him two has look more day could go come did my sound no most number who";
    let words: Vec<&str> = WORDS.split(' ').collect();
    let mut chance = Chance::new(7);
    let mut text = String::new();
    while text.len() < 1 << 20 {
        text.push_str(words[chance.below(words.len() as u64) as usize]);
        text.push(if chance.below(12) == 0 { '.' } else { ' ' });
    }
    text
}

/// Returns when no file has changed for a while: what is done behind the submissions is done.
async fn wait_for_rest(dir: &Path) {
    let begun = Instant::now();
    let (mut seen, mut since) = (files(dir), Instant::now());
    while since.elapsed() < AT_REST {
        assert!(begun.elapsed() < REST_WITHIN, "the store does not come to rest");
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = files(dir);
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
}

/// Name and length of all files below `dir`, sorted.
fn files(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    // What goes away meanwhile is not counted.
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(is) if is.is_dir() => found.extend(files(&entry.path())),
            Ok(is) => found.push((entry.path(), is.len())),
            Err(_) => {}
        }
    }
    found.sort();
    found
}

/// What a store of `messages` takes on disk, part by part.
pub fn on_disk(dir: &Path, messages: u64) -> String {
    let mut parts: Vec<(String, u64)> = Vec::new();
    for (path, _) in files(dir) {
        let part = path.strip_prefix(dir).ok().and_then(|below| below.iter().next()).map(|name| name.to_string_lossy());
        let part = part.unwrap_or_default().into_owned();
        match parts.iter_mut().find(|(name, _)| *name == part) {
            Some((_, sum)) => *sum += blocks(&path),
            None => parts.push((part, blocks(&path))),
        }
    }
    let all: u64 = parts.iter().map(|(_, bytes)| bytes).sum();
    let each =
        |bytes: u64| format!("{:.1} MB, {:.1} bytes a message", bytes as f64 / 1e6, bytes as f64 / messages as f64);
    let parts: Vec<_> =
        parts.iter().filter(|(_, bytes)| *bytes > 0).map(|(name, bytes)| format!("{name} {}", each(*bytes))).collect();
    format!("{} ({})", each(all), parts.join("; "))
}

/// Bytes of the log, which has each message with its head once.
fn in_log(dir: &Path) -> u64 {
    files(&dir.join("log")).iter().map(|(path, _)| blocks(path)).sum()
}

/// What a file takes; it may be longer.
fn blocks(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |is| is.blocks() * 512)
}

/// Bytes that this process handed to write calls, and those of pages that it had written to a disk.
fn written() -> (u64, u64) {
    super::server::written_by(std::process::id())
}

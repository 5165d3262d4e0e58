//! What the program says while the tests run: logs, metrics, errors. Where `SAID_DIR` names a directory, all of it is
//! kept there, and `tests/secrets/scan.py` looks for what must not be in it. Without the variable nothing is kept.

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io::Write as _,
    path::PathBuf,
    sync::{LazyLock, Mutex},
};

use tracing_subscriber::{Layer, filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};

static DIR: LazyLock<Option<PathBuf>> = LazyLock::new(|| std::env::var_os("SAID_DIR").map(PathBuf::from));

/// Keeps `text` among all that is of its kind: `log`, `metrics` or `error`.
pub fn keep(kind: &str, text: &str) {
    static FILES: Mutex<()> = Mutex::new(());
    if DIR.is_some() {
        let _turn = FILES.lock();
        let mut file = file(kind);
        file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n")).expect("written");
    }
}

/// Keeps each series of these metrics once: tests ask for them again and again.
pub fn keep_metrics(text: &str) {
    static KNOWN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if DIR.is_some() {
        let mut known = KNOWN.lock().expect("no panic");
        let is_new = |line: &&str| known.insert(line.rsplit_once(' ').map_or(*line, |(series, _)| series).to_owned());
        let lines: Vec<_> = text.lines().filter(is_new).collect();
        keep("metrics", &lines.join("\n"));
    }
}

/// Keeps what is logged in this process from now on, at every level.
pub fn listen() {
    static LISTENING: LazyLock<()> = LazyLock::new(|| {
        if DIR.is_some() {
            let lines = fmt::layer().json().flatten_event(true).with_writer(Mutex::new(file("in-process-log")));
            let ours = Targets::new().with_target("message_webhook", tracing::Level::TRACE);
            tracing_subscriber::registry().with(lines.with_filter(ours)).try_init().expect("no other subscriber");
        }
    });
    LazyLock::force(&LISTENING);
}

/// One a kind and process of tests.
fn file(kind: &str) -> File {
    let dir = DIR.as_ref().expect("asked before");
    let path = dir.join(format!("{kind}-{}.txt", std::process::id()));
    OpenOptions::new().create(true).append(true).open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

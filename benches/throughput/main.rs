//! How fast the service is on this machine, beside a ceiling measured in the same run.
//!
//! `cargo bench --bench throughput -- [FLAGS]`, as `scripts/bench` does:
//!
//!     --rounds N       rounds of each measurement (7); medians are printed, and the median of the rounds' ratios
//!     --seconds S      of one measurement (5)
//!     --stored N,N,…   sizes of filled stores (1000000): starts are measured with each, look-ups of old messages with the
//!                      smallest, growth with the largest; the table of figures wants 1000000,10000000
//!     --only PART,…    of accepts, lone, latency, duplicates, starts, growth (`http` is all of these), grpc, telemetry,
//!                      tls
//!     --seed N         of the order within rounds, which is another in each round (1)
//!     --dir DIR        on the disk that is to be measured (`bench-data` in the target directory); what is in it goes, but
//!                      for filled stores, which are made once, used by copy and kept
//!
//! The ceiling is a bare axum handler that parses the same JSON and stores nothing; that of unary calls is a bare tonic
//! service. The server under test is pinned to the first core and the load generator, which never sleeps, to the second; so
//! two idle cores are needed, and `taskset` and `setpriv` (util-linux). Ceiling and service take turns in each round, so that
//! a slow minute of the machine meets both.
//!
//! `overload` instead of flags has one tenant send more than the machine can take; see `overload.rs`. `fill N DIR [SEED]` makes
//! a store of N messages, as `scripts/fill` does; see `fill.rs`.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a benchmark that fails says so and stops, and it prints what it found"
)]

mod accepts;
mod ceiling;
mod chance;
mod fill;
mod grpc;
mod latency;
mod load;
mod lone;
mod overload;
mod pace;
mod report;
mod rpc;
mod server;
mod stored;
mod telemetry;
mod tls;
mod turns;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use report::Report;
use server::pin_self;

/// As in the issue of every serious load test: enough to fill groups, not so many that they are all one group.
const CONNECTIONS: usize = 256;
const FEW_CONNECTIONS: usize = 64;
const WEBHOOK: &[&str] = &["accepts", "lone", "latency", "duplicates", "starts", "growth"];
const OTHERS: &[&str] = &["grpc", "telemetry", "tls"];

// The service uses it too; an allocator is not what this measures.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Options {
    rounds: usize,
    duration: Duration,
    /// Sizes of filled stores, ascending.
    stored: Vec<u64>,
    only: Vec<String>,
    seed: u64,
    dir: PathBuf,
}

impl Options {
    fn from(mut arguments: impl Iterator<Item = String>) -> Self {
        let mut options = Self {
            rounds: 7,
            duration: Duration::from_secs(5),
            stored: vec![1_000_000],
            only: Vec::new(),
            seed: 1,
            dir: data_dir(),
        };
        while let Some(argument) = arguments.next() {
            let value = arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
            match argument.as_str() {
                "--rounds" => options.rounds = number(&value) as usize,
                "--seconds" => options.duration = Duration::from_secs_f64(value.parse().expect("seconds")),
                "--stored" => options.stored = value.split(',').map(number).collect(),
                "--only" => options.only = value.split(',').map(str::to_owned).collect(),
                "--seed" => options.seed = number(&value),
                "--dir" => options.dir = value.into(),
                other => panic!("unknown argument '{other}'"),
            }
        }
        options.stored.sort_unstable();
        let parts: Vec<&str> = WEBHOOK.iter().chain(OTHERS).copied().chain(["http"]).collect();
        for only in &options.only {
            assert!(parts.contains(&only.as_str()), "no part '{only}'; there are {}", parts.join(", "));
        }
        assert!(options.rounds > 0 && !options.stored.is_empty(), "something must be measured");
        options
    }

    fn wants(&self, part: &str) -> bool {
        let named = |name: &str| self.only.iter().any(|only| only == name);
        self.only.is_empty() || named(part) || (named("http") && WEBHOOK.contains(&part))
    }

    fn smallest(&self) -> u64 {
        self.stored.first().copied().expect("checked above")
    }

    fn largest(&self) -> u64 {
        self.stored.last().copied().expect("checked above")
    }
}

/// Where data are unless it is said otherwise.
fn data_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench-data")
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("'{text}' is no number"))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["ceiling", http, grpc] => ceiling::serve(http, grpc),
        ["fill", messages, dir] => fill::run(number(messages), Path::new(dir), fill::SEED),
        ["fill", messages, dir, seed] => fill::run(number(messages), Path::new(dir), number(seed)),
        ["overload", flags @ ..] => return overload::run(flags, data_dir()),
        _ => measure(Options::from(arguments.into_iter())),
    }
    ExitCode::SUCCESS
}

fn measure(options: Options) {
    // Before this process keeps to one core: they are filled on all.
    if ["duplicates", "starts", "growth"].iter().any(|part| options.wants(part)) {
        options.stored.iter().for_each(|messages| _ = fill::kept(&options.dir, *messages));
    }
    pin_self();
    let mut report = Report::default();
    let highest = options.wants("accepts").then(|| accepts::measure(&options, &mut report));
    if options.wants("lone") {
        lone::measure(&options, &mut report);
    }
    if options.wants("latency") {
        latency::measure(&options, &mut report, highest);
    }
    if options.wants("duplicates") {
        stored::old_duplicates(&options, &mut report);
    }
    if options.wants("starts") {
        stored::starts(&options, &mut report);
    }
    if options.wants("growth") {
        stored::growth(&options, &mut report);
    }
    if options.wants("grpc") {
        grpc::measure(&options, &mut report);
    }
    if options.wants("telemetry") {
        telemetry::measure(&options, &mut report);
    }
    if options.wants("tls") {
        tls::measure(&options, &mut report);
    }
    report.print();
    clean_up(&options.dir);
}

/// Removes everything but the stores that were filled.
fn clean_up(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.expect("a readable directory").path();
        let is_kept = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("filled-"));
        if !is_kept {
            remove(&path);
        }
    }
}

fn remove(path: &Path) {
    if path.is_dir() {
        fs::remove_dir_all(path).expect("removable directory");
    } else if path.exists() {
        fs::remove_file(path).expect("removable file");
    }
}

/// A directory of its own for one measurement, empty.
fn fresh(options: &Options, name: &str) -> PathBuf {
    fresh_in(&options.dir, name)
}

fn fresh_in(dir: &Path, name: &str) -> PathBuf {
    let dir = dir.join(name);
    remove(&dir);
    remove(&server::key_file(&dir));
    fs::create_dir_all(&dir).expect("writable directory");
    dir
}

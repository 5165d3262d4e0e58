//! How fast the service is on this machine, beside a ceiling measured in the same run.
//!
//! `cargo bench --bench throughput -- [--rounds N] [--seconds S] [--stored N] [--only http|grpc|telemetry] [--dir DIR]`
//!
//! The ceiling is a bare axum handler that parses the same JSON and stores nothing; that of unary calls is a bare tonic
//! service. The server under test is pinned to
//! the first core and the load generator, which never sleeps, to the second; so two idle cores are needed, and `taskset`
//! and `setpriv` (util-linux). Ceiling and service take turns, round by round, so that a slow minute of the machine meets
//! both; medians are printed, and the median of the rounds' ratios. `DIR` (default: `bench-data` in the target directory) must be on the disk that is to be
//! measured; it is emptied.

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

mod ceiling;
mod grpc;
mod load;
mod report;
mod rpc;
mod server;
mod telemetry;

use std::{
    fs::{self, File},
    io::{Seek, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use load::{Body, Load, Stop};
use report::{Report, median};
use server::{Ceiling, Service, pin_self};

/// As in the issue of every serious load test: enough to fill groups, not so many that they are all one group.
const CONNECTIONS: usize = 256;
const LONE_REQUESTS: usize = 2_000;
const STARTS: usize = 7;

// The service uses it too; an allocator is not what this measures.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Options {
    rounds: usize,
    duration: Duration,
    stored: u64,
    only: Option<String>,
    dir: PathBuf,
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let mut options = Options {
        rounds: 5,
        duration: Duration::from_secs(5),
        stored: 1_000_000,
        only: None,
        dir: Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench-data"),
    };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
        match argument.as_str() {
            "ceiling" => return ceiling::serve(&value(), &value()),
            "--rounds" => options.rounds = value().parse().expect("a number of rounds"),
            "--seconds" => options.duration = Duration::from_secs_f64(value().parse().expect("seconds")),
            "--stored" => options.stored = value().parse().expect("a number of messages"),
            "--only" => options.only = Some(value()),
            "--dir" => options.dir = value().into(),
            other => panic!("unknown argument '{other}'"),
        }
    }
    pin_self();
    let mut report = Report::default();
    let wanted = |part: &str| options.only.as_deref().is_none_or(|only| only == part);
    if wanted("http") {
        accepts_and_duplicates(&options, &mut report);
        lone_requests(&options, &mut report);
        starts_on_an_empty_store(&options, &mut report);
        with_many_stored(&options, &mut report);
    }
    if wanted("grpc") {
        grpc::measure(&options, &mut report);
    }
    if wanted("telemetry") {
        telemetry::measure(&options, &mut report);
    }
    report.print();
    fs::remove_dir_all(&options.dir).expect("removable directory");
}

/// A directory of its own for one measurement, empty.
fn fresh(options: &Options, name: &str) -> PathBuf {
    let dir = options.dir.join(name);
    if dir.exists() {
        fs::remove_dir_all(&dir).expect("removable directory");
    }
    fs::create_dir_all(&dir).expect("writable directory");
    dir
}

fn accepts_and_duplicates(options: &Options, report: &mut Report) {
    let warm_up = Stop::After(Duration::from_secs(1));
    let (mut ceilings, mut accepts, mut duplicates) = (Vec::new(), Vec::new(), Vec::new());
    let (mut bare_cpu, mut accept_cpu, mut duplicate_cpu) = (Vec::new(), Vec::new(), Vec::new());
    let (mut idle, mut peak) = (0, 0);
    let ceiling = Ceiling::start();
    for round in 0..options.rounds {
        let prefix = format!("a{round:02}");
        // Each round begins with an empty store; what a full one costs is measured below.
        let service = Service::start(&fresh(options, "throughput"));
        idle = idle.max(service.resident_mb());
        // With the microseconds of CPU that the server spent on one answer, which a slow minute changes less.
        let measure = |target: &load::Target, cpu: &dyn Fn() -> Duration, body: Body, warm: Body| {
            Load { target, connections: CONNECTIONS, body: warm, stop: warm_up }.run();
            let before = cpu();
            let outcome = Load { target, connections: CONNECTIONS, body, stop: Stop::After(options.duration) }.run();
            let spent = (cpu() - before).as_secs_f64() * 1e6 / outcome.answers as f64;
            (outcome, spent)
        };
        let (bare, cpu) = measure(ceiling.target(), &|| ceiling.cpu(), Body::unique(&prefix), Body::unique("warm"));
        bare_cpu.push(cpu);
        let warm = Body::unique(&format!("w{round:02}"));
        let (first, cpu) = measure(service.target(), &|| service.cpu(), Body::unique(&prefix), warm);
        accept_cpu.push(cpu);
        let repeated = || Body::repeated(&prefix, first.answers);
        let (again, cpu) = measure(service.target(), &|| service.cpu(), repeated(), repeated());
        duplicate_cpu.push(cpu);
        assert_eq!((bare.wrong, first.wrong, again.wrong), (0, 0, 0), "answers other than 200");
        assert_eq!((first.duplicates, again.duplicates), (0, again.answers), "accepted once, then never again");
        report.progress(&format!(
            "round {}: ceiling {:.0}/s, accepts {:.0}/s, duplicates {:.0}/s",
            round + 1,
            bare.rate(),
            first.rate(),
            again.rate()
        ));
        ceilings.push(bare.rate());
        accepts.push(first.rate());
        duplicates.push(again.rate());
        peak = peak.max(service.peak_mb());
        service.stop();
    }
    report.line("idle RSS, empty store", format!("{idle} MB (goal: under 40)"));
    report.line("ceiling", format!("{:.0}/s", median(&ceilings)));
    report.ratio("durable accepts / ceiling", &accepts, &ceilings, 0.5);
    report.ratio("duplicates / ceiling", &duplicates, &ceilings, 0.7);
    let cpus = [&bare_cpu, &accept_cpu, &duplicate_cpu].map(|each| median(each));
    report.line(
        "CPU of one answer",
        format!("ceiling {:.1} µs, accept {:.1} µs, duplicate {:.1} µs", cpus[0], cpus[1], cpus[2]),
    );
    report.line("peak RSS under this load", format!("{peak} MB (goal: under 250)"));
}

fn lone_requests(options: &Options, report: &mut Report) {
    let dir = fresh(options, "lone");
    let service = Service::start(&dir);
    let mut file = laid_out_file(&dir.with_file_name("lone-sync"));
    let (mut requests, mut syncs) = (Vec::new(), Vec::new());
    let mut lone = load::Lone::connect(service.target());
    let blocks = 10;
    for _ in 0..blocks {
        // Both in turn: the disk has good and bad moments.
        for _ in 0..LONE_REQUESTS / blocks {
            requests.push(lone.submit().as_secs_f64() * 1e3);
        }
        for _ in 0..LONE_REQUESTS / blocks {
            let begun = Instant::now();
            file.write_all(&[0x5a; 4096]).expect("room on the disk");
            file.sync_data().expect("a disk that syncs");
            syncs.push(begun.elapsed().as_secs_f64() * 1e3);
        }
    }
    let (request, sync) = (median(&requests), median(&syncs));
    report.line(
        "lone request",
        format!(
            "{request:.3} ms, of which one write and fdatasync {sync:.3} ms: {:.3} ms over it (goal: at most 1)",
            request - sync
        ),
    );
}

/// A file whose blocks exist already: the sync after a write to it has no metadata to write and is as quick as syncs get.
fn laid_out_file(path: &Path) -> File {
    let mut file = File::create(path).expect("writable directory");
    file.write_all(&vec![0; LONE_REQUESTS * 4096]).expect("room on the disk");
    file.sync_all().expect("a disk that syncs");
    file.rewind().expect("a file");
    file
}

fn starts_on_an_empty_store(options: &Options, report: &mut Report) {
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let dir = fresh(options, "start");
        starts.push(Service::start(&dir).started_in().as_secs_f64() * 1e3);
    }
    report.line("start to ready, empty store", format!("{:.0} ms (goal: under 200)", median(&starts)));
}

fn with_many_stored(options: &Options, report: &mut Report) {
    let full_dir = fresh(options, "full");
    let service = Service::start(&full_dir);
    let filled = Load {
        target: service.target(),
        connections: CONNECTIONS,
        body: Body::unique("full"),
        stop: Stop::Answers(options.stored),
    }
    .run();
    assert_eq!(filled.wrong, 0, "answers other than 200");
    report.progress(&format!("stored {} messages at {:.0}/s", filled.answers, filled.rate()));
    report.line("peak RSS while storing them", format!("{} MB (goal: under 250)", service.peak_mb()));
    service.stop();

    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let service = Service::start(&full_dir);
        starts.push(service.started_in().as_secs_f64() * 1e3);
        report.progress(&format!("start {:.0} ms, RSS {} MB", starts[starts.len() - 1], service.resident_mb()));
        service.stop();
    }
    let stored = options.stored;
    report.line(&format!("start to ready, {stored} stored"), format!("{:.0} ms (goal: under 1000)", median(&starts)));

    let (mut empty, mut full) = (Vec::new(), Vec::new());
    for round in 0..options.rounds {
        for (dir, rates) in [(fresh(options, "empty"), &mut empty), (full_dir.clone(), &mut full)] {
            let service = Service::start(&dir);
            let load = |body: Body, stop| Load { target: service.target(), connections: CONNECTIONS, body, stop }.run();
            load(Body::unique(&format!("v{round:02}")), Stop::After(Duration::from_secs(1)));
            let outcome = load(Body::unique(&format!("x{round:02}")), Stop::After(options.duration));
            assert_eq!((outcome.wrong, outcome.duplicates), (0, 0), "answers other than accepted");
            rates.push(outcome.rate());
            service.stop();
        }
        report.progress(&format!("round {}: empty {:.0}/s, full {:.0}/s", round + 1, empty[round], full[round]));
    }
    report.ratio(&format!("accepts with {stored} stored / empty store"), &full, &empty, 0.8);
}

//! What many stored messages cost: throughput, latency and memory beside an empty store, look-ups of what is not in memory,
//! bytes written and kept, starts.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use super::{
    CONNECTIONS, Options,
    chance::Chance,
    fill, fresh,
    load::{Body, Load, Outcome, Stop},
    report::{Report, median},
    server::{Ceiling, Service},
};

const WARM_UP: Duration = Duration::from_secs(1);
/// What a store is given before it is killed, so that its start finds something to do.
const BEFORE_A_KILL: u64 = 5_000;

/// A copy to work on of the store of `messages`, which is made once and stays as it is.
fn copy(options: &Options, messages: u64) -> PathBuf {
    let kept = fill::kept(&options.dir, messages);
    let work = fresh(options, &format!("work-{messages}"));
    let status = Command::new("cp").args(["-r", "--reflink=auto"]).arg(kept.join(".")).arg(&work).status();
    assert!(status.expect("cp").success(), "the store cannot be copied");
    work
}

/// A number of messages as people write it.
fn short(messages: u64) -> String {
    match messages {
        0 => "empty".into(),
        _ if messages.is_multiple_of(1_000_000) => format!("{} M", messages / 1_000_000),
        _ => messages.to_string(),
    }
}

fn accept(service: &Service, prefix: &str, stop: Stop) -> Outcome {
    let (target, body) = (service.target(), Body::unique(prefix));
    let outcome = Load { target, connections: CONNECTIONS, body, stop }.run();
    assert_eq!((outcome.wrong, outcome.duplicates), (0, 0), "answers other than accepted");
    outcome
}

/// Throughput, p99, memory and bytes at the largest store beside an empty one.
pub fn growth(options: &Options, report: &mut Report) {
    let messages = options.largest();
    let kept = fill::kept(&options.dir, messages);
    for line in fill::said_of(&kept).lines() {
        // Told together with what it must be: written 2.75 (aim 2.4) times a message with its head, which is what log has;
        // on disk 70 (aim 62) bytes over it.
        report.line(&format!("{} filled, at rest", short(messages)), line.to_owned());
    }
    let full = copy(options, messages);
    let mut chance = Chance::new(options.seed);
    let (mut empty, mut stored) = ((vec![], vec![]), (vec![], vec![]));
    let (mut peak, mut answers, mut calls, mut pages) = (0, 0, 0, 0);
    for round in 0..options.rounds {
        let mut turns = [false, true];
        chance.shuffle(&mut turns);
        for is_full in turns {
            let dir = if is_full { full.clone() } else { fresh(options, "empty") };
            let service = Service::start(&dir);
            let warm = accept(&service, &format!("v{round:02}"), Stop::After(WARM_UP));
            let outcome = accept(&service, &format!("x{round:02}"), Stop::After(options.duration));
            let (rates, slow) = if is_full { &mut stored } else { &mut empty };
            rates.push(outcome.rate());
            slow.push(outcome.permille_ms(990));
            if is_full {
                peak = peak.max(service.peak_mb());
                let written = service.written();
                answers += warm.answers + outcome.answers;
                calls += written.0;
                pages += written.1;
            }
            service.stop();
        }
        report.progress(&format!(
            "round {}: empty {:.0}/s, p99 {:.2} ms; full {:.0}/s, p99 {:.2} ms",
            round + 1,
            empty.0[round],
            empty.1[round],
            stored.0[round],
            stored.1[round]
        ));
    }
    let name = short(messages);
    report.ratio(&format!("accepts at {name} stored / empty"), &stored.0, &empty.0, "must 0.9, aim 1");
    report.times(&format!("p99 at {name} stored / empty"), &stored.1, &empty.1, "ms", "must 1.5, aim 1.2");
    report.line(&format!("RSS, {name} stored and full load (peak)"), format!("{peak} MB (must 200, aim 120)"));
    let each = |bytes: u64| bytes as f64 / answers as f64;
    report.line(
        &format!("written a message, {name} stored"),
        format!(
            "{:.0} bytes by write calls, {:.0} bytes of pages, of the load's own messages",
            each(calls),
            each(pages)
        ),
    );
}

/// Duplicates of messages that were stored long ago: the first half of a store that another process filled.
pub fn old_duplicates(options: &Options, report: &mut Report) {
    let messages = options.smallest();
    let work = copy(options, messages);
    let ceiling = Ceiling::start();
    let service = Service::start(&work);
    let mut chance = Chance::new(options.seed);
    let (mut bare, mut old) = (vec![], vec![]);
    for round in 0..options.rounds {
        let mut turns = [true, false];
        chance.shuffle(&mut turns);
        for is_ceiling in turns {
            let target = if is_ceiling { ceiling.target() } else { service.target() };
            let load = |stop| {
                let body = Body::spread(fill::PREFIX, messages / 2);
                Load { target, connections: CONNECTIONS, body, stop }.run()
            };
            load(Stop::After(WARM_UP));
            let outcome = load(Stop::After(options.duration));
            assert_eq!(outcome.wrong, 0, "answers other than 200");
            if is_ceiling {
                bare.push(outcome.rate());
            } else {
                assert_eq!(outcome.duplicates, outcome.answers, "all of them are stored");
                old.push(outcome.rate());
            }
        }
        report.progress(&format!("round {}: ceiling {:.0}/s, duplicates {:.0}/s", round + 1, bare[round], old[round]));
    }
    let name = format!("duplicates not in memory / ceiling, {} stored", short(messages));
    report.ratio(&name, &old, &bare, "must 0.7, aim 0.85");
    service.stop();
}

/// From the start of the process to the first "ready", after SIGKILL, with what the kernel has in memory.
pub fn starts(options: &Options, report: &mut Report) {
    let mut sizes = vec![0];
    sizes.extend(&options.stored);
    let stores: Vec<(u64, PathBuf)> = sizes
        .iter()
        .map(|messages| {
            let dir = if *messages == 0 { fresh(options, "start") } else { copy(options, *messages) };
            (*messages, dir)
        })
        .collect();
    let mut took: Vec<Vec<f64>> = vec![vec![]; stores.len()];
    let mut chance = Chance::new(options.seed);
    for round in 0..options.rounds {
        let mut turns: Vec<usize> = (0..stores.len()).collect();
        chance.shuffle(&mut turns);
        for turn in turns {
            let (messages, dir) = &stores[turn];
            took[turn].push(start_after_kill(dir, *messages, round));
        }
        let all: Vec<_> = took.iter().map(|each| format!("{:.0} ms", each[round])).collect();
        report.progress(&format!("round {}: start {}", round + 1, all.join(", ")));
    }
    for ((messages, _), took) in stores.iter().zip(&took) {
        let goal = match messages {
            0 => "must 50, aim 30",
            1_000_000 => "must 300, aim 150",
            _ => "must 500, aim 200",
        };
        let name = format!("start to ready after SIGKILL, {}", short(*messages));
        report.line(&name, format!("{:.0} ms ({goal})", median(took)));
    }
}

fn start_after_kill(dir: &Path, messages: u64, round: usize) -> f64 {
    let service = Service::start(dir);
    if messages > 0 {
        accept(&service, &format!("k{round:02}"), Stop::Answers(BEFORE_A_KILL));
    }
    service.kill();
    let service = Service::start(dir);
    let took = service.started_in().as_secs_f64() * 1e3;
    service.kill();
    took
}

//! Durable accepts, and duplicates of what was just accepted, beside the ceiling: rates and CPU, on an empty store.

use std::time::Duration;

use super::{
    CONNECTIONS, FEW_CONNECTIONS, Options,
    chance::Chance,
    fresh,
    load::{Body, Load, Stop, Target},
    report::{Report, median},
    server::{Ceiling, Service},
};

/// Rates and microseconds of CPU an answer, round by round.
#[derive(Default)]
struct Series {
    rates: Vec<f64>,
    cpus: Vec<f64>,
}

/// What is measured with one number of connections.
#[derive(Default)]
struct Lines {
    ceiling: Series,
    accepts: Series,
    duplicates: Series,
}

/// Measures, and gives the highest rate of accepts, which others take half of.
pub fn measure(options: &Options, report: &mut Report) -> f64 {
    let mut chance = Chance::new(options.seed);
    let (mut many, mut few) = (Lines::default(), Lines::default());
    let (mut idle, mut peak) = (0, 0);
    let ceiling = Ceiling::start();
    for round in 0..options.rounds {
        let mut turns = [(CONNECTIONS, true), (CONNECTIONS, false), (FEW_CONNECTIONS, true), (FEW_CONNECTIONS, false)];
        chance.shuffle(&mut turns);
        for (connections, is_ceiling) in turns {
            let lines = if connections == CONNECTIONS { &mut many } else { &mut few };
            let prefix = format!("a{round:02}");
            if is_ceiling {
                let cpu = || ceiling.cpu();
                let warm = Body::unique("warm");
                one(options, ceiling.target(), connections, &cpu, Body::unique(&prefix), warm, &mut lines.ceiling);
                continue;
            }
            // Each begins with an empty store; what a full one costs is measured elsewhere.
            let service = Service::start(&fresh(options, "throughput"));
            idle = idle.max(service.resident_mb());
            let (target, cpu) = (service.target(), || service.cpu());
            let warm = Body::unique(&format!("w{round:02}"));
            let (accepted, duplicates) =
                one(options, target, connections, &cpu, Body::unique(&prefix), warm, &mut lines.accepts);
            assert_eq!(duplicates, 0, "accepted once");
            peak = peak.max(service.peak_mb());
            let repeated = || Body::repeated(&prefix, accepted);
            let (again, duplicates) =
                one(options, target, connections, &cpu, repeated(), repeated(), &mut lines.duplicates);
            assert_eq!(duplicates, again, "never accepted again");
            service.stop();
        }
        let last = |series: &Series| series.rates.last().copied().unwrap_or_default();
        report.progress(&format!(
            "round {}: ceiling {:.0}/s and {:.0}/s, accepts {:.0}/s and {:.0}/s, duplicates {:.0}/s and {:.0}/s",
            round + 1,
            last(&many.ceiling),
            last(&few.ceiling),
            last(&many.accepts),
            last(&few.accepts),
            last(&many.duplicates),
            last(&few.duplicates),
        ));
    }
    let ratio = |report: &mut Report, name: &str, these: &Series, lines: &Lines, goal| {
        report.ratio(name, &these.rates, &lines.ceiling.rates, goal);
    };
    ratio(report, "durable accepts / ceiling, 256 connections", &many.accepts, &many, "must 0.65, aim 0.85");
    ratio(report, "durable accepts / ceiling, 64 connections", &few.accepts, &few, "must 0.55, aim 0.75");
    for (lines, connections) in [(&many, CONNECTIONS), (&few, FEW_CONNECTIONS)] {
        let cpus = [&lines.ceiling, &lines.accepts, &lines.duplicates].map(|series| median(&series.cpus));
        report.times(
            &format!("CPU of an accept / of the ceiling's answer, {connections} connections"),
            &lines.accepts.cpus,
            &lines.ceiling.cpus,
            "µs",
            "must 1.45, aim 1.2",
        );
        report.progress(&format!(
            "CPU of one answer, {connections} connections: ceiling {:.1} µs, accept {:.1} µs, duplicate {:.1} µs",
            cpus[0], cpus[1], cpus[2]
        ));
    }
    ratio(report, "duplicates just accepted / ceiling, 256 connections", &many.duplicates, &many, "must 0.9, aim 0.95");
    report.line("RSS, idle and empty", format!("{idle} MB (must 20, aim 15)"));
    report.line("RSS, full load (peak)", format!("{peak} MB (must 150, aim 100)"));
    median(&many.accepts.rates).max(median(&few.accepts.rates))
}

/// One measurement after a warm-up; gives its answers and how many of them were duplicates.
fn one(
    options: &Options,
    target: &Target,
    connections: usize,
    cpu: &dyn Fn() -> Duration,
    body: Body,
    warm: Body,
    series: &mut Series,
) -> (u64, u64) {
    Load { target, connections, body: warm, stop: Stop::After(Duration::from_secs(1)) }.run();
    let before = cpu();
    let outcome = Load { target, connections, body, stop: Stop::After(options.duration) }.run();
    assert_eq!(outcome.wrong, 0, "answers other than 200");
    // The microseconds of CPU that the server spent on one answer, which a slow minute changes less.
    series.cpus.push((cpu() - before).as_secs_f64() * 1e6 / outcome.answers as f64);
    series.rates.push(outcome.rate());
    (outcome.answers, outcome.duplicates)
}

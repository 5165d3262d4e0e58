//! Latency at half of the highest load, by an open loop, beside that of the sync itself.

use std::time::Instant;

use super::{
    CONNECTIONS, Options,
    chance::Chance,
    fresh,
    load::{Body, Load, Stop, percentile},
    lone::Syncs,
    pace::Pace,
    report::{Report, median},
    server::Service,
};

/// Room for the syncs of one round, which begin anew where it ends.
const SYNCED_BLOCKS: usize = 4_096;

/// `highest` is the rate of accepts that the service reaches, where that was measured before.
pub fn measure(options: &Options, report: &mut Report, highest: Option<f64>) {
    let dir = fresh(options, "latency");
    let service = Service::start(&dir);
    let target = service.target();
    let highest = highest.unwrap_or_else(|| {
        let load = |prefix, stop| Load { target, connections: CONNECTIONS, body: Body::unique(prefix), stop }.run();
        load("m0", Stop::After(options.duration));
        load("m1", Stop::After(options.duration)).rate()
    });
    let mut disk = Syncs::new(&dir.with_file_name("latency-sync"), SYNCED_BLOCKS);
    let mut chance = Chance::new(options.seed);
    let (mut rates, mut over_99, mut over_999) = (vec![], vec![], vec![]);
    let (mut requests_99, mut requests_999, mut syncs_99, mut syncs_999) = (vec![], vec![], vec![], vec![]);
    for round in 0..options.rounds {
        let mut turns = [true, false];
        chance.shuffle(&mut turns);
        for is_service in turns {
            if is_service {
                let prefix = format!("l{round:02}");
                let pace = Pace {
                    target,
                    connections: 4 * CONNECTIONS,
                    prefix: &prefix,
                    rate: highest / 2.0,
                    duration: options.duration,
                };
                let outcome = pace.run();
                assert_eq!((outcome.wrong, outcome.duplicates), (0, 0), "answers other than accepted");
                rates.push(outcome.rate());
                requests_99.push(outcome.permille_ms(990));
                requests_999.push(outcome.permille_ms(999));
            } else {
                let (begun, mut syncs) = (Instant::now(), Vec::new());
                while begun.elapsed() < options.duration {
                    syncs.push(disk.write_and_sync().as_micros() as u32);
                }
                syncs_99.push(percentile(&syncs, 990));
                syncs_999.push(percentile(&syncs, 999));
            }
        }
        over_99.push(requests_99[round] - syncs_99[round]);
        over_999.push(requests_999[round] - syncs_999[round]);
        report.progress(&format!(
            "round {}: {:.0}/s, p99 {:.2} ms (sync {:.2}), p99.9 {:.2} ms (sync {:.2})",
            round + 1,
            rates[round],
            requests_99[round],
            syncs_99[round],
            requests_999[round],
            syncs_999[round]
        ));
    }
    let rate = median(&rates);
    for (name, over, requests, syncs, goal) in [
        ("p99", &over_99, &requests_99, &syncs_99, "must 5, aim 2"),
        ("p99.9", &over_999, &requests_999, &syncs_999, "must 20, aim 8"),
    ] {
        report.line(
            &format!("{name} at half of the highest load, open loop, over the sync's own"),
            format!(
                "{:.2} ms ({:.2} ms at {rate:.0}/s, sync {:.2} ms; {goal})",
                median(over),
                median(requests),
                median(syncs)
            ),
        );
    }
    service.stop();
}

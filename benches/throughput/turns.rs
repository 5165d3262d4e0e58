//! Two services that take turns, so that what the machine does meanwhile concerns both.

use std::time::Duration;

use super::{
    CONNECTIONS, Options,
    load::{Body, Load, Stop},
    report::Report,
    server::Service,
};

/// The rates of accepts of both, a round each.
pub fn in_turn(options: &Options, report: &mut Report, services: [(&str, &Service); 2]) -> [Vec<f64>; 2] {
    let mut rates = [Vec::new(), Vec::new()];
    for round in 0..options.rounds {
        let mut turns: Vec<_> = services.iter().zip(&mut rates).collect();
        // The one that comes first in a round comes second in the next.
        if round % 2 == 1 {
            turns.reverse();
        }
        for ((_, service), rates) in turns {
            let load = |body: Body, stop| Load { target: service.target(), connections: CONNECTIONS, body, stop }.run();
            load(Body::unique(&format!("w{round:02}")), Stop::After(Duration::from_secs(1)));
            let outcome = load(Body::unique(&format!("t{round:02}")), Stop::After(options.duration));
            assert_eq!((outcome.wrong, outcome.duplicates), (0, 0), "answers other than accepted");
            rates.push(outcome.rate());
        }
        let [(one, _), (other, _)] = services;
        let (first, second) = (rates[0][round], rates[1][round]);
        report.progress(&format!("round {}: {one} {first:.0}/s, {other} {second:.0}/s", round + 1));
    }
    rates
}

//! What TLS costs on connections that are kept: the same service with and without, taking turns.

use std::{fs, path::Path, time::Duration};

use super::{
    CONNECTIONS, Options, fresh,
    load::{Body, Load, Stop},
    report::Report,
    server::Service,
};

const GOAL: &str = "at least 0.85";

pub fn measure(options: &Options, report: &mut Report) {
    let plain = Service::start(&fresh(options, "tls-off"));
    let dir = fresh(options, "tls-on");
    let (cert, key) = certificate(&dir);
    let files: &[(&str, &str)] =
        &[("MESSAGE_WEBHOOK_HTTP_TLS_CERT_FILE", &cert), ("MESSAGE_WEBHOOK_HTTP_TLS_KEY_FILE", &key)];
    let mut encrypted = Service::start_with(&dir, files);
    encrypted.trust(Path::new(&cert));
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for round in 0..options.rounds {
        // The one that comes first in a round comes second in the next.
        let mut turns = [(&plain, &mut without), (&encrypted, &mut with)];
        if round % 2 == 1 {
            turns.reverse();
        }
        for (service, rates) in turns {
            let load = |body: Body, stop| Load { target: service.target(), connections: CONNECTIONS, body, stop }.run();
            load(Body::unique(&format!("w{round:02}")), Stop::After(Duration::from_secs(1)));
            let outcome = load(Body::unique(&format!("t{round:02}")), Stop::After(options.duration));
            assert_eq!((outcome.wrong, outcome.duplicates), (0, 0), "answers other than accepted");
            rates.push(outcome.rate());
        }
        report.progress(&format!("round {}: plain {:.0}/s, TLS {:.0}/s", round + 1, without[round], with[round]));
    }
    report.ratio("accepts over TLS / plain", &with, &without, GOAL);
}

/// A certificate and its key, beside `dir`.
fn certificate(dir: &Path) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let written = |extension: &str, text: String| {
        let path = dir.with_extension(extension);
        fs::write(&path, text).expect("writable directory");
        path.to_str().expect("UTF-8").to_owned()
    };
    (written("cert.pem", made.cert.pem()), written("key.pem", made.signing_key.serialize_pem()))
}

//! What TLS costs on connections that are kept: the same service with and without, taking turns.

use std::{fs, path::Path};

use super::{Options, fresh, report::Report, server::Service, turns::in_turn};

const GOAL: &str = "at least 0.85";

pub fn measure(options: &Options, report: &mut Report) {
    let plain = Service::start(&fresh(options, "tls-off"));
    let dir = fresh(options, "tls-on");
    let (cert, key) = certificate(&dir);
    let files: &[(&str, &str)] =
        &[("MESSAGE_WEBHOOK_HTTP_TLS_CERT_FILE", &cert), ("MESSAGE_WEBHOOK_HTTP_TLS_KEY_FILE", &key)];
    let mut encrypted = Service::start_with(&dir, files);
    encrypted.trust(Path::new(&cert));
    let [without, with] = in_turn(options, report, [("plain", &plain), ("TLS", &encrypted)]);
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

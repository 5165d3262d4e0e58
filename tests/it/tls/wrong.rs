//! Files that refuse a start, and what is said of each.

use std::path::PathBuf;

use tempfile::TempDir;

use super::text;
use crate::support::{ServerProcess, certs::Authority, process::finish};

/// What `serve` says with these files.
fn refused(cert: &str, key: &str) -> String {
    let dir = TempDir::new().expect("a directory");
    let file = |name: &str, content: &str| -> PathBuf {
        let path = dir.path().join(name);
        if !content.is_empty() {
            std::fs::write(&path, content).expect("written");
        }
        path
    };
    let (cert, key) = (file("cert.pem", cert), file("key.pem", key));
    let builder = ServerProcess::builder().arg("--grpc-tls-cert-file").arg(text(&cert));
    let failed = finish(&mut builder.arg("--grpc-tls-key-file").arg(text(&key)).command());
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    assert!(failed.stderr.contains("No TLS for grpc (settings grpc_tls_…)"), "{}", failed.stderr);
    failed.stderr
}

#[test]
fn files_that_are_no_good_refuse_the_start_and_say_what_to_give_instead() {
    let authority = Authority::generate();
    let (pair, other) = (authority.server(), authority.server());
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let torn = pair.cert.replace("-----END", "----");
    let strange = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    for (cert, key, parts) in [
        ("", pair.key.as_str(), ["cert.pem is not there", "leave the setting out"]),
        (&pair.cert, "", ["key.pem is not there", "leave the setting out"]),
        ("no PEM\n", &pair.key, ["cert.pem has no certificate in PEM", "own certificate first"]),
        (&pair.key, &pair.key, ["cert.pem has no certificate in PEM", "own certificate first"]),
        (&torn, &pair.key, ["cert.pem", "BEGIN CERTIFICATE"]),
        (strange, &pair.key, ["cert.pem has a certificate that cannot be read", "make it again"]),
        (&pair.cert, &pair.cert, ["key.pem has no private key in PEM", "that the certificate was made with"]),
        (&pair.cert, locked, ["key.pem is locked by a passphrase", "openssl pkey"]),
        (&pair.cert, &other.key, ["key.pem does not fit the first certificate in", "own certificate first"]),
        // The chain the wrong way round.
        (&format!("{}{}", authority.pem, pair.cert), &pair.key, ["key.pem does not fit", "own certificate first"]),
    ] {
        let said = refused(cert, key);
        assert!(parts.iter().all(|part| said.contains(part)), "{parts:?} in {said}");
        let secret = pair.key.lines().nth(1).expect("a line of the key");
        assert!(!said.contains(secret));
    }
}

#[test]
fn a_certificate_without_its_key_is_a_mistake_in_the_configuration() {
    for (given, missing) in [("cert", "key"), ("key", "cert")] {
        let builder = ServerProcess::builder().arg(format!("--admin-tls-{given}-file=x.pem"));
        let failed = finish(&mut builder.command());
        assert_eq!(failed.code, Some(2), "{}", failed.stderr);
        assert!(failed.stderr.contains(&format!("needs admin_tls_{missing}_file too")), "{}", failed.stderr);
    }
}

#[test]
fn a_certificate_that_has_expired_is_a_warning() {
    let (authority, dir) = (Authority::generate(), TempDir::new().expect("a directory"));
    let (cert, key) = authority.pair(&["localhost"], -1).write(dir.path());
    let builder = ServerProcess::builder().arg("--admin-tls-cert-file").arg(text(&cert));
    let server = builder.arg("--admin-tls-key-file").arg(text(&key)).start();
    let log = server.stderr();
    let warned =
        log.lines().any(|line| line.contains("clients refuse the certificate") && line.contains("it expired at"));
    assert!(warned, "{log}");
}

//! A database that speaks TLS alone, asks for a client's certificate, and lets nobody in without a password:
//! `RING_SECURE=1 scripts/ring up 1`, named by `CQL_SECURE_NODES` and `CQL_SECURE_CERTIFICATES`.

use std::{env, path::PathBuf, process::Command};

use crate::support::{
    process::{self, Finished, finish},
    ring,
};

const PASSWORD: &str = "cassandra";

struct Secure {
    nodes: String,
    certificates: PathBuf,
    keyspace: String,
}

impl Secure {
    fn find() -> Option<Self> {
        let variable = |name| env::var(name).ok().filter(|text| !text.is_empty());
        let found = variable("CQL_SECURE_NODES").zip(variable("CQL_SECURE_CERTIFICATES"));
        assert!(
            found.is_some() || !ring::is_compulsory(),
            "CI runs all tests: set CQL_SECURE_NODES, as scripts/test does"
        );
        let (nodes, certificates) = found?;
        let keyspace = format!("test_secure_{}", std::process::id());
        Some(Self { nodes, certificates: certificates.into(), keyspace })
    }

    fn file(&self, name: &str) -> String {
        self.certificates.join(name).to_str().expect("UTF-8").to_owned()
    }

    /// `migrate`, with everything but the password.
    fn migrate(&self) -> Command {
        let mut command =
            process::command(["migrate", "--scylla-nodes", &self.nodes, "--scylla-keyspace", &self.keyspace]);
        // Of one node.
        command.arg("--scylla-replication-factor=1");
        command.args(["--scylla-user", "cassandra", "--scylla-ca-file", &self.file("ca.pem")]);
        command.args(["--scylla-client-cert-file", &self.file("client.pem")]);
        command.args(["--scylla-client-key-file", &self.file("client.key")]);
        command
    }
}

/// What a command said that must fail.
fn refused(done: &Finished) -> &str {
    assert_eq!(done.code, Some(1), "{done:?}");
    &done.stderr
}

#[test]
fn a_database_that_asks_for_all_of_them_is_reached_with_tls_a_certificate_and_a_password() {
    let Some(secure) = Secure::find() else { return };
    let made = finish(secure.migrate().env("MESSAGE_WEBHOOK_SCYLLA_PASSWORD", PASSWORD));
    assert!(made.code == Some(0) && made.stdout.contains("CREATE TABLE"), "{made:?}");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("{PASSWORD}\n")).expect("written");
    let again = finish(secure.migrate().arg("--scylla-password-file").arg(file.path()));
    assert!(again.code == Some(0) && again.stdout.contains("is up to date"), "{again:?}");
}

#[test]
fn what_a_secure_database_refuses_is_said_and_the_password_is_not() {
    let Some(secure) = Secure::find() else { return };
    let wrong = "open sesame";
    let done = finish(secure.migrate().env("MESSAGE_WEBHOOK_SCYLLA_PASSWORD", wrong));
    assert!(refused(&done).contains("the user and password") && !done.stderr.contains(wrong), "{done:?}");

    // No reason to wait for the database: it is there, and says no.
    let mut serve = process::command(["serve", "--store=scylla", "--scylla-nodes", &secure.nodes]);
    serve.args(["--scylla-user", "cassandra", "--scylla-ca-file", &secure.file("ca.pem")]);
    serve.args(["--scylla-client-cert-file", &secure.file("client.pem")]);
    serve.args(["--scylla-client-key-file", &secure.file("client.key")]);
    serve.args(["--http-addr=127.0.0.1:0", "--grpc-addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0"]);
    let done = finish(serve.env("MESSAGE_WEBHOOK_SCYLLA_PASSWORD", wrong));
    assert!(refused(&done).contains("the user and password") && !done.stderr.contains(wrong), "{done:?}");

    let bare = ["migrate", "--scylla-nodes", &secure.nodes];
    let plain = finish(&mut process::command(bare));
    assert!(refused(&plain).contains("and TLS"), "{plain:?}");

    let mut no_certificate = process::command(bare);
    let done = finish(no_certificate.args(["--scylla-ca-file", &secure.file("ca.pem")]));
    assert!(refused(&done).contains("CertificateRequired"), "{done:?}");

    // An authority that did not sign the server's certificate.
    let mut wrong_authority = process::command(bare);
    let done = finish(wrong_authority.args(["--scylla-ca-file", &secure.file("client.pem")]));
    assert!(refused(&done).contains("certificate"), "{done:?}");
}

#[test]
fn a_file_that_is_no_certificate_is_named() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("UTF-8");
    for content in ["", "-----BEGIN CERTIFICATE-----\nbroken"] {
        std::fs::write(file.path(), content).expect("written");
        let done = process::cli(["migrate", "--scylla-nodes", "127.0.0.1:1", "--scylla-ca-file", path]);
        assert!(refused(&done).contains(path), "{done:?}");
    }
    std::fs::write(file.path(), "\nsecond line").expect("written");
    let done = process::cli([
        "migrate",
        "--scylla-nodes",
        "127.0.0.1:1",
        "--scylla-user",
        "u",
        "--scylla-password-file",
        path,
    ]);
    assert!(refused(&done).contains(path), "{done:?}");
}

#[test]
fn a_database_that_does_not_answer_is_named() {
    // Not `serve`, which waits for it.
    let done = process::cli(["migrate", "--scylla-nodes", "127.0.0.1:1"]);
    assert!(refused(&done).contains("127.0.0.1:1"), "{done:?}");
}

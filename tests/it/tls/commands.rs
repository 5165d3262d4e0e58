//! The program's own commands against listeners that speak TLS.

use std::path::PathBuf;

use tempfile::TempDir;

use super::text;
use crate::support::{
    ServerProcess,
    certs::Authority,
    process::{Finished, command, finish},
};

struct Scene {
    server: ServerProcess,
    key: String,
    ca: PathBuf,
    other_ca: PathBuf,
    cert: PathBuf,
    _dir: TempDir,
}

impl Scene {
    fn start() -> Self {
        let (authority, dir) = (Authority::generate(), TempDir::new().expect("a directory"));
        let (cert, key_file) = authority.server().write(dir.path());
        let (ca, other_ca) = (dir.path().join("ca.pem"), dir.path().join("other.pem"));
        std::fs::write(&ca, &authority.pem).expect("written");
        std::fs::write(&other_ca, Authority::generate().pem).expect("written");
        let mut builder = ServerProcess::builder();
        for listener in super::LISTENERS {
            builder = builder.arg(format!("--{listener}-tls-cert-file={}", text(&cert)));
            builder = builder.arg(format!("--{listener}-tls-key-file={}", text(&key_file)));
        }
        let server = builder.start();
        let made = server.cli(&[
            "keys", "create", "--org", "acme", "--env", "dev", "--scope", "submit", "--scope", "read", "--scope",
            "stream",
        ]);
        Self { server, key: made.stdout.trim().into(), ca, other_ca, cert, _dir: dir }
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        finish(command(arguments).env("MESSAGE_WEBHOOK_KEY", &self.key))
    }

    fn grpc(&self) -> String {
        format!("https://localhost:{}", self.server.grpc.port())
    }

    /// Submits a message over gRPC to `address`, with more flags.
    fn submit(&self, sid: &str, address: &str, flags: &[&str]) -> Finished {
        let mut arguments = vec!["submit", "--from-id", "u", "--message-sid", sid, "--grpc-addr", address];
        arguments.extend(flags);
        self.run(&arguments)
    }
}

#[test]
fn messages_are_submitted_and_read_over_tls_by_whoever_trusts_the_authority() {
    let scene = Scene::start();
    let trust = ["--tls-ca-file", text(&scene.ca)];
    let sent = scene.submit("one", &scene.grpc(), &trust);
    assert_eq!((sent.code, sent.stdout.trim()), (Some(0), "one  accepted"), "{sent:?}");
    let grpc = scene.grpc();
    for arguments in [&["list", "u"][..], &["get", "one"]] {
        let all: Vec<_> = arguments.iter().copied().chain(["--grpc-addr", &grpc]).chain(trust).collect();
        let found = scene.run(&all);
        assert!(found.code == Some(0) && found.stdout.contains("one"), "{found:?}");
    }
    let url = format!("https://localhost:{}", scene.server.http.port());
    let over_http = ["--http-url", &url, "--org", "acme", "--env", "dev"];
    let all: Vec<_> = over_http.into_iter().chain(trust).collect();
    let sent = scene.submit("two", "127.0.0.1:1", &all);
    assert_eq!((sent.code, sent.stdout.trim()), (Some(0), "two  accepted"), "{sent:?}");
}

#[test]
fn a_certificate_that_is_not_trusted_ends_a_command_with_what_to_give() {
    let scene = Scene::start();
    let ip = format!("https://127.0.0.1:{}", scene.server.grpc.port());
    let url = format!("https://localhost:{}", scene.server.http.port());
    let plain = format!("127.0.0.1:{}", scene.server.grpc.port());
    let by_http = ["--http-url", &url, "--org", "acme", "--env", "dev", "--tls-ca-file", text(&scene.other_ca)];
    for (address, flags, said) in [
        (&scene.grpc(), &["--tls-ca-file", text(&scene.other_ca)][..], "name that by --tls-ca-file"),
        (&scene.grpc(), &by_http, "name that by --tls-ca-file"),
        (&ip, &["--tls-ca-file", text(&scene.ca), "--tls-server-name", "other.example"], "give that name by"),
        (&plain, &["--tls-ca-file", text(&scene.ca)], "write it so, or leave them out"),
        (&plain, &[], "with https:// before it where it speaks TLS"),
        (&scene.grpc(), &["--tls-ca-file", "/nowhere.pem"], "/nowhere.pem cannot be read"),
        (&"https://".to_owned(), &[], "is no address"),
        (&"ftp://localhost:1".to_owned(), &[], "is no address"),
    ] {
        let failed = scene.submit("refused", address, flags);
        assert!(failed.code != Some(0) && failed.stderr.contains(said), "{said}: {failed:?}");
    }
    let named = scene.submit("named", &ip, &["--tls-ca-file", text(&scene.ca), "--tls-server-name", "localhost"]);
    assert_eq!(named.code, Some(0), "{named:?}");
}

#[test]
fn health_speaks_tls_where_the_address_or_the_servers_own_setting_says_so() {
    let scene = Scene::start();
    let (plain, port) = (scene.server.admin.to_string(), scene.server.admin.port());
    let https = format!("https://{plain}");
    for flags in [
        vec!["--admin-addr", &https],
        vec!["--admin-addr", &plain, "--admin-tls-cert-file", text(&scene.cert)],
        vec!["--admin-addr", &https, "--tls-ca-file", text(&scene.ca)],
        vec!["--admin-addr", &https, "--live", "--tls-ca-file", text(&scene.ca), "--tls-server-name", "localhost"],
    ] {
        let asked = scene.run(&[&["health"], flags.as_slice()].concat());
        assert!(asked.code == Some(0) && ["ready", "live"].contains(&asked.stdout.trim()), "{flags:?}: {asked:?}");
    }
    let mut by_setting = command(["health", "--admin-addr", &plain]);
    let asked = finish(by_setting.env("MESSAGE_WEBHOOK_ADMIN_TLS_CERT_FILE", text(&scene.cert)));
    assert_eq!((asked.code, asked.stdout.trim()), (Some(0), "ready"), "{asked:?}");
    let refused = scene.run(&["health", "--admin-addr", &https, "--tls-ca-file", text(&scene.other_ca)]);
    assert!(refused.code == Some(1) && refused.stderr.contains("is not trusted here"), "{refused:?}");
    let without = scene.run(&["health", "--admin-addr", &format!("127.0.0.1:{port}")]);
    assert!(without.code == Some(1) && without.stdout.contains("https://"), "{without:?}");
}

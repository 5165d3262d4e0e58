//! `submit` where not everything goes well.

use std::{
    io::Write as _,
    net::TcpListener,
    time::{Duration, Instant},
};

use tempfile::{NamedTempFile, TempDir};

use crate::support::{
    ServerProcess,
    process::{Finished, command, finish},
};

/// Much less than the time for which a server that is away is waited for.
const SOON: Duration = Duration::from_secs(60);
/// For whoever needs no key that works.
const ANY_KEY: &str = "mw_dev_nonsense";

fn key(server: &ServerProcess) -> String {
    let created = server.cli(&["keys", "create", "--org", "acme", "--env", "dev"]);
    assert_eq!(created.code, Some(0), "{}", created.stderr);
    created.stdout.trim().to_owned()
}

fn file(content: impl AsRef<[u8]>) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(content.as_ref()).expect("written");
    file
}

fn line(sid: &str) -> String {
    format!(r#"{{"from_id":"u","message_sid":"{sid}","timestamp":1672531200}}"#)
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Grpc,
    Http,
}

impl Way {
    const BOTH: [Way; 2] = [Way::Grpc, Way::Http];

    /// `submit --file` to `address`.
    fn submit(self, address: &str, key: &str, path: &std::path::Path) -> Finished {
        let mut command = command(["submit", "--org", "acme", "--env", "dev", "--file"]);
        match self {
            Way::Grpc => command.arg(path).args(["--grpc-addr", address]),
            Way::Http => command.arg(path).args(["--http-url", &format!("http://{address}")]),
        };
        finish(command.env("MESSAGE_WEBHOOK_KEY", key))
    }

    fn port(self, server: &ServerProcess) -> String {
        match self {
            Way::Grpc => server.grpc.to_string(),
            Way::Http => server.http.to_string(),
        }
    }
}

#[test]
fn new_messages_under_a_rate_limit_are_accepted_once_each_and_the_stream_stays() {
    for way in Way::BOTH {
        let server = ServerProcess::builder().arg("--rate-limit-per-org").arg("5").start();
        let lines: Vec<_> = (0..40).map(|number| line(&format!("s{number}"))).collect();
        let done = way.submit(&way.port(&server), &key(&server), file(lines.join("\n")).path());
        assert_eq!(done.code, Some(0), "{way:?}: {}", done.stderr);
        assert!(done.stderr.contains("40 accepted, 0 duplicates, 0 refused"), "{way:?}: {}", done.stderr);
        assert!(!done.stderr.contains("broke") && done.stderr.contains("more slowly"), "{way:?}: {}", done.stderr);
    }
}

#[test]
fn where_nobody_listens_it_says_so_and_gives_up_soon() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("an address").to_string();
    for way in Way::BOTH {
        let begun = Instant::now();
        let done = way.submit(&free, ANY_KEY, file(line("s")).path());
        assert!(begun.elapsed() < SOON, "{way:?}: {:?}", begun.elapsed());
        assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""), "{way:?}");
        assert!(done.stderr.contains(&free) && done.stderr.contains("trying again"), "{way:?}: {}", done.stderr);
    }
}

#[test]
fn at_a_wrong_port_it_says_so_in_a_sentence_of_its_own() {
    let server = ServerProcess::start();
    let key = key(&server);
    for (way, port, part) in [
        (Way::Grpc, server.http, "does not answer as this service's gRPC port does"),
        (Way::Grpc, server.admin, "does not answer as this service's gRPC port does"),
        (Way::Http, server.grpc, "send the webhook's JSON to the HTTP port"),
        (Way::Http, server.admin, "does not answer as this service's webhook does"),
    ] {
        let begun = Instant::now();
        let done = way.submit(&port.to_string(), &key, file(line("s")).path());
        assert!(begun.elapsed() < SOON, "{way:?} {part}: {:?}", begun.elapsed());
        assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""), "{way:?} {part}: {}", done.stderr);
        assert!(done.stderr.contains(part) && !done.stderr.contains("compression"), "{way:?}: {}", done.stderr);
    }
    let tail = finish(command(["tail", "--grpc-addr", &server.http.to_string()]).env("MESSAGE_WEBHOOK_KEY", &key));
    assert!(tail.code == Some(1) && tail.stderr.contains("gRPC port"), "{}", tail.stderr);
    let get = finish(command(["get", "s", "--grpc-addr", &server.http.to_string()]).env("MESSAGE_WEBHOOK_KEY", &key));
    assert!(get.code == Some(1) && get.stderr.contains("gRPC port"), "{}", get.stderr);
}

#[test]
fn an_address_without_a_port_is_refused_before_a_key_is_sent() {
    for address in ["18101", "localhost", "127.0.0.1", ":9090", "http://127.0.0.1:9090", "127.0.0.1:9090/x", "u@h:1"] {
        let mut command = command(["get", "s", "--grpc-addr", address]);
        let done = finish(command.env("MESSAGE_WEBHOOK_KEY", ANY_KEY));
        assert!(done.code == Some(2) && done.stderr.contains("HOST:PORT"), "{address}: {}", done.stderr);
    }
}

#[test]
fn a_line_that_is_no_message_is_told_by_its_number_and_the_others_are_sent() {
    let server = ServerProcess::start();
    let key = key(&server);
    let mut content = b"\xef\xbb\xbf".to_vec();
    let nulls = r#"{"from_id":"u","message_sid":"nulls","timestamp":1,"message_body":null,"image_urls":null,"audio_urls":null}"#;
    for line in [line("first").as_bytes(), b"{", b"", nulls.as_bytes(), b"\xff", b"[]", line("last").as_bytes()] {
        content.extend_from_slice(line);
        content.extend_from_slice(b"\r\n");
    }
    let file = file(content);
    for (way, outcome) in [(Way::Grpc, "3 accepted, 0 duplicates"), (Way::Http, "0 accepted, 3 duplicates")] {
        let done = way.submit(&way.port(&server), &key, file.path());
        assert_eq!(done.code, Some(1), "{way:?}: {}", done.stderr);
        assert!(done.stderr.contains(&format!("{outcome}, 3 refused")), "{way:?}: {}", done.stderr);
        for number in [2, 5, 6] {
            assert!(done.stdout.contains(&format!("line {number}  refused")), "{way:?}: {}", done.stdout);
        }
        for sid in ["first", "nulls", "last"] {
            assert!(done.stdout.lines().any(|line| line.starts_with(sid)), "{way:?}: {}", done.stdout);
        }
    }
}

#[test]
fn files_from_windows_are_read_or_told_for_what_they_are() {
    let server = ServerProcess::start();
    let key = key(&server);
    let key_file = file(format!("\u{feff}{key}\r\n"));
    let messages = file(format!("\u{feff}{}\r\n", line("s")));
    let mut submit = command(["submit", "--grpc-addr", &server.grpc.to_string(), "--key-file"]);
    let done = finish(submit.arg(key_file.path()).arg("--file").arg(messages.path()));
    assert!(done.stderr.contains("1 accepted"), "{}", done.stderr);

    let utf_16 = |text: &str| {
        file([0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect::<Vec<_>>())
    };
    let (key_file, messages) = (utf_16(&key), utf_16(&line("t")));
    let mut submit = command(["submit", "--grpc-addr", &server.grpc.to_string(), "--file"]);
    let done = finish(submit.arg(messages.path()).env("MESSAGE_WEBHOOK_KEY", &key));
    assert!(done.code == Some(1) && done.stderr.contains("UTF-16"), "{}", done.stderr);
    let mut get = command(["get", "s", "--grpc-addr", &server.grpc.to_string(), "--key-file"]);
    let done = finish(get.arg(key_file.path()));
    assert!(done.code == Some(1) && done.stderr.contains("UTF-16"), "{}", done.stderr);

    // What the server itself reads.
    let generated = finish(&mut command(["keys", "generate", "--org", "acme", "--env", "dev"]));
    let (text, entry) = generated.stdout.split_once("\n\n").expect("a key and its entry");
    let dir = TempDir::new().expect("a directory");
    let (keys, settings) = (dir.path().join("keys.toml"), dir.path().join("settings.toml"));
    std::fs::write(&keys, format!("\u{feff}{}", entry.replace('\n', "\r\n"))).expect("written");
    let path = keys.to_str().expect("UTF-8");
    std::fs::write(&settings, format!("\u{feff}keys_file = '{path}'\r\nmax_in_flight = 7\r\n")).expect("written");
    let server = ServerProcess::builder().arg("--config").arg(settings.display()).start();
    let mut submit =
        command(["submit", "--from-id", "u", "--message-sid", "w", "--grpc-addr", &server.grpc.to_string()]);
    let done = finish(submit.env("MESSAGE_WEBHOOK_KEY", text.trim()));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

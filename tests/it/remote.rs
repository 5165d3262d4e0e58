//! `submit`, `list` and `tail` as processes against a real server.

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    sync::mpsc,
};

use crate::support::{
    PATIENCE, ServerProcess,
    process::{Finished, command, finish},
};

fn key(server: &ServerProcess) -> String {
    let created = server.cli(&[
        "keys", "create", "--org", "acme", "--env", "dev", "--scope", "submit", "--scope", "read", "--scope", "stream",
    ]);
    assert_eq!(created.code, Some(0), "{}", created.stderr);
    created.stdout.trim().to_owned()
}

fn run(server: &ServerProcess, key: &str, arguments: &[&str]) -> Finished {
    let mut command = command(arguments);
    finish(command.args(["--grpc-addr", &server.grpc.to_string()]).env("MESSAGE_WEBHOOK_KEY", key))
}

/// A running `tail --json` and its lines.
struct Tail {
    child: Child,
    lines: mpsc::Receiver<serde_json::Value>,
}

impl Tail {
    fn start(server: &ServerProcess, key: &str, from: &str) -> Self {
        let mut command = command(["tail", "--json", "--from", from, "--grpc-addr", &server.grpc.to_string()]);
        let command = command.env("MESSAGE_WEBHOOK_KEY", key).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the program runs");
        let stdout = child.stdout.take().expect("piped");
        let (tell, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if tell.send(serde_json::from_str(&line).expect("a line is JSON")).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    fn next(&self) -> serde_json::Value {
        self.lines.recv_timeout(PATIENCE).expect("a message")
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_file_is_sent_over_grpc_and_again_over_the_webhook_and_every_message_is_there_once() {
    let server = ServerProcess::start();
    let key = key(&server);
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    let mut lines = String::new();
    for number in 0..2000 {
        writeln!(lines, r#"{{"from_id":"u","message_sid":"m-{number}","timestamp":{}}}"#, 1_672_531_200 + number)
            .expect("written");
    }
    std::io::Write::write_all(&mut file, lines.as_bytes()).expect("written");
    let path = file.path().to_str().expect("UTF-8");
    let first = run(&server, &key, &["submit", "--file", path]);
    assert_eq!((first.code, first.stdout.lines().count()), (Some(0), 2000), "{}", first.stderr);
    assert!(first.stderr.contains("2000 accepted, 0 duplicates, 0 refused"), "{}", first.stderr);
    let url = format!("http://{}", server.http);
    let again = run(&server, &key, &["submit", "--file", path, "--http-url", &url, "--org", "acme", "--env", "dev"]);
    assert!(again.stderr.contains("0 accepted, 2000 duplicates, 0 refused"), "{}", again.stderr);
    let listed = run(&server, &key, &["list", "u", "--limit", "5000"]);
    assert_eq!(listed.stdout.lines().count(), 2000);
    let last = run(&server, &key, &["list", "u", "--limit", "1", "--json"]);
    let last: serde_json::Value = serde_json::from_str(&last.stdout).expect("JSON");
    assert_eq!(last["org_id"], "acme");
}

#[test]
fn a_submit_whose_outcomes_cannot_be_written_says_so_and_ends_at_once_on_both_protocols() {
    let server = ServerProcess::start();
    let key = key(&server);
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    for number in 0..500 {
        use std::io::Write;
        writeln!(file, r#"{{"from_id":"u","message_sid":"m-{number}","timestamp":1672531200}}"#).expect("written");
    }
    let path = file.path().to_str().expect("UTF-8");
    let (url, grpc) = (format!("http://{}", server.http), server.grpc.to_string());
    let over_http = ["--http-url", url.as_str(), "--org", "acme", "--env", "dev"];
    for more in [&[][..], &over_http] {
        let arguments = [&["submit", "--file", path, "--grpc-addr", grpc.as_str()], more].concat();
        let mut command = command(arguments);
        command.env("MESSAGE_WEBHOOK_KEY", &key).stdout(std::fs::File::create("/dev/full").expect("Linux has it"));
        let output = command.stderr(Stdio::piped()).spawn().expect("it runs").wait_with_output().expect("it ends");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("No space left on device") && !stderr.contains("again in"), "{stderr}");
    }
}

#[test]
fn a_message_by_flags_is_accepted_once_and_a_refusal_says_why_on_both_protocols() {
    let server = ServerProcess::start();
    let key = key(&server);
    let message = ["submit", "--from-id", "u", "--message-sid", "s", "--timestamp", "1672531200", "--json"];
    let url = format!("http://{}", server.http);
    let over_http = ["--http-url", url.as_str(), "--org", "acme", "--env", "dev"];
    let outcome = |arguments: &[&str]| {
        let done = run(&server, &key, arguments);
        let line: serde_json::Value = serde_json::from_str(&done.stdout).expect("one line of JSON");
        (done.code, line["outcome"].as_str().expect("a word").to_owned(), line["error"].clone())
    };
    assert_eq!(outcome(&message), (Some(0), "accepted".into(), serde_json::Value::Null));
    assert_eq!(outcome(&[&message[..], &over_http].concat()), (Some(0), "duplicate".into(), serde_json::Value::Null));
    let other = [&message[..], &["--message-body", "another text"]].concat();
    assert_eq!(outcome(&other), (Some(0), "mismatch".into(), serde_json::Value::Null));
    let bad = [&message[..], &["--image-url", "https://example.com/a.gif"]].concat();
    let (code, word, error) = outcome(&bad);
    assert_eq!((code, word.as_str()), (Some(1), "refused"));
    assert_eq!(outcome(&[&bad[..], &over_http].concat()), (code, word, error));
}

#[test]
fn tail_goes_on_where_it_was_after_the_server_was_killed_and_started_again() {
    let mut server = ServerProcess::start();
    let key = key(&server);
    let submit = |server: &ServerProcess, sid: &str| {
        let done = run(server, &key, &["submit", "--from-id", "u", "--message-sid", sid]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
    };
    submit(&server, "a");
    let tail = Tail::start(&server, &key, "start");
    let first = tail.next();
    assert_eq!(first["message_sid"], "a");
    let (address, dir) = (server.grpc, server.keep_dir());
    server.signal("KILL");
    server.wait();
    let data_dir = dir.path().join("data");
    let server = ServerProcess::builder().data_dir(&data_dir).grpc_addr(address).start();
    submit(&server, "b");
    assert_eq!(tail.next()["message_sid"], "b");
    // A cursor of a line is a place to begin at.
    let cursor = first["cursor"].as_str().expect("a cursor");
    assert_eq!(Tail::start(&server, &key, cursor).next()["message_sid"], "b");
}

#[test]
fn what_cannot_work_ends_with_a_sentence_and_an_exit_code() {
    let server = ServerProcess::start();
    let key = key(&server);
    let nothing = run(&server, &key, &["tail", "--from", "yesterday?"]);
    assert_eq!(nothing.code, Some(2));
    let refused = run(&server, "mw_dev_nonsense", &["tail"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""));
    assert!(refused.stderr.contains("API key"), "{}", refused.stderr);
    let no_file = run(&server, &key, &["submit", "--file", "/nowhere.ndjson"]);
    assert_eq!(no_file.code, Some(1));
    let no_target = run(&server, &key, &["submit", "--file", "-", "--http-url", "http://127.0.0.1:1"]);
    assert_eq!(no_target.code, Some(2));
    let far = run(&server, &key, &["submit", "--file", "-", "--http-url", "ftp://x", "--org", "a", "--env", "dev"]);
    assert!(far.code == Some(2) && far.stderr.contains("https://HOST:PORT"), "{}", far.stderr);
}

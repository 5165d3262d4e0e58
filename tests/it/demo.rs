//! `serve --demo`: every command that it prints works as it stands.

use std::process::Command;

use tempfile::TempDir;

use super::support::ServerProcess;

fn paste(command: &str) -> String {
    let output = Command::new("bash").args(["-c", command]).output().expect("bash runs");
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// From the line that begins with `begin` to the end of its paragraph.
fn paragraph<'a>(stdout: &'a str, begin: &str) -> &'a str {
    let at = stdout.find(&format!("\n{begin}")).unwrap_or_else(|| panic!("no line '{begin}…': {stdout}"));
    stdout[at + 1..].split("\n\n").next().expect("a paragraph").trim_end()
}

#[test]
fn the_printed_commands_work_as_they_stand_also_after_a_second_start() {
    let dir = TempDir::new().expect("a directory");
    let mut keys = Vec::new();
    for start in 1..=2 {
        let mut server = ServerProcess::builder().demo_in(dir.path()).start();
        let stdout = loop {
            let stdout = server.stdout();
            if stdout.contains("/docs\n") {
                break stdout;
            }
            assert!(!server.has_ended(), "{}", server.stderr());
            std::thread::sleep(std::time::Duration::from_millis(10));
        };
        let key = paragraph(&stdout, "export KEY=");
        assert_eq!(key.lines().count(), 1, "{key}");
        let curl = format!("{key}\n{}", paragraph(&stdout, "curl "));
        let (first, second) = (paste(&curl), paste(&curl));
        assert!(first.contains("\"Message received and processed\""), "{first}");
        assert!(second.contains("\"Already processed\""), "{second}");
        let tail = paste(&format!("{key}\n{} --json --count {start}", paragraph(&stdout, "MESSAGE_WEBHOOK_KEY=")));
        let message: serde_json::Value = serde_json::from_str(tail.lines().last().expect("a line")).expect("JSON");
        assert_eq!(message["message_body"], "Here is my meal.");
        assert_eq!((&message["org_id"], &message["env"]), (&"demo".into(), &"dev".into()));
        let (_, docs) = stdout.split_once("documentation: ").expect("the page");
        assert!(paste(&format!("curl -sS {docs}")).contains("<html"), "{docs}");
        assert!(!server.stderr().contains("WARN") && !server.stderr().contains("ERROR"), "{}", server.stderr());
        keys.push(key.to_owned());
        server.terminate();
        assert_eq!(server.wait().code, Some(0));
        // The next start has another second in its message's id.
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
    assert_eq!(keys[0], keys[1], "the second start shows the keys of the first");
}

#[cfg(unix)]
#[test]
fn the_demos_keys_are_readable_by_its_user_alone_and_a_revoked_one_is_made_anew() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().expect("a directory");
    let server = ServerProcess::builder().demo_in(dir.path()).start();
    let file = server.data_dir.join("demo-keys.json");
    let read =
        || -> serde_json::Value { serde_json::from_slice(&std::fs::read(&file).expect("a file")).expect("JSON") };
    super::support::wait_until("the demo's keys", || file.exists());
    assert_eq!(std::fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    let before = read();
    let id = before["dev"].as_str().expect("a key").split('_').nth(2).expect("an id").to_owned();
    assert_eq!(server.cli(&["keys", "revoke", &id]).code, Some(0));
    server.terminate();
    assert_eq!(server.wait().code, Some(0));
    let server = ServerProcess::builder().demo_in(dir.path()).start();
    super::support::wait_until("a new key", || read() != before);
    assert_eq!((&read()["prod"], read()["dev"] != before["dev"]), (&before["prod"], true));
    drop(server);
}

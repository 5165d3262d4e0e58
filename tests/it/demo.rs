//! `serve --demo`: every command that it prints works as it stands.

use std::process::Command;

use tempfile::TempDir;

use super::support::ServerProcess;

/// The commands under each comment line, as a user pastes them.
fn commands(stdout: &str) -> Vec<(String, String)> {
    let sections = stdout.split("\n# ").skip(1);
    sections
        .map(|section| {
            let (title, command) = section.split_once('\n').expect("a title");
            (title.to_owned(), command.trim().to_owned())
        })
        .collect()
}

fn paste(command: &str) -> String {
    let output = Command::new("bash").args(["-c", command]).output().expect("bash runs");
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn find<'a>(commands: &'a [(String, String)], title: &str) -> &'a str {
    &commands.iter().find(|(each, _)| each.starts_with(title)).unwrap_or_else(|| panic!("{title}: {commands:?}")).1
}

#[test]
fn the_printed_commands_work_as_they_stand_also_after_a_second_start() {
    let dir = TempDir::new().expect("a directory");
    let mut keys = Vec::new();
    for _ in 0..2 {
        let mut server = ServerProcess::builder().demo_in(dir.path()).start();
        let stdout = loop {
            let stdout = server.stdout();
            if stdout.contains("/metrics\n") {
                break stdout;
            }
            assert!(!server.has_ended(), "{}", server.stderr());
            std::thread::sleep(std::time::Duration::from_millis(10));
        };
        let commands = commands(&stdout);
        for env in ["dev", "prod"] {
            let curl = find(&commands, &format!("A message in, {env}"));
            let (first, second) = (paste(curl), paste(curl));
            assert!(first.contains("\"Message received and processed\""), "{first}");
            assert!(second.contains("\"Already processed\""), "{second}");
        }
        let message: serde_json::Value = serde_json::from_str(&paste(find(&commands, "Read it back"))).expect("JSON");
        assert_eq!(message["message_body"], "Here is my meal, this is gruyere cheese btw.");
        assert_eq!((&message["org_id"], &message["env"]), (&"demo".into(), &"dev".into()));
        let health = paste(find(&commands, "Health and metrics"));
        assert!(health.starts_with("ready") && health.contains("message_webhook_build_info"), "{health}");
        keys.push(find(&commands, "Read it back").split(' ').next().expect("a key").to_owned());
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

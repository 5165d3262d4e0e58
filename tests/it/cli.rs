//! The command line as a user meets it.

use super::support::{cli, process};

#[test]
fn the_version_and_help_are_printed_to_stdout() {
    let version = cli(["--version"]);
    assert_eq!(version.code, Some(0));
    assert_eq!(version.stdout.trim(), concat!("message-webhook ", env!("CARGO_PKG_VERSION")));
    let help = cli(["serve", "--help"]);
    for flag in ["--data-dir", "--http-addr", "--grpc-addr", "--admin-addr", "--demo", "--config", "--keys-file"] {
        assert!(help.stdout.contains(flag), "{flag}");
    }
}

/// The names of the commands that `help` lists.
fn commands(help: &str) -> Vec<&str> {
    let Some((_, list)) = help.split_once("Commands:\n") else { return Vec::new() };
    let names = list.lines().take_while(|line| line.starts_with("  ")).filter(|line| !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect()
}

#[test]
fn the_help_of_each_command_ends_with_two_examples() {
    let mut unseen = vec![Vec::<String>::new()];
    let mut seen = 0;
    while let Some(command) = unseen.pop() {
        let help = cli(command.iter().map(String::as_str).chain(["--help"])).stdout;
        let (_, examples) = help.split_once("Examples:\n").unwrap_or_else(|| panic!("{command:?}: {help}"));
        let begin =
            ["  message-webhook"].into_iter().chain(command.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
        assert_eq!(examples.lines().filter(|line| line.starts_with(&begin)).count(), 2, "{help}");
        assert_eq!(examples.trim_end().lines().count(), 2, "{help}");
        unseen
            .extend(commands(&help).into_iter().map(|name| command.iter().cloned().chain([name.to_owned()]).collect()));
        seen += 1;
    }
    assert!(seen >= 18, "{seen} commands were looked at");
}

#[test]
fn wrong_usage_is_code_2_and_leaves_stdout_empty() {
    for arguments in [
        &["serve", "--no-such-flag"][..],
        &[],
        &["keys", "create", "--data-dir", "/nonexistent"],
        &["keys", "create", "--org", "acme"],
        &["keys", "create", "--org", "acme", "--env", "test"],
        &["keys", "create", "--org", "a b", "--env", "dev"],
        &["keys", "create", "--org", "acme", "--env", "dev", "--scope", "all"],
        &["keys", "create", "--platform", "--org", "acme", "--env", "dev"],
        &["keys", "create", "--org", "acme", "--env", "dev", "--expires-in", "soon"],
        &["get", "msg_1"],
    ] {
        let wrong = cli(arguments);
        assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(!wrong.stderr.is_empty());
    }
}

#[test]
fn completions_are_printed_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let script = cli(["completions", shell]);
        assert_eq!(script.code, Some(0));
        assert!(script.stdout.contains("message-webhook") && script.stdout.contains("revoke"), "{shell}");
    }
}

#[test]
fn a_reader_who_has_read_enough_is_no_failure() {
    let mut child = process::command(["completions", "bash"]);
    let mut child =
        child.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().expect("runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn health_tells_by_its_exit_code() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = nobody.local_addr().expect("an address").to_string();
    // Takes the connection into its queue and never answers.
    let silent = cli(["health", "--admin-addr", &address, "--timeout", "100ms"]);
    assert_eq!(silent.code, Some(1), "{silent:?}");
    drop(nobody);
    let refused = cli(["health", "--admin-addr", &address]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("no answer from"), "{}", refused.stderr);
    assert_eq!(cli(["health", "--admin-addr", "nonsense"]).code, Some(2));
}

//! Settings: precedence, and every mistake at once with its source.

use std::{ffi::OsString, path::Path};

use message_webhook::config::{Given, Loaded, Mistakes, SETTINGS, Source, load, show};
use proptest::prelude::*;
use tempfile::TempDir;

use super::support::{cli, process};

fn flag(name: &'static str, text: &str) -> Given {
    Given { name, text: text.into(), source: Source::Flag(name.replace('_', "-")) }
}

fn loaded(file: Option<&str>, environment: &[(&str, &str)], flags: Vec<Given>) -> Result<Loaded, Mistakes> {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("settings.toml");
    if let Some(text) = file {
        std::fs::write(&path, text).expect("written");
    }
    let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    load(Vec::new(), file.map(|_| path.as_path()), environment, flags)
}

fn mistakes(file: Option<&str>, environment: &[(&str, &str)], flags: Vec<Given>) -> Vec<String> {
    loaded(file, environment, flags).expect_err("mistakes").iter().map(str::to_owned).collect()
}

#[test]
fn defaults_are_good_and_bind_nothing_to_the_outside() {
    let config = loaded(None, &[], Vec::new()).expect("good defaults").config;
    assert!(config.http_addr.ip().is_loopback() && config.grpc_addr.ip().is_loopback());
    assert_eq!((config.http_addr.port(), config.grpc_addr.port(), config.admin_addr.port()), (8080, 9090, 9464));
    assert_eq!(config.body_limit.as_u64(), 256 * 1024);
    assert_eq!(config.retention.as_secs(), 30 * 86_400);
}

#[test]
fn flags_win_over_the_environment_and_the_environment_over_the_file() {
    let file = "store_deadline = \"1s\"\nbody_timeout = \"1s\"\nheader_timeout = \"1s\"";
    let environment = [("MESSAGE_WEBHOOK_BODY_TIMEOUT", "2s"), ("MESSAGE_WEBHOOK_HEADER_TIMEOUT", "2s")];
    let loaded = loaded(Some(file), &environment, vec![flag("header_timeout", "3s")]).expect("good");
    let seconds = (&loaded.config.store_deadline, &loaded.config.body_timeout, &loaded.config.header_timeout);
    assert_eq!((seconds.0.as_secs(), seconds.1.as_secs(), seconds.2.as_secs()), (1, 2, 3));
    assert!(matches!(loaded.source("store_deadline"), Source::File { line: 1, .. }));
    assert_eq!(*loaded.source("body_timeout"), Source::Env("MESSAGE_WEBHOOK_BODY_TIMEOUT".into()));
    assert_eq!(*loaded.source("header_timeout"), Source::Flag("header-timeout".into()));
}

#[test]
fn all_mistakes_are_told_at_once_each_with_its_source() {
    let file = "htp_addr = \"127.0.0.1:1\"\nretention = \"soon\"\nbody_limit = { a = 1 }\n";
    let environment = [("MESSAGE_WEBHOOK_DATADIR", "/x"), ("MESSAGE_WEBHOOK_MAX_IN_FLIGHT", "-1")];
    let found = mistakes(Some(file), &environment, vec![flag("grpc_addr", "9090"), flag("drain_delay", "1h")]);
    let expected = [
        ("settings.toml:1", "there is no setting 'htp_addr'; did you mean 'http_addr'?"),
        ("settings.toml:2", "retention: 'soon' is no duration"),
        ("settings.toml:3", "body_limit"),
        ("MESSAGE_WEBHOOK_DATADIR", "did you mean 'MESSAGE_WEBHOOK_DATA_DIR'?"),
        ("MESSAGE_WEBHOOK_MAX_IN_FLIGHT", "'-1' is no whole number"),
        ("--grpc-addr", "write IP:PORT"),
        ("--drain-delay", "must be shorter than shutdown_deadline"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (source, text) in expected {
        assert!(found.iter().any(|mistake| mistake.contains(source) && mistake.contains(text)), "{source}: {found:#?}");
    }
}

#[test]
fn values_that_do_not_go_together_are_refused() {
    for (flags, text) in [
        (vec![flag("retention", "7d")], "allow_short_retention"),
        (vec![flag("drain_delay", "25s")], "shutdown_deadline"),
        (vec![flag("grpc_addr", "127.0.0.1:8080")], "http_addr too"),
        (vec![flag("body_limit", "1B")], "1KiB to 16MiB"),
        (vec![flag("max_connections", "0")], "at least 1"),
        (vec![flag("store_deadline", "0s")], "1ms to 1d"),
    ] {
        let found = mistakes(None, &[], flags);
        assert!(found.len() == 1 && found[0].contains(text), "{text}: {found:?}");
    }
    let short = vec![flag("retention", "7d"), flag("allow_short_retention", "true")];
    assert!(loaded(None, &[], short).is_ok());
}

fn scylla() -> Vec<Given> {
    vec![flag("store", "scylla"), flag("scylla_nodes", "db-1:9042,db-2")]
}

#[test]
fn a_store_on_scylladb_needs_no_more_than_its_nodes() {
    let config = loaded(None, &[], scylla()).expect("good").config;
    let nodes: Vec<_> = config.scylla_nodes.iter().map(message_webhook::config::Node::as_str).collect();
    assert_eq!(nodes, ["db-1:9042", "db-2:9042"]);
    assert_eq!((config.scylla_keyspace.as_str(), config.scylla_shards), ("message_webhook", 64));
}

#[test]
fn settings_of_a_store_that_do_not_go_together_are_refused() {
    let cert = ("scylla_client_cert_file", "c.pem");
    let login = ("scylla_user", "webhook");
    let file = ("scylla_password_file", "p");
    for (flags, password, text) in [
        (vec![("scylla_nodes", "")], None, "at least one node"),
        (vec![("scylla_slots", "65")], None, "at most scylla_shards"),
        (vec![("scylla_reference_window", "10s")], None, "shorter than scylla_window"),
        (vec![("retention", "4000d")], None, "at most 3650d"),
        (vec![cert], None, "scylla_client_key_file too"),
        (vec![("scylla_client_key_file", "k.pem")], None, "scylla_client_cert_file too"),
        (vec![cert, ("scylla_client_key_file", "k.pem")], None, "scylla_ca_file too"),
        (vec![login], None, "needs a password"),
        (vec![file], None, "name the user"),
        (vec![], Some("x"), "name the user"),
        (vec![login, file], Some("x"), "give one of the two"),
        (vec![("data_dir", "/srv")], None, "set store to embedded"),
        (vec![("store_failure_exit", "5s")], None, "set store to embedded"),
    ] {
        let environment: Vec<_> = password.map(|text| ("MESSAGE_WEBHOOK_SCYLLA_PASSWORD", text)).into_iter().collect();
        let flags = scylla().into_iter().chain(flags.iter().map(|(name, text)| flag(name, text))).collect();
        let found = mistakes(None, &environment, flags);
        assert!(found.len() == 1 && found[0].contains(text), "{text}: {found:?}");
    }
    let found = mistakes(
        Some("scylla_keyspace = \"other\""),
        &[("MESSAGE_WEBHOOK_SCYLLA_PASSWORD", "x")],
        vec![flag("scylla_nodes", "a")],
    );
    assert!(found.len() == 3 && found.iter().all(|mistake| mistake.contains("set store to scylla")), "{found:?}");
}

#[test]
fn a_password_is_read_from_the_environment_and_not_printed() {
    let environment = [("MESSAGE_WEBHOOK_SCYLLA_PASSWORD", "hunter2")];
    let flags = scylla().into_iter().chain([flag("scylla_user", "webhook")]).collect();
    let loaded = loaded(None, &environment, flags).expect("good");
    assert_eq!(loaded.config.scylla_password.as_ref().expect("a password").reveal(), "hunter2");
    let shown = show(&loaded);
    assert!(shown.contains("# The password is from MESSAGE_WEBHOOK_SCYLLA_PASSWORD"), "{shown}");
    assert!(!shown.contains("hunter2") && !format!("{loaded:?}").contains("hunter2"));
    let found = mistakes(Some("scylla_password = \"hunter2\""), &[], Vec::new());
    assert!(found[0].contains("there is no setting 'scylla_password'") && !found[0].contains("hunter2"), "{found:?}");
}

#[test]
fn an_empty_variable_is_an_unset_one_for_every_setting_and_command() {
    let names: Vec<_> = SETTINGS.iter().map(message_webhook::config::Setting::env).collect();
    let mut environment: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
    environment.push(("MESSAGE_WEBHOOK_SCYLLA_PASSWORD", ""));
    let loaded = loaded(Some("max_in_flight = 7"), &environment, Vec::new()).expect("good");
    assert_eq!(loaded.config.max_in_flight, 7);
    assert!(matches!(loaded.source("max_in_flight"), Source::File { .. }));
    let names = names.iter().map(String::as_str).chain(["MESSAGE_WEBHOOK_CONFIG", "MESSAGE_WEBHOOK_KEY"]);
    let empties: Vec<_> = names.map(|name| (name, "")).collect();
    for arguments in [&["config"][..], &["health", "--timeout", "1ms"], &["get", "s", "--key-file", "/nonexistent"]] {
        let done = process::finish(process::command(arguments).envs(empties.iter().copied()));
        // 2 is for wrong usage.
        assert!(done.code == Some(0) || done.code == Some(1), "{arguments:?}: {}", done.stderr);
    }
}

#[test]
fn what_kubernetes_tells_about_services_is_no_setting() {
    let environment = [
        ("MESSAGE_WEBHOOK_SERVICE_HOST", "10.0.0.1"),
        ("MESSAGE_WEBHOOK_SERVICE_PORT", "8080"),
        ("MESSAGE_WEBHOOK_SERVICE_PORT_HTTP", "8080"),
        ("MESSAGE_WEBHOOK_PORT", "tcp://10.0.0.1:8080"),
        ("MESSAGE_WEBHOOK_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("MESSAGE_WEBHOOK_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("MESSAGE_WEBHOOK_GRPC_PORT_9090_TCP_PROTO", "tcp"),
        ("MESSAGE_WEBHOOK_GRPC_SERVICE_HOST", "10.0.0.1"),
        ("MESSAGE_WEBHOOK_KEY", "mw_…"),
        ("MESSAGE_WEBHOOKS", "another program's"),
    ];
    assert!(loaded(None, &environment, Vec::new()).is_ok());
    assert_eq!(mistakes(None, &[("MESSAGE_WEBHOOK_HTTP_PORT", "8080")], Vec::new()).len(), 1);
}

#[test]
fn a_file_that_cannot_be_read_or_is_no_toml_is_told_without_its_text() {
    let found = load(Vec::new(), Some(Path::new("/nonexistent.toml")), Vec::new(), Vec::new()).expect_err("no file");
    assert!(found.to_string().contains("/nonexistent.toml: cannot be read"));
    let found = mistakes(Some("log_level = \"info\"\npassword hunter2"), &[], Vec::new());
    assert!(found[0].contains("settings.toml:2: is not TOML") && !found[0].contains("hunter2"), "{found:?}");
}

#[test]
fn the_printed_configuration_can_be_used_as_one() {
    let flags = vec![flag("cors_origins", "https://a.example,https://b.example"), flag("body_limit", "5MiB")];
    let shown = show(&loaded(None, &[], flags).expect("good"));
    assert!(
        shown.lines().any(|line| line.starts_with("body_limit = \"5MiB\"") && line.ends_with("# from --body-limit"))
    );
    assert!(shown.lines().any(|line| line.starts_with("retention = \"30days\"") && line.ends_with("# default")));
    for setting in SETTINGS {
        assert!(shown.contains(&format!("\n{} = ", setting.name)), "{} in {shown}", setting.name);
    }
    let of_scylla = show(&loaded(None, &[], scylla()).expect("good"));
    assert!(loaded(Some(&of_scylla), &[], Vec::new()).is_ok());
    let again = show(&loaded(Some(&shown), &[], Vec::new()).expect("good"));
    let values =
        |text: &str| text.lines().map(|line| line.split(" # ").next().unwrap().trim().to_owned()).collect::<Vec<_>>();
    assert_eq!(values(&again), values(&shown));
}

#[test]
fn the_command_config_prints_to_stdout_and_mistakes_go_to_stderr_with_code_2() {
    let good = cli(["config", "--http-addr", "0.0.0.0:80", "--allow-private-media-hosts"]);
    assert_eq!(good.code, Some(0), "{good:?}");
    assert!(good.stdout.contains("http_addr = \"0.0.0.0:80\"") && good.stderr.is_empty());
    assert!(good.stdout.contains("allow_private_media_hosts = true"));
    let bad = process::finish(process::command(["config"]).env("MESSAGE_WEBHOOK_HTTP_ADR", "x"));
    assert_eq!((bad.code, bad.stdout.as_str()), (Some(2), ""));
    assert!(bad.stderr.contains("MESSAGE_WEBHOOK_HTTP_ADDR"), "{}", bad.stderr);
}

proptest! {
    #[test]
    fn any_file_is_read_or_refused_without_a_panic(text in "\\PC*", key in "[a-z_]{1,20}", value in "\\PC*") {
        let _ = loaded(Some(&text), &[], Vec::new());
        let _ = loaded(Some(&format!("{key} = {value}")), &[], Vec::new());
    }
}

#[test]
fn the_command_config_schema_prints_a_schema_that_takes_what_the_program_has_by_itself() {
    let printed = cli(["config", "schema"]);
    assert_eq!((printed.code, printed.stdout.as_str()), (Some(0), message_webhook::config::schema().as_str()));
    // A file is no business of it.
    assert_eq!(cli(["config", "--log-level", "info", "schema"]).code, Some(2));
}

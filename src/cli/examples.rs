//! What the help of each command ends with.

use clap::Command;

/// The commands by their names, and two uses of each.
const EXAMPLES: &[(&[&str], [&str; 2])] = &[
    (&[], ["serve --demo", "keys create --org acme --env prod"]),
    (&["serve"], ["serve --demo", "serve --config message-webhook.toml --data-dir data"]),
    (
        &["migrate"],
        ["migrate --scylla-nodes db1:9042,db2:9042 --plan", "migrate --scylla-nodes db1 --scylla-replication-factor 3"],
    ),
    (&["keys"], ["keys create --org acme --env prod", "keys list"]),
    (
        &["keys", "create"],
        [
            "keys create --org acme --env prod --rate 50/s",
            "keys create --org a --env dev --browser --origin https://a.dev",
        ],
    ),
    (&["keys", "list"], ["keys list --org acme", "keys list --json"]),
    (&["keys", "revoke"], ["keys revoke abcdefghijkl", "keys revoke abcdefghijkl --data-dir data"]),
    (
        &["keys", "generate"],
        ["keys generate --org acme --env prod", "keys generate --platform --scope submit --expires-in 90d"],
    ),
    (&["export"], ["export --output backup.ndjson", "export --output backup.ndjson --resume"]),
    (&["import"], ["import backup.ndjson", "import backup.ndjson --to-feed"]),
    (&["trust-clock"], ["trust-clock", "trust-clock --data-dir data"]),
    (&["get"], ["get msg_xyz789", "get msg_xyz789 --org acme --env prod"]),
    (
        &["submit"],
        ["submit --from-id user_1 --message-sid msg_1 --message-body Hi", "submit --file messages.ndjson --json"],
    ),
    (&["list"], ["list user_abc123 --limit 10", "list user_abc123 --json"]),
    (&["tail"], ["tail --from start --json", "tail --from 2024-12-18T12:00:00Z --order ordered"]),
    (&["health"], ["health", "health --live --admin-addr 127.0.0.1:9465"]),
    (&["config"], ["config", "config --config message-webhook.toml --log-level debug"]),
    (&["config", "schema"], ["config schema", "config schema > settings.schema.json"]),
    (&["openapi"], ["openapi", "openapi > openapi.json"]),
    (&["completions"], ["completions bash > message-webhook.bash", "completions fish > message-webhook.fish"]),
];

/// `command` with its examples and those of its subcommands.
pub(super) fn add_to(command: Command) -> Command {
    EXAMPLES.iter().fold(command, |command, (path, examples)| at(command, path, examples))
}

fn at(command: Command, path: &[&str], examples: &[&str]) -> Command {
    if let Some((name, rest)) = path.split_first() {
        return command.mut_subcommand(name, |command| at(command, rest, examples));
    }
    let mut help = command.get_after_help().map(|help| format!("{help}\n\n")).unwrap_or_default();
    help.push_str("Examples:");
    for example in examples {
        help.push_str(&format!("\n  {} {example}", super::NAME));
    }
    command.after_help(help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_one_that_the_command_line_takes() {
        for (path, examples) in EXAMPLES {
            for example in examples {
                assert!(example.len() <= 62, "{example} is broken into lines on a narrow terminal");
                // What is behind it is the shell's.
                let arguments = example.split(" > ").next().expect("a command").split(' ');
                let parsed = super::super::definition()
                    .try_get_matches_from([super::super::NAME].into_iter().chain(arguments.clone()));
                assert!(parsed.is_ok(), "{example}: {parsed:?}");
                let is_its_own = path.iter().zip(arguments).all(|(name, argument)| *name == argument);
                assert!(is_its_own, "{example} is of another command than {path:?}");
            }
        }
    }
}

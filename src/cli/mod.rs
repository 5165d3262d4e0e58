//! The commands. Stdout is data, stderr is talk; the exit code is 0, 1 for a failure, 2 for wrong usage or
//! configuration.

mod backoff;
mod config;
mod demo;
mod examples;
mod flags;
mod get;
mod health;
mod keys;
mod list;
mod migrate;
mod openapi;
mod output;
mod remote;
mod serve;
mod shown;
mod submit;
mod tail;
mod tls;
mod transfer;
mod trust_clock;

use std::{ffi::OsString, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

use output::{Failure, print};

const NAME: &str = "message-webhook";

/// Accepts chat messages over HTTP or gRPC, stores each exactly once, and feeds them to your services.
#[derive(Debug, Parser)]
#[command(name = NAME, version, max_term_width = 120, propagate_version = true)]
#[command(after_help = "Exit codes: 0 success, 1 failure, 2 invalid usage or configuration.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the webhook, gRPC, health and metrics until told to stop.
    Serve(serve::Args),
    /// Create or update the keyspace and tables of a ScyllaDB store. Safe to run at any time.
    Migrate(migrate::Args),
    /// Create, list and revoke API keys, whether the server is running or not.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Export everything in a store to a file, for a backup or another store, whether the server is running or not.
    Export(transfer::ExportArgs),
    /// Import what 'export' wrote, whether the server is running or not.
    Import(transfer::ImportArgs),
    /// Tell a running server that the machine's clock is right, after it was set.
    TrustClock(trust_clock::Args),
    /// Look up a message over gRPC and print it as JSON.
    Get(get::Args),
    /// Submit messages over gRPC or the webhook, retrying what was not answered.
    Submit(submit::Args),
    /// List a user's messages over gRPC, newest first.
    List(list::Args),
    /// Follow the feed of accepted messages over gRPC, one line per message.
    Tail(tail::Args),
    /// Check whether a server is ready; exits with 0 if it is. For container probes.
    Health(health::Args),
    /// Print the effective configuration and the source of each value, as a valid configuration file.
    Config(config::Args),
    /// Print the webhook's OpenAPI document.
    Openapi,
    /// Print a shell completion script.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Runs the command that `arguments` name, the program's own name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut definition = definition();
    let parsed = definition.try_get_matches_from_mut(arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed.map_err(|error| error.format(&mut definition)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors, and go to stdout. Whether they can be written changes nothing.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    let result = match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Migrate(args) => migrate::run(args),
        Command::Keys(command) => keys::run(command),
        Command::Export(args) => transfer::export(args),
        Command::Import(args) => transfer::import(args),
        Command::TrustClock(args) => trust_clock::run(args),
        Command::Get(args) => get::run(args),
        Command::Submit(args) => submit::run(args),
        Command::List(args) => list::run(args),
        Command::Tail(args) => tail::run(args),
        Command::Openapi => openapi::run(),
        Command::Health(args) => health::run(args),
        Command::Config(args) => config::run(args),
        Command::Completions { shell } => completions(shell),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn definition() -> clap::Command {
    examples::add_to(Cli::command())
}

fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut definition(), NAME, &mut script);
    print(&String::from_utf8_lossy(&script))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        definition().debug_assert();
    }
}

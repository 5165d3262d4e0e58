//! The commands. Stdout is data, stderr is talk; the exit code is 0, 1 for a failure, 2 for wrong usage or
//! configuration.

mod backoff;
mod config;
mod demo;
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
mod transfer;

use std::{ffi::OsString, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use output::{Failure, print};

const NAME: &str = "message-webhook";

/// Takes users' messages in by JSON webhook and gRPC, each exactly once.
#[derive(Debug, Parser)]
#[command(name = NAME, version, max_term_width = 120, propagate_version = true)]
#[command(after_help = "Exit codes: 0 success, 1 failure, 2 wrong usage or configuration.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the webhook, gRPC, health and metrics until a signal to stop.
    Serve(serve::Args),
    /// Make the keyspace and the tables of a store on ScyllaDB, or bring them up to date. Safe to run at any time.
    Migrate(migrate::Args),
    /// Create, list and revoke API keys, on a stopped and on a running server alike.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Write everything that a store keeps to a file: a backup, or the way to another store. Also of a running server.
    Export(transfer::ExportArgs),
    /// Take over what 'export' wrote, also into a running server.
    Import(transfer::ImportArgs),
    /// Look a message up over gRPC and print it as JSON.
    Get(get::Args),
    /// Submit messages over gRPC or the webhook, and send again what was not answered.
    Submit(submit::Args),
    /// List a user's messages over gRPC, the newest first.
    List(list::Args),
    /// Follow the feed of accepted messages over gRPC, one line a message.
    Tail(tail::Args),
    /// Ask a server whether it is ready: exit code 0 when it is. For container probes.
    Health(health::Args),
    /// Print the effective configuration and who gave each value, as a file that can be used as one.
    Config(config::Args),
    /// Print the OpenAPI document of the webhook.
    Openapi,
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Runs the command that `arguments` name, the program's own name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
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

fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    print(&String::from_utf8_lossy(&script))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}

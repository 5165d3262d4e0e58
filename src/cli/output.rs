//! What commands write, and how they fail.

use std::{
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};

use crate::app::Control;

/// Why a command failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Wrong usage or configuration.
    Usage(String),
    /// Anything else.
    Failed(String),
    /// The answer is no, and everything was said.
    Quiet,
}

impl Failure {
    /// A failure with the text of `error`.
    pub(super) fn of(error: impl Display) -> Self {
        Failure::Failed(error.to_string())
    }

    /// Tells it on stderr.
    pub(super) fn report(self) -> ExitCode {
        let (text, code) = match self {
            Failure::Usage(text) => (Some(text), 2),
            Failure::Failed(text) => (Some(text), 1),
            Failure::Quiet => (None, 1),
        };
        if let Some(text) = text {
            talk(&format!("error: {text}"));
        }
        ExitCode::from(code)
    }
}

/// Writes data to stdout. A reader who has read enough is no failure.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    print_while_read(text).map(drop)
}

/// Whether somebody still reads what is printed.
pub(super) type IsRead = bool;

/// As [`print`], for commands that would go on for ever: they end when nobody reads any more.
pub(super) fn print_while_read(text: &str) -> Result<IsRead, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Failed(format!("cannot write to stdout: {error}"))),
    }
}

/// Writes a line to stderr; if nobody reads it, nothing is lost.
pub(super) fn talk(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Says what the store has lost, where this process had to open it.
pub(super) fn warn_of_loss(control: &Control) {
    for lost in control.lost() {
        talk(&format!("warning: the store is damaged, and this is lost: {lost}"));
    }
}

/// A runtime for a command that is done in a moment.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::Failed(format!("cannot begin: {error}")))?.block_on(work)
}

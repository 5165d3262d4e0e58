//! Logs go to stderr, one line an event.

use std::io::{IsTerminal, stderr};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::Targets,
    layer::SubscriberExt,
    util::{SubscriberInitExt, TryInitError},
};

const OURS: &str = "message_webhook";

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Human on a terminal, else JSON.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Sends the events of this process that pass `filter`'s directives to stderr, for good.
///
/// # Errors
/// When logs were set up before.
pub fn init_logs(format: LogFormat, filter: &str) -> Result<(), TryInitError> {
    let terminal = stderr().is_terminal();
    let human = match format {
        LogFormat::Auto => terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    // Whatever the setting says: at debug and trace the HTTP libraries log headers and frames, which hold keys and
    // messages, and the storage engine logs what it stores.
    let ceiling = Targets::new().with_default(LevelFilter::WARN).with_target(OURS, LevelFilter::TRACE);
    let filter = EnvFilter::new(filter);
    let registry = tracing_subscriber::registry().with(ceiling);
    if human {
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let lines = tracing_subscriber::fmt::layer().with_writer(stderr).with_ansi(colours).with_target(false);
        registry.with(lines.with_filter(filter)).try_init()
    } else {
        let lines =
            tracing_subscriber::fmt::layer().json().flatten_event(true).with_span_list(false).with_writer(stderr);
        registry.with(lines.with_filter(filter)).try_init()
    }
}

//! Logs go to stderr, one line an event.

use std::io::{IsTerminal, stderr};

use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use tracing::{Metadata, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt as _, Targets, filter_fn},
    layer::SubscriberExt,
    util::{SubscriberInitExt, TryInitError},
};

use super::{json_lines::JsonLines, otel::Telemetry, spans};

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

/// Sends the events of this process that pass `filter`'s directives to stderr, for good, and with its spans to wherever
/// `telemetry` exports them.
///
/// # Errors
/// When logs were set up before.
pub fn init_logs(format: LogFormat, filter: &str, telemetry: &Telemetry) -> Result<(), TryInitError> {
    subscriber(format, filter, telemetry).try_init()
}

fn subscriber(format: LogFormat, filter: &str, telemetry: &Telemetry) -> Box<dyn Subscriber + Send + Sync> {
    let terminal = stderr().is_terminal();
    let human = match format {
        LogFormat::Auto => terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    // Whatever the setting says: at debug and trace the HTTP libraries log headers and frames, which hold keys and
    // messages, and the storage engine logs what it stores.
    let ceiling = Targets::new().with_default(LevelFilter::WARN).with_target(OURS, LevelFilter::TRACE);
    // Each filter with a hint of its level, and all of a layer's in one, or what is told to everybody as the level is
    // higher than the setting's: every disabled line, the engine has some in each look-up, would cost a look at its own.
    let is_event = |metadata: &Metadata<'_>| metadata.target() != spans::TARGET;
    let events = filter_fn(is_event).with_max_level_hint(LevelFilter::TRACE);
    let lines = EnvFilter::new(filter).and(ceiling).and(events);
    let spans = telemetry.tracer().map(|tracer| {
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false)
            .with_filter(
                filter_fn(|metadata| metadata.target() == spans::TARGET).with_max_level_hint(LevelFilter::INFO),
            )
    });
    // Not what the exporters' own libraries say: each export would be the reason for another.
    let is_exported =
        |metadata: &Metadata<'_>| metadata.target() != spans::TARGET && metadata.target().starts_with(OURS);
    let exported = telemetry.loggers().map(|loggers| {
        let ours = filter_fn(is_exported).with_max_level_hint(LevelFilter::TRACE);
        OpenTelemetryTracingBridge::new(loggers).with_filter(EnvFilter::new(filter).and(ours))
    });
    let registry = tracing_subscriber::registry().with(spans).with(exported);
    if human {
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let layer = tracing_subscriber::fmt::layer().with_writer(stderr).with_ansi(colours).with_target(false);
        Box::new(registry.with(layer.with_filter(lines)))
    } else {
        let layer = tracing_subscriber::fmt::layer().event_format(JsonLines).with_writer(stderr);
        Box::new(registry.with(layer.with_filter(lines)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_that_everybody_is_told_is_the_one_that_was_set() {
        let telemetry = Telemetry::default();
        for (filter, level) in [("info", LevelFilter::INFO), ("warn,message_webhook=debug", LevelFilter::DEBUG)] {
            for format in [LogFormat::Human, LogFormat::Json] {
                assert_eq!(subscriber(format, filter, &telemetry).max_level_hint(), Some(level), "{filter}");
            }
        }
    }
}

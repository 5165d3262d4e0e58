//! A line of the log as one JSON object: when, how bad, what, its fields beside it, and the trace that it is of.

use std::fmt::{self, Write as _};

use opentelemetry::{Context, trace::TraceContextExt as _};
use serde_json::Value;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

/// See the module.
pub(super) struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let mut line = Line::default();
        line.keep("timestamp", timestamp.into());
        line.keep("level", event.metadata().level().as_str().into());
        line.keep("severity", severity(*event.metadata().level()).into());
        event.record(&mut line);
        line.keep("target", event.metadata().target().into());
        Context::map_current(|context| {
            let span = context.span();
            let context = span.span_context();
            if context.is_valid() {
                line.keep("trace_id", context.trace_id().to_string().into());
                line.keep("span_id", context.span_id().to_string().into());
            }
        });
        writeln!(writer, "{{{}}}", line.0)
    }
}

/// The level by the name that Google Cloud Logging reads.
fn severity(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        // It has nothing below that.
        Level::DEBUG | Level::TRACE => "DEBUG",
    }
}

/// The members of the object, in their order.
#[derive(Default)]
struct Line(String);

impl Line {
    fn keep(&mut self, name: &str, value: Value) {
        let comma = if self.0.is_empty() { "" } else { "," };
        // Writing to a string does not fail.
        let _ = write!(self.0, "{comma}{}:{value}", Value::from(name));
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.keep(field.name(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.keep(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.keep(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.keep(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.keep(field.name(), value.into());
    }
}

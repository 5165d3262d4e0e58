//! What is measured of a group that is made durable.

use std::time::Instant;

use metrics::{Histogram, histogram};
use tracing::Span;

use crate::telemetry::{names, spans, trace};

/// See the module.
pub struct Meters {
    messages: Histogram,
    seconds: Histogram,
}

impl Meters {
    pub fn new() -> Self {
        Self {
            messages: histogram!(names::STORE_GROUP_MESSAGES),
            seconds: histogram!(names::STORE_SYNC_DURATION_SECONDS),
        }
    }

    /// Makes a group of `count` messages durable by `commit`. Its span is in the trace of the first that waits in one, and
    /// linked to those of the others.
    pub fn measure<T, E>(&self, waiting: &[Span], count: u32, commit: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let span = waiting.first().map_or_else(Span::none, |first| trace::child_of(first, spans::COMMIT, "client"));
        if !span.is_none() {
            trace::note(&span, spans::DB_SYSTEM_NAME, "message-webhook-log");
            trace::note(&span, spans::DB_OPERATION_NAME, "commit");
            trace::note(&span, spans::GROUP_MESSAGES, i64::from(count));
            waiting.iter().skip(1).for_each(|other| trace::link(&span, other));
        }
        let begun = Instant::now();
        let result = commit();
        self.seconds.record(begun.elapsed());
        self.messages.record(f64::from(count));
        if result.is_err() {
            trace::mark_failed(&span);
        }
        result
    }
}

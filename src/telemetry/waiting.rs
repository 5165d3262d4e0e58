//! Spans and lines that wait for their export: no more than the queue has room for, and what finds none is counted, which the
//! processors themselves do not tell.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use metrics::counter;
use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    logs::{LogProcessor, SdkLogRecord},
    trace::{Span, SpanData, SpanProcessor},
};

use super::names;

/// How many wait for the export of one signal. All values that were cloned from one count together.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    signal: &'static str,
    count: Arc<AtomicUsize>,
    most: usize,
}

impl Waiting {
    /// Nobody, of `most` that may.
    pub(super) fn new(signal: &'static str, most: usize) -> Self {
        Self { signal, count: Arc::default(), most }
    }

    /// Whether there is room for one more, who then waits. Else it is lost, and counted.
    fn enter(&self) -> bool {
        let more = |count: usize| (count < self.most).then_some(count + 1);
        let has_room = self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        if !has_room {
            self.lost("queue", 1);
        }
        has_room
    }

    /// So many are on their way to the collector.
    pub(super) fn leave(&self, count: usize) {
        self.count.fetch_sub(count, Ordering::Relaxed);
    }

    /// So many were not taken there.
    pub(super) fn refused(&self, count: usize) {
        self.lost("export", count);
    }

    fn lost(&self, reason: &'static str, count: usize) {
        counter!(names::TELEMETRY_LOST_TOTAL, "signal" => self.signal, "reason" => reason).increment(count as u64);
    }
}

/// A processor that is given no more than it can keep.
pub(super) struct Bounded<P> {
    processor: P,
    waiting: Waiting,
}

impl<P> Bounded<P> {
    pub(super) fn new(processor: P, waiting: Waiting) -> Self {
        Self { processor, waiting }
    }
}

impl<P> fmt::Debug for Bounded<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bounded").field(&self.waiting).finish()
    }
}

impl<P: SpanProcessor> SpanProcessor for Bounded<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.processor.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.waiting.enter() {
            self.processor.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.processor.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.processor.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.processor.set_resource(resource);
    }
}

impl<P: LogProcessor> LogProcessor for Bounded<P> {
    fn emit(&self, line: &mut SdkLogRecord, scope: &InstrumentationScope) {
        if self.waiting.enter() {
            self.processor.emit(line, scope);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.processor.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.processor.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.processor.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_no_room_does_not_wait_and_who_leaves_makes_room() {
        let waiting = Waiting::new("traces", 2);
        assert!(waiting.enter() && waiting.enter() && !waiting.enter());
        waiting.leave(1);
        assert!(waiting.enter() && !waiting.enter());
    }
}

//! Spans. Whether a request is traced is decided before there is a span of it, so that one that is not costs nothing: it has
//! no span, and [`child`] makes none where there is no span around it.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use http::HeaderMap;
use opentelemetry::{
    Context, TraceFlags, Value,
    trace::{SpanContext, SpanId, Status, TraceContextExt as _, TraceId, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::{
    settings::Sampling,
    spans::{DELIVER, ERROR_TYPE, TARGET},
};
use crate::domain::TraceParent;

/// As the recommendation has them: so much is to be passed on at least.
const LONGEST_STATE: usize = 512;
const MOST_MEMBERS: usize = 32;

/// What decides; set when spans are exported, and never before.
static GATE: OnceLock<Gate> = OnceLock::new();
/// Whether callers' trace contexts are ignored.
static IGNORES_CALLERS: OnceLock<()> = OnceLock::new();

#[derive(Debug)]
struct Gate {
    sampling: Sampling,
    /// Of the lower 63 bits of a trace id; what is below is traced.
    below: u64,
}

/// Opens the gate, for good.
pub(super) fn open(sampling: Sampling) {
    // As the SDK's own sampler by ratio has it, so that services which go by the trace id agree.
    let below = if sampling.ratio >= 1.0 { 1 << 63 } else { (sampling.ratio * (1_u64 << 63) as f64) as u64 };
    let _ = GATE.set(Gate { sampling, below });
}

/// From now on no caller's trace context is gone on with.
pub(super) fn ignore_callers() {
    let _ = IGNORES_CALLERS.set(());
}

impl Gate {
    fn traces(&self, parent: Option<&TraceParent>) -> bool {
        match parent {
            Some(parent) if self.sampling.follows_parent => parent.is_sampled(),
            Some(parent) => self.is_below(lower_half(parent.trace_id())),
            None => self.is_below(dice()),
        }
    }

    fn is_below(&self, number: u64) -> bool {
        (number >> 1) < self.below
    }
}

fn lower_half(trace_id: [u8; 16]) -> u64 {
    u128::from_be_bytes(trace_id) as u64
}

/// Numbers without a pattern (SplitMix64 over a count), for no secret depends on them.
fn dice() -> u64 {
    static STATE: OnceLock<AtomicU64> = OnceLock::new();
    let state = STATE.get_or_init(|| AtomicU64::new(uuid::Uuid::new_v4().as_u64_pair().0));
    let mut bits = state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The trace context that a caller sent; two of them are none.
pub fn sent(headers: &HeaderMap) -> Option<TraceParent> {
    let mut values = headers.get_all(TraceParent::HEADER).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    if IGNORES_CALLERS.get().is_some() { None } else { TraceParent::parse(value.as_bytes()) }
}

/// The span of a call with `headers`, if it is traced; `name` is asked only then.
pub fn server(parent: Option<&TraceParent>, headers: &HeaderMap, name: impl FnOnce() -> String) -> Span {
    if !GATE.get().is_some_and(|gate| gate.traces(parent)) {
        return Span::none();
    }
    let span = tracing::info_span!(target: TARGET, parent: None, "server", otel.name = name(), otel.kind = "server");
    if let Some(parent) = parent {
        // Nothing has begun it yet; without the exporter's layer there is nothing to tell.
        let context = to_span_context(*parent, state(headers));
        let _ = span.set_parent(Context::new().with_remote_span_context(context));
    }
    span
}

/// A span below the one that is around this call; none where there is none.
pub fn child(name: &str, kind: &'static str) -> Span {
    if !is_traced() {
        return Span::none();
    }
    tracing::info_span!(target: TARGET, "child", otel.name = name, otel.kind = kind)
}

/// A span below `parent`, wherever this is called.
pub fn child_of(parent: &Span, name: &str, kind: &'static str) -> Span {
    if parent.is_none() {
        return Span::none();
    }
    tracing::info_span!(target: TARGET, parent: parent, "child", otel.name = name, otel.kind = kind)
}

/// The span of handing a message on whose submission was `submitted`: in its trace, and linked to it. None where the
/// submission was not recorded.
pub fn delivery(submitted: Option<TraceParent>) -> Span {
    let Some(submitted) = submitted.filter(|submitted| submitted.is_sampled() && GATE.get().is_some()) else {
        return Span::none();
    };
    let span =
        tracing::info_span!(target: TARGET, parent: None, "delivery", otel.name = DELIVER, otel.kind = "consumer");
    let submitted = to_span_context(submitted, TraceState::NONE);
    let _ = span.set_parent(Context::new().with_remote_span_context(submitted.clone()));
    span.add_link(submitted);
    span
}

/// Whether there is a span around this call.
pub fn is_traced() -> bool {
    GATE.get().is_some() && Context::map_current(|context| context.has_active_span())
}

/// The span around this call, to go on below it elsewhere.
pub fn here() -> Span {
    if is_traced() { Span::current() } else { Span::none() }
}

/// The context of the span around this call.
pub fn current() -> Option<TraceParent> {
    GATE.get()?;
    Context::map_current(|context| to_traceparent(context.span().span_context()))
}

/// The context to keep of a submission whose caller sent `sent`: that of the span around this call, or else the caller's. Who
/// decides about traces and did not record this one says so, as the recommendation wants it.
pub fn to_keep(sent: Option<TraceParent>) -> Option<TraceParent> {
    current().or(if GATE.get().is_some() { sent.map(TraceParent::not_sampled) } else { sent })
}

/// Notes something about `span`.
pub fn note(span: &Span, attribute: &'static str, value: impl Into<Value>) {
    if !span.is_none() {
        span.set_attribute(attribute, value);
    }
}

/// Notes that what `span` covers failed, by the word for it.
pub fn fail(span: &Span, word: &'static str) {
    if !span.is_none() {
        span.set_attribute(ERROR_TYPE, word);
        span.set_status(Status::error(word));
    }
}

/// Notes that what `span` covers failed, where the word for it is noted by somebody else.
pub fn mark_failed(span: &Span) {
    if !span.is_none() {
        span.set_status(Status::error(""));
    }
}

/// Links `span` to `other`.
pub fn link(span: &Span, other: &Span) {
    if !span.is_none() && !other.is_none() {
        span.add_link(other.context().span().span_context().clone());
    }
}

/// What vendors of traces said beside the context that a caller sent; nothing where that is no list of theirs.
fn state(headers: &HeaderMap) -> TraceState {
    let values: Option<Vec<_>> = headers.get_all("tracestate").iter().map(|value| value.to_str().ok()).collect();
    let text = values.unwrap_or_default().join(",");
    let is_short = text.len() <= LONGEST_STATE;
    let members = text.split(',').map(str::trim).filter(|member| !member.is_empty());
    let pairs: Option<Vec<_>> = members.map(|member| member.split_once('=')).collect();
    let pairs = pairs.filter(|pairs| is_short && pairs.len() <= MOST_MEMBERS);
    pairs.and_then(|pairs| TraceState::from_key_value(pairs).ok()).unwrap_or_default()
}

fn to_span_context(context: TraceParent, state: TraceState) -> SpanContext {
    let flags = if context.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let (trace, span) = (TraceId::from_bytes(context.trace_id()), SpanId::from_bytes(context.span_id()));
    SpanContext::new(trace, span, flags, true, state)
}

fn to_traceparent(context: &SpanContext) -> Option<TraceParent> {
    TraceParent::new(context.trace_id().to_bytes(), context.span_id().to_bytes(), context.is_sampled())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(follows_parent: bool, ratio: f64) -> Gate {
        let below = if ratio >= 1.0 { 1 << 63 } else { (ratio * (1_u64 << 63) as f64) as u64 };
        Gate { sampling: Sampling { follows_parent, ratio }, below }
    }

    fn parent(last: u8, is_sampled: bool) -> TraceParent {
        let mut trace = [0xff; 16];
        trace[8..].fill(last);
        TraceParent::new(trace, [1; 8], is_sampled).expect("not zero")
    }

    #[test]
    fn a_callers_decision_is_followed_only_where_the_sampler_says_so() {
        assert!(gate(true, 0.0).traces(Some(&parent(0xff, true))));
        assert!(!gate(true, 1.0).traces(Some(&parent(1, false))));
        assert!(!gate(false, 0.0).traces(Some(&parent(0, true))));
        assert!(gate(false, 1.0).traces(Some(&parent(0xff, false))));
        assert!(gate(false, 0.5).traces(Some(&parent(0x7f, false))));
        assert!(!gate(false, 0.5).traces(Some(&parent(0x80, true))));
    }

    #[test]
    fn without_a_parent_about_the_wanted_share_is_traced() {
        let gate = gate(true, 0.1);
        let traced = (0..10_000).filter(|_| gate.traces(None)).count();
        assert!((700..1_300).contains(&traced), "{traced}");
    }

    #[test]
    fn two_trace_contexts_are_none() {
        const ONE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let mut headers = HeaderMap::new();
        headers.append(TraceParent::HEADER, ONE.parse().expect("value"));
        assert_eq!(sent(&headers).map(|context| context.to_string()).as_deref(), Some(ONE));
        headers.append(TraceParent::HEADER, ONE.parse().expect("value"));
        assert_eq!(sent(&headers), None);
    }
}

//! The export of traces, metrics and logs over OTLP: what the settings name and nothing else.
//!
//! Each signal has a bounded queue and a thread of its own; a collector that is slow, dead or wrong costs what is in the
//! queue and nothing else. The exporters' own logs are off: [`Watched`] tells of failures, once in a while.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use metrics::{Counter, counter};
use opentelemetry::{KeyValue, metrics::MeterProvider as _, trace::TracerProvider as _};
use opentelemetry_otlp::{
    LogExporter, MetricExporter, SpanExporter, WithExportConfig as _, WithHttpConfig as _, WithTonicConfig as _,
};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    logs::{BatchConfigBuilder as LogBatching, BatchLogProcessor, LogBatch, SdkLoggerProvider},
    metrics::{PeriodicReader, SdkMeterProvider, Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, SpanData},
};
use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint};

use super::{
    Metrics,
    http_client::{OtlpClient, connector},
    names,
    settings::{Export, OtelSettings, Protocol},
    trace,
    waiting::{Bounded, Waiting},
};
use crate::tls;

/// The name of the library that makes spans and metrics: this program.
const SCOPE: &str = "message-webhook";
/// A failure that goes on is told this often.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// What is exported; the default is nothing. [`Telemetry::flush`] sends what waits.
#[derive(Debug, Default)]
pub struct Telemetry {
    tracers: Option<SdkTracerProvider>,
    meters: Option<SdkMeterProvider>,
    loggers: Option<SdkLoggerProvider>,
}

impl Telemetry {
    /// Begins to export what `settings` name, on the runtime around this call. Before anything looks a metric up. Besides,
    /// what the exporters cannot do with the settings, in words: that signal is not exported.
    pub fn start(settings: &OtelSettings) -> (Self, Vec<String>) {
        if !settings.propagates && settings.is_on() {
            trace::ignore_callers();
        }
        if !settings.is_on() {
            return (Self::default(), Vec::new());
        }
        let resource = resource(settings);
        let mut failed = Vec::new();
        let mut told = |name, error: String| failed.push(format!("cannot export {name}: {error}"));
        let telemetry = Self {
            tracers: settings
                .traces
                .as_ref()
                .and_then(|export| tracers(export, &resource).map_err(|error| told("traces", error)).ok()),
            meters: settings
                .metrics
                .as_ref()
                .and_then(|export| meters(export, &resource).map_err(|error| told("metrics", error)).ok()),
            loggers: settings
                .logs
                .as_ref()
                .and_then(|export| loggers(export, &resource).map_err(|error| told("logs", error)).ok()),
        };
        if let Some(meters) = &telemetry.meters {
            Metrics::install_with(Some(meters.meter(SCOPE)));
        }
        if telemetry.tracers.is_some() {
            trace::open(settings.sampler);
        }
        (telemetry, failed)
    }

    /// What makes spans, if they are exported.
    pub(super) fn tracer(&self) -> Option<SdkTracer> {
        self.tracers.as_ref().map(|tracers| tracers.tracer(SCOPE))
    }

    /// What takes logs, if they are exported.
    pub(super) fn loggers(&self) -> Option<&SdkLoggerProvider> {
        self.loggers.as_ref()
    }

    /// Sends what waits and ends the export; blocks, and for no longer than `within`, also when nobody takes it.
    pub fn flush(self, within: Duration) {
        let Self { tracers, meters, loggers } = self;
        // Side by side: each may wait for a collector that does not answer.
        let ends: Vec<Box<dyn FnOnce() -> OTelSdkResult + Send>> = [
            tracers.map(|each| Box::new(move || each.shutdown_with_timeout(within)) as Box<dyn FnOnce() -> _ + Send>),
            meters.map(|each| Box::new(move || each.shutdown_with_timeout(within)) as _),
            loggers.map(|each| Box::new(move || each.shutdown_with_timeout(within)) as _),
        ]
        .into_iter()
        .flatten()
        .collect();
        let (done, wait) = std::sync::mpsc::channel();
        let count = ends.len();
        for end in ends {
            let done = done.clone();
            // A thread that hangs is left behind by the end of the process; without one nothing is flushed.
            let _ = std::thread::Builder::new().name("telemetry-end".into()).spawn(move || {
                let _ = end();
                let _ = done.send(());
            });
        }
        drop(done);
        let until = Instant::now() + within;
        for _ in 0..count {
            if wait.recv_timeout(until.saturating_duration_since(Instant::now())).is_err() {
                return;
            }
        }
    }
}

fn resource(settings: &OtelSettings) -> Resource {
    let given = settings.resource.iter().map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
    let mut attributes = vec![
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", uuid::Uuid::new_v4().to_string()),
    ];
    // What is given wins.
    attributes.extend(given);
    attributes.push(KeyValue::new("service.name", settings.service_name.clone()));
    Resource::builder().with_attributes(attributes).build()
}

/// Gives an exporter's builder the settings of `export`.
macro_rules! exporter {
    ($exporter:ident, $export:expr) => {
        match $export.protocol {
            // Over a channel of our own, whose TLS is that of everything else here.
            Protocol::Grpc => {
                $exporter::builder().with_tonic().with_channel(channel($export)?).with_timeout($export.timeout).build()
            }
            Protocol::HttpProtobuf => $exporter::builder()
                .with_http()
                .with_http_client(OtlpClient::new($export)?)
                .with_endpoint($export.endpoint.clone())
                .with_timeout($export.timeout)
                .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
                .build(),
        }
        .map_err(|error| error.to_string())
    };
}

/// Connects when something is sent, and again.
fn channel(export: &Export) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(export.endpoint.clone()).map_err(|error| error.to_string())?;
    Ok(endpoint.timeout(export.timeout).connect_with_connector_lazy(connector(export, &[tls::H2])?))
}

fn tracers(export: &Export, resource: &Resource) -> Result<SdkTracerProvider, String> {
    let batching = BatchConfigBuilder::default()
        .with_max_queue_size(export.queue)
        .with_max_export_batch_size(export.batch)
        .with_scheduled_delay(export.delay)
        .build();
    let waiting = Waiting::new("traces", export.queue);
    let exporter = Watched::new("traces", exporter!(SpanExporter, export)?, waiting.clone());
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batching).build();
    let processor = Bounded::new(processor, waiting);
    Ok(SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_span_processor(processor)
        // The decision is made before there is a span; see `trace`.
        .with_sampler(Sampler::AlwaysOn)
        .build())
}

fn loggers(export: &Export, resource: &Resource) -> Result<SdkLoggerProvider, String> {
    let batching = LogBatching::default()
        .with_max_queue_size(export.queue)
        .with_max_export_batch_size(export.batch)
        .with_scheduled_delay(export.delay)
        .build();
    let waiting = Waiting::new("logs", export.queue);
    let exporter = Watched::new("logs", exporter!(LogExporter, export)?, waiting.clone());
    let processor = BatchLogProcessor::builder(exporter).with_batch_config(batching).build();
    let processor = Bounded::new(processor, waiting);
    Ok(SdkLoggerProvider::builder().with_resource(resource.clone()).with_log_processor(processor).build())
}

fn meters(export: &Export, resource: &Resource) -> Result<SdkMeterProvider, String> {
    // Numbers do not wait: the next ones say more.
    let exporter = Watched::new("metrics", exporter!(MetricExporter, export)?, Waiting::new("metrics", 0));
    let reader = PeriodicReader::builder(exporter).with_interval(export.delay).build();
    Ok(SdkMeterProvider::builder().with_resource(resource.clone()).with_reader(reader).build())
}

/// An exporter whose failures are counted, and told in the log once a minute.
struct Watched<E> {
    exporter: E,
    signal: &'static str,
    /// Looked up at the first failure: the recorder of metrics comes after the exporters.
    failures: std::sync::OnceLock<Counter>,
    health: Arc<Mutex<Health>>,
    waiting: Waiting,
}

#[derive(Default)]
struct Health {
    told: Option<Instant>,
    is_failing: bool,
}

impl<E> Watched<E> {
    fn new(signal: &'static str, exporter: E, waiting: Waiting) -> Self {
        Self { exporter, signal, failures: std::sync::OnceLock::new(), health: Arc::default(), waiting }
    }

    /// Watches the end of the export of so many.
    fn watch_batch(&self, count: usize, result: OTelSdkResult) -> OTelSdkResult {
        if result.is_err() {
            self.waiting.refused(count);
        }
        self.watch(result)
    }

    fn watch(&self, result: OTelSdkResult) -> OTelSdkResult {
        let signal = self.signal;
        let mut health = self.health.lock();
        match &result {
            Ok(()) if health.is_failing => {
                health.is_failing = false;
                tracing::info!(signal, "telemetry is exported again");
            }
            Ok(()) | Err(OTelSdkError::AlreadyShutdown) => {}
            // Not the error's own text: a collector's answer is anybody's words.
            Err(OTelSdkError::Timeout(_)) => self.lost(&mut health, "no answer in time"),
            Err(OTelSdkError::InternalFailure(_)) => {
                self.lost(&mut health, "the collector cannot be reached or refused it");
            }
        }
        result
    }

    fn lost(&self, health: &mut Health, cause: &'static str) {
        let signal = self.signal;
        let counter = || counter!(names::TELEMETRY_EXPORT_FAILURES_TOTAL, "signal" => signal);
        self.failures.get_or_init(counter).increment(1);
        health.is_failing = true;
        if health.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            health.told = Some(Instant::now());
            tracing::warn!(signal, cause, "telemetry could not be exported and is lost; this is told once a minute");
        }
    }
}

impl<E> fmt::Debug for Watched<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watched").field(&self.signal).finish()
    }
}

impl<E: opentelemetry_sdk::trace::SpanExporter> opentelemetry_sdk::trace::SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.waiting.leave(count);
        self.watch_batch(count, self.exporter.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: opentelemetry_sdk::logs::LogExporter> opentelemetry_sdk::logs::LogExporter for Watched<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let count = batch.iter().count();
        self.waiting.leave(count);
        self.watch_batch(count, self.exporter.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Watched<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.watch(self.exporter.export(metrics).await)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

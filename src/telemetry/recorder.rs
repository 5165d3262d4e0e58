//! One set of instruments for Prometheus and OTLP: whatever is recorded goes to both. With no export over OTLP each
//! instrument is Prometheus' own.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use metrics_exporter_prometheus::PrometheusRecorder;
use opentelemetry::{KeyValue, metrics::Meter};
use parking_lot::Mutex;

use super::names::{METRICS, Metric};

/// See the module.
pub(super) struct Both {
    prometheus: PrometheusRecorder,
    otlp: Option<Meter>,
}

impl Both {
    /// Records for Prometheus, and for OTLP by `otlp`.
    pub(super) fn new(prometheus: PrometheusRecorder, otlp: Option<Meter>) -> Self {
        Self { prometheus, otlp }
    }
}

fn metric(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name)
}

fn labels(key: &Key) -> Vec<KeyValue> {
    key.labels().map(|label| KeyValue::new(label.key().to_owned(), label.value().to_owned())).collect()
}

/// Gives an instrument's builder what the table of names says.
macro_rules! described {
    ($builder:expr, $key:expr) => {{
        let (mut builder, metric) = ($builder, metric($key.name()));
        if let Some(metric) = metric {
            builder = builder.with_unit(metric.unit).with_description(metric.help);
        }
        (builder, metric)
    }};
}

impl Recorder for Both {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.prometheus.describe_counter(name, unit, text);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.prometheus.describe_gauge(name, unit, text);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.prometheus.describe_histogram(name, unit, text);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        let prometheus = self.prometheus.register_counter(key, metadata);
        let Some(meter) = &self.otlp else { return prometheus };
        let (builder, _) = described!(meter.u64_counter(key.name().to_owned()), key);
        let both = BothCounters { prometheus, otlp: builder.build(), labels: labels(key), value: AtomicU64::new(0) };
        Counter::from_arc(Arc::new(both))
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        let prometheus = self.prometheus.register_gauge(key, metadata);
        let Some(meter) = &self.otlp else { return prometheus };
        let (builder, _) = described!(meter.f64_gauge(key.name().to_owned()), key);
        let both = BothGauges { prometheus, otlp: builder.build(), labels: labels(key), value: Mutex::default() };
        Gauge::from_arc(Arc::new(both))
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        let prometheus = self.prometheus.register_histogram(key, metadata);
        let Some(meter) = &self.otlp else { return prometheus };
        let (mut builder, metric) = described!(meter.f64_histogram(key.name().to_owned()), key);
        if let Some(metric) = metric {
            builder = builder.with_boundaries(metric.buckets.to_vec());
        }
        let both = BothHistograms { prometheus, otlp: builder.build(), labels: labels(key) };
        Histogram::from_arc(Arc::new(both))
    }
}

struct BothCounters {
    prometheus: Counter,
    otlp: opentelemetry::metrics::Counter<u64>,
    labels: Vec<KeyValue>,
    value: AtomicU64,
}

impl CounterFn for BothCounters {
    fn increment(&self, by: u64) {
        self.prometheus.increment(by);
        self.value.fetch_add(by, Ordering::Relaxed);
        self.otlp.add(by, &self.labels);
    }

    fn absolute(&self, value: u64) {
        self.prometheus.absolute(value);
        let before = self.value.fetch_max(value, Ordering::Relaxed);
        self.otlp.add(value.saturating_sub(before), &self.labels);
    }
}

struct BothGauges {
    prometheus: Gauge,
    otlp: opentelemetry::metrics::Gauge<f64>,
    labels: Vec<KeyValue>,
    /// Held while it is told, so that the last value told is the last one.
    value: Mutex<f64>,
}

impl BothGauges {
    fn change(&self, change: impl FnOnce(f64) -> f64) {
        let mut value = self.value.lock();
        *value = change(*value);
        self.otlp.record(*value, &self.labels);
    }
}

impl GaugeFn for BothGauges {
    fn increment(&self, by: f64) {
        self.prometheus.increment(by);
        self.change(|value| value + by);
    }

    fn decrement(&self, by: f64) {
        self.prometheus.decrement(by);
        self.change(|value| value - by);
    }

    fn set(&self, value: f64) {
        self.prometheus.set(value);
        self.change(|_| value);
    }
}

struct BothHistograms {
    prometheus: Histogram,
    otlp: opentelemetry::metrics::Histogram<f64>,
    labels: Vec<KeyValue>,
}

impl HistogramFn for BothHistograms {
    fn record(&self, value: f64) {
        self.prometheus.record(value);
        self.otlp.record(value, &self.labels);
    }
}

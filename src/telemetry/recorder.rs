//! One set of instruments for Prometheus and OTLP: whatever is recorded goes to both. With no export over OTLP each
//! instrument is Prometheus' own.
//!
//! Counters and gauges are numbers here that an export looks at, for they change with every request. An instrument is made
//! once, however often it is asked for by its name and labels.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use metrics_exporter_prometheus::PrometheusRecorder;
use opentelemetry::{
    KeyValue,
    metrics::{AsyncInstrument, Meter},
};
use parking_lot::Mutex;

use super::names::{METRICS, Metric};

/// See the module.
pub(super) struct Both {
    prometheus: PrometheusRecorder,
    otlp: Option<Otlp>,
}

/// The instruments that were made so far.
struct Otlp {
    meter: Meter,
    counters: Mutex<HashMap<Key, Counter>>,
    gauges: Mutex<HashMap<Key, Gauge>>,
    histograms: Mutex<HashMap<Key, Histogram>>,
}

impl Both {
    /// Records for Prometheus, and for OTLP by `otlp`.
    pub(super) fn new(prometheus: PrometheusRecorder, otlp: Option<Meter>) -> Self {
        let otlp = otlp.map(|meter| Otlp {
            meter,
            counters: Mutex::default(),
            gauges: Mutex::default(),
            histograms: Mutex::default(),
        });
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
        let Some(otlp) = &self.otlp else { return self.prometheus.register_counter(key, metadata) };
        let make = || {
            let value = Arc::new(AtomicU64::new(0));
            let (builder, _) = described!(otlp.meter.u64_observable_counter(key.name().to_owned()), key);
            let (seen, labels) = (Arc::clone(&value), labels(key));
            builder.with_callback(move |told| told.observe(seen.load(Ordering::Relaxed), &labels)).build();
            let prometheus = self.prometheus.register_counter(key, metadata);
            Counter::from_arc(Arc::new(Pair { prometheus, value }))
        };
        otlp.counters.lock().entry(key.clone()).or_insert_with(make).clone()
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        let Some(otlp) = &self.otlp else { return self.prometheus.register_gauge(key, metadata) };
        let make = || {
            let value = Arc::new(AtomicU64::new(0));
            let (builder, _) = described!(otlp.meter.f64_observable_gauge(key.name().to_owned()), key);
            let (seen, labels) = (Arc::clone(&value), labels(key));
            let observe = move |told: &dyn AsyncInstrument<f64>| {
                told.observe(f64::from_bits(seen.load(Ordering::Relaxed)), &labels);
            };
            builder.with_callback(observe).build();
            let prometheus = self.prometheus.register_gauge(key, metadata);
            Gauge::from_arc(Arc::new(Pair { prometheus, value }))
        };
        otlp.gauges.lock().entry(key.clone()).or_insert_with(make).clone()
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        let Some(otlp) = &self.otlp else { return self.prometheus.register_histogram(key, metadata) };
        let make = || {
            let (mut builder, metric) = described!(otlp.meter.f64_histogram(key.name().to_owned()), key);
            if let Some(metric) = metric {
                builder = builder.with_boundaries(metric.buckets.to_vec());
            }
            let prometheus = self.prometheus.register_histogram(key, metadata);
            Histogram::from_arc(Arc::new(BothHistograms { prometheus, otlp: builder.build(), labels: labels(key) }))
        };
        otlp.histograms.lock().entry(key.clone()).or_insert_with(make).clone()
    }
}

/// Prometheus' instrument, and the number for OTLP: of a gauge its bits.
struct Pair<T> {
    prometheus: T,
    value: Arc<AtomicU64>,
}

impl CounterFn for Pair<Counter> {
    fn increment(&self, by: u64) {
        self.prometheus.increment(by);
        CounterFn::increment(&*self.value, by);
    }

    fn absolute(&self, value: u64) {
        self.prometheus.absolute(value);
        CounterFn::absolute(&*self.value, value);
    }
}

impl GaugeFn for Pair<Gauge> {
    fn increment(&self, by: f64) {
        self.prometheus.increment(by);
        GaugeFn::increment(&*self.value, by);
    }

    fn decrement(&self, by: f64) {
        self.prometheus.decrement(by);
        GaugeFn::decrement(&*self.value, by);
    }

    fn set(&self, value: f64) {
        self.prometheus.set(value);
        GaugeFn::set(&*self.value, value);
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

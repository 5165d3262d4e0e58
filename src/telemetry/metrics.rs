//! Metrics of the process, rendered for Prometheus.

use std::{fmt::Write as _, sync::OnceLock, time::Instant};

use ::metrics::{describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::metrics::{AsyncInstrument, Meter};

use super::{
    names::{self, MetricKind},
    process,
    recorder::Both,
};

/// The process's metrics. All values of this type show the same ones.
#[derive(Debug, Clone)]
pub struct Metrics {
    handle: &'static PrometheusHandle,
    begun: Instant,
}

impl Metrics {
    /// Sets the recorder up, the first time.
    pub fn install() -> Self {
        Self::install_with(None)
    }

    /// As [`Metrics::install`], and the first time also records for OTLP by `otlp`.
    pub(super) fn install_with(otlp: Option<Meter>) -> Self {
        static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
        let handle = HANDLE.get_or_init(|| set_up(otlp));
        Self { handle, begun: Instant::now() }
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        self.refresh();
        let mut text = self.handle.render();
        // The facade's counters are whole numbers, and this one is not.
        if let Some(seconds) = process::cpu_seconds() {
            let name = names::PROCESS_CPU_SECONDS_TOTAL;
            let help = names::METRICS.iter().find(|metric| metric.name == name).map_or("", |metric| metric.help);
            // Writing to a string does not fail.
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {seconds}\n");
        }
        text
    }

    /// Folds recorded samples together and looks at the process; called every few seconds, so that memory stays bounded
    /// and what is exported over OTLP is not old.
    pub fn upkeep(&self) {
        self.refresh();
        self.handle.run_upkeep();
    }

    fn refresh(&self) {
        gauge!(names::BUILD_INFO, "version" => env!("CARGO_PKG_VERSION"), "rust_version" => env!("CARGO_PKG_RUST_VERSION"))
            .set(1.0);
        gauge!(names::UPTIME_SECONDS).set(self.begun.elapsed().as_secs_f64());
        for (name, value) in process::figures() {
            gauge!(name).set(value);
        }
    }
}

fn set_up(otlp: Option<Meter>) -> PrometheusHandle {
    let mut builder = PrometheusBuilder::new();
    for metric in names::METRICS.iter().filter(|metric| metric.kind == MetricKind::Histogram) {
        let name = Matcher::Full(metric.name.to_owned());
        // An empty list of buckets is the one error, and then the histogram is a summary.
        builder = builder.set_buckets_for_metric(name, metric.buckets).unwrap_or_else(|_| PrometheusBuilder::new());
    }
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    if let Some(meter) = &otlp {
        let observe = |instrument: &dyn AsyncInstrument<f64>| {
            if let Some(seconds) = process::cpu_seconds() {
                instrument.observe(seconds, &[]);
            }
        };
        let builder = meter.f64_observable_counter(names::PROCESS_CPU_SECONDS_TOTAL);
        builder.with_unit("s").with_callback(observe).build();
    }
    if ::metrics::set_global_recorder(Both::new(recorder, otlp)).is_err() {
        tracing::warn!("another recorder of metrics was set up before; /metrics shows nothing of it");
    }
    for metric in names::METRICS {
        match metric.kind {
            MetricKind::Counter => describe_counter!(metric.name, metric.help),
            MetricKind::Gauge => describe_gauge!(metric.name, metric.help),
            MetricKind::Histogram => describe_histogram!(metric.name, metric.help),
        }
    }
    handle
}

#[cfg(test)]
mod tests {
    use super::{super::names::Metric, *};

    #[test]
    fn what_is_rendered_tells_the_process_and_its_build_and_each_metric_once() {
        let text = Metrics::install().render();
        let of_process = [
            names::BUILD_INFO,
            names::UPTIME_SECONDS,
            names::PROCESS_RESIDENT_MEMORY_BYTES,
            names::PROCESS_OPEN_FDS,
            names::PROCESS_MAX_FDS,
            names::PROCESS_CPU_SECONDS_TOTAL,
            names::PROCESS_START_TIME_SECONDS,
            names::PROCESS_THREADS,
            names::PROCESS_VIRTUAL_MEMORY_BYTES,
        ];
        let described: Vec<_> = names::METRICS.iter().filter(|metric| of_process.contains(&metric.name)).collect();
        assert_eq!(described.len(), of_process.len());
        for Metric { name, help, .. } in described {
            assert!(text.contains(&format!("# HELP {name} {help}")), "{name} in {text}");
            assert!(text.lines().any(|line| line.starts_with(name)), "{name} in {text}");
            assert_eq!(text.matches(&format!("# TYPE {name} ")).count(), 1, "{name} in {text}");
        }
    }
}

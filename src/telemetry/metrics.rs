//! Metrics of the process, rendered for Prometheus.

use std::{sync::OnceLock, time::Instant};

use ::metrics::{describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::names::{self, MetricKind};

/// The process's metrics. All values of this type show the same ones.
#[derive(Debug, Clone)]
pub struct Metrics {
    handle: &'static PrometheusHandle,
    begun: Instant,
}

impl Metrics {
    /// Sets the recorder up, the first time.
    pub fn install() -> Self {
        static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
        let handle = HANDLE.get_or_init(|| {
            let mut builder = PrometheusBuilder::new();
            for metric in names::METRICS.iter().filter(|metric| metric.kind == MetricKind::Histogram) {
                let name = Matcher::Full(metric.name.to_owned());
                // An empty list of buckets is the one error, and then the histogram is a summary.
                builder =
                    builder.set_buckets_for_metric(name, metric.buckets).unwrap_or_else(|_| PrometheusBuilder::new());
            }
            let recorder = builder.build_recorder();
            let handle = recorder.handle();
            if ::metrics::set_global_recorder(recorder).is_err() {
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
        });
        Self { handle, begun: Instant::now() }
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        gauge!(names::BUILD_INFO, "version" => env!("CARGO_PKG_VERSION"), "rust_version" => env!("CARGO_PKG_RUST_VERSION"))
            .set(1.0);
        gauge!(names::UPTIME_SECONDS).set(self.begun.elapsed().as_secs_f64());
        if let Some(bytes) = resident_bytes() {
            gauge!(names::PROCESS_RESIDENT_MEMORY_BYTES).set(bytes as f64);
        }
        // On systems without /proc the two are absent.
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            gauge!(names::PROCESS_OPEN_FDS).set(open.count() as f64);
        }
        if let Some(most) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
            gauge!(names::PROCESS_MAX_FDS).set(most as f64);
        }
        self.handle.render()
    }

    /// Folds recorded samples together; called every few seconds so that memory stays bounded.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::{super::names::Metric, *};

    #[test]
    fn what_is_rendered_tells_the_process_and_its_build() {
        let text = Metrics::install().render();
        let of_process = [
            names::BUILD_INFO,
            names::UPTIME_SECONDS,
            names::PROCESS_RESIDENT_MEMORY_BYTES,
            names::PROCESS_OPEN_FDS,
            names::PROCESS_MAX_FDS,
        ];
        let described: Vec<_> = names::METRICS.iter().filter(|metric| of_process.contains(&metric.name)).collect();
        assert_eq!(described.len(), of_process.len());
        for Metric { name, help, .. } in described {
            assert!(text.contains(&format!("# HELP {name} {help}")), "{name} in {text}");
            assert!(text.lines().any(|line| line.starts_with(name)), "{name} in {text}");
        }
    }
}

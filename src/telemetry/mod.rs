//! Logs, metrics and traces of the process. None ever holds a message's content, an end user's id or a key's secret.

pub mod names;
pub mod spans;
pub mod trace;

mod http_client;
mod json_lines;
mod lines;
mod logs;
mod metrics;
mod otel;
mod process;
mod recorder;
mod settings;
mod waiting;

pub use lines::Lines;
pub use logs::{LogFormat, init_logs};
pub use metrics::Metrics;
pub use otel::Telemetry;
pub use settings::{Export, ExportFiles, OtelSettings, PREFIX, Protocol, Sampling};

//! Logs and metrics of the process. Neither ever holds a message's content, an end user's id or a key's secret.

pub mod names;
pub mod spans;

mod logs;
mod metrics;

pub use logs::{LogFormat, init_logs};
pub use metrics::Metrics;

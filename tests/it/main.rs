//! All integration tests in one binary: one link step, one harness.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails loudly, that is its purpose"
)]

mod architecture;
mod authenticate;
mod cli;
mod config;
mod conformance;
mod contract;
mod demo;
mod docs;
mod drained;
mod embedded;
mod extensions;
mod failed_auth;
mod faults;
mod feed;
mod grpc;
mod history;
// Looks at processes as Linux shows them.
#[cfg(target_os = "linux")]
mod hostile;
mod http;
mod isolation;
mod key_bounds;
mod keys;
// Its disk is a library that Linux preloads.
#[cfg(target_os = "linux")]
mod kill;
mod left;
mod lifecycle;
mod logs;
mod model;
mod operations;
mod parity;
mod priority;
mod remote;
mod scylla;
mod shares;
mod submit_cli;
pub mod support;
mod telemetry;
mod tls;
mod transfer;

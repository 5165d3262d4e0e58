//! `message-webhook` takes users' messages in by JSON webhook and gRPC, each exactly once.
//!
//! `ARCHITECTURE.md` is the map: what each module is for, which may know which, and where to change what.

pub mod app;
pub mod cli;
pub mod config;
pub mod domain;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod middleware;
pub mod protocol;
pub mod service;
pub mod store;
pub mod telemetry;
pub mod tls;

//! The program on a store for many replicas. What every store promises is in `conformance`.

mod cli;
mod erased;
#[cfg(feature = "failpoints")]
mod failpoints;
mod frames;
mod replicas;
mod secure;

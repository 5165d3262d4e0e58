//! The program on a store for many replicas. What every store promises is in `conformance`.

mod backlog;
mod cli;
mod erased;
mod expired;
#[cfg(feature = "failpoints")]
mod failpoints;
mod frames;
mod frames_of_keys;
mod frames_of_leases;
mod half_migrated;
mod moving;
mod node_clocks;
mod outage;
mod price;
mod replicas;
mod secure;
mod start;
mod unreadable;

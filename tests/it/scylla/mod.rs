//! The program on a store for many replicas. What every store promises is in `conformance`.

mod cli;
mod frames;
mod replicas;
mod secure;

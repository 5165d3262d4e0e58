//! The store for one machine.

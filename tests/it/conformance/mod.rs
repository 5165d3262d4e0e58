//! What every store must do: one named test for each promise of `MessageStore`, generated for each store.
//!
//! A store joins by implementing [`Fixture`] and calling [`conformance_suite!`] in a module of its own.

mod behaviours;
mod embedded;
pub mod fixture;
mod scylla;

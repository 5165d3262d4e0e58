//! The indexes: from the hash of a message's key, and of its sender, to positions in the log.
//!
//! Derived from the log, and never believed where the log says otherwise. Sealed segments are in sorted files ([`run`],
//! with the bytes in [`mod@format`] and [`page`]), which are merged as they grow in number
//! ([`mod@merge`]); what no run covers is in memory ([`recent`]).

pub mod filter;
pub mod format;
pub mod merge;
pub mod page;
pub mod recent;
pub mod run;

pub use format::{DIR, End, Entry, Hash, Identity, RunError, RunKind, Span};
pub use merge::{merge, obsolete, plan};
pub use recent::Recent;
pub use run::Run;

#[cfg(test)]
mod merge_tests;
#[cfg(test)]
mod recent_tests;
#[cfg(test)]
mod run_fuzz_tests;
#[cfg(test)]
pub mod run_tests;
#[cfg(test)]
pub mod test_disk;

//! What fuzz targets check: each parser against something that this project did not write, or against the published page and
//! the contract in plain words. A promise that does not hold is a panic.
//!
//! The same functions run twice: in the unit tests (`replay`), which change the kept inputs of `fuzz/corpus/` at random on any
//! toolchain, and under libFuzzer, which `scripts/fuzz` drives. They are compiled for these two alone.

#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what is broken ends the run, as a test does"
)]

mod frames;
mod json;
mod key;
mod keys_file;
mod media_url;
mod place;
mod record;
#[cfg(test)]
mod replay;
mod timestamp;

pub use frames::frames;
pub use json::json;
pub use key::key;
pub use keys_file::keys_file;
pub use media_url::media_url;
pub use place::place;
pub use record::record;
pub use timestamp::timestamp;

/// A target: its name, which is that of its program, corpus and dictionary below `fuzz/`, and its check.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 8] = [
    ("json", json),
    ("timestamp", timestamp),
    ("media_url", media_url),
    ("key", key),
    ("place", place),
    ("record", record),
    ("keys_file", keys_file),
    ("frames", frames),
];

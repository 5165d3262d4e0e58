//! How an embedded store is opened.

use std::{path::PathBuf, time::Duration};

const MIB: u64 = 1024 * 1024;

/// Where an embedded store lives and how it is to be run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory that one process owns. It is made when it is missing.
    pub dir: PathBuf,
    /// For how long a message and the memory of its key are kept.
    pub retention: Duration,
    /// What the store is opened for.
    pub mode: Mode,
    /// Believes the wall clock at once, however far it is behind the last message.
    pub trust_clock: bool,
    /// Submissions that one sync makes durable at most.
    pub group_messages: usize,
    /// Submissions that may wait for the writer; one more is told that the store cannot decide now.
    pub queue_messages: usize,
    /// So many bytes of the disk are left free when the next segment is made.
    pub min_free_bytes: u64,
    /// Between two removals of messages that are past their retention.
    pub retention_interval: Duration,
    /// Bytes of the largest message: the largest body, and 4 KiB.
    pub largest_record: u32,
}

/// What a store is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// To accept; what was lost is refused.
    Serve,
    /// To accept, and to go on without what was lost.
    AcceptLoss,
    /// To read what can be read. Nothing is written; messages cannot be looked up by their keys.
    Read,
}

impl Options {
    /// Defaults for a store in `dir`: 30 days, bodies of 256 KiB.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            retention: Duration::from_hours(30 * 24),
            mode: Mode::Serve,
            trust_clock: false,
            group_messages: 1024,
            queue_messages: 16 * 1024,
            min_free_bytes: 16 * MIB,
            retention_interval: Duration::from_mins(1),
            largest_record: Self::largest_record(256 * 1024),
        }
    }

    /// Bytes of the largest message, where bodies have `body_limit` bytes at most.
    pub fn largest_record(body_limit: u64) -> u32 {
        u32::try_from(body_limit).unwrap_or(u32::MAX / 8).min(u32::MAX / 8).saturating_add(4096).next_multiple_of(4096)
    }
}

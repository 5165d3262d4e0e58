//! How an embedded store is opened.

use std::{path::PathBuf, time::Duration};

const MIB: u64 = 1024 * 1024;

/// Where an embedded store lives and how much it may use.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory that one process owns. It is made when it is missing.
    pub dir: PathBuf,
    /// For how long a message and the memory of its key are kept.
    pub retention: Duration,
    /// Bytes of table blocks that are kept in memory.
    pub cache_bytes: u64,
    /// Bytes of messages and index entries that are kept in memory until they are written to tables. As many again may
    /// wait for being written.
    pub memtable_bytes: u64,
    /// Messages whose index entries are kept in memory until they are written to tables. As many again may wait for
    /// being written.
    pub unindexed_messages: usize,
    /// Goes on after a loss that the opening found; without it such a store is not opened.
    pub accept_loss: bool,
    /// Submissions that one sync makes durable at most.
    pub group_messages: usize,
    /// Submissions that may wait for the writer; one more is told that the store cannot decide now.
    pub queue_messages: usize,
    /// Below this many free bytes on the disk nothing is accepted, so that what is there can still be kept in order.
    pub min_free_bytes: u64,
    /// Between two removals of messages that are past their retention.
    pub retention_interval: Duration,
    /// After an unclean stop at most this many bytes of tables are read and compared with their checksums, the newest
    /// first.
    pub verify_bytes: u64,
}

impl Options {
    /// Small defaults for a store in `dir`: 30 days, 32 MiB of cache, 24 MiB of memtables.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            retention: Duration::from_hours(30 * 24),
            cache_bytes: 32 * MIB,
            memtable_bytes: 24 * MIB,
            // Twice as many, which stay known from memory, fill a hash table of 2¹⁸ places; some 60 MB in all.
            unindexed_messages: (1 << 17) / 8 * 7,
            accept_loss: false,
            group_messages: 1024,
            queue_messages: 16 * 1024,
            min_free_bytes: 64 * MIB,
            retention_interval: Duration::from_mins(1),
            verify_bytes: 1024 * MIB,
        }
    }
}

//! What the opening found, in one line.

use std::{fmt, time::Duration};

use crate::domain::Timestamp;

/// What the opening found; `Display` is the line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenReport {
    /// Messages that are kept, those included that are past their retention and not forgotten yet.
    pub messages: u64,
    /// When the oldest of them was accepted.
    pub oldest: Option<Timestamp>,
    /// When the newest of them was accepted.
    pub newest: Option<Timestamp>,
    /// Keys, revoked and expired ones included.
    pub keys: usize,
    /// How the store was left.
    pub left: Left,
    /// Index entries that were missing and were made again from the messages.
    pub rebuilt: u64,
    /// Messages whose index entries were in memory only when the process ended, and were made again as always then.
    pub indexed: u64,
    /// Bytes of tables that were compared with their checksums.
    pub verified_bytes: u64,
    /// What was lost and given up with `--accept-loss`, a line each.
    pub lost: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// How a store was left by the process before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// There was none.
    New,
    /// It was closed.
    Clean,
    /// The process ended without closing it.
    Unclean,
}

impl fmt::Display for OpenReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.left {
            Left::New => f.write_str("store is new")?,
            Left::Clean => f.write_str("store was closed in order")?,
            Left::Unclean => f.write_str("store was not closed in order")?,
        }
        write!(f, ": {} messages", self.messages)?;
        if let (Some(oldest), Some(newest)) = (self.oldest, self.newest) {
            write!(f, " from {oldest} to {newest}")?;
        }
        write!(f, ", {} keys", self.keys)?;
        if self.indexed > 0 {
            write!(f, ", {} of them indexed again", self.indexed)?;
        }
        if self.rebuilt > 0 {
            write!(f, ", {} index entries rebuilt", self.rebuilt)?;
        }
        if self.verified_bytes > 0 {
            write!(f, ", {} MiB of tables verified", self.verified_bytes.div_ceil(1024 * 1024))?;
        }
        for lost in &self.lost {
            write!(f, ", LOST: {lost}")?;
        }
        write!(f, "; opened in {} ms", self.took.as_millis())
    }
}

//! What the opening found, in one line.

use std::{fmt, time::Duration};

use crate::domain::Timestamp;

/// What the opening found; `Display` is the line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenReport {
    /// Messages that are kept, those included that are past their retention and not removed yet.
    pub messages: u64,
    /// When the oldest frame was written.
    pub oldest: Option<Timestamp>,
    /// When the newest frame with records was written.
    pub newest: Option<Timestamp>,
    /// Keys, revoked and expired ones included.
    pub keys: usize,
    /// How the store was left.
    pub left: Left,
    /// Segments whose index was made again.
    pub indexed: u64,
    /// What was mended and costs nothing, a line each.
    pub mended: Vec<String>,
    /// What was acknowledged and is missing, a line each.
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
            write!(f, ", the index of {} segments made again", self.indexed)?;
        }
        for mended in &self.mended {
            write!(f, ", {mended}")?;
        }
        for lost in &self.lost {
            write!(f, ", LOST: {lost}")?;
        }
        if !self.lost.is_empty() {
            f.write_str("; changes of API keys may be among it: look through the keys")?;
        }
        write!(f, "; opened in {} ms", self.took.as_millis())
    }
}

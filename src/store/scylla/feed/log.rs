//! What a process has delivered lately, in one order for all its readers: each is a position in it.
//!
//! Between the messages stand marks: whoever has read on to a mark was given every message up to its point in attempt
//! time. A reader that is so slow that the log has forgotten its position reads from the database again.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    domain::{Message, MessageKey},
    store::scylla::{scan::Attempt, ticks::Ticks},
};

/// The log forgets its oldest entries when it holds more of either.
const MOST_BYTES: usize = 16 * 1024 * 1024;
const MOST_ENTRIES: usize = 100_000;
/// What an entry costs beside its message.
const OVERHEAD: usize = 64;

/// One entry.
#[derive(Debug, Clone)]
pub enum LogEntry {
    /// A message that was accepted.
    Message {
        /// By which attempt.
        attempt: Attempt,
        /// The message.
        message: Arc<Message>,
        /// The size of its record.
        bytes: usize,
    },
    /// A message that was accepted, and that nobody can read.
    Lost {
        /// By which attempt.
        attempt: Attempt,
        /// Its key.
        key: MessageKey,
        /// The place behind it.
        behind: Ticks,
    },
    /// Every message up to here stands before this entry.
    Mark(Ticks),
}

impl LogEntry {
    fn weight(&self) -> usize {
        OVERHEAD + if let LogEntry::Message { bytes, .. } = self { *bytes } else { 0 }
    }
}

/// The latest entries.
#[derive(Debug, Default)]
pub struct Log {
    entries: VecDeque<LogEntry>,
    /// The number of the first entry that is kept.
    first: u64,
    bytes: usize,
}

impl Log {
    /// The number of the next entry.
    pub fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Appends an entry, and forgets the oldest where there are too many.
    pub fn push(&mut self, entry: LogEntry) {
        self.bytes += entry.weight();
        self.entries.push_back(entry);
        // The newest stays, however large.
        while self.entries.len() > 1 && (self.bytes > MOST_BYTES || self.entries.len() > MOST_ENTRIES) {
            let Some(gone) = self.entries.pop_front() else { break };
            self.bytes -= gone.weight();
            self.first += 1;
        }
    }

    /// The entries from number `from` on; `None` when it is forgotten.
    pub fn read(&self, from: u64) -> Option<impl Iterator<Item = &LogEntry>> {
        let skipped = usize::try_from(from.checked_sub(self.first)?).ok()?;
        Some(self.entries.iter().skip(skipped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(log: &Log, from: u64) -> Option<Vec<Ticks>> {
        let mark = |entry: &LogEntry| if let LogEntry::Mark(ticks) = entry { Some(*ticks) } else { None };
        Some(log.read(from)?.filter_map(mark).collect())
    }

    #[test]
    fn a_reader_goes_on_where_it_was_and_is_told_when_that_is_forgotten() {
        let mut log = Log::default();
        for ticks in 0..MOST_ENTRIES as i64 {
            log.push(LogEntry::Mark(ticks));
        }
        assert_eq!(marks(&log, 0).map(|marks| marks.len()), Some(MOST_ENTRIES));
        assert_eq!(marks(&log, log.end()), Some(Vec::new()));
        log.push(LogEntry::Mark(-1));
        assert_eq!(marks(&log, 0), None);
        assert_eq!(marks(&log, 1).map(|marks| marks.len()), Some(MOST_ENTRIES));
        assert_eq!(marks(&log, log.end() - 1), Some(vec![-1]));
    }

    #[test]
    fn it_holds_no_more_bytes_than_it_may() {
        use crate::domain::{Content, Environment, FromId, MessageKey, MessageSid, NewMessage, OrgId, Timestamp};
        let key = MessageKey {
            org: OrgId::new("acme").expect("valid"),
            env: Environment::Dev,
            sid: MessageSid::new("m").expect("valid"),
        };
        let from_id = FromId::new("user").expect("valid");
        let content = Content { from_id, timestamp: Timestamp::EPOCH, body: None, media: None };
        let message = Arc::new(NewMessage::new(key, content).into_message(Timestamp::EPOCH));
        let mut log = Log::default();
        for number in 0..100 {
            let (attempt, message) = (Attempt::after(number), Arc::clone(&message));
            log.push(LogEntry::Message { attempt, message, bytes: MOST_BYTES / 10 });
        }
        assert_eq!(log.entries.len(), 9);
        assert!(log.bytes <= MOST_BYTES);
        log.push(LogEntry::Message { attempt: Attempt::after(100), message, bytes: MOST_BYTES * 2 });
        assert_eq!((log.entries.len(), log.end()), (1, 101));
    }
}

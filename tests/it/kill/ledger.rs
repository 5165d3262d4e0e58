//! What the server said of each message, every time, and what may be said of one.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// One answer to one submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// 200, accepted by this call.
    Processed { accepted_at: String },
    /// 200, accepted before.
    Already { accepted_at: String, payload_matches: bool },
    /// Any other status.
    Refused { status: u16 },
    /// No answer: the connection broke.
    Nothing,
}

impl Said {
    pub fn accepted_at(&self) -> Option<&str> {
        match self {
            Said::Processed { accepted_at } | Said::Already { accepted_at, .. } => Some(accepted_at),
            Said::Refused { .. } | Said::Nothing => None,
        }
    }
}

/// The `message_sid` of a message.
pub fn sid(number: u64) -> String {
    format!("kill-{number}")
}

/// A submission and its answer.
#[derive(Debug, Clone)]
struct Entry {
    begun: Instant,
    ended: Instant,
    said: Said,
}

/// An acceptance that the server told of.
#[derive(Debug)]
struct Acceptance {
    accepted_at: String,
    /// It was not before this.
    after: Instant,
    /// It was before this.
    before: Instant,
}

/// All answers, by message.
pub struct Ledger {
    /// For so long, at least, a message must be known.
    retention: Duration,
    entries: Mutex<HashMap<u64, Vec<Entry>>>,
}

impl Ledger {
    pub fn new(retention: Duration) -> Self {
        Self { retention, entries: Mutex::default() }
    }

    /// Notes the answer to a submission that was sent at `begun`.
    pub fn note(&self, number: u64, begun: Instant, said: Said) {
        let entry = Entry { begun, ended: Instant::now(), said };
        self.entries.lock().entry(number).or_default().push(entry);
    }

    /// When the message was accepted, by the last acceptance that the server told of.
    pub fn accepted_at(&self, number: u64) -> Option<String> {
        Some(acceptances(self.entries.lock().get(&number)?).pop()?.accepted_at)
    }

    /// The messages of which the server said that they are accepted.
    pub fn acknowledged(&self) -> Vec<u64> {
        let entries = self.entries.lock();
        let acknowledged =
            entries.iter().filter(|(_, entries)| entries.iter().any(|entry| entry.said.accepted_at().is_some()));
        acknowledged.map(|(number, _)| *number).collect()
    }

    /// Those of them that must be there still.
    pub fn kept(&self) -> Vec<u64> {
        let entries = self.entries.lock();
        entries.iter().filter(|(_, entries)| self.is_kept(entries)).map(|(number, _)| *number).collect()
    }

    /// Whether a message must be there still.
    pub fn must_keep(&self, number: u64) -> bool {
        self.entries.lock().get(&number).is_some_and(|entries| self.is_kept(entries))
    }

    fn is_kept(&self, entries: &[Entry]) -> bool {
        acceptances(entries).last().is_some_and(|last| last.after.elapsed() < self.retention)
    }

    /// No message was accepted again before it may be forgotten, and all that was said of one agrees.
    pub fn assert_sound(&self) {
        for (number, entries) in self.entries.lock().iter() {
            assert_sound(*number, entries, self.retention);
        }
    }

    /// The same of one message.
    pub fn assert_sound_of(&self, number: u64) {
        if let Some(entries) = self.entries.lock().get(&number) {
            assert_sound(number, entries, self.retention);
        }
    }

    pub fn summary(&self) -> String {
        let entries = self.entries.lock();
        let count = |wanted: fn(&Said) -> bool| entries.values().flatten().filter(|entry| wanted(&entry.said)).count();
        format!(
            "{} answers 'processed', {} 'Already processed', {} refused with 503, {} lost with the connection",
            count(|said| matches!(said, Said::Processed { .. })),
            count(|said| matches!(said, Said::Already { .. })),
            count(|said| matches!(said, Said::Refused { .. })),
            count(|said| matches!(said, Said::Nothing)),
        )
    }
}

fn assert_sound(number: u64, entries: &[Entry], retention: Duration) {
    for pair in acceptances(entries).windows(2) {
        let apart = pair[1].before.duration_since(pair[0].after);
        assert!(
            apart >= retention,
            "{} was accepted at {}, and at most {apart:?} later again: {entries:#?}",
            sid(number),
            pair[0].accepted_at
        );
    }
    let mut processed: Vec<&str> = Vec::new();
    for entry in entries {
        let is_odd = match &entry.said {
            Said::Nothing => false,
            Said::Processed { accepted_at } => {
                let twice = processed.contains(&accepted_at.as_str());
                processed.push(accepted_at);
                twice
            }
            Said::Already { payload_matches, .. } => !payload_matches,
            Said::Refused { status } => *status != 503,
        };
        assert!(!is_odd, "{}: {:?} of {entries:#?}", sid(number), entry.said);
    }
}

/// All acceptances that the entries tell of, in order.
fn acceptances(entries: &[Entry]) -> Vec<Acceptance> {
    let mut all: Vec<Acceptance> = Vec::new();
    let mut told: Vec<(&Entry, &str)> =
        entries.iter().filter_map(|entry| Some((entry, entry.said.accepted_at()?))).collect();
    told.sort_by_key(|(entry, _)| entry.ended);
    for (entry, accepted_at) in told {
        match all.iter_mut().find(|known| known.accepted_at == accepted_at) {
            Some(known) if matches!(entry.said, Said::Processed { .. }) => known.after = entry.begun,
            Some(_) => {}
            None => {
                let previous = all.last().map(|last| last.before);
                // Without the answer that said so, any attempt before may have been the one.
                let attempts =
                    entries.iter().map(|entry| entry.begun).filter(|begun| previous.is_none_or(|at| *begun > at));
                let after = match entry.said {
                    Said::Processed { .. } => entry.begun,
                    _ => attempts.min().unwrap_or(entry.begun).min(entry.begun),
                };
                all.push(Acceptance { accepted_at: accepted_at.to_owned(), after, before: entry.ended });
            }
        }
    }
    all
}

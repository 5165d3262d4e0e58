//! A frame that is being built: what the writer decided, as records.

use super::{
    index::Hash,
    log::{
        Position, Stamp,
        frame::{FRAME_HEADER, Head, RecordKind, align, fold},
        writer::{Filled, LogWriter},
    },
    shared::Shared,
    submit::Submission,
    view::NewEntry,
};
use crate::domain::Timestamp;

/// A frame that is being built.
pub struct Building {
    /// The bytes, with room for the header in front.
    pub frame: Vec<u8>,
    place: Position,
    /// What the index is to know of it.
    pub entries: Vec<NewEntry>,
    records: u32,
    heads: u64,
    newest_expiry: u64,
    last_record: Position,
    /// When the last record before this frame expires.
    floor: u64,
}

impl Building {
    /// A frame at the end of `log`, in a buffer that is used again.
    pub fn new(mut frame: Vec<u8>, log: &LogWriter) -> Self {
        frame.clear();
        frame.resize(FRAME_HEADER, 0);
        let (entries, last_record) = (Vec::new(), Position::default());
        let (place, floor) = (log.end(), log.newest_expiry());
        Self { frame, place, entries, records: 0, heads: 0, newest_expiry: 0, last_record, floor }
    }

    /// Adds a message; gives when it counts as accepted.
    pub fn message(&mut self, shared: &Shared, submission: &Submission, stamp: Stamp) -> Timestamp {
        let retention = shared.retention_micros();
        let (accepted_at, in_feed, passed) = match submission.import {
            None => (stamp.wall, true, 0),
            Some(import) => {
                let passed = stamp.wall.as_micros().saturating_sub(import.accepted_at.as_micros());
                (import.accepted_at, import.in_feed, u64::try_from(passed).unwrap_or(0))
            }
        };
        // The debt is of time before this message, and the age clock will make up for it: without it here, what is accepted
        // after a long stop would be forgotten too early by as much.
        let full = stamp.age.saturating_add(stamp.debt).saturating_add(retention);
        // Struck debt makes no message expire before an older one. That keeps no byte longer: segments go in order.
        let expiry = if submission.import.is_some() { full.saturating_sub(passed) } else { full.max(self.floor) };
        let head = Head {
            id: submission.id,
            sender: submission.sender,
            accepted_at,
            expiry,
            retention: shared.retention_millis(),
            back: self.frame.len() as u32,
            length: submission.body.len() as u32,
            kind: RecordKind::Message,
            in_feed,
            imported: submission.import.is_some(),
            body: submission.checksum,
        };
        let position = self.add(shared, head, &submission.body);
        self.entries.push(NewEntry { id: submission.id, sender: submission.sender, position });
        accepted_at
    }

    /// Adds a change of the state.
    pub fn state(&mut self, shared: &Shared, body: &[u8], stamp: Stamp) {
        let head = Head {
            id: Hash::default(),
            sender: Hash::default(),
            accepted_at: stamp.wall,
            expiry: 0,
            retention: 0,
            back: self.frame.len() as u32,
            length: body.len() as u32,
            kind: RecordKind::State,
            in_feed: false,
            imported: false,
            body: shared.log.secret.body(body),
        };
        self.add(shared, head, body);
    }

    fn add(&mut self, shared: &Shared, head: Head, body: &[u8]) -> Position {
        // A frame is smaller than its segment, whose length fits into 32 bits.
        let position = Position::new(self.place.segment(), self.place.offset().saturating_add(head.back));
        let checksum = head.write(&shared.log.secret, position, &mut self.frame);
        self.heads = fold(&shared.log.secret, self.heads, checksum);
        self.frame.extend_from_slice(body);
        self.frame.resize(align(self.frame.len()), 0);
        self.records += 1;
        self.newest_expiry = self.newest_expiry.max(head.expiry);
        self.last_record = position;
        position
    }

    /// What the log is to know of it.
    pub fn filled(&self, matters: bool) -> Filled {
        Filled {
            records: self.records,
            messages: self.entries.len() as u32,
            heads: self.heads,
            newest_expiry: self.newest_expiry,
            last_record: self.last_record,
            matters,
        }
    }
}

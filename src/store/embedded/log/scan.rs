//! Reading a whole segment at a start, and judging what does not verify. The rules are those that were searched for
//! counterexamples over all power cuts and damages of small logs; nothing here writes.
//!
//! - The next frame is the first header that verifies and names the last good frame; what lies between is padding.
//! - The last frame, behind which no header verifies, must be whole, bodies too. Otherwise it is **torn**: nobody was
//!   answered.
//! - Where a header verifies behind a break, or the next segment's does, acknowledged records are **lost**; unless the
//!   ordinals meet, and only a frame without records was damaged.

use std::{io, sync::Arc};

use super::{
    Link, PAGE, Position,
    frame::{ALIGN, FRAME_HEADER, FrameHeader, FrameKind, Head, NoFrame, RecordKind, fold},
    reader::Window,
    segment::{Gap, SegmentHeader},
};
use crate::store::embedded::{
    disk::DiskFile,
    index::Recent,
    sabotage::{Sabotage, is_planted},
    state::{Change, NoChange},
};

/// Why a segment cannot be judged at all.
#[derive(Debug)]
pub enum ScanError {
    /// It was written by a later program.
    Newer,
    /// What the disk says.
    Io(io::Error),
}

impl From<io::Error> for ScanError {
    fn from(error: io::Error) -> Self {
        ScanError::Io(error)
    }
}

impl From<NoFrame> for ScanError {
    fn from(_: NoFrame) -> Self {
        ScanError::Newer
    }
}

/// What a segment holds.
pub struct Scan {
    /// Its messages.
    pub recent: Recent,
    /// Its changes of state, in order.
    pub changes: Vec<Change>,
    /// The last frame that is whole.
    pub last: Option<FrameHeader>,
    /// The last frame that is whole and has records, and its last record.
    pub last_records: Option<(Link, Position)>,
    /// Records and messages in it.
    pub records: u64,
    /// Messages in it.
    pub messages: u64,
    /// The ordinal after the last record.
    pub ordinal: u64,
    /// When its last record expires.
    pub newest_expiry: u64,
    /// The age clock at its first record.
    pub first_age: Option<u64>,
    /// Where the next frame may begin.
    pub end: u32,
    /// How far bytes reach that nobody was told of, from `end` on.
    pub torn: Option<u32>,
    /// What was acknowledged and is missing.
    pub lost: Vec<Gap>,
    /// Frames without records that are damaged; nothing is missing.
    pub mended: u32,
}

/// Reads `header`'s segment. `closed_by` is what the next segment says of its end; `accepted` are gaps with which the
/// operator went on. Goes on behind whatever is lost.
///
/// # Errors
/// [`ScanError`].
pub fn scan(
    file: Arc<dyn DiskFile>,
    header: &SegmentHeader,
    closed_by: Option<(Link, u64)>,
    accepted: &[Gap],
) -> Result<Scan, ScanError> {
    let size = file.size()?.min(u64::from(u32::MAX)) as u32;
    let window = Window::new(file, header.identity.secret, header.number, size);
    let scan = Scan {
        recent: Recent::new(header.number),
        changes: Vec::new(),
        last: None,
        last_records: None,
        records: 0,
        messages: 0,
        ordinal: header.ordinal,
        newest_expiry: 0,
        first_age: None,
        end: header.first_frame(),
        torn: None,
        lost: Vec::new(),
        mended: 0,
    };
    let mut scanner =
        Scanner { window, header, size, closed_by, accepted, scan, previous: header.previous, is_patched: false };
    scanner.run()?;
    Ok(scanner.scan)
}

/// The heads of a frame, each with its offset.
type Heads = Vec<(u32, Head)>;

struct Scanner<'a> {
    window: Window,
    header: &'a SegmentHeader,
    size: u32,
    closed_by: Option<(Link, u64)>,
    accepted: &'a [Gap],
    scan: Scan,
    previous: Link,
    /// Whether the last step went over a break: the next frame is taken whatever it names.
    is_patched: bool,
}

impl Scanner<'_> {
    fn run(&mut self) -> Result<(), ScanError> {
        loop {
            let from = self.scan.end;
            let Some(frame) = self.next_named(from)? else {
                if self.over_break(from, None)? {
                    continue;
                }
                return Ok(());
            };
            let (heads, are_whole) = self.heads(&frame)?;
            let offset = frame.position.offset();
            let Some(heads) = heads else {
                if self.over_break(offset, Some(&frame))? {
                    continue;
                }
                return Ok(());
            };
            if !are_whole && !self.is_vouched_for(&frame)? && !is_planted(Sabotage::TornBodyServed) {
                self.tear(from, offset)?;
                return Ok(());
            }
            self.take(&frame, heads)?;
            if frame.kind == FrameKind::Seal {
                return Ok(());
            }
        }
    }

    /// The first header from `from` on that verifies and names the last good frame.
    fn next_named(&mut self, from: u32) -> Result<Option<FrameHeader>, ScanError> {
        if is_planted(Sabotage::OnlyFromPredecessor) {
            let found = self.window.next_header(from)??;
            return Ok(found.filter(|found| found.position.offset() < from.next_multiple_of(PAGE).max(from + 1)));
        }
        let mut at = from;
        while let Some(found) = self.window.next_header(at)?? {
            if self.is_patched || found.previous == self.previous {
                return Ok(Some(found));
            }
            at = found.position.offset().saturating_add(ALIGN as u32);
        }
        Ok(None)
    }

    /// All heads of a frame, `None` if one is damaged; and whether all bodies are whole.
    fn heads(&mut self, frame: &FrameHeader) -> Result<(Option<Heads>, bool), ScanError> {
        let mut heads = Vec::new();
        let (mut at, mut sum, mut are_whole) = (frame.position.offset() + FRAME_HEADER as u32, 0, true);
        while at < frame.end() {
            let Some((head, checksum)) = self.window.head(frame, at)? else { return Ok((None, false)) };
            are_whole = are_whole && self.window.body(&head, at)?.is_some();
            sum = fold(&self.header.identity.secret, sum, checksum);
            heads.push((at, head));
            at = at.saturating_add(head.span() as u32);
        }
        let agree = heads.len() == frame.records as usize && sum == frame.heads;
        Ok((agree.then_some(heads), are_whole))
    }

    fn is_vouched_for(&mut self, frame: &FrameHeader) -> Result<bool, ScanError> {
        let behind = frame.position.offset().saturating_add(ALIGN as u32);
        Ok(self.closed_by.is_some() || self.window.next_header(behind)??.is_some())
    }

    fn take(&mut self, frame: &FrameHeader, heads: Vec<(u32, Head)>) -> Result<(), ScanError> {
        for (at, head) in heads {
            self.take_record(frame, at, &head)?;
        }
        self.previous = frame.link();
        self.is_patched = false;
        self.scan.ordinal = frame.ordinal.saturating_add(u64::from(frame.records));
        self.scan.last = Some(*frame);
        self.scan.end = match FrameHeader::has_own_pages(frame.kind) {
            true => frame.end().next_multiple_of(PAGE),
            false => frame.end(),
        };
        Ok(())
    }

    fn take_record(&mut self, frame: &FrameHeader, at: u32, head: &Head) -> Result<(), ScanError> {
        let scan = &mut self.scan;
        let position = Position::new(self.header.number, at);
        scan.records += 1;
        scan.newest_expiry = scan.newest_expiry.max(head.expiry);
        scan.first_age.get_or_insert(frame.stamp.age);
        scan.last_records = Some((frame.link(), position));
        match head.kind {
            RecordKind::Message => {
                scan.messages += 1;
                scan.recent.insert(head.id, head.sender, position.0);
            }
            RecordKind::State => match self.window.body(head, at)?.map(Change::from_body) {
                Some(Ok(change)) => scan.changes.push(change),
                Some(Err(NoChange::Newer)) => return Err(ScanError::Newer),
                Some(Err(NoChange::Damaged)) | None if self.accepted.iter().any(|gap| gap.from == position) => {}
                Some(Err(NoChange::Damaged)) | None => {
                    scan.lost.push(Gap { from: position, to: position, lost: 1 });
                }
            },
        }
        Ok(())
    }

    /// Judges a break at `at`, of which `broken` is the header if that is whole. Whether reading goes on.
    fn over_break(&mut self, at: u32, broken: Option<&FrameHeader>) -> Result<bool, ScanError> {
        let number = self.header.number;
        let from = Position::new(number, at);
        let behind = broken.map_or(at, |broken| broken.position.offset().saturating_add(ALIGN as u32));
        let next = self.window.next_header(behind)??;
        let (to, ordinal) = match (next, self.closed_by) {
            (Some(next), _) => (next.position, next.ordinal),
            (None, Some((link, ordinal))) => {
                if link == self.previous {
                    return Ok(false);
                }
                (Position::new(number.saturating_add(1), 0), ordinal)
            }
            (None, None) => {
                self.tear(self.scan.end, at)?;
                return Ok(false);
            }
        };
        let missing = ordinal.saturating_sub(self.scan.ordinal);
        if missing == 0 {
            self.scan.mended += 1;
        } else if !self.accepted.iter().any(|gap| gap.from == from) {
            self.scan.lost.push(Gap { from, to, lost: missing });
        }
        if let Some(broken) = broken {
            self.salvage(broken)?;
        }
        let Some(next) = next else { return Ok(false) };
        self.scan.end = next.position.offset();
        self.scan.ordinal = ordinal;
        self.is_patched = true;
        Ok(true)
    }

    /// What is whole in a frame whose heads do not all verify: each verifies alone.
    fn salvage(&mut self, frame: &FrameHeader) -> Result<(), ScanError> {
        let mut at = frame.position.offset().saturating_add(FRAME_HEADER as u32);
        while at < frame.end() {
            match self.window.head(frame, at)? {
                Some((head, _)) => {
                    self.take_record(frame, at, &head)?;
                    at = at.saturating_add(head.span() as u32);
                }
                None => at = at.saturating_add(ALIGN as u32),
            }
        }
        Ok(())
    }

    /// Nothing verifies from `at` on: what is there was never acknowledged, if it is no more than one frame can be.
    fn tear(&mut self, end: u32, at: u32) -> Result<(), ScanError> {
        let (number, largest) = (self.header.number, self.header.largest);
        let mut last = None;
        let mut from = end;
        while from < self.size {
            let bytes = self.window.get(from, 64 * 1024)?;
            if bytes.is_empty() {
                break;
            }
            if let Some(found) = bytes.iter().rposition(|byte| *byte != 0) {
                last = Some(from.saturating_add(found as u32).saturating_add(1));
            }
            from = from.saturating_add(bytes.len() as u32);
        }
        let Some(last) = last else { return Ok(()) };
        if last > at.saturating_add(largest).saturating_add(PAGE) {
            let to = Position::new(number.saturating_add(1), 0);
            let from = Position::new(number, at);
            if !self.accepted.iter().any(|gap| gap.from == from) {
                self.scan.lost.push(Gap { from, to, lost: 0 });
            }
        } else {
            self.scan.torn = Some(last);
        }
        Ok(())
    }
}

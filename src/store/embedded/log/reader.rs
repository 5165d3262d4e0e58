//! Reading the log: one record at its position, and a segment forward.

use std::{io, sync::Arc};

use super::{
    Extent, Link, Log, PAGE, Position,
    frame::{ALIGN, FRAME_HEADER, FrameHeader, FrameKind, HEAD, Head, MAGIC, NoFrame},
    segment::SegmentHeader,
};
use crate::store::embedded::{
    checksum::Secret,
    disk::{DiskFile, is_bad_sector},
};

/// What a look-up reads at once: the head, and nearly always the whole body.
const FIRST_READ: usize = 1024;
/// What reading forward reads at once.
const CHUNK: usize = 64 * 1024;

/// A record as it lies in the log.
#[derive(Debug, Clone)]
pub struct Record {
    /// Where its head is.
    pub position: Position,
    /// Its head.
    pub head: Head,
    /// Its body; `None` for one that the disk has damaged.
    pub body: Option<Vec<u8>>,
}

/// Why a record cannot be read.
#[derive(Debug)]
pub enum ReadError {
    /// Retention has removed it.
    Gone,
    /// Its head is damaged.
    Damaged,
    /// What the disk says.
    Io(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        // A segment that is removed while it is read: that is retention's work.
        if error.kind() == io::ErrorKind::NotFound { ReadError::Gone } else { ReadError::Io(error) }
    }
}

fn unreadable(error: io::Error) -> ReadError {
    if is_bad_sector(&error) { ReadError::Damaged } else { error.into() }
}

impl Log {
    /// The record at `position`, with one read nearly always.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn record(&self, position: Position) -> Result<Record, ReadError> {
        let file = self.file(position.segment())?;
        let at = u64::from(position.offset());
        let mut bytes = vec![0; FIRST_READ];
        let read = file.read_at(&mut bytes, at).map_err(unreadable)?;
        bytes.truncate(read);
        let (head, _) = Head::read(&self.secret, position, &bytes).ok_or(ReadError::Damaged)?;
        let wanted = HEAD.saturating_add(head.length as usize);
        if wanted > bytes.len() {
            let had = bytes.len();
            bytes.resize(wanted, 0);
            let rest = bytes.get_mut(had..).unwrap_or_default();
            // A body that cannot be read is as good as a damaged one.
            let read = match file.read_at(rest, at.saturating_add(had as u64)) {
                Err(error) if is_bad_sector(&error) => 0,
                read => read?,
            };
            bytes.truncate(had.saturating_add(read));
        }
        bytes.truncate(wanted);
        bytes.drain(..HEAD.min(bytes.len()));
        let is_whole = bytes.len() == head.length as usize && self.secret.body(&bytes) == head.body;
        Ok(Record { position, head, body: is_whole.then_some(bytes) })
    }

    /// The header of the frame at `position`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn frame(&self, position: Position) -> Result<FrameHeader, ReadError> {
        let file = self.file(position.segment())?;
        let mut bytes = [0; FRAME_HEADER];
        file.read_at(&mut bytes, u64::from(position.offset())).map_err(unreadable)?;
        FrameHeader::read(&self.secret, position, &bytes).map_err(|_| ReadError::Damaged)
    }
}

/// A part of a segment's file in memory, which moves along.
pub struct Window {
    file: Arc<dyn DiskFile>,
    secret: Secret,
    segment: u32,
    bytes: Vec<u8>,
    at: u32,
    /// Nothing is read from here on.
    until: u32,
    /// Whether what a device cannot read is taken for zeros. Not where that would be taken for the end of the log.
    is_tolerant: bool,
}

impl Window {
    /// On the bytes of `segment` before `until`.
    pub fn new(file: Arc<dyn DiskFile>, secret: Secret, segment: u32, until: u32) -> Self {
        Self { file, secret, segment, bytes: Vec::new(), at: 0, until, is_tolerant: false }
    }

    /// At most `length` bytes from `at` on; fewer only at the end.
    ///
    /// # Errors
    /// What the disk says.
    pub fn get(&mut self, at: u32, length: usize) -> io::Result<&[u8]> {
        let length = length.min(self.until.saturating_sub(at) as usize);
        let has = |window: &Self| {
            let skip = at.checked_sub(window.at)? as usize;
            window.bytes.get(skip..skip.checked_add(length)?).map(|_| skip)
        };
        let skip = match has(self) {
            Some(skip) => skip,
            None => {
                let wanted = length.max(CHUNK).min(self.until.saturating_sub(at) as usize);
                self.bytes.resize(wanted, 0);
                self.at = at;
                let read = match self.file.read_at(&mut self.bytes, u64::from(at)) {
                    Ok(read) => read,
                    Err(error) if self.is_tolerant && is_bad_sector(&error) => self.read_page_by_page(at),
                    Err(error) => {
                        self.bytes.clear();
                        return Err(error);
                    }
                };
                self.bytes.truncate(read);
                0
            }
        };
        let rest = self.bytes.get(skip..).unwrap_or_default();
        Ok(rest.get(..length).unwrap_or(rest))
    }

    /// Fills the window with what can be read, and with zeros where nothing can.
    fn read_page_by_page(&mut self, at: u32) -> usize {
        let mut from = u64::from(at);
        for page in self.bytes.chunks_mut(PAGE as usize) {
            if self.file.read_at(page, from).is_err() {
                page.fill(0);
            }
            from = from.saturating_add(page.len() as u64);
        }
        self.bytes.len()
    }

    /// The first header of a frame that verifies, from `from` on; no length of anything before it is trusted.
    ///
    /// # Errors
    /// What the disk says; the inner one for a frame of a later program.
    pub fn next_header(&mut self, from: u32) -> io::Result<Result<Option<FrameHeader>, NoFrame>> {
        let Some(mut at) = from.checked_next_multiple_of(ALIGN as u32) else { return Ok(Ok(None)) };
        while at < self.until {
            let bytes = self.get(at, CHUNK)?;
            if bytes.is_empty() {
                // The file is shorter than it should be.
                break;
            }
            // A magic that the chunk's end cuts off is found with the next one.
            let Some(found) = bytes.chunks_exact(ALIGN).position(|chunk| chunk.starts_with(&MAGIC)) else {
                at = at.saturating_add((bytes.len() / ALIGN * ALIGN).max(ALIGN) as u32);
                continue;
            };
            at = at.saturating_add((found * ALIGN) as u32);
            let position = Position::new(self.segment, at);
            let (secret, until) = (self.secret, self.until);
            match FrameHeader::read(&secret, position, self.get(at, FRAME_HEADER)?) {
                Ok(header) if header.end() <= until => return Ok(Ok(Some(header))),
                Err(NoFrame::Newer) => return Ok(Err(NoFrame::Newer)),
                Ok(_) | Err(NoFrame::Absent) => at = at.saturating_add(ALIGN as u32),
            }
        }
        Ok(Ok(None))
    }

    /// The head at `at`, if it verifies and belongs to `frame`, and its checksum.
    ///
    /// # Errors
    /// What the disk says.
    pub fn head(&mut self, frame: &FrameHeader, at: u32) -> io::Result<Option<(Head, u64)>> {
        let position = Position::new(self.segment, at);
        let secret = self.secret;
        let head = Head::read(&secret, position, self.get(at, HEAD)?);
        let fits = |head: &Head| {
            at.checked_sub(frame.position.offset()) == Some(head.back)
                && u64::from(at) + head.span() as u64 <= u64::from(frame.end())
        };
        Ok(head.filter(|(head, _)| fits(head)))
    }

    /// The body after the head at `at`, if it is whole.
    ///
    /// # Errors
    /// What the disk says.
    pub fn body(&mut self, head: &Head, at: u32) -> io::Result<Option<&[u8]>> {
        let secret = self.secret;
        let body = self.get(at.saturating_add(HEAD as u32), head.length as usize)?;
        Ok((body.len() == head.length as usize && secret.body(body) == head.body).then_some(body))
    }
}

/// What reading forward meets.
#[derive(Debug)]
pub enum WalkStep {
    /// A record, and the checksum of its frame.
    Record(Record, u64),
    /// Acknowledged records are missing or unreadable from one place to the other.
    Lost(Position, Position),
}

/// Reads one segment forward, past whatever is damaged.
pub struct Walker {
    window: Window,
    number: u32,
    at: u32,
    until: u32,
    frame: Option<FrameHeader>,
    /// The last frame that was whole, and the ordinal after it; `None` where reading began in the middle.
    previous: Option<(Link, u64)>,
    extent: Extent,
    ends_in_gap: bool,
    is_done: bool,
}

impl Walker {
    /// From the beginning of `segment`, of what is readable now.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn new(log: &Log, segment: &SegmentHeader) -> Result<Self, ReadError> {
        let previous = Some((segment.previous, segment.ordinal));
        Self::at(log, segment, segment.first_frame(), None, previous)
    }

    /// From `at` on, which lies in `frame` or behind it.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn inside(log: &Log, segment: &SegmentHeader, at: u32, frame: FrameHeader) -> Result<Self, ReadError> {
        Self::at(log, segment, at, Some(frame), None)
    }

    fn at(
        log: &Log,
        segment: &SegmentHeader,
        at: u32,
        frame: Option<FrameHeader>,
        previous: Option<(Link, u64)>,
    ) -> Result<Self, ReadError> {
        let extent = log.extent(segment);
        let until = extent.until;
        let mut window = Window::new(log.file(segment.number)?, log.secret, segment.number, until);
        window.is_tolerant = true;
        let ends_in_gap = log.ends_in_gap(segment.number);
        Ok(Self { window, number: segment.number, at, until, frame, previous, extent, ends_in_gap, is_done: false })
    }

    /// Where it stands.
    pub fn position(&self) -> Position {
        Position::new(self.number, self.at)
    }

    /// Goes on with what was written since it came to the end; whether there is more in this segment.
    pub fn refresh(&mut self, log: &Log) -> bool {
        let Some(segment) = log.segment(self.number) else { return false };
        let extent = log.extent(&segment);
        let has_grown = extent.until > self.until;
        self.extent = extent;
        self.until = extent.until;
        self.window.until = extent.until;
        self.is_done &= !has_grown;
        has_grown
    }

    /// Whether it has come to the end of a segment into which nothing more will be written.
    pub fn is_sealed(&self) -> bool {
        self.extent.is_sealed
    }

    /// The frame that it is in.
    pub fn frame(&self) -> Option<&FrameHeader> {
        self.frame.as_ref()
    }

    /// The next record or loss; `None` at the end of what is readable.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn step(&mut self) -> Result<Option<WalkStep>, ReadError> {
        while !self.is_done {
            if let Some(frame) = self.frame {
                if self.at < frame.end() {
                    return self.record(&frame).map(Some);
                }
                self.previous = Some((frame.link(), frame.ordinal.saturating_add(u64::from(frame.records))));
                self.frame = None;
                if frame.kind == FrameKind::Seal {
                    break;
                }
            }
            if let Some(lost) = self.next_frame()? {
                return Ok(Some(lost));
            }
        }
        self.is_done = true;
        Ok(None)
    }

    fn record(&mut self, frame: &FrameHeader) -> Result<WalkStep, ReadError> {
        let at = self.at;
        let position = Position::new(self.number, at);
        if let Some((head, _)) = self.window.head(frame, at)? {
            let body = self.window.body(&head, at)?.map(<[u8]>::to_vec);
            self.at = at.saturating_add(head.span() as u32);
            return Ok(WalkStep::Record(Record { position, head, body }, frame.checksum));
        }
        // Heads verify alone, so what is whole behind the damage is found.
        let mut next = at.saturating_add(ALIGN as u32);
        while next < frame.end() && self.window.head(frame, next)?.is_none() {
            next = next.saturating_add(ALIGN as u32);
        }
        self.at = next.min(frame.end());
        Ok(WalkStep::Lost(position, Position::new(self.number, self.at)))
    }

    /// Goes on to the next frame; gives what is lost before it.
    fn next_frame(&mut self) -> Result<Option<WalkStep>, ReadError> {
        let from = Position::new(self.number, self.at);
        // What a later program wrote is not read: the opening has refused it.
        let found = self.window.next_header(self.at)?.unwrap_or(None);
        let Some(found) = found else {
            self.at = self.until;
            self.is_done = true;
            // A segment that is followed by another ends with what that one names.
            let is_short = match (self.extent.closed_by, self.previous) {
                (Some(last), Some((previous, _))) => last != previous,
                _ => false,
            };
            let is_short = is_short || (self.ends_in_gap && self.extent.is_sealed);
            return Ok(is_short.then(|| WalkStep::Lost(from, Position::new(self.number.saturating_add(1), 0))));
        };
        let lost = match self.previous {
            Some((previous, ordinal)) if found.previous != previous => Some(found.ordinal.saturating_sub(ordinal)),
            Some(_) | None => None,
        };
        self.at = found.position.offset().saturating_add(FRAME_HEADER as u32);
        self.frame = Some(found);
        // Where the ordinals meet, only a frame without records was damaged.
        Ok(lost.filter(|lost| *lost > 0).map(|_| WalkStep::Lost(from, found.position)))
    }
}

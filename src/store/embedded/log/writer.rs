//! The end of the log: placing, writing and syncing frames, one in flight at a time, and going on to the next segment.
//!
//! A frame is written only when the sync of the one before has returned. So any header that verifies vouches for everything
//! before it.

use std::{io, sync::Arc};

use super::{
    Link, Log, PAGE, Position, Stamp,
    frame::{FRAME_HEADER, FrameHeader, FrameKind},
    prepare::Preparation,
    segment::{self, Gap, SegmentHeader, sizes},
};
use crate::store::embedded::{
    disk::DiskFile,
    sabotage::{Sabotage, is_planted},
};

/// Why a frame was not written.
#[derive(Debug)]
pub enum AppendError {
    /// The next segment is being prepared; to be tried again when it is.
    NotReady,
    /// The disk has no room. Nothing was written, or what was is undone before anything else is written.
    NoSpace(String),
    /// The next segment cannot be made for now, for another reason. Nothing was written.
    NoSegment(String),
    /// Nobody knows what the disk holds: this process writes no more.
    Failed(String),
}

/// What a frame is written for: how much of the end of its segment it leaves to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Messages, and what can wait as they can.
    Message,
    /// Changes of keys, which must be possible on a full disk.
    State,
    /// The oldest segment's number, which makes room.
    Oldest,
}

impl Class {
    fn reserved(self) -> u32 {
        match self {
            Class::Message => sizes().reserved,
            Class::State => sizes().reserved_for_seal,
            // A closing frame and the seal have a page each, and one more is lost to beginning on a page.
            Class::Oldest => 3 * PAGE,
        }
    }
}

/// Where the log ends, as recovery found it.
pub struct Tail {
    /// The newest segment.
    pub header: SegmentHeader,
    /// Its file.
    pub file: Arc<dyn DiskFile>,
    /// Where the next frame may begin.
    pub offset: u32,
    /// The last frame.
    pub previous: Link,
    /// What it is for; `None` for a segment without frames.
    pub last: Option<FrameKind>,
    /// The last frame with records.
    pub previous_records: Link,
    /// The last record; 0 for none.
    pub last_record: Position,
    /// Records so far, in all segments.
    pub ordinal: u64,
    /// Messages so far, in all segments.
    pub messages: u64,
    /// Records in the newest segment.
    pub records: u32,
    /// When the last record of the newest segment expires.
    pub newest_expiry: u64,
    /// The age clock at the first record of the newest segment.
    pub first_age: Option<u64>,
}

/// What is to be known of a frame with records, beside its bytes.
pub struct Filled {
    /// How many.
    pub records: u32,
    /// How many of them are messages.
    pub messages: u32,
    /// The checksum over their heads.
    pub heads: u64,
    /// When the last of them expires.
    pub newest_expiry: u64,
    /// The last of them.
    pub last_record: Position,
    /// Whether losing them is worth a page: then a quiet frame vouches for them soon.
    pub matters: bool,
}

/// See the module.
pub struct LogWriter {
    log: Arc<Log>,
    preparation: Arc<Preparation>,
    tail: Tail,
    /// What a refused frame may have left behind; zeroed and synced before anything else is written.
    leftover: Option<(u32, u32)>,
    /// Whether the last frame has records that nothing vouches for yet.
    wants_voucher: bool,
    largest_record: u32,
    gaps: Vec<Gap>,
}

impl LogWriter {
    /// Goes on at `tail`.
    pub fn new(log: Arc<Log>, preparation: Arc<Preparation>, tail: Tail, largest_record: u32) -> Self {
        let wants_voucher = tail.last == Some(FrameKind::Records);
        let gaps = tail.header.gaps.clone();
        let writer = Self { log, preparation, tail, leftover: None, wants_voucher, largest_record, gaps };
        writer.want_next();
        writer
    }

    /// After the last frame, where the next one with records would begin.
    pub fn end(&self) -> Position {
        Position::new(self.tail.header.number, self.tail.offset)
    }

    /// The last record, and the checksum of its frame.
    pub fn newest(&self) -> (Position, u64) {
        (self.tail.last_record, self.tail.previous_records.checksum)
    }

    /// Bytes of the largest frame that this segment takes.
    pub fn largest_frame(&self) -> u32 {
        self.tail.header.largest
    }

    /// When the last record of the log expires: none after it expires sooner, or a reader from the start would be told that
    /// retention has overtaken it.
    pub fn newest_expiry(&self) -> u64 {
        self.tail.newest_expiry.max(self.tail.header.newest_expiry)
    }

    /// Whether the last frame has records that matter, which no later header vouches for.
    pub fn wants_voucher(&self) -> bool {
        self.wants_voucher
    }

    /// The segment's number.
    pub fn segment(&self) -> u32 {
        self.tail.header.number
    }

    /// The age clock at the first record of this segment.
    pub fn first_age(&self) -> Option<u64> {
        self.tail.first_age
    }

    /// How much of the segment is used.
    pub fn used(&self) -> f64 {
        f64::from(self.tail.offset) / f64::from(self.tail.header.size)
    }

    /// Whether a frame of `length` bytes with `records` records fits into this segment.
    pub fn fits(&self, length: usize, records: usize, class: Class) -> bool {
        let end = u64::from(self.tail.offset).saturating_add(length as u64);
        let in_bytes = end <= u64::from(self.tail.header.size.saturating_sub(class.reserved()));
        // A change of keys is not kept waiting by a number.
        let in_records =
            class != Class::Message || self.tail.records as usize + records <= sizes().max_records as usize;
        in_bytes && in_records && self.tail.last != Some(FrameKind::Seal)
    }

    /// Writes and syncs a frame with records, whose first bytes are room for its header. It must fit.
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn append(&mut self, frame: &mut [u8], filled: &Filled, stamp: Stamp) -> Result<Link, AppendError> {
        let header = FrameHeader {
            position: self.end(),
            kind: FrameKind::Records,
            // A frame is smaller than its segment.
            length: frame.len() as u32,
            records: filled.records,
            ordinal: self.tail.ordinal,
            stamp,
            previous: self.tail.previous,
            heads: filled.heads,
            checksum: 0,
        };
        let link = self.write(header, frame)?;
        let tail = &mut self.tail;
        tail.previous_records = link;
        tail.last_record = filled.last_record;
        tail.ordinal = tail.ordinal.saturating_add(u64::from(filled.records));
        tail.messages = tail.messages.saturating_add(u64::from(filled.messages));
        tail.records = tail.records.saturating_add(filled.records);
        tail.newest_expiry = tail.newest_expiry.max(filled.newest_expiry);
        tail.first_age.get_or_insert(stamp.age);
        self.wants_voucher |= filled.matters;
        Ok(link)
    }

    /// Writes an empty frame that vouches for what is before it, if something needs that and it fits.
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn quiet(&mut self, stamp: Stamp) -> Result<(), AppendError> {
        if self.wants_voucher && self.fits(PAGE as usize + FRAME_HEADER, 0, Class::Message) {
            self.empty(FrameKind::Quiet, stamp)?;
        }
        // Where it does not fit, the seal will vouch.
        self.wants_voucher = false;
        Ok(())
    }

    /// Writes the last frame of a process, unless it is there already.
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn close(&mut self, stamp: Stamp) -> Result<(), AppendError> {
        let room = self.tail.header.size.saturating_sub(self.tail.offset.next_multiple_of(PAGE));
        // A page for it and one for the seal; without it the next start finds an unclean stop, which harms nothing.
        if matches!(self.tail.last, Some(FrameKind::Closing | FrameKind::Seal)) || room < 2 * PAGE {
            return Ok(());
        }
        self.empty(FrameKind::Closing, stamp)
    }

    /// Seals this segment and begins the next one, with `snapshot`.
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn roll(&mut self, snapshot: &[u8], was_full: bool, stamp: Stamp) -> Result<(), AppendError> {
        let number = self.tail.header.number.saturating_add(1);
        self.want(number, snapshot.len() as u32, was_full);
        let Some(next) = self.preparation.take_ready(number)? else { return Err(AppendError::NotReady) };
        // A crash between the two leaves a seal and a segment of zeros, which recovery begins anew.
        if self.tail.last != Some(FrameKind::Seal)
            && let Err(error) = self.empty(FrameKind::Seal, stamp)
        {
            self.preparation.give_back(next);
            return Err(error);
        }
        let header = self.next_header(next.size, snapshot, stamp);
        if let Err(error) = begin(next.file.as_ref(), &header, snapshot) {
            self.preparation.give_back(next);
            return Err(match is_no_space(&error) {
                true => AppendError::NoSpace(format!("the disk is full: {error}")),
                false => failure("a segment could not be begun", &error),
            });
        }
        self.log.add(header.clone(), Arc::clone(&next.file));
        let tail = &mut self.tail;
        tail.offset = header.first_frame();
        tail.header = header;
        tail.file = next.file;
        tail.last = None;
        tail.records = 0;
        tail.newest_expiry = 0;
        tail.first_age = None;
        self.want_next();
        Ok(())
    }

    /// The header that the next segment gets.
    pub fn next_header(&self, size: u32, snapshot: &[u8], stamp: Stamp) -> SegmentHeader {
        let tail = &self.tail;
        let number = tail.header.number.saturating_add(1);
        let identity = tail.header.identity;
        SegmentHeader {
            number,
            identity,
            size,
            largest: segment::largest_frame(size, self.largest_record),
            previous: tail.previous,
            previous_records: tail.previous_records,
            last_record: tail.last_record,
            ordinal: tail.ordinal,
            messages: tail.messages,
            stamp,
            newest_expiry: self.newest_expiry(),
            snapshot: snapshot.len() as u32,
            snapshot_checksum: identity.secret.checksum(Position::new(number, segment::SNAPSHOT).0, snapshot),
            gaps: self.gaps.clone(),
        }
    }

    fn want_next(&self) {
        // It is made only when this one is filling.
        self.want(self.tail.header.number.saturating_add(1), self.tail.header.snapshot, true);
    }

    /// Tells the background which segment comes next, and how large it must be.
    fn want(&self, number: u32, snapshot: u32, was_full: bool) {
        let before = self.tail.header.size;
        let size = segment::next_size(before, self.tail.offset, was_full, self.largest_record, snapshot);
        self.preparation.want(number, size, segment::least_size(self.largest_record, snapshot));
    }

    fn empty(&mut self, kind: FrameKind, stamp: Stamp) -> Result<(), AppendError> {
        // Not on a page with what it vouches for: one damaged page must not take both.
        let offset = match is_planted(Sabotage::VoucherOnSharedPage) {
            true => self.tail.offset,
            false => self.tail.offset.next_multiple_of(PAGE),
        };
        let header = FrameHeader {
            position: Position::new(self.tail.header.number, offset),
            kind,
            length: FRAME_HEADER as u32,
            records: 0,
            ordinal: self.tail.ordinal,
            stamp,
            previous: self.tail.previous,
            heads: 0,
            checksum: 0,
        };
        self.write(header, &mut [0; FRAME_HEADER])?;
        if FrameHeader::has_own_pages(kind) && !is_planted(Sabotage::VoucherOnSharedPage) {
            self.tail.offset = self.tail.offset.next_multiple_of(PAGE);
        }
        self.wants_voucher = false;
        Ok(())
    }

    fn write(&mut self, mut header: FrameHeader, frame: &mut [u8]) -> Result<Link, AppendError> {
        self.clear_leftover()?;
        header.checksum = header.write(&self.log.secret, frame);
        let offset = header.position.offset();
        if let Err(error) = self.tail.file.write_at(frame, u64::from(offset)) {
            if !is_no_space(&error) {
                return Err(failure("a frame could not be written", &error));
            }
            // The range must not keep a header that verifies: a later frame would bring it to life.
            if !is_planted(Sabotage::LeftoverStays) {
                self.leftover = Some((offset, header.end()));
                self.clear_leftover()?;
            }
            return Err(AppendError::NoSpace(format!("the disk is full: {error}")));
        }
        let leaves_it = is_planted(Sabotage::NoSync)
            || (header.kind == FrameKind::Seal && is_planted(Sabotage::SealAndHeaderInOneSync));
        if header.kind == FrameKind::Records && is_planted(Sabotage::SecondFrameInFlight) {
            return self.write_two(header);
        }
        if !leaves_it {
            self.tail.file.sync().map_err(|error| failure("a frame could not be made durable", &error))?;
        }
        self.tail.previous = header.link();
        self.tail.last = Some(header.kind);
        self.tail.offset = header.end();
        Ok(header.link())
    }

    /// A sabotage: a voucher is written before the sync of what it vouches for.
    fn write_two(&mut self, header: FrameHeader) -> Result<Link, AppendError> {
        let (link, ordinal) = (header.link(), self.tail.ordinal);
        (self.tail.previous, self.tail.last, self.tail.offset) = (link, Some(header.kind), header.end());
        self.tail.ordinal = ordinal.saturating_add(u64::from(header.records));
        let second = self.empty(FrameKind::Quiet, header.stamp);
        self.tail.ordinal = ordinal;
        second.map(|()| link)
    }

    /// Undoes what a full disk refused, before anything else is written.
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn clear_leftover(&mut self) -> Result<(), AppendError> {
        let Some((from, to)) = self.leftover else { return Ok(()) };
        let zeros = vec![0; to.saturating_sub(from) as usize];
        match self.tail.file.write_at(&zeros, u64::from(from)) {
            Ok(()) => {}
            Err(error) if is_no_space(&error) => {
                return Err(AppendError::NoSpace(format!("the disk is full: {error}")));
            }
            Err(error) => return Err(failure("what a full disk refused could not be undone", &error)),
        }
        if !is_planted(Sabotage::ZeroingNotSynced) {
            self.tail.file.sync().map_err(|error| failure("what a full disk refused could not be undone", &error))?;
        }
        self.leftover = None;
        Ok(())
    }
}

/// Writes and syncs a segment's header, twice, and its snapshot.
///
/// # Errors
/// What the disk says.
pub fn begin(file: &dyn DiskFile, header: &SegmentHeader, snapshot: &[u8]) -> io::Result<()> {
    let page = header.to_page();
    file.write_at(snapshot, u64::from(segment::SNAPSHOT))?;
    file.write_at(&page, 0)?;
    file.write_at(&page, u64::from(PAGE))?;
    file.sync()
}

/// Whether a write failed for want of room, and may succeed later.
pub fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn failure(what: &str, error: &io::Error) -> AppendError {
    AppendError::Failed(format!("{what}: {error}"))
}

//! The log: segments of frames of records, in the order of acceptance. Everything else in this store is derived from it.
//!
//! Where to read on: `frame` and `segment` (the bytes), `reader` (one record; forward), `writer` (place, write, sync),
//! `recovery` (what is demanded at a start), `prepare` (the next segment), `scrub` (checking what lies at rest).

pub mod frame;
pub mod headers;
pub mod prepare;
pub mod reader;
pub mod recovery;
pub mod scan;
pub mod scrub;
pub mod segment;
pub mod writer;

use std::{
    cmp,
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::RwLock;
use quick_cache::sync::Cache;

use self::{frame::Cursor, segment::SegmentHeader};
use super::{
    checksum::Secret,
    disk::{Disk, DiskFile},
};
use crate::{
    domain::Timestamp,
    store::record::{Damaged, Reader},
};

/// A page of the disk and of the format.
pub const PAGE: u32 = 4096;
/// Files of segments that are open at a time, at most.
const OPEN_FILES: usize = 128;

/// A place in the log: the number of a segment and an offset in it. Of a message it is its identity in the store: strictly
/// ascending in the order of acceptance, never given twice, never moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl Position {
    /// The place `offset` bytes into `segment`.
    pub fn new(segment: u32, offset: u32) -> Self {
        Self(u64::from(segment) << 32 | u64::from(offset))
    }

    /// The segment's number.
    pub fn segment(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Bytes from the beginning of the segment.
    pub fn offset(self) -> u32 {
        // The low half.
        self.0 as u32
    }
}

/// A frame as another names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Link {
    /// Where it begins; 0 for none.
    pub position: Position,
    /// Its checksum.
    pub checksum: u64,
}

/// What the store's clocks said when a frame was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The answer's clock.
    pub wall: Timestamp,
    /// The age clock, in microseconds.
    pub age: u64,
    /// What the age clock is still to make up for, in microseconds.
    pub debt: u64,
}

impl Stamp {
    /// Of a store that was never opened.
    pub const ZERO: Self = Self { wall: Timestamp::EPOCH, age: 0, debt: 0 };

    fn put(&self, at: &mut Cursor<'_>) {
        at.put(&self.wall.as_micros().to_le_bytes());
        at.put(&self.age.to_le_bytes());
        at.put(&self.debt.to_le_bytes());
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self { wall: reader.timestamp()?, age: reader.u64()?, debt: reader.u64()? })
    }
}

/// The name of segment `number`'s file.
pub fn file_name(number: u32) -> String {
    format!("log/{number:010}.log")
}

/// The number of a segment by the name of its file in `log`.
pub fn number_of(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 10).then(|| digits.parse().ok()).flatten()
}

/// How much of a segment can be read.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Where that ends.
    pub until: u32,
    /// Whether nothing more will be written into it.
    pub is_sealed: bool,
    /// What the next segment says of its last frame.
    pub closed_by: Option<Link>,
}

/// What readers and the writer share of the log.
pub struct Log {
    /// Where the files are.
    pub disk: Arc<dyn Disk>,
    /// What all checksums begin from.
    pub secret: Secret,
    /// Identifies the store.
    pub store: [u8; 16],
    segments: RwLock<BTreeMap<u32, SegmentHeader>>,
    files: Cache<u32, Arc<dyn DiskFile>>,
    /// After the last frame that is synced: readers see nothing beyond it.
    end: AtomicU64,
}

impl Log {
    /// A log of these segments, durable up to `end`.
    pub fn new(
        disk: Arc<dyn Disk>,
        segments: BTreeMap<u32, SegmentHeader>,
        identity: segment::Identity,
        end: Position,
    ) -> Self {
        Self {
            disk,
            secret: identity.secret,
            store: identity.store,
            segments: RwLock::new(segments),
            files: Cache::new(OPEN_FILES),
            end: AtomicU64::new(end.0),
        }
    }

    /// What its segments have in common.
    pub fn identity(&self) -> segment::Identity {
        segment::Identity { store: self.store, secret: self.secret }
    }

    /// After the last frame that is synced.
    pub fn end(&self) -> Position {
        Position(self.end.load(Ordering::Acquire))
    }

    /// Lets readers see everything up to `end`.
    pub fn publish(&self, end: Position) {
        self.end.store(end.0, Ordering::Release);
    }

    /// The header of a segment; `None` for one that is not there, or no more.
    pub fn segment(&self, number: u32) -> Option<SegmentHeader> {
        self.segments.read().get(&number).cloned()
    }

    /// The numbers of the oldest and of the newest segment.
    pub fn bounds(&self) -> (u32, u32) {
        let segments = self.segments.read();
        let first = segments.keys().next().copied().unwrap_or(1);
        (first, segments.keys().next_back().copied().unwrap_or(first))
    }

    /// Whether the end of a segment is lost, and the operator has agreed to go on.
    pub fn ends_in_gap(&self, number: u32) -> bool {
        let segments = self.segments.read();
        let gaps = segments.values().next_back().map(|newest| newest.gaps.as_slice()).unwrap_or_default();
        gaps.iter().any(|gap| gap.from.segment() == number && gap.to.segment() > number)
    }

    /// The headers of `range`, in order.
    pub fn headers(&self, range: impl std::ops::RangeBounds<u32>) -> Vec<SegmentHeader> {
        // Not the map's own `range`, which panics at one that ends before it begins.
        self.segments.read().values().filter(|header| range.contains(&header.number)).cloned().collect()
    }

    /// Adds a segment that was begun.
    pub fn add(&self, header: SegmentHeader, file: Arc<dyn DiskFile>) {
        self.files.insert(header.number, file);
        self.segments.write().insert(header.number, header);
    }

    /// Takes away the segments below `oldest`; their files are the caller's to remove.
    pub fn forget(&self, oldest: u32) -> Vec<u32> {
        let mut segments = self.segments.write();
        let kept = segments.split_off(&oldest);
        let gone: Vec<u32> = std::mem::replace(&mut *segments, kept).into_keys().collect();
        drop(segments);
        for number in &gone {
            self.files.remove(number);
        }
        gone
    }

    /// The file of a segment.
    ///
    /// # Errors
    /// What the disk says; `NotFound` for one that retention removed.
    pub fn file(&self, number: u32) -> io::Result<Arc<dyn DiskFile>> {
        self.files.get_or_insert_with(&number, || self.disk.open(&file_name(number)))
    }

    /// Where the readable part of a segment ends, for now.
    pub fn end_of(&self, segment: &SegmentHeader) -> u32 {
        self.extent(segment).until
    }

    /// What can be read of a segment now. All of it follows from one look at the end: between two the writer may have gone
    /// on to the next segment.
    pub fn extent(&self, segment: &SegmentHeader) -> Extent {
        let end = self.end();
        let (until, is_sealed) = match segment.number.cmp(&end.segment()) {
            cmp::Ordering::Less => (segment.size, true),
            cmp::Ordering::Equal => (end.offset(), false),
            // Begun, and not published yet.
            cmp::Ordering::Greater => (segment.first_frame(), false),
        };
        let next = is_sealed.then(|| self.segment(segment.number.saturating_add(1))).flatten();
        Extent { until, is_sealed, closed_by: next.map(|next| next.previous) }
    }
}

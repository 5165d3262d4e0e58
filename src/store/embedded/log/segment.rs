//! The header of a segment, its snapshot, and how large segments are.
//!
//! The header is written twice, on the first two pages, so that one damaged page costs nothing. Its layout and its checksum
//! never change: whatever is written by a later version can at least be told from damage.
//!
//! | at | | | at | | |
//! |---|---|---|---|---|---|
//! | 0 | magic `MWsegmnt` | 8 bytes | 88 | position of the last record before | u64 |
//! | 8 | version: 1 | u16 | 96 | records written before | u64 |
//! | 10 | 0 | u16 | 104 | wall time | i64 |
//! | 12 | number | u32 | 112 | age clock | u64 |
//! | 16 | id of the store | 16 bytes | 120 | debt | u64 |
//! | 32 | secret of the store | 16 bytes | 128 | newest expiry in the segment before | u64 |
//! | 48 | size of the file | u32 | 136 | messages written before | u64 |
//! | 52 | largest frame | u32 | 144 | length of the snapshot | u32 |
//! | 56 | position of the last frame before | u64 | 148 | number of accepted gaps | u32 |
//! | 64 | its checksum | u64 | 152 | checksum of the snapshot | u64 |
//! | 72 | position of the last frame with records before | u64 | 160 | accepted gaps: from u64, to u64, lost u64 | 24 bytes each |
//! | 80 | its checksum | u64 | 4088 | checksum of the header | u64 |
//!
//! The snapshot begins on the third page, the first frame on the next page after it.

use xxhash_rust::xxh3::xxh3_64;

use super::{Link, PAGE, Position, Stamp, frame::Cursor};
use crate::store::{
    embedded::checksum::Secret,
    record::{Damaged, Reader},
};

const MAGIC: [u8; 8] = *b"MWsegmnt";
/// The version of segments that this program writes, and the newest that it reads.
pub const VERSION: u16 = 1;
/// Where the snapshot begins.
pub const SNAPSHOT: u32 = 2 * PAGE;
/// Accepted gaps that a header has room for.
pub const MAX_GAPS: usize = 163;

const KIB: u32 = 1024;
const MIB: u32 = 1024 * KIB;

/// How large the log's parts are. The simulator has smaller ones, so that what happens rarely happens often.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Bytes of a segment, at least.
    pub smallest: u32,
    /// Bytes of a segment, at most.
    pub largest: u32,
    /// Bytes of one group, at most.
    pub group: u32,
    /// The end of a segment that messages leave to changes of keys and of the store's own state.
    pub reserved: u32,
    /// The end of that, which only the oldest segment's number, the seal and one closing frame may have.
    pub reserved_for_seal: u32,
    /// A segment is sealed when it has so many records.
    pub max_records: u32,
    /// Bytes of the next segment that are zeroed and synced at a time: one large burst would hold up the syncs of frames.
    pub piece: u32,
    /// So many neighbours become one run: an entry is written again every time that its run's size grows so many fold.
    pub fan_out: usize,
}

const REAL: Sizes = Sizes {
    smallest: MIB,
    largest: 64 * MIB,
    group: 4 * MIB,
    reserved: 64 * KIB,
    reserved_for_seal: 16 * KIB,
    max_records: 200_000,
    piece: MIB,
    fan_out: 8,
};

#[cfg(test)]
std::thread_local! {
    static SIZES: std::cell::Cell<Sizes> = const { std::cell::Cell::new(REAL) };
}

/// Gives the stores of this thread other sizes.
#[cfg(test)]
pub fn set_sizes(sizes: Sizes) {
    SIZES.set(sizes);
}

/// The sizes of this thread's stores.
#[cfg(test)]
pub fn sizes() -> Sizes {
    SIZES.get()
}

/// The sizes of all stores.
#[cfg(not(test))]
#[inline(always)]
pub const fn sizes() -> Sizes {
    REAL
}

/// What every segment of a store has in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Identifies the store in its cursors.
    pub store: [u8; 16],
    /// What its checksums begin from.
    pub secret: Secret,
}

/// A stretch of the log that was lost, and with whose loss the operator went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Where what is missing begins.
    pub from: Position,
    /// The next frame that is whole, or the end of the segment.
    pub to: Position,
    /// Records that are missing; 0 where nobody can tell.
    pub lost: u64,
}

/// The header of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Its number; the first is 1.
    pub number: u32,
    /// The store's.
    pub identity: Identity,
    /// Bytes of the file.
    pub size: u32,
    /// Bytes of a frame, at most.
    pub largest: u32,
    /// The last frame before it.
    pub previous: Link,
    /// The last frame with records before it.
    pub previous_records: Link,
    /// The last record before it; 0 for none.
    pub last_record: Position,
    /// Records before it since the store was made.
    pub ordinal: u64,
    /// Messages before it since the store was made.
    pub messages: u64,
    /// The clocks when it was begun.
    pub stamp: Stamp,
    /// When the last record of the segment before expires, on the age clock.
    pub newest_expiry: u64,
    /// Bytes of the snapshot.
    pub snapshot: u32,
    /// The snapshot's checksum.
    pub snapshot_checksum: u64,
    /// What was lost and given up.
    pub gaps: Vec<Gap>,
}

/// Why a page is no header that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoHeader {
    /// It is none, or damaged.
    Absent,
    /// It is whole, and of a later program.
    Newer,
}

impl SegmentHeader {
    /// Where its first frame may begin.
    pub fn first_frame(&self) -> u32 {
        SNAPSHOT.saturating_add(self.snapshot).next_multiple_of(PAGE)
    }

    /// The header's page.
    pub fn to_page(&self) -> Vec<u8> {
        let mut page = vec![0; PAGE as usize];
        let mut at = Cursor(&mut page);
        at.put(&MAGIC);
        at.put(&VERSION.to_le_bytes());
        at.put(&[0, 0]);
        at.put(&self.number.to_le_bytes());
        at.put(&self.identity.store);
        at.put(&self.identity.secret.to_bytes());
        at.put(&self.size.to_le_bytes());
        at.put(&self.largest.to_le_bytes());
        for link in [self.previous, self.previous_records] {
            at.put(&link.position.0.to_le_bytes());
            at.put(&link.checksum.to_le_bytes());
        }
        at.put(&self.last_record.0.to_le_bytes());
        at.put(&self.ordinal.to_le_bytes());
        self.stamp.put(&mut at);
        at.put(&self.newest_expiry.to_le_bytes());
        at.put(&self.messages.to_le_bytes());
        at.put(&self.snapshot.to_le_bytes());
        // At most MAX_GAPS.
        at.put(&(self.gaps.len() as u32).to_le_bytes());
        at.put(&self.snapshot_checksum.to_le_bytes());
        for gap in &self.gaps {
            at.put(&gap.from.0.to_le_bytes());
            at.put(&gap.to.0.to_le_bytes());
            at.put(&gap.lost.to_le_bytes());
        }
        if let Some((rest, field)) = page.split_last_chunk_mut::<8>() {
            *field = xxh3_64(rest).to_le_bytes();
        }
        page
    }

    /// Reads one page of the two.
    ///
    /// # Errors
    /// [`NoHeader`]; bytes of any kind give that and no panic.
    pub fn read(page: &[u8]) -> Result<Self, NoHeader> {
        let (rest, field) = page.split_last_chunk::<8>().ok_or(NoHeader::Absent)?;
        if page.len() != PAGE as usize || !page.starts_with(&MAGIC) || xxh3_64(rest).to_le_bytes() != *field {
            return Err(NoHeader::Absent);
        }
        Self::fields(rest).map_err(|_| NoHeader::Absent)?.ok_or(NoHeader::Newer)
    }

    fn fields(bytes: &[u8]) -> Result<Option<Self>, Damaged> {
        let mut reader = Reader(bytes);
        reader.bytes(MAGIC.len())?;
        if u16::from_le_bytes(reader.array()?) != VERSION {
            return Ok(None);
        }
        reader.bytes(2)?;
        let number = reader.u32()?;
        let identity = Identity { store: reader.array()?, secret: Secret::from_bytes(reader.array()?) };
        let (size, largest) = (reader.u32()?, reader.u32()?);
        let mut link = || Ok(Link { position: Position(reader.u64()?), checksum: reader.u64()? });
        let (previous, previous_records) = (link()?, link()?);
        let last_record = Position(reader.u64()?);
        let ordinal = reader.u64()?;
        let stamp = Stamp::read(&mut reader)?;
        let newest_expiry = reader.u64()?;
        let messages = reader.u64()?;
        let snapshot = reader.u32()?;
        let count = reader.u32()? as usize;
        let snapshot_checksum = reader.u64()?;
        let mut gaps = Vec::new();
        for _ in 0..count.min(MAX_GAPS) {
            gaps.push(Gap { from: Position(reader.u64()?), to: Position(reader.u64()?), lost: reader.u64()? });
        }
        Ok(Some(Self {
            number,
            identity,
            size,
            largest,
            previous,
            previous_records,
            last_record,
            ordinal,
            messages,
            stamp,
            newest_expiry,
            snapshot,
            snapshot_checksum,
            gaps,
        }))
    }
}

/// How large the next segment is: as the one before, doubled if that was full, halved if under a quarter was used; and
/// never too small for what it must take.
pub fn next_size(before: u32, used: u32, was_full: bool, largest_record: u32, snapshot: u32) -> u32 {
    let wanted = if was_full {
        before.saturating_mul(2)
    } else if used < before / 4 {
        before / 2
    } else {
        before
    };
    wanted.clamp(sizes().smallest, sizes().largest).max(least_size(largest_record, snapshot))
}

/// The least that a segment may have, in bytes.
pub fn least_size(largest_record: u32, snapshot: u32) -> u32 {
    let least =
        largest_record.saturating_mul(2).saturating_add(snapshot.saturating_mul(4)).saturating_add(sizes().reserved);
    least.max(sizes().smallest).next_multiple_of(PAGE)
}

/// Bytes of one frame of a segment of `size`, at most: a group, or one record alone.
pub fn largest_frame(size: u32, largest_record: u32) -> u32 {
    (size / 4).min(sizes().group).max(largest_record)
}

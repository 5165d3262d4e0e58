//! The bytes of a frame: what one sync makes durable. Numbers are little endian; see `format` in `log/mod.rs` for the whole.
//!
//! | at | header of a frame | | at | head of a record | |
//! |---|---|---|---|---|---|
//! | 0 | magic `MWfr` | 4 bytes | 0 | hash of the message's key | 16 bytes |
//! | 4 | kind: 1 records, 2 quiet, 3 seal, 4 closing | u8 | 16 | hash of the sender | 16 bytes |
//! | 5 | version: 1 | u8 | 32 | accepted at, microseconds since 1970 | i64 |
//! | 6 | 0 | u16 | 40 | expiry on the age clock, microseconds | u64 |
//! | 8 | length of the frame | u32 | 48 | how far back its frame begins | u32 |
//! | 12 | number of records | u32 | 52 | length of the body | u32 |
//! | 16 | position of the frame | u64 | 56 | kind: 1 message, 2 change of state | u8 |
//! | 24 | ordinal of its first record | u64 | 57 | flags: 1 in the feed, 2 imported | u8 |
//! | 32 | wall time, microseconds since 1970 | i64 | 58 | retention when it was accepted, milliseconds | u48 |
//! | 40 | age clock, microseconds | u64 | 64 | checksum of the body | u64 |
//! | 48 | debt of the age clock, microseconds | u64 | 72 | checksum of the head, by position | u64 |
//! | 56 | position of the frame before | u64 | | | |
//! | 64 | checksum of the frame before | u64 | | | |
//! | 72 | checksum over all heads | u64 | | | |
//! | 80 | 0 | u64 | | | |
//! | 88 | checksum of the header, by position | u64 | | | |
//!
//! Frames, heads and bodies begin at multiples of 16; a head is followed by its body, a body by the next head.

use super::{Link, Position, Stamp};
use crate::{
    domain::Timestamp,
    store::{embedded::checksum::Secret, record::Reader},
};

/// Frames and heads begin at multiples of this many bytes.
pub const ALIGN: usize = 16;
/// Bytes of a frame's header.
pub const FRAME_HEADER: usize = 96;
/// Bytes of a record's head.
pub const HEAD: usize = 80;
/// What every header of a frame begins with.
pub const MAGIC: [u8; 4] = *b"MWfr";
/// The version of frames that this program writes, and the newest that it reads.
pub const VERSION: u8 = 1;

const IN_FEED: u8 = 1;
const IMPORTED: u8 = 2;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// It has records.
    Records = 1,
    /// It has none: it vouches for what is before it.
    Quiet = 2,
    /// The last of its segment.
    Seal = 3,
    /// The last of a process that closed the store.
    Closing = 4,
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// A message.
    Message = 1,
    /// A change of the small state.
    State = 2,
}

/// The header of a frame, which verifies alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Where it begins.
    pub position: Position,
    /// What it is for.
    pub kind: FrameKind,
    /// Bytes from its beginning to its end.
    pub length: u32,
    /// How many records it has.
    pub records: u32,
    /// How many records were written before it since the store was made.
    pub ordinal: u64,
    /// When it was written, by the store's clocks.
    pub stamp: Stamp,
    /// The frame before it.
    pub previous: Link,
    /// A checksum over the checksums of all its heads.
    pub heads: u64,
    /// Its own checksum.
    pub checksum: u64,
}

/// Why bytes are no header that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoFrame {
    /// They are none, or damaged.
    Absent,
    /// They are whole, of a kind or version of a later program.
    Newer,
}

impl FrameHeader {
    /// Whether it has pages of its own: nothing that it vouches for or that follows shares one with it.
    pub fn has_own_pages(kind: FrameKind) -> bool {
        matches!(kind, FrameKind::Seal | FrameKind::Closing)
    }

    /// What the frame after it names as the one before.
    pub fn link(&self) -> Link {
        Link { position: self.position, checksum: self.checksum }
    }

    /// Where it ends.
    pub fn end(&self) -> u32 {
        self.position.offset().saturating_add(self.length)
    }

    /// Puts the header over the first bytes of `frame`, and gives its checksum.
    pub fn write(&self, secret: &Secret, frame: &mut [u8]) -> u64 {
        let mut bytes = [0; FRAME_HEADER];
        let mut at = Cursor(&mut bytes);
        at.put(&MAGIC);
        at.put(&[self.kind as u8, VERSION, 0, 0]);
        at.put(&self.length.to_le_bytes());
        at.put(&self.records.to_le_bytes());
        at.put(&self.position.0.to_le_bytes());
        at.put(&self.ordinal.to_le_bytes());
        self.stamp.put(&mut at);
        at.put(&self.previous.position.0.to_le_bytes());
        at.put(&self.previous.checksum.to_le_bytes());
        at.put(&self.heads.to_le_bytes());
        let checksum = seal(&mut bytes, secret, self.position);
        if let Some(field) = frame.get_mut(..FRAME_HEADER) {
            field.copy_from_slice(&bytes);
        }
        checksum
    }

    /// Reads the header at `position`, whose first bytes are `bytes`.
    ///
    /// # Errors
    /// [`NoFrame`]; bytes of any kind give that and no panic.
    pub fn read(secret: &Secret, position: Position, bytes: &[u8]) -> Result<Self, NoFrame> {
        let bytes: &[u8; FRAME_HEADER] = bytes.first_chunk().ok_or(NoFrame::Absent)?;
        if bytes.first_chunk() != Some(&MAGIC) {
            return Err(NoFrame::Absent);
        }
        let checksum = checked(bytes, secret, position).ok_or(NoFrame::Absent)?;
        let mut reader = Reader(bytes.get(4..).unwrap_or_default());
        // The checksum is right, so every field is there; a value that is none of ours is of a later program.
        let mut read = || -> Result<Option<Self>, crate::store::record::Damaged> {
            let (kind, version, _): (u8, u8, [u8; 2]) = (reader.byte()?, reader.byte()?, reader.array()?);
            let length = reader.u32()?;
            let records = reader.u32()?;
            let own = Position(reader.u64()?);
            let ordinal = reader.u64()?;
            let stamp = Stamp::read(&mut reader)?;
            let previous = Link { position: Position(reader.u64()?), checksum: reader.u64()? };
            let heads = reader.u64()?;
            let kind = match kind {
                1 => FrameKind::Records,
                2 => FrameKind::Quiet,
                3 => FrameKind::Seal,
                4 => FrameKind::Closing,
                _ => return Ok(None),
            };
            let is_ours = version == VERSION && own == position && length as usize >= FRAME_HEADER;
            Ok(is_ours.then_some(Self { position, kind, length, records, ordinal, stamp, previous, heads, checksum }))
        };
        read().map_err(|_| NoFrame::Absent)?.ok_or(NoFrame::Newer)
    }
}

/// The head of a record, which verifies alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The hash of the message's key.
    pub id: [u8; 16],
    /// The hash of its sender.
    pub sender: [u8; 16],
    /// When it was accepted, wherever that was.
    pub accepted_at: Timestamp,
    /// From when on it counts as absent, on the age clock, in microseconds.
    pub expiry: u64,
    /// The retention when it was accepted, in milliseconds, of which 48 bits are kept.
    pub retention: u64,
    /// How many bytes before it its frame begins.
    pub back: u32,
    /// Bytes of its body.
    pub length: u32,
    /// What it is.
    pub kind: RecordKind,
    /// Whether the feed has it.
    pub in_feed: bool,
    /// Whether it was imported.
    pub imported: bool,
    /// The body's checksum.
    pub body: u64,
}

impl Head {
    /// Appends the head for `position`, and gives its checksum.
    pub fn write(&self, secret: &Secret, position: Position, frame: &mut Vec<u8>) -> u64 {
        let mut bytes = [0; HEAD];
        let mut at = Cursor(&mut bytes);
        at.put(&self.id);
        at.put(&self.sender);
        at.put(&self.accepted_at.as_micros().to_le_bytes());
        at.put(&self.expiry.to_le_bytes());
        at.put(&self.back.to_le_bytes());
        at.put(&self.length.to_le_bytes());
        let flags = if self.in_feed { IN_FEED } else { 0 } | if self.imported { IMPORTED } else { 0 };
        at.put(&[self.kind as u8, flags]);
        at.put(self.retention.to_le_bytes().get(..6).unwrap_or_default());
        at.put(&self.body.to_le_bytes());
        let checksum = seal(&mut bytes, secret, position);
        frame.extend_from_slice(&bytes);
        checksum
    }

    /// Reads the head at `position`, whose first bytes are `bytes`, and its checksum; `None` for damage of any kind.
    pub fn read(secret: &Secret, position: Position, bytes: &[u8]) -> Option<(Self, u64)> {
        let bytes: &[u8; HEAD] = bytes.first_chunk()?;
        let checksum = checked(bytes, secret, position)?;
        let mut reader = Reader(bytes);
        let (id, sender) = (reader.array().ok()?, reader.array().ok()?);
        let accepted_at = reader.timestamp().ok()?;
        let expiry = reader.u64().ok()?;
        let (back, length) = (reader.u32().ok()?, reader.u32().ok()?);
        let kind = match reader.byte().ok()? {
            1 => RecordKind::Message,
            2 => RecordKind::State,
            _ => return None,
        };
        let flags = reader.byte().ok()?;
        let [a, b, c, d, e, f] = reader.array().ok()?;
        let retention = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        let body = reader.u64().ok()?;
        let (in_feed, imported) = (flags & IN_FEED != 0, flags & IMPORTED != 0);
        let head = Self { id, sender, accepted_at, expiry, retention, back, length, kind, in_feed, imported, body };
        Some((head, checksum))
    }

    /// Bytes from its beginning to the next head.
    pub fn span(&self) -> usize {
        HEAD + align(self.length as usize)
    }
}

/// One more head in the checksum over all heads of a frame, which begins with 0.
pub fn fold(secret: &Secret, heads: u64, head: u64) -> u64 {
    secret.checksum(heads, &head.to_le_bytes())
}

/// The next multiple of [`ALIGN`].
pub fn align(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGN)
}

/// Puts the checksum into the last eight of `bytes`.
fn seal(bytes: &mut [u8], secret: &Secret, position: Position) -> u64 {
    let Some((rest, field)) = bytes.split_last_chunk_mut::<8>() else { return 0 };
    let checksum = secret.checksum(position.0, rest);
    *field = checksum.to_le_bytes();
    checksum
}

/// The checksum in the last eight of `bytes`, if it is right.
fn checked(bytes: &[u8], secret: &Secret, position: Position) -> Option<u64> {
    let (rest, field) = bytes.split_last_chunk::<8>()?;
    let checksum = u64::from_le_bytes(*field);
    (secret.checksum(position.0, rest) == checksum).then_some(checksum)
}

/// Fills bytes from the front; what does not fit is left out, which the fixed layouts above never let happen.
pub struct Cursor<'a>(pub &'a mut [u8]);

impl Cursor<'_> {
    /// Puts `bytes` next.
    pub fn put(&mut self, bytes: &[u8]) {
        let rest = std::mem::take(&mut self.0);
        if let Some((field, rest)) = rest.split_at_mut_checked(bytes.len()) {
            field.copy_from_slice(bytes);
            self.0 = rest;
        }
    }
}

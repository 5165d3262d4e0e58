//! Places in the log that callers hold: cursors of the feed, places of an export, page tokens of a list.
//!
//! A cursor is 26 bytes: version u8 (1), kind u8, the position u64 big endian, 8 bytes of a hash of the checksum of the
//! frame there, 8 bytes of a hash of the store's id. Kind `a` stands after the record at the position, `f` before the
//! records of the frame there, `b` before the record there, `h` before the frames of the segment that begins there, `s`
//! before whatever is oldest when it is used, so that messages which expire between asking for the start and reading from it
//! make no error.
//!
//! The first hash tells one history from another: after a restored copy, a cursor from what was lost is refused, also when
//! the new history has grown past it. A page token is of kind `l` and has no frame: its page goes on below the position. A
//! place of an export has the kinds `e` for `a`, and so on.

use metrics::counter;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    log::{
        Link, Log, Position,
        frame::{FRAME_HEADER, FrameHeader},
        reader::{ReadError, WalkStep, Walker, Window},
        segment::SegmentHeader,
    },
    shared::Shared,
};
use crate::{
    domain::{Error, Kind},
    store::record::Reader,
    telemetry::names,
};

const VERSION: u8 = 1;
/// Distinguishes the hash of a frame's checksum from the checksum itself.
const HISTORY: u64 = 0x6869_7374_6f72_7921;

/// Where a reader of the log stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedPosition {
    /// Before the oldest.
    Start,
    /// At a place in one history of the log.
    At(Anchor, Position, u64),
}

/// What a [`FeedPosition`] is relative to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// After the record there.
    AfterRecord,
    /// Before the record there, behind damage in its frame.
    BeforeRecord,
    /// Before the records of the frame there.
    AtFrame,
    /// Before the frames of the segment there.
    AtSegment,
}

/// Whose place it is: one's is not good for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The feed's.
    Cursor,
    /// An export's.
    Export,
}

impl Purpose {
    fn letters(self) -> [u8; 5] {
        match self {
            Purpose::Cursor => *b"sabfh",
            Purpose::Export => *b"SABFH",
        }
    }
}

impl FeedPosition {
    /// After the record at `position`, in the frame with `checksum`.
    pub fn after(log: &Log, position: Position, checksum: u64) -> Self {
        FeedPosition::At(Anchor::AfterRecord, position, history(log, checksum))
    }

    /// Before the record at `position`, in the frame with `checksum`.
    pub fn before(log: &Log, position: Position, checksum: u64) -> Self {
        FeedPosition::At(Anchor::BeforeRecord, position, history(log, checksum))
    }

    /// Before the records of `frame`.
    pub fn at_frame(log: &Log, frame: &FrameHeader) -> Self {
        FeedPosition::At(Anchor::AtFrame, frame.position, history(log, frame.checksum))
    }

    /// Before the frames of the segment whose predecessor ended with `previous`.
    pub fn at_segment(log: &Log, number: u32, previous: Link) -> Self {
        FeedPosition::At(Anchor::AtSegment, Position::new(number, 0), history(log, previous.checksum))
    }

    /// As callers hold it.
    pub fn to_bytes(self, log: &Log, purpose: Purpose) -> Box<[u8]> {
        let [start, after, before, frame, segment] = purpose.letters();
        let (kind, position, history) = match self {
            FeedPosition::Start => (start, Position::default(), 0),
            FeedPosition::At(Anchor::AfterRecord, position, history) => (after, position, history),
            FeedPosition::At(Anchor::BeforeRecord, position, history) => (before, position, history),
            FeedPosition::At(Anchor::AtFrame, position, history) => (frame, position, history),
            FeedPosition::At(Anchor::AtSegment, position, history) => (segment, position, history),
        };
        [[VERSION, kind].as_slice(), &position.0.to_be_bytes(), &history.to_be_bytes(), &store(log)].concat().into()
    }

    /// Reads what [`FeedPosition::to_bytes`] gave; `None` for anything else.
    pub fn read(log: &Log, purpose: Purpose, bytes: &[u8]) -> Option<Self> {
        let [start, after, before, frame, segment] = purpose.letters();
        let mut reader = Reader(bytes);
        let (version, kind) = (reader.byte().ok()?, reader.byte().ok()?);
        let position = Position(u64::from_be_bytes(reader.array().ok()?));
        let history = u64::from_be_bytes(reader.array().ok()?);
        if version != VERSION || reader.0 != store(log) {
            return None;
        }
        Some(match kind {
            _ if kind == start => FeedPosition::Start,
            _ if kind == after => FeedPosition::At(Anchor::AfterRecord, position, history),
            _ if kind == before => FeedPosition::At(Anchor::BeforeRecord, position, history),
            _ if kind == frame => FeedPosition::At(Anchor::AtFrame, position, history),
            _ if kind == segment => FeedPosition::At(Anchor::AtSegment, position, history),
            _ => return None,
        })
    }
}

/// A page token of a list that goes on below `position`.
pub fn token(log: &Log, position: Position) -> Box<[u8]> {
    [[VERSION, b'l'].as_slice(), &position.0.to_be_bytes(), &store(log)].concat().into()
}

/// Reads what [`token`] gave; `None` for anything else.
pub fn read_token(log: &Log, bytes: &[u8]) -> Option<Position> {
    let mut reader = Reader(bytes);
    let (version, kind) = (reader.byte().ok()?, reader.byte().ok()?);
    let position = Position(u64::from_be_bytes(reader.array().ok()?));
    (version == VERSION && kind == b'l' && reader.0 == store(log)).then_some(position)
}

/// What reading begins with at a place.
pub enum Begin {
    /// A reader there.
    Walk(Box<Walker>),
    /// What is right behind the place is lost, up to this one.
    Lost(FeedPosition),
}

impl Begin {
    fn walk(walker: Walker) -> Self {
        Begin::Walk(Box::new(walker))
    }
}

/// Begins to read at `place`, which is checked against the frame there, or against what the next frame or segment says of
/// the one before.
///
/// # Errors
/// [`Kind::CursorExpired`] where something after the place was removed, or the place is of a history that a restore has
/// left.
pub fn begin(shared: &Shared, place: FeedPosition) -> Result<Begin, Error> {
    let log = &shared.log;
    let FeedPosition::At(kind, position, history) = place else {
        return first_live(shared);
    };
    let (oldest, _) = log.bounds();
    if position >= log.end() {
        // Only a longer history than this one has given it.
        counter!(names::STORE_LOST_CURSORS_TOTAL).increment(1);
        tracing::error!("a reader's cursor is beyond the end of the log: what was accepted after a backup is not here");
        return Err(left());
    }
    if position.segment() < oldest {
        return after_removed(shared, kind, position, history, oldest);
    }
    let segment = log.segment(position.segment()).ok_or_else(left)?;
    let is_ours = |checksum: u64| self::history(log, checksum) == history;
    let found = match kind {
        Anchor::AtSegment => {
            if !is_ours(segment.previous.checksum) {
                return Err(left());
            }
            return Walker::new(log, &segment).map(Begin::walk).map_err(|error| unreadable(shared, error));
        }
        Anchor::AtFrame => {
            log.frame(position).map(|frame| (frame, position.offset().saturating_add(FRAME_HEADER as u32)))
        }
        Anchor::AfterRecord | Anchor::BeforeRecord => log.record(position).and_then(|record| {
            let at = position.offset().checked_sub(record.head.back).ok_or(ReadError::Damaged)?;
            let frame = log.frame(Position::new(position.segment(), at))?;
            let passed = if kind == Anchor::AfterRecord { record.head.span() as u32 } else { 0 };
            Ok((frame, position.offset().saturating_add(passed)))
        }),
    };
    match found {
        Ok((frame, at)) if is_ours(frame.checksum) => {
            Walker::inside(log, &segment, at, frame).map(Begin::walk).map_err(|error| unreadable(shared, error))
        }
        Ok(_) => Err(left()),
        Err(ReadError::Damaged) => behind_damage(shared, position, is_ours),
        Err(error) => Err(unreadable(shared, error)),
    }
}

/// Where the frame of a place is damaged, the one behind it names its checksum.
fn behind_damage(shared: &Shared, position: Position, is_ours: impl Fn(u64) -> bool) -> Result<Begin, Error> {
    let log = &shared.log;
    let number = position.segment();
    let segment = log.segment(number).ok_or_else(left)?;
    let file = log.file(number).map_err(|error| unreadable(shared, error.into()))?;
    let mut window = Window::new(file, log.secret, number, log.end_of(&segment));
    // A place that was given lies in its frame. One before the segment's first frame was made up, and of it nothing is lost.
    let first = Position::new(number, 0);
    let is_in = |frame: Link| (first..=position).contains(&frame.position) && is_ours(frame.checksum);
    let next =
        window.next_header(position.offset().saturating_add(1)).map_err(|error| unreadable(shared, error.into()))?;
    if let Ok(Some(next)) = next {
        return if is_in(next.previous) && !is_whole(shared, &segment, next.previous)? {
            Ok(Begin::Lost(FeedPosition::at_frame(log, &next)))
        } else {
            Err(left())
        };
    }
    let next = log.segment(number.saturating_add(1)).filter(|next| is_in(next.previous)).ok_or_else(left)?;
    if is_whole(shared, &segment, next.previous)? {
        return Err(left());
    }
    Walker::new(log, &next).map(Begin::walk).map_err(|error| unreadable(shared, error))
}

/// Whether every record of the frame can be found. Then a place in it where there is none was made up, and nothing is lost.
fn is_whole(shared: &Shared, segment: &SegmentHeader, frame: Link) -> Result<bool, Error> {
    let Ok(frame) = shared.log.frame(frame.position) else { return Ok(false) };
    let first = frame.position.offset().saturating_add(FRAME_HEADER as u32);
    let failed = |error| unreadable(shared, error);
    let mut walker = Walker::inside(&shared.log, segment, first, frame).map_err(failed)?;
    while walker.position().offset() < frame.end() {
        let Some(WalkStep::Record(..)) = walker.step().map_err(failed)? else { return Ok(false) };
    }
    Ok(true)
}

/// A place in a segment that was removed is good as long as nothing after it was removed with it.
fn after_removed(shared: &Shared, kind: Anchor, position: Position, history: u64, oldest: u32) -> Result<Begin, Error> {
    let log = &shared.log;
    let first = log.segment(oldest).ok_or_else(left)?;
    let is_last = match kind {
        Anchor::AfterRecord => {
            first.last_record == position && self::history(log, first.previous_records.checksum) == history
        }
        Anchor::BeforeRecord | Anchor::AtFrame | Anchor::AtSegment => first.last_record < position,
    };
    if !is_last {
        return Err(Error::cursor_expired());
    }
    Walker::new(log, &first).map(Begin::walk).map_err(|error| unreadable(shared, error))
}

/// Reading from the first segment that has something that is not expired.
fn first_live(shared: &Shared) -> Result<Begin, Error> {
    let age = shared.clock.age();
    let headers = shared.log.headers(..);
    let dead = headers.iter().skip(1).take_while(|next| next.newest_expiry <= age).count();
    let first = headers.get(dead).ok_or_else(left)?;
    if dead == 0 && first.number > shared.oldest() {
        return Ok(Begin::Lost(FeedPosition::at_segment(&shared.log, first.number, first.previous)));
    }
    Walker::new(&shared.log, first).map(Begin::walk).map_err(|error| unreadable(shared, error))
}

fn left() -> Error {
    let text = "'cursor' is from a state of the store that a restore has left; begin with a new cursor";
    Error::new(Kind::CursorExpired, text)
}

/// The error for a log that cannot be read on.
pub fn unreadable(shared: &Shared, error: ReadError) -> Error {
    match error {
        ReadError::Gone if shared.is_closed() => super::queue::closed(),
        ReadError::Gone => Error::cursor_expired(),
        ReadError::Damaged => super::get::data_loss(),
        ReadError::Io(error) => Error::store_unavailable(error),
    }
}

fn history(log: &Log, checksum: u64) -> u64 {
    log.secret.checksum(HISTORY, &checksum.to_le_bytes())
}

fn store(log: &Log) -> [u8; 8] {
    xxh3_64(&log.store).to_be_bytes()
}

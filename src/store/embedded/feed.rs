//! The feed, the lists, and the places in them that callers hold.
//!
//! A cursor is 26 bytes: version u8 (1), kind u8, the store's id (16 bytes), a sequence u64 big endian. Of kind `a` it
//! stands after that sequence; of kind `s` before whatever is oldest when it is used, so that messages which expire
//! between asking for the start and reading from it make no error. A page token is a cursor of kind `l`: the page goes
//! on below that sequence. Of kind `e` it is the place of an export, after that sequence.

use super::{
    engine::Engine,
    index::{self, Hash},
    retention,
    shared::Shared,
};
use crate::{
    domain::{Error, Kind, Message, Sender, ViolationCode},
    store::{
        Cursor, FeedItem, FeedStart, MessagePage, PageLimit, PageToken,
        record::{Reader, View},
    },
};

const VERSION: u8 = 1;
const AFTER: u8 = b'a';
const START: u8 = b's';
const BELOW: u8 = b'l';

/// Where a reader of the feed stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Before the oldest.
    Start,
    /// After this sequence.
    After(u64),
}

impl Place {
    /// As callers hold it.
    pub fn to_cursor(self, shared: &Shared) -> Cursor {
        Cursor(match self {
            Place::Start => encode(shared, START, 0),
            Place::After(sequence) => encode(shared, AFTER, sequence),
        })
    }

    /// Reads what [`Place::to_cursor`] gave.
    ///
    /// # Errors
    /// [`Kind::InvalidArgument`] for anything else.
    pub fn read(shared: &Shared, cursor: &Cursor) -> Result<Self, Error> {
        match decode(shared, &cursor.0) {
            Some((START, _)) => Ok(Place::Start),
            Some((AFTER, sequence)) if sequence <= shared.durable() => Ok(Place::After(sequence)),
            _ => Err(Error::invalid_argument(
                "cursor",
                ViolationCode::InvalidValue,
                "'cursor' is not of this service's store; begin with a new one",
            )),
        }
    }
}

/// What [`page`] read.
pub struct Page {
    pub items: Vec<FeedItem>,
    pub next: Place,
    /// Whether a limit ended it.
    pub is_full: bool,
}

/// One page of the feed, and where it ends. It may be empty though there is more, where much lies between that was imported
/// and is not for the feed; then it is full all the same, and ends further on than it began.
pub fn page(shared: &Shared, engine: &Engine, place: Place, limit: PageLimit) -> Result<Page, Error> {
    let durable = shared.durable();
    let now = shared.clock.now();
    let oldest = shared.oldest.load(std::sync::atomic::Ordering::Acquire);
    let first = match place {
        Place::Start => retention::first_live(shared, engine, oldest, durable)?,
        Place::After(sequence) => sequence + 1,
    };
    let expired =
        || Error::new(Kind::CursorExpired, "Messages after 'cursor' are past their retention; begin with a new cursor");
    if first < oldest && first <= durable {
        return Err(expired());
    }
    let (mut items, mut bytes, mut next, mut is_full) = (Vec::new(), 0, first, false);
    if first <= durable {
        for entry in engine.messages_between(first, durable) {
            let (sequence, record) = entry?;
            if !is_contiguous(shared, next, sequence) {
                return Err(removed_or_damaged(shared, next).unwrap_or_else(expired));
            }
            let view = View::read(sequence, &record).map_err(Error::internal)?;
            if shared.is_expired(view.placed_at, now) {
                return Err(expired());
            }
            bytes += record.len();
            if !view.in_feed || shared.is_expired(view.accepted_at, now) {
                // Counted, for a page must come to an end among any number of them.
                if bytes > limit.bytes && next > first {
                    is_full = true;
                    break;
                }
                next = sequence + 1;
                continue;
            }
            if items.len() >= limit.messages || (bytes > limit.bytes && !items.is_empty()) {
                is_full = true;
                break;
            }
            let message = view.to_message().map_err(Error::internal)?;
            items.push(FeedItem { message, cursor: Place::After(sequence).to_cursor(shared) });
            next = sequence + 1;
        }
        if !is_full && !is_contiguous(shared, next, durable + 1) {
            return Err(removed_or_damaged(shared, next).unwrap_or_else(expired));
        }
    }
    // Where there was nothing to read, the next page begins behind it, and from there on nothing expires unnoticed.
    let next = match place {
        Place::Start if next == first && is_full => place,
        Place::Start | Place::After(_) if is_full => Place::After(next - 1),
        Place::Start | Place::After(_) => Place::After(durable.max(next - 1)),
    };
    Ok(Page { items, next, is_full })
}

/// Whether everything from `next` up to before `sequence` was lost with the operator's consent.
pub(super) fn is_contiguous(shared: &Shared, next: u64, sequence: u64) -> bool {
    let mut next = next;
    while next < sequence {
        match shared.gaps.end_of(next) {
            Some(last) => next = last + 1,
            None => return false,
        }
    }
    true
}

/// The error for a hole at `sequence`, unless retention passed by since the page was begun.
pub(super) fn removed_or_damaged(shared: &Shared, sequence: u64) -> Option<Error> {
    (sequence >= shared.oldest.load(std::sync::atomic::Ordering::Acquire))
        .then(|| Error::internal(format!("message {sequence} is missing")))
}

/// The place of `start`.
pub fn place_of(shared: &Shared, engine: &Engine, start: &FeedStart) -> Result<Place, Error> {
    let durable = shared.durable();
    Ok(match start {
        FeedStart::Start => Place::Start,
        FeedStart::Now => Place::After(durable),
        FeedStart::Time(time) => {
            let oldest = shared.oldest.load(std::sync::atomic::Ordering::Acquire);
            let live = retention::first_live(shared, engine, oldest, durable)?;
            let first = retention::first_where(engine, live, durable, |placed_at| placed_at >= *time)?;
            if first == live { Place::Start } else { Place::After(first - 1) }
        }
    })
}

/// One page of a sender's messages.
pub fn list(
    shared: &Shared,
    engine: &Engine,
    sender: &Sender,
    after: Option<&PageToken>,
    limit: PageLimit,
) -> Result<MessagePage, Error> {
    let hash = index::sender_hash(sender);
    let (durable, now) = (shared.durable(), shared.clock.now());
    let below = match after {
        None => durable,
        Some(token) => match decode(shared, &token.0) {
            Some((BELOW, sequence)) => sequence.saturating_sub(1).min(durable),
            _ => {
                return Err(Error::invalid_argument(
                    "page_token",
                    ViolationCode::InvalidValue,
                    "'page_token' is not of this service's store; begin with the first page",
                ));
            }
        },
    };
    let mut messages: Vec<Message> = Vec::new();
    // A page without messages goes on where it began.
    let (mut last, mut bytes) = (below + 1, 0);
    let oldest = shared.oldest.load(std::sync::atomic::Ordering::Acquire);
    for sequence in sequences_of(shared, engine, hash, oldest, below) {
        let sequence = sequence?;
        let Some(record) = engine.message(sequence)? else {
            if shared.gaps.contains(sequence) {
                continue;
            }
            match removed_or_damaged(shared, sequence) {
                Some(error) => return Err(error),
                None => break,
            }
        };
        let view = View::read(sequence, &record).map_err(Error::internal)?;
        if shared.is_expired(view.placed_at, now) {
            // And so is everything before it.
            break;
        }
        if shared.is_expired(view.accepted_at, now) {
            continue;
        }
        if !view.has_sender(sender) {
            return Err(Error::internal(format!("message {sequence} has another sender with the same hash")));
        }
        bytes += record.len();
        if messages.len() >= limit.messages || (bytes > limit.bytes && !messages.is_empty()) {
            return Ok(MessagePage { messages, next: Some(PageToken(encode(shared, BELOW, last))) });
        }
        messages.push(view.to_message().map_err(Error::internal)?);
        last = sequence;
    }
    Ok(MessagePage { messages, next: None })
}

/// The messages of a sender from `oldest` to `below`, the newest first.
fn sequences_of<'a>(
    shared: &'a Shared,
    engine: &'a Engine,
    sender: Hash,
    oldest: u64,
    below: u64,
) -> impl Iterator<Item = Result<u64, Error>> + 'a {
    /// As many at a time as a page has at most, about.
    const CHUNK: usize = 128;
    let mut below = Some(below).filter(|below| *below >= oldest);
    let mut chunk = Vec::new().into_iter();
    let mut indexed = None;
    std::iter::from_fn(move || {
        if indexed.is_none() {
            if let Some(sequence) = chunk.next() {
                return Some(Ok(sequence));
            }
            chunk = shared.unindexed.newest_of(&sender, oldest..=below?, CHUNK).into_iter();
            if let Some(last) = chunk.as_slice().last() {
                below = last.checked_sub(1).filter(|below| *below >= oldest);
                return chunk.next().map(Ok);
            }
        }
        // Begun only now: what memory had no more, the index has.
        let indexed = indexed.get_or_insert_with(|| {
            let range = index::sender_key(&sender, oldest)..=index::sender_key(&sender, below?);
            Some(engine.senders.range(range).rev())
        });
        let guard = indexed.as_mut()?.next()?;
        let entry = guard.into_inner().map_err(super::engine::failed);
        Some(entry.and_then(|(key, value)| index::read_sender(&key, &value).map_err(Error::internal)))
    })
}

pub(super) fn encode(shared: &Shared, kind: u8, sequence: u64) -> Box<[u8]> {
    [[VERSION, kind].as_slice(), &shared.id, &sequence.to_be_bytes()].concat().into()
}

pub(super) fn decode(shared: &Shared, bytes: &[u8]) -> Option<(u8, u64)> {
    let mut reader = Reader(bytes);
    let version = reader.byte().ok()?;
    let kind = reader.byte().ok()?;
    let store: [u8; 16] = reader.array().ok()?;
    let sequence = u64::from_be_bytes(reader.array().ok()?);
    (version == VERSION && store == shared.id && reader.0.is_empty()).then_some((kind, sequence))
}

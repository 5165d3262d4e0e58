//! The feed: the log read forward. One reader is a place in it, and nothing else to remember; both orders are this one.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    cursor::{self, Begin, FeedPosition, Purpose},
    get::message_of,
    log::{
        Log, Position,
        frame::{FrameHeader, RecordKind},
        reader::{WalkStep, Walker},
    },
    shared::{Shared, blocking},
};
use crate::{
    domain::{Error, Kind, Timestamp, ViolationCode},
    store::{Cursor, FeedFollower, FeedFrom, FeedItem, FeedPage, FeedStart, PageLimit},
};

/// What reading forward from a place gives.
pub enum Next {
    /// A record, and the place after it.
    Record(super::log::reader::Record, FeedPosition),
    /// Something that was acknowledged cannot be read; the place behind it.
    Lost(FeedPosition),
}

/// Reads the log forward, over the ends of segments.
pub struct Forward<'a> {
    shared: &'a Shared,
    walker: Option<Box<Walker>>,
    /// What is lost right where reading began.
    lost: Option<FeedPosition>,
}

impl<'a> Forward<'a> {
    /// From `place` on.
    ///
    /// # Errors
    /// Those of [`cursor::begin`].
    pub fn new(shared: &'a Shared, place: FeedPosition) -> Result<Self, Error> {
        Ok(match cursor::begin(shared, place)? {
            Begin::Walk(walker) => Self { shared, walker: Some(walker), lost: None },
            Begin::Lost(behind) => Self { shared, walker: None, lost: Some(behind) },
        })
    }

    /// The next of either; `None` at the end of what is durable.
    ///
    /// # Errors
    /// When the log cannot be read, or retention has overtaken the reader.
    pub fn step(&mut self) -> Result<Option<Next>, Error> {
        let log = &self.shared.log;
        if let Some(behind) = self.lost.take() {
            if let Begin::Walk(walker) = cursor::begin(self.shared, behind)? {
                self.walker = Some(walker);
            }
            return Ok(Some(Next::Lost(behind)));
        }
        while let Some(walker) = &mut self.walker {
            match walker.step().map_err(|error| cursor::unreadable(self.shared, error))? {
                Some(WalkStep::Record(record, checksum)) => {
                    let behind = FeedPosition::after(log, record.position, checksum);
                    return Ok(Some(Next::Record(record, behind)));
                }
                Some(WalkStep::Lost(_, to)) => return Ok(Some(Next::Lost(behind(self.shared, to, walker.frame())))),
                // The segment may have been sealed since its end was looked at.
                None if walker.refresh(log) => {}
                // What comes next was begun, and is not durable.
                None if !walker.is_sealed() => return Ok(None),
                None => {
                    let number = walker.position().segment().saturating_add(1);
                    let next = log.headers(number..).into_iter().next();
                    let is_missing = next.as_ref().filter(|next| next.number > number);
                    let lost = is_missing.map(|next| FeedPosition::at_segment(log, next.number, next.previous));
                    self.walker = match next {
                        Some(next) => Some(
                            Walker::new(log, &next).map(Box::new).map_err(|e| cursor::unreadable(self.shared, e))?,
                        ),
                        None => None,
                    };
                    if let Some(lost) = lost {
                        return Ok(Some(Next::Lost(lost)));
                    }
                }
            }
        }
        Ok(None)
    }
}

/// The place at the end of a loss: a record in the same frame, the frame after it, or a segment.
fn behind(shared: &Shared, to: Position, frame: Option<&FrameHeader>) -> FeedPosition {
    let log = &shared.log;
    match frame {
        // It was found behind the loss.
        Some(frame) if to == frame.position => FeedPosition::at_frame(log, frame),
        Some(frame) if to.offset() < frame.end() => FeedPosition::before(log, to, frame.checksum),
        Some(frame) => shared
            .after_frame(frame)
            .map_or_else(|| shared.newest_position(), |next| FeedPosition::at_frame(log, &next)),
        None => match log.headers(to.segment()..).into_iter().next() {
            Some(next) => FeedPosition::at_segment(log, next.number, next.previous),
            None => shared.newest_position(),
        },
    }
}

/// What [`page`] read.
struct Page {
    items: Vec<FeedItem>,
    next: FeedPosition,
    /// Whether a limit ended it.
    is_full: bool,
}

/// One page of the feed, and where it ends. It may be empty though there is more, where much lies between that is not for
/// the feed; then it is full all the same, and ends further on than it began.
fn page(shared: &Shared, place: FeedPosition, limit: PageLimit) -> Result<Page, Error> {
    // Before reading, so that nothing that is accepted meanwhile is passed over.
    let newest = shared.newest_position();
    let age = shared.clock.age();
    let mut forward = Forward::new(shared, place)?;
    let mut lost_behind = None;
    let (mut items, mut bytes, mut next, mut is_full) = (Vec::new(), 0, place, false);
    while let Some(step) = forward.step()? {
        let (record, behind) = match step {
            Next::Record(record, behind) => (record, behind),
            Next::Lost(_) if !items.is_empty() => {
                is_full = true;
                break;
            }
            // From the start on, it is no loss if what follows is expired, for then this is, too.
            Next::Lost(behind) if place == FeedPosition::Start => {
                lost_behind.get_or_insert(behind);
                continue;
            }
            Next::Lost(behind) => return Err(lost(&shared.log, behind)),
        };
        let is_message = record.head.kind == RecordKind::Message;
        let is_expired = is_message && record.head.expiry <= age;
        match lost_behind {
            Some(_) if is_expired && !record.head.imported => lost_behind = None,
            Some(behind) if is_message && !is_expired => return Err(lost(&shared.log, behind)),
            Some(_) | None => {}
        }
        // From the start on nobody misses what had expired before.
        if is_expired && !record.head.imported && place != FeedPosition::Start {
            return Err(Error::cursor_expired());
        }
        bytes += record.head.span();
        if is_expired || !is_message || !record.head.in_feed {
            // Counted, for a page must come to an end among any number of them.
            if bytes > limit.bytes && next != place {
                is_full = true;
                break;
            }
            // Nor does a change of the state that is older than what has expired make a place that is past it.
            if next != FeedPosition::Start || (is_message && !is_expired) {
                next = behind;
            }
            continue;
        }
        if items.len() >= limit.messages || (bytes > limit.bytes && !items.is_empty()) {
            is_full = true;
            break;
        }
        if record.body.is_none() {
            shared.found_damage(record.position);
            if items.is_empty() {
                return Err(lost(&shared.log, behind));
            }
            is_full = true;
            break;
        }
        let cursor = Cursor(behind.to_bytes(&shared.log, Purpose::Cursor));
        items.push(FeedItem { message: message_of(&record)?, cursor });
        next = behind;
    }
    if let Some(behind) = lost_behind {
        return Err(lost(&shared.log, behind));
    }
    // Where there was nothing to read, the next page begins behind it, and from there on nothing expires unnoticed.
    if next == FeedPosition::Start && !is_full {
        next = newest;
    }
    Ok(Page { items, next, is_full })
}

/// The error at content that the disk has lost, with a cursor behind it.
fn lost(log: &Log, behind: FeedPosition) -> Error {
    let cursor = Cursor(behind.to_bytes(log, Purpose::Cursor));
    let text = format!("The disk has lost messages here; to go on behind them, begin with cursor '{cursor}'");
    Error::new(Kind::DataLoss, text)
}

/// The place of `start`.
fn position_of(shared: &Shared, start: &FeedStart) -> Result<FeedPosition, Error> {
    match start {
        FeedStart::Start => Ok(FeedPosition::Start),
        FeedStart::Now => Ok(shared.newest_position()),
        FeedStart::Time(time) => position_of_time(shared, *time),
    }
}

/// Before the first frame of `time` or later; the start, where all before it is expired.
fn position_of_time(shared: &Shared, time: Timestamp) -> Result<FeedPosition, Error> {
    let (newest, age) = (shared.newest_position(), shared.clock.age());
    let headers = shared.log.headers(..);
    // The last frame of a segment is not later than the next segment.
    let before = headers.iter().skip(1).take_while(|next| next.stamp.wall < time).count();
    for (number, header) in headers.iter().enumerate().skip(before) {
        if number == 0 && header.stamp.wall >= time {
            return Ok(FeedPosition::Start);
        }
        let unreadable = |error| cursor::unreadable(shared, error);
        let mut walker = Walker::new(&shared.log, header).map_err(unreadable)?;
        while walker.step().map_err(unreadable)?.is_some() {
            let Some(frame) = walker.frame().filter(|frame| frame.stamp.wall >= time) else { continue };
            let is_expired =
                frame.stamp.age.saturating_add(frame.stamp.debt).saturating_add(shared.retention_micros()) <= age;
            return Ok(if is_expired { FeedPosition::Start } else { FeedPosition::at_frame(&shared.log, frame) });
        }
    }
    Ok(newest)
}

/// See the module.
pub struct Follower {
    shared: Arc<Shared>,
    place: FeedPosition,
}

impl Follower {
    /// A follower that begins at `from`.
    pub async fn begin(shared: &Arc<Shared>, from: FeedFrom) -> Result<Self, Error> {
        let place = blocking(shared, move |shared| begin(shared, &from)).await?;
        Ok(Self { place, shared: Arc::clone(shared) })
    }
}

/// The place of `from`, which is checked.
pub fn begin(shared: &Shared, from: &FeedFrom) -> Result<FeedPosition, Error> {
    match from {
        FeedFrom::Start(start) => position_of(shared, start),
        FeedFrom::Cursor(cursor) => {
            let foreign = || {
                let text = "'cursor' is not of this service's store; begin with a new one";
                Error::invalid_argument("cursor", ViolationCode::InvalidValue, text)
            };
            let place = FeedPosition::read(&shared.log, Purpose::Cursor, &cursor.0).ok_or_else(foreign)?;
            // A page without messages checks the place; what is lost there is told by the first page.
            match page(shared, place, PageLimit { messages: 0, bytes: 0 }) {
                Err(error) if error.kind() != Kind::DataLoss => Err(error),
                _ => Ok(place),
            }
        }
    }
}

/// The next messages from `place` on, and the place behind them.
pub fn read(
    shared: &Shared,
    mut place: FeedPosition,
    limit: PageLimit,
) -> Result<(Vec<FeedItem>, FeedPosition), Error> {
    loop {
        let page = page(shared, place, limit)?;
        // Among messages that are not for the feed a page may be full of nothing.
        if !page.items.is_empty() || !page.is_full || page.next == place {
            return Ok((page.items, page.next));
        }
        place = page.next;
    }
}

#[async_trait]
impl FeedFollower for Follower {
    async fn next(&mut self, limit: PageLimit) -> Result<FeedPage, Error> {
        let place = self.place;
        let (items, place) = blocking(&self.shared, move |shared| read(shared, place, limit)).await?;
        self.place = place;
        Ok(FeedPage { items, next: Cursor(self.place.to_bytes(&self.shared.log, Purpose::Cursor)) })
    }

    async fn grown(&mut self) -> Result<(), Error> {
        self.shared.check_open()?;
        let mut grown = self.shared.grown();
        let place = self.place;
        let has_more = move |shared: &Shared| {
            // First, so that nothing comes between.
            let end = shared.log.end();
            Ok((Forward::new(shared, place)?.step()?.is_some(), end))
        };
        let (has_more, end) = match blocking(&self.shared, has_more).await {
            Ok(found) => found,
            // The next page tells it.
            Err(error) if !self.shared.is_closed() && error.kind() != Kind::StoreUnavailable => return Ok(()),
            Err(error) => return Err(error),
        };
        if !has_more {
            // An error means that the sender is gone, and with it the store.
            let _ = grown.wait_for(|now| *now > end || self.shared.is_closed()).await;
        }
        Ok(())
    }
}

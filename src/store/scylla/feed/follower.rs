//! One reader of the feed.
//!
//! It begins behind, in the database, in order and with exact cursors. At the tail's position it joins: a reader in order
//! follows its log from there; a fast one first reads what lies above the position, for the log may have had that
//! already. The log's marks are its cursors from then on. One that is too slow for the log is behind again.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use super::{
    delivered::Delivered,
    log::LogEntry,
    range_scan::{RangeScan, ScannedMessage},
    tail::{Membership, Tail},
};
use crate::{
    domain::{Error, Kind, MessageKey},
    store::{
        Cursor, FeedFollower, FeedFrom, FeedItem, FeedOrder, FeedPage, FeedStart, PageLimit,
        scylla::{
            cursor::FeedPosition,
            scan::Attempt,
            ticks::{self, Ticks},
        },
    },
};

/// What is read at once to find out what there is already.
const PRESENT: PageLimit = PageLimit { messages: 256, bytes: 1024 * 1024 };

/// See the module.
pub struct Follower {
    tail: Arc<Tail>,
    order: FeedOrder,
    /// Rung when a log has grown.
    grown: watch::Receiver<()>,
    delivered: Delivered,
    /// Nothing up to here is wanted.
    not_upto: Ticks,
    /// Begun at the oldest, and nothing was given yet: what expires meanwhile is no loss.
    is_at_start: bool,
    phase: Phase,
    /// The tail works as long as it has readers.
    _membership: Membership,
}

/// Where a reader is. A scan is taken out while it is used: after an interruption another begins at the mark.
enum Phase {
    /// In the database, below the tail's position.
    Behind(Option<RangeScan>),
    /// In the database, above that position; after it in the log, from this number on.
    Joining { scan: Option<RangeScan>, position: Ticks, next: u64 },
    /// In the log, at this number.
    Live { next: u64 },
}

impl Follower {
    /// A reader that begins at `from`.
    ///
    /// # Errors
    /// [`crate::domain::Kind::InvalidArgument`], [`crate::domain::Kind::CursorExpired`], and what the database cannot do now.
    pub async fn begin(tail: &Arc<Tail>, from: FeedFrom, order: FeedOrder) -> Result<Self, Error> {
        let core = &tail.core;
        let from = match from {
            FeedFrom::Cursor(cursor) => Ok(FeedPosition::read(&cursor, core.settings.created_at)?),
            FeedFrom::Start(start) => Err(start),
        };
        let membership = tail.join(order);
        // A reader in order is to find all that is resolved by now; for a fast one any position will do.
        let position = match order {
            FeedOrder::Fast => tail.position().await?,
            FeedOrder::Ordered => tail.fresh_position().await?,
        };
        let oldest = core.oldest().max(core.settings.first_mark());
        let (mark, not_upto, is_at_start) = match &from {
            Ok(FeedPosition::Start) | Err(FeedStart::Start) => (oldest, 0, true),
            Ok(FeedPosition::After(point)) => (*point, 0, false),
            Ok(FeedPosition::Time(point, until)) => (*point, *until, false),
            Err(FeedStart::Time(time)) => {
                let before = ticks::at(*time) - 1;
                (before.min(position).max(oldest), before, before <= oldest)
            }
            Err(FeedStart::Now) => (position, 0, false),
        };
        let mut follower = Self {
            tail: Arc::clone(tail),
            order,
            grown: tail.grown.subscribe(),
            delivered: Delivered::upto(mark),
            not_upto,
            is_at_start,
            phase: Phase::Behind(None),
            _membership: membership,
        };
        follower.check_expiry()?;
        if let Err(FeedStart::Now) = from {
            follower.pass_over_present().await?;
        }
        Ok(follower)
    }

    /// Counts everything as seen that is accepted by now. What is accepted while this reads may be seen or not; what is
    /// accepted later is in the log behind the place where the reader joins it.
    async fn pass_over_present(&mut self) -> Result<(), Error> {
        let (next, position) = self.tail.look(self.order, |log, position| (log.end(), position));
        self.delivered.advance(position.unwrap_or_default());
        let mut scan = RangeScan::new(self.delivered.mark(), self.tail.edge());
        while !scan.is_done() {
            for found in scan.page(&self.tail.core, PRESENT, |_| true).await? {
                self.delivered.note(found.attempt);
            }
        }
        self.phase = Phase::Live { next };
        Ok(())
    }

    /// Goes from the database to the log, unless the tail has gone on meanwhile.
    fn join(&mut self) {
        let (next, position) = self.tail.look(self.order, |log, position| (log.end(), position));
        let position = position.unwrap_or_default();
        if position > self.delivered.mark() {
            return;
        }
        self.is_at_start = false;
        self.phase = match self.order {
            FeedOrder::Fast => Phase::Joining { scan: None, position, next },
            FeedOrder::Ordered => Phase::Live { next },
        };
    }

    /// The next messages below the tail's position.
    async fn page_behind(&mut self, scan: Option<RangeScan>, limit: PageLimit) -> Result<Vec<FeedItem>, Error> {
        let mut scan = match scan {
            Some(scan) => scan,
            None => {
                let position = self.tail.position().await?;
                if self.delivered.mark() >= position {
                    self.join();
                    return Ok(Vec::new());
                }
                RangeScan::new(self.delivered.mark(), position)
            }
        };
        let found = scan.page(&self.tail.core, limit, |attempt| self.wants(attempt)).await?;
        // It may have expired under the reader.
        self.check_expiry()?;
        self.is_at_start &= found.is_empty();
        let mut items = Vec::with_capacity(found.len());
        for ScannedMessage { attempt, message, mark } in found {
            self.delivered.advance(mark);
            self.delivered.note(attempt);
            match message {
                Ok(message) => items.push(FeedItem { message, cursor: self.cursor() }),
                // It comes alone.
                Err(key) => {
                    self.phase = Phase::Behind((!scan.is_done()).then_some(scan));
                    return Err(self.lost_at(key, mark));
                }
            }
        }
        self.delivered.advance(scan.mark());
        self.phase = Phase::Behind((!scan.is_done()).then_some(scan));
        Ok(items)
    }

    /// The next messages above the position at which the reader joins.
    async fn page_joining(
        &mut self,
        scan: Option<RangeScan>,
        position: Ticks,
        next: u64,
        limit: PageLimit,
    ) -> Result<Vec<FeedItem>, Error> {
        let mut scan = scan.unwrap_or_else(|| RangeScan::new(self.delivered.mark(), self.tail.edge()));
        let found = scan.page(&self.tail.core, limit, |attempt| self.wants(attempt)).await?;
        let items = found.into_iter().filter_map(|ScannedMessage { attempt, message, .. }| {
            // One that cannot be read is told when the position moves over it: there is no place behind it before.
            let message = message.ok()?;
            self.delivered.note(attempt);
            Some(FeedItem { message, cursor: self.cursor() })
        });
        let items = items.collect();
        self.phase = if scan.is_done() {
            self.delivered.advance(position);
            Phase::Live { next }
        } else {
            Phase::Joining { scan: Some(scan), position, next }
        };
        Ok(items)
    }

    /// The next messages of the log; `None` when it has forgotten where the reader was.
    fn page_live(&mut self, next: u64, limit: PageLimit) -> Option<Result<Vec<FeedItem>, Error>> {
        let tail = Arc::clone(&self.tail);
        let (mut items, mut bytes, mut next) = (Vec::new(), 0, next);
        tail.look(self.order, |log, _| {
            let mut entries = log.read(next)?.peekable();
            while let Some(entry) = entries.next() {
                match entry {
                    LogEntry::Mark(mark) => self.delivered.advance(*mark),
                    LogEntry::Message { attempt, message, bytes: more } if self.wants(attempt) => {
                        bytes += more;
                        if items.len() >= limit.messages || (bytes > limit.bytes && !items.is_empty()) {
                            break;
                        }
                        if self.order == FeedOrder::Ordered {
                            // Two at one time: the place between them is before both.
                            let is_last = !matches!(
                                entries.peek(),
                                Some(LogEntry::Message { attempt: next, .. } | LogEntry::Lost { attempt: next, .. })
                                    if next.ticks == attempt.ticks
                            );
                            self.delivered.advance(attempt.ticks - i64::from(!is_last));
                        }
                        self.delivered.note(*attempt);
                        items.push(FeedItem {
                            message: Arc::unwrap_or_clone(Arc::clone(message)),
                            cursor: self.cursor(),
                        });
                    }
                    LogEntry::Lost { attempt, .. } if self.wants(attempt) && !items.is_empty() => break,
                    LogEntry::Lost { attempt, key, behind } if self.wants(attempt) => {
                        self.delivered.note(*attempt);
                        if self.order == FeedOrder::Ordered {
                            self.delivered.advance(*behind);
                        }
                        self.phase = Phase::Live { next: next + 1 };
                        return Some(Err(self.lost_at(key.clone(), *behind)));
                    }
                    LogEntry::Message { .. } | LogEntry::Lost { .. } => {}
                }
                next += 1;
            }
            self.phase = Phase::Live { next };
            Some(Ok(items))
        })
    }

    /// What is told at a message that nobody can read; the reader is behind it.
    fn lost_at(&self, key: MessageKey, behind: Ticks) -> Error {
        let cursor = FeedPosition::After(behind).to_cursor(self.tail.core.settings.created_at);
        let text = format!("A message here cannot be read; to go on behind it, begin with cursor '{cursor}'");
        Error::new(Kind::DataLoss, text).about(key.fingerprint()).concerning(key.org, key.env)
    }

    fn wants(&self, attempt: &Attempt) -> bool {
        attempt.ticks > self.not_upto && self.delivered.is_new(attempt)
    }

    fn check_expiry(&self) -> Result<(), Error> {
        if !self.is_at_start && self.delivered.mark() < self.tail.core.oldest() {
            return Err(Error::cursor_expired());
        }
        Ok(())
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.tail.core.stop.is_cancelled() {
            return Err(Error::store_unavailable("the store is closed"));
        }
        Ok(())
    }

    /// Where the follower stands: after what it gave.
    fn cursor(&self) -> Cursor {
        let mark = self.delivered.mark();
        let place = if self.is_at_start {
            FeedPosition::Start
        } else if self.not_upto > mark {
            FeedPosition::Time(mark, self.not_upto)
        } else {
            FeedPosition::After(mark)
        };
        place.to_cursor(self.tail.core.settings.created_at)
    }
}

#[async_trait]
impl FeedFollower for Follower {
    async fn next(&mut self, limit: PageLimit) -> Result<FeedPage, Error> {
        self.check_open()?;
        self.check_expiry()?;
        if limit.messages == 0 {
            return Ok(FeedPage { items: Vec::new(), next: self.cursor() });
        }
        loop {
            let items = match &mut self.phase {
                Phase::Behind(scan) => {
                    let scan = scan.take();
                    self.page_behind(scan, limit).await?
                }
                Phase::Joining { scan, position, next } => {
                    let (scan, position, next) = (scan.take(), *position, *next);
                    self.page_joining(scan, position, next, limit).await?
                }
                Phase::Live { next } => {
                    let next = *next;
                    match self.page_live(next, limit) {
                        Some(items) => return Ok(FeedPage { items: items?, next: self.cursor() }),
                        None => {
                            self.phase = Phase::Behind(None);
                            continue;
                        }
                    }
                }
            };
            if !items.is_empty() {
                return Ok(FeedPage { items, next: self.cursor() });
            }
            self.check_open()?;
        }
    }

    async fn grown(&mut self) -> Result<(), Error> {
        self.check_open()?;
        let Phase::Live { next } = self.phase else { return Ok(()) };
        let stop = self.tail.core.stop.clone();
        loop {
            self.grown.mark_unchanged();
            if self.tail.look(self.order, |log, _| log.end() > next) {
                return Ok(());
            }
            // An error would mean that the tail is gone, which this holds.
            if !matches!(stop.run_until_cancelled(self.grown.changed()).await, Some(Ok(()))) {
                return Ok(());
            }
        }
    }
}

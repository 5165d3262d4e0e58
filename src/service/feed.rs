//! Following the feed: who sees what, heartbeats, the end at shutdown. One reader is one caller's position; it holds no
//! more than one page, so a slow caller slows only itself.

use std::{sync::Arc, time::Duration};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{
    Follow, PAGE_BYTES, Permit, note_messaging,
    places::{Holder, Placed, Use},
    work::Work,
};
use crate::{
    domain::{Clock, Environment, Error, OrgId},
    store::{Cursor, FeedFollower, FeedFrom, FeedItem, FeedOrder, FeedPage, PageLimit},
    telemetry::{names, spans, trace},
};

/// How often a reader without news is sent its cursor.
pub const HEARTBEAT: Duration = Duration::from_secs(10);

/// At most this much in one frame: a quarter of what the contract allows, for each slow reader holds one in memory.
const FRAME: PageLimit = PageLimit { messages: 1000, bytes: PAGE_BYTES / 4 };

/// A part of the feed; `None` is every organisation, or both environments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeedFilter {
    /// Only this organisation.
    pub org: Option<OrgId>,
    /// Only this environment.
    pub env: Option<Environment>,
}

/// One caller's position in the feed.
pub struct FeedReader {
    /// Where it is; while a page is read, that has it.
    position: Option<Position>,
    reading: Option<Work<(Position, Result<FeedPage, Error>)>>,
    filter: FeedFilter,
    /// When the next frame is due though it be empty: at once for the first, so that every reader has a cursor from the
    /// beginning and one that began at 'now' loses nothing when its connection breaks before the first message.
    due: Instant,
    stopping: CancellationToken,
    meters: Meters,
}

/// A place in the feed, and the one among its readers: whoever leaves while a page is read gives neither back before it is.
struct Position {
    follower: Box<dyn FeedFollower>,
    _place: Placed,
}

/// What is measured of one reader's order. Counts the reader as long as it exists.
struct Meters {
    order: FeedOrder,
    deliveries: Counter,
    lag: Histogram,
    streams: Gauge,
    clock: Arc<dyn Clock>,
}

/// What a reader is handed at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedFrame {
    /// Messages in the order of the feed; none in a heartbeat.
    pub items: Vec<FeedItem>,
    /// The place after this frame: after messages that the caller may not see, too.
    pub cursor: Cursor,
}

impl Permit<'_, Follow> {
    /// A reader of what may be seen, from `from` on.
    ///
    /// # Errors
    /// `InvalidArgument` for a cursor of another store, `CursorExpired` for one that is too old, `Overloaded` where there are too
    /// many readers.
    pub async fn stream(self, from: FeedFrom, order: FeedOrder) -> Result<FeedReader, Error> {
        let Self { service, target: filter, call } = self;
        let place = service.feeds.take(Use::Feed, Holder::of(call.caller()?))?;
        let span = trace::child(spans::STREAM, "internal");
        trace::note(&span, spans::FEED_ORDER, word(order));
        let store = Arc::clone(&service.store);
        let work = Work::new(async move { Ok(Position { follower: store.follow(from, order).await?, _place: place }) });
        let position = Some(service.within_deadline(work).instrument(span).await?);
        let (stopping, meters) = (service.stopping.clone(), Meters::new(order, Arc::clone(&service.clock)));
        Ok(FeedReader { position, reading: None, filter, due: Instant::now(), stopping, meters })
    }
}

impl FeedReader {
    /// The next frame: at once where there are messages, else when there are or a heartbeat is due. May be dropped at
    /// any time and called again: no message that the caller may see is passed over before it is returned.
    ///
    /// # Errors
    /// `Draining` when the service stops, `CursorExpired` when retention overtook the reader, and what
    /// the store cannot do now. The reader stays where it was.
    pub async fn next(&mut self) -> Result<FeedFrame, Error> {
        loop {
            if self.stopping.is_cancelled() {
                return Err(Error::draining("follow the feed again from your last cursor"));
            }
            let page = match self.read().await {
                // The follower is behind it, and this caller does not see what cannot be read there.
                Err(error) if error.concerns().is_some_and(|(org, env)| !self.filter.shows(org, env)) => continue,
                page => page?,
            };
            let at_end = page.items.is_empty();
            let items: Vec<_> = page.items.into_iter().filter(|item| self.filter.shows_item(item)).collect();
            if !items.is_empty() || Instant::now() >= self.due {
                self.due = Instant::now() + HEARTBEAT;
                self.meters.delivered(&items);
                return Ok(FeedFrame { items, cursor: page.next });
            }
            if at_end {
                tokio::select! {
                    grown = grown(&mut self.position) => grown?,
                    () = tokio::time::sleep_until(self.due) => {}
                    () = self.stopping.cancelled() => {}
                }
            } else {
                // Pages of others' messages may come from memory without a pause: let other tasks run.
                tokio::task::yield_now().await;
            }
        }
    }

    /// The next page, or that of a call that was dropped.
    async fn read(&mut self) -> Result<FeedPage, Error> {
        if let Some(mut position) = self.position.take() {
            self.reading = Some(Work::new(async move {
                let page = position.follower.next(FRAME).await;
                (position, page)
            }));
        }
        let reading = self.reading.as_mut().ok_or_else(lost)?;
        let (position, page) = reading.await;
        (self.reading, self.position) = (None, Some(position));
        page
    }
}

async fn grown(position: &mut Option<Position>) -> Result<(), Error> {
    position.as_mut().ok_or_else(lost)?.follower.grown().await
}

fn lost() -> Error {
    Error::internal("a reader of the feed without a position")
}

impl Meters {
    fn new(order: FeedOrder, clock: Arc<dyn Clock>) -> Self {
        let streams = gauge!(names::STREAMS, "order" => word(order));
        streams.increment(1.0);
        Self {
            order,
            deliveries: counter!(names::DELIVERIES_TOTAL, "order" => word(order)),
            lag: histogram!(names::DELIVERY_LAG_SECONDS, "order" => word(order)),
            streams,
            clock,
        }
    }

    fn delivered(&self, items: &[FeedItem]) {
        let now = self.clock.now();
        self.deliveries.increment(items.len() as u64);
        for FeedItem { message, .. } in items {
            self.lag.record(now.since(message.accepted_at));
            let span = trace::delivery(message.traceparent);
            if !span.is_none() {
                note_messaging(&span, "deliver", "process");
                trace::note(&span, spans::MESSAGE_KEY, message.key.fingerprint());
                trace::note(&span, spans::ORG_ID, message.key.org.as_str().to_owned());
                trace::note(&span, spans::ENVIRONMENT, message.key.env.as_str());
                trace::note(&span, spans::FEED_ORDER, word(self.order));
            }
        }
    }
}

impl Drop for Meters {
    fn drop(&mut self) {
        self.streams.decrement(1.0);
    }
}

fn word(order: FeedOrder) -> &'static str {
    match order {
        FeedOrder::Fast => "fast",
        FeedOrder::Ordered => "ordered",
    }
}

impl FeedFilter {
    fn shows_item(&self, item: &FeedItem) -> bool {
        let key = &item.message.key;
        self.shows(&key.org, key.env)
    }

    fn shows(&self, org: &OrgId, env: Environment) -> bool {
        self.org.as_ref().is_none_or(|own| own == org) && self.env.is_none_or(|own| own == env)
    }
}

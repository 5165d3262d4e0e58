//! What the readers of one process share.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    log::{Log, LogEntry},
    pending::Pending,
};
use crate::{
    domain::{Error, Message, MessageKey, NewMessage},
    store::{
        FeedOrder,
        scylla::{
            core::Core,
            scan::{Attempt, Reference, Standing},
            ticks::{self, Ticks},
        },
    },
    telemetry::names,
};

/// Clocks of other processes may be ahead by so much, and what they accept is still seen at once.
const AHEAD: Duration = Duration::from_secs(65);
/// After so long without anything new, what this process accepts wakes a shard.
const LATELY: Duration = Duration::from_secs(5);

/// The feed's newest part, read once for all readers of the process, and only while there are any.
pub struct Tail {
    pub(super) core: Arc<Core>,
    state: Mutex<State>,
    /// Rung when a log has grown.
    pub(super) grown: watch::Sender<()>,
    /// Rung for the tasks: references came in whose claims are to be looked for; a shard should be looked into; a pass is
    /// wanted; the readers are others.
    pub(super) absorbed: Notify,
    pub(super) polls_wanted: Notify,
    pub(super) pass_wanted: Notify,
    /// The number of the last pass that succeeded.
    passed: watch::Sender<u64>,
    passes: Mutex<Passes>,
}

/// Numbers of passes.
#[derive(Default)]
struct Passes {
    /// The last one that began.
    begun: u64,
    /// The last one for which somebody waits to whom marks of earlier are not enough.
    wanted: u64,
}

/// What one run of the tail knows. A run begins with the first reader and ends with the last one.
#[derive(Default)]
pub(super) struct State {
    /// Which run this is. What an earlier one still had under way is of no use to it.
    run: u64,
    stop: Option<CancellationToken>,
    /// Readers, by order.
    fast: usize,
    ordered: usize,
    /// Everything up to here is in both logs, or was before the run began.
    pub(super) position: Option<Ticks>,
    pub(super) pending: Pending,
    fast_log: Log,
    ordered_log: Log,
    /// The newest attempt that was met, by shard; or a point up to which the shard was read.
    pub(super) newest: Vec<Ticks>,
    /// Shards that met something new since they were last asked about.
    pub(super) busy: BTreeSet<i32>,
    /// When each shard, and any of them, had something new, be it of this process itself.
    met: Vec<Option<Instant>>,
    met_any: Option<Instant>,
    /// Shards that were silent and are to be asked soon.
    pub(super) woken: BTreeSet<i32>,
}

/// A task's hold on one run.
pub(super) struct Run {
    pub(super) tail: Arc<Tail>,
    number: u64,
}

/// A reader's share in the tail.
pub struct Membership {
    tail: Arc<Tail>,
    order: FeedOrder,
}

impl Tail {
    /// A tail without readers.
    pub fn new(core: &Arc<Core>) -> Arc<Self> {
        Arc::new(Self {
            core: Arc::clone(core),
            state: Mutex::default(),
            grown: watch::Sender::default(),
            absorbed: Notify::new(),
            polls_wanted: Notify::new(),
            pass_wanted: Notify::new(),
            passed: watch::Sender::default(),
            passes: Mutex::default(),
        })
    }

    /// Takes part, for a reader of `order`.
    pub fn join(self: &Arc<Self>, order: FeedOrder) -> Membership {
        let mut state = self.state.lock();
        *state.readers(order) += 1;
        if state.stop.is_none() {
            let (run, stop) = (state.run + 1, self.core.stop.child_token());
            let mut fresh = State { run, stop: Some(stop.clone()), ..State::default() };
            (fresh.fast, fresh.ordered) = (state.fast, state.ordered);
            fresh.newest = vec![0; usize::from(self.core.sharding.shards)];
            fresh.met = vec![None; usize::from(self.core.sharding.shards)];
            *state = fresh;
            let run = Run { tail: Arc::clone(self), number: run };
            self.core.tasks.spawn(async move { stop.run_until_cancelled(run.work()).await });
        }
        drop(state);
        self.polls_wanted.notify_one();
        self.absorbed.notify_one();
        Membership { tail: Arc::clone(self), order }
    }

    /// How far everything is in the logs, by a pass that begins now or later.
    ///
    /// # Errors
    /// When the store closes.
    pub async fn fresh_position(&self) -> Result<Ticks, Error> {
        let wanted = {
            let mut passes = self.passes.lock();
            passes.wanted = passes.begun + 1;
            passes.wanted
        };
        self.pass_wanted.notify_one();
        self.position_after(wanted).await
    }

    /// How far everything is in the logs, or was when they began.
    ///
    /// # Errors
    /// When the store closes.
    pub async fn position(&self) -> Result<Ticks, Error> {
        if let Some(position) = self.state.lock().position {
            return Ok(position);
        }
        self.fresh_position().await
    }

    async fn position_after(&self, wanted: u64) -> Result<Ticks, Error> {
        let mut passed = self.passed.subscribe();
        let stop = &self.core.stop;
        // The sender lives as long as this.
        let done = stop.run_until_cancelled(passed.wait_for(|number| *number >= wanted)).await.is_some();
        let position = if done { self.state.lock().position } else { None };
        position.ok_or_else(|| Error::store_unavailable("the store is closed"))
    }

    /// Runs `look` on the log of `order` and the position.
    pub fn look<T>(&self, order: FeedOrder, look: impl FnOnce(&Log, Option<Ticks>) -> T) -> T {
        let state = self.state.lock();
        let log = match order {
            FeedOrder::Fast => &state.fast_log,
            FeedOrder::Ordered => &state.ordered_log,
        };
        look(log, state.position)
    }

    /// This process has accepted `message` by `attempt`: its own readers need not find that out.
    pub fn accepted(&self, attempt: Uuid, message: &NewMessage) {
        let attempt = Attempt::from(attempt);
        let mut state = self.state.lock();
        // Without a position the run has not begun to collect.
        if state.stop.is_none() || state.position.is_none_or(|position| attempt.ticks <= position) {
            return;
        }
        // Of what lies beyond the edge a reader that joins could not know that the others have it already.
        if attempt.ticks > self.edge() || state.pending.is_full() {
            return;
        }
        let content = message.content();
        let bytes = content.body.as_ref().map_or(0, String::len)
            + content.media.as_ref().map_or(0, |media| media.url().as_str().len());
        let message = Arc::new(message.clone().into_message(ticks::time(attempt.ticks)));
        let has_grown = state.accept(attempt, &message, bytes);
        // A sender's next message may come to another process.
        let now = Instant::now();
        let shard = self.core.sharding.shard_of(&message.sender());
        if state.silence_of(shard, now).is_none_or(|silence| silence > LATELY) {
            state.woken.insert(shard);
            self.polls_wanted.notify_one();
        }
        state.meet(shard, now);
        drop(state);
        if has_grown {
            self.grown.send_replace(());
        }
    }

    /// Up to where attempts may lie now.
    pub fn edge(&self) -> Ticks {
        ticks::after(ticks::at(self.core.now()), AHEAD)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Without readers nothing is late; what was measured last must not stand there for ever.
        metrics::gauge!(names::FEED_LAG_SECONDS).set(0.0);
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut state = self.tail.state.lock();
        let readers = state.readers(self.order);
        *readers = readers.saturating_sub(1);
        if state.fast + state.ordered == 0
            && let Some(stop) = state.stop.take()
        {
            stop.cancel();
            // The memory goes with the last reader.
            *state = State { run: state.run, ..State::default() };
        }
    }
}

impl State {
    fn readers(&mut self, order: FeedOrder) -> &mut usize {
        match order {
            FeedOrder::Fast => &mut self.fast,
            FeedOrder::Ordered => &mut self.ordered,
        }
    }

    /// Whether anybody wants messages on sight.
    pub(super) fn has_fast(&self) -> bool {
        self.fast > 0
    }

    /// Whether anybody wants messages in order.
    pub(super) fn has_ordered(&self) -> bool {
        self.ordered > 0
    }

    /// Takes in references of a shard; whether any of them is news. Up to `must` they are taken in however many are pending
    /// already.
    pub(super) fn take_in(
        &mut self,
        shard: i32,
        references: Vec<Reference>,
        now: tokio::time::Instant,
        must: Ticks,
    ) -> bool {
        let Some(position) = self.position else { return false };
        let mut is_news = false;
        for reference in references {
            let at = reference.attempt.ticks;
            if at <= position {
                continue;
            }
            if let Some(newest) = usize::try_from(shard).ok().and_then(|shard| self.newest.get_mut(shard)) {
                *newest = at.max(*newest);
            }
            is_news |= self.pending.insert(reference, now, at <= must);
        }
        if is_news {
            self.busy.insert(shard);
            self.meet(shard, now);
        }
        is_news
    }

    fn meet(&mut self, shard: i32, now: Instant) {
        self.met_any = Some(now);
        if let Some(met) = usize::try_from(shard).ok().and_then(|shard| self.met.get_mut(shard)) {
            *met = Some(now);
        }
    }

    /// For how long there was nothing new in any shard; `None` where there never was.
    pub(super) fn silence(&self, now: Instant) -> Option<Duration> {
        self.met_any.map(|met| now.saturating_duration_since(met))
    }

    /// For how long there was nothing new in a shard; `None` where there never was.
    pub(super) fn silence_of(&self, shard: i32, now: Instant) -> Option<Duration> {
        let met = usize::try_from(shard).ok().and_then(|shard| self.met.get(shard)).copied().flatten();
        met.map(|met| now.saturating_duration_since(met))
    }

    /// A shard was read up to a point and somewhat beyond: polls need not begin before that again.
    pub(super) fn has_read(&mut self, shard: i32, upto: Ticks) {
        if let Some(newest) = usize::try_from(shard).ok().and_then(|shard| self.newest.get_mut(shard)) {
            *newest = upto.max(*newest);
        }
    }

    /// Takes note of what a reference is worth; whether a log has grown.
    pub(super) fn decide(
        &mut self,
        attempt: Attempt,
        key: &MessageKey,
        standing: Standing,
        now: tokio::time::Instant,
    ) -> bool {
        // The position may have passed it since.
        if self.position.is_none_or(|position| attempt.ticks <= position) {
            return false;
        }
        match standing {
            Standing::Undecided => {
                self.pending.postpone(attempt, now);
                false
            }
            Standing::Orphan | Standing::Erased => {
                self.pending.discard(attempt);
                false
            }
            Standing::Lost => {
                self.pending.lose(attempt, key);
                false
            }
            Standing::Accepted { message, bytes } => self.accept(attempt, &Arc::new(message), bytes),
        }
    }

    fn accept(&mut self, attempt: Attempt, message: &Arc<Message>, bytes: usize) -> bool {
        let is_news = self.pending.accept(attempt, message, bytes, self.ordered > 0) && self.fast > 0;
        if is_news {
            self.fast_log.push(LogEntry::Message { attempt, message: Arc::clone(message), bytes });
        }
        is_news
    }

    /// Everything up to `upto` is known, and `messages` are those of it in order: the position moves there.
    pub(super) fn advance(&mut self, upto: Ticks, messages: Vec<(Attempt, Arc<Message>, usize)>) {
        let lost = self.pending.lost_upto(upto);
        let mut in_order: Vec<_> = messages
            .into_iter()
            .map(|(attempt, message, bytes)| ((attempt.ticks, false), LogEntry::Message { attempt, message, bytes }))
            .collect();
        for (attempt, key) in lost {
            // A fast reader's place behind it is the mark that follows: what it was given up to there is before that.
            self.fast_log.push(LogEntry::Lost { attempt, key: key.clone(), behind: upto });
            // Behind whatever is of the same time, so that no message lies between it and the place behind it.
            in_order.push(((attempt.ticks, true), LogEntry::Lost { attempt, key, behind: attempt.ticks }));
        }
        // Stable: of one time, messages stay in their order.
        in_order.sort_by_key(|(place, _)| *place);
        for (_, entry) in in_order {
            self.ordered_log.push(entry);
        }
        self.pending.advance(upto);
        self.position = Some(upto);
        self.fast_log.push(LogEntry::Mark(upto));
        self.ordered_log.push(LogEntry::Mark(upto));
    }
}

impl Run {
    /// Runs `work` on what this run knows; nothing when it is over.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> Option<T> {
        let mut state = self.tail.state.lock();
        (state.run == self.number && state.stop.is_some()).then(|| work(&mut state))
    }

    /// A pass begins; its number, and whether somebody waits for it to whom marks of earlier are not enough.
    pub(super) fn begin_pass(&self) -> (u64, bool) {
        let mut passes = self.tail.passes.lock();
        passes.begun += 1;
        (passes.begun, passes.wanted > *self.tail.passed.borrow())
    }

    /// A pass succeeded.
    pub(super) fn end_pass(&self, number: u64) {
        self.tail.passed.send_replace(number);
    }
}

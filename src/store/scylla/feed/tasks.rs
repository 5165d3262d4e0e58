//! What the tail does while there are readers besides quick polls: passes over the whole window, and looking for the claims
//! of what was found.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, sleep, sleep_until};

use super::tail::Run;
use crate::{
    domain::{Error, Message, MessageKey},
    store::scylla::{
        error::Failed,
        scan::{Attempt, Standing, concurrently},
        ticks::{self, Ticks},
    },
    telemetry::names,
};

/// Claims that are looked for at once.
const LOOKS: usize = 64;
/// The position moves by so much at a time when it is far behind.
const STEP: Duration = Duration::from_secs(10);
/// So much of the window is read in every pass; what is older, only when the position moves over it.
pub(super) const RECENT: Duration = Duration::from_secs(60);
/// So many bytes of messages are read again at once for readers in order.
const READ_AGAIN: usize = 16 * 1024 * 1024;
/// After a pass that failed.
const AGAIN: Duration = Duration::from_millis(500);

impl Run {
    /// Works until it is dropped.
    pub(super) async fn work(self) {
        tokio::join!(self.passes(), self.polls(), self.looks());
    }

    async fn passes(&self) {
        let every = self.tail.core.options.cycle.min(Duration::from_secs(2));
        loop {
            let ((number, is_fresh), begun) = (self.begin_pass(), Instant::now());
            let pause = match self.pass(is_fresh, every).await {
                Ok(()) => {
                    self.end_pass(number);
                    // A long pass is not made longer by the next one.
                    every.max(begun.elapsed() * 2)
                }
                Err(error) => {
                    tracing::warn!(
                        cause = error.cause().map(tracing::field::display),
                        "the feed cannot be read on now"
                    );
                    AGAIN
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.tail.pass_wanted.notified() => {}
            }
        }
    }

    /// Reads the whole window, and moves the position to where every slot is resolved: by what is read now if `is_fresh`, or
    /// while something waits for it.
    async fn pass(&self, is_fresh: bool, every: Duration) -> Result<(), Error> {
        let core = &*self.tail.core;
        let waits = self.with(|state| !state.pending.is_empty()).unwrap_or_default();
        let upto =
            if is_fresh || waits { core.resolved_upto().await? } else { core.known_resolved_upto(every * 2).await? };
        let now = ticks::at(core.now());
        metrics::gauge!(names::FEED_LAG_SECONDS).set(now.saturating_sub(upto) as f64 / ticks::PER_SECOND as f64);
        let position = self.with(|state| *state.position.get_or_insert(upto));
        let Some(mut position) = position else { return Ok(()) };
        while ticks::after(position, STEP) < upto {
            position = self.catch_up(position, upto).await?;
        }
        let next = upto.max(position);
        let from = if next > position { position } else { position.max(ticks::before(now, RECENT)) };
        // What lies above the mark is read in the same reads: they began after the mark was read.
        self.read(from, self.tail.edge(), next).await?;
        if next > position {
            self.settle(next).await?;
        }
        Ok(())
    }

    /// Moves the position over a range that lies below `upto`, as after an outage of the resolver; where it then is. Buckets
    /// without rows are passed over: which have some is read after the mark was.
    async fn catch_up(&self, mut position: Ticks, upto: Ticks) -> Result<Ticks, Error> {
        let scan_plan = self.tail.core.scan_plan(&self.shards(), position, upto).await?;
        for (bucket, shards) in scan_plan.buckets {
            let end = scan_plan.upto.min(ticks::bucket_end(bucket));
            position = position.max(ticks::bucket_start(bucket) - 1);
            while position < end {
                let next = end.min(ticks::after(position, STEP));
                let reading = shards.iter().map(|shard| self.read_bucket(*shard, bucket, position, next, next));
                concurrently(reading).await?;
                self.settle(next).await?;
                position = next;
            }
        }
        if position < scan_plan.upto {
            self.settle(scan_plan.upto).await?;
        }
        Ok(scan_plan.upto)
    }

    /// All shards.
    pub(super) fn shards(&self) -> Vec<i32> {
        (0..i32::from(self.tail.core.sharding.shards)).collect()
    }

    /// Takes in every reference in (`from`, `upto`].
    async fn read(&self, from: Ticks, upto: Ticks, must: Ticks) -> Result<(), Failed> {
        let (core, all) = (&*self.tail.core, self.shards());
        let mut from = from;
        while from < upto {
            let scan_plan = core.scan_plan(&all, from, upto).await?;
            for (bucket, shards) in scan_plan.buckets {
                concurrently(shards.into_iter().map(|shard| self.read_bucket(shard, bucket, from, upto, must))).await?;
            }
            from = scan_plan.upto;
        }
        Ok(())
    }

    pub(super) async fn read_bucket(
        &self,
        shard: i32,
        bucket: i32,
        from: Ticks,
        upto: Ticks,
        must: Ticks,
    ) -> Result<(), Failed> {
        let mut after = ticks::last(from);
        loop {
            let page = self.tail.core.references(shard, bucket, after, upto).await?;
            let Some(last) = page.last else { return Ok(()) };
            after = last;
            if self.with(|state| state.take_in(shard, page.references, Instant::now(), must)).unwrap_or_default() {
                self.tail.absorbed.notify_one();
            }
            if !page.is_full {
                return Ok(());
            }
        }
    }

    /// Finds out what every reference up to `upto` is worth, and moves the position there.
    async fn settle(&self, upto: Ticks) -> Result<(), Error> {
        let undecided = self.with(|state| state.pending.undecided_upto(upto)).unwrap_or_default();
        for batch in undecided.chunks(LOOKS) {
            let found = self.stand(batch).await?;
            let has_grown = self.with(|state| {
                found.into_iter().zip(batch).fold(false, |has_grown, ((attempt, standing), (_, key))| {
                    let standing = match standing {
                        // Up to here a reference without its claim never gets one.
                        Standing::Undecided => Standing::Orphan,
                        standing @ (Standing::Orphan
                        | Standing::Erased
                        | Standing::Lost
                        | Standing::Accepted { .. }) => standing,
                    };
                    state.decide(attempt, key, standing, Instant::now()) || has_grown
                })
            });
            self.ring(has_grown.unwrap_or_default());
        }
        loop {
            let next =
                self.with(|state| if state.has_ordered() { state.pending.within(upto, READ_AGAIN) } else { upto });
            let next = next.unwrap_or(upto);
            self.move_to(next).await?;
            if next >= upto {
                return Ok(());
            }
        }
    }

    /// Moves the position to `upto`, up to where it is known what every reference is worth.
    async fn move_to(&self, upto: Ticks) -> Result<(), Error> {
        // Messages that were not kept are read again; who joins meanwhile may want still others.
        let mut read = BTreeMap::<Attempt, (Arc<Message>, usize)>::new();
        loop {
            let missing = self.with(|state| {
                let settled = if state.has_ordered() { state.pending.settled_upto(upto) } else { Vec::new() };
                let (mut messages, mut missing) = (Vec::with_capacity(settled.len()), Vec::new());
                for settled in settled {
                    match settled.message.or_else(|| read.get(&settled.attempt).cloned()) {
                        Some((message, bytes)) => messages.push((settled.attempt, message, bytes)),
                        None => missing.push((settled.attempt, settled.key)),
                    }
                }
                if missing.is_empty() {
                    state.advance(upto, messages);
                }
                missing
            });
            match missing {
                Some(missing) if !missing.is_empty() => {
                    for ((attempt, standing), (_, key)) in self.stand(&missing).await?.into_iter().zip(&missing) {
                        match standing {
                            Standing::Accepted { message, bytes } => {
                                read.insert(attempt, (Arc::new(message), bytes));
                            }
                            Standing::Lost => {
                                self.with(|state| state.pending.lose(attempt, key));
                            }
                            // Erased since: there is nothing to deliver any more.
                            Standing::Undecided | Standing::Orphan | Standing::Erased => {
                                self.with(|state| state.pending.forget(attempt));
                            }
                        }
                    }
                }
                Some(_) | None => break,
            }
        }
        self.ring(true);
        Ok(())
    }

    async fn stand(&self, references: &[(Attempt, MessageKey)]) -> Result<Vec<(Attempt, Standing)>, Error> {
        let core = &*self.tail.core;
        let standings = concurrently(references.iter().map(|(attempt, key)| core.standing(attempt.id, key))).await?;
        Ok(references.iter().map(|(attempt, _)| *attempt).zip(standings).collect())
    }

    fn ring(&self, has_grown: bool) {
        if has_grown {
            self.tail.grown.send_replace(());
        }
    }

    /// Looks for claims as they fall due.
    async fn looks(&self) {
        let mut looking = FuturesUnordered::new();
        loop {
            let room = LOOKS - looking.len();
            let taken = self.with(|state| {
                // Without readers who want them on sight, a pass finds them out in good time.
                if !state.has_fast() {
                    return (Vec::new(), None);
                }
                (state.pending.take_due(Instant::now(), room), state.pending.next_due())
            });
            let Some((due, next)) = taken else { return };
            for (attempt, key) in due {
                looking.push(self.look(attempt, key));
            }
            let idle = looking.is_empty();
            tokio::select! {
                Some(()) = looking.next(), if !idle => {}
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() && looking.len() < LOOKS => {}
                () = self.tail.absorbed.notified() => {}
            }
        }
    }

    async fn look(&self, attempt: Attempt, key: MessageKey) {
        let standing = match self.tail.core.standing(attempt.id, &key).await {
            Ok(standing) => standing,
            Err(error) => {
                tracing::debug!(cause = error.cause().map(tracing::field::display), "a claim could not be read");
                Standing::Undecided
            }
        };
        let has_grown = self.with(|state| state.decide(attempt, &key, standing, Instant::now()));
        self.ring(has_grown.unwrap_or_default());
    }
}

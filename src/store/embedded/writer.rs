//! The one writer: takes all submissions that wait, commits them as one batch with one sync, then answers them.
//!
//! While it waits for the disk, the next group gathers; a lone submission waits for nobody. A submission was looked up
//! by its caller first, in everything that was durable then. The writer therefore looks only among what was accepted
//! since, in memory: that look-up is complete because the caller's `checked` sequence is read before its look-up, and
//! everything up to a published sequence is applied before it is published.

use std::{sync::Arc, time::Duration};

use fjall::{PersistMode, Slice};
use tokio::runtime::Handle;

use super::{
    engine::Engine,
    keys,
    mark::MarkFile,
    meters::Meters,
    queue::{Import, Opening, Order, Reply, Submission, Work},
    recent::Accepted,
    retention,
    shared::Shared,
    unindexed::Entry,
};
use crate::{
    domain::{Error, Timestamp},
    store::{Outcome, record::View},
};

/// `fdatasync` is enough: it also makes durable what is needed to read the data back, the size of a journal that grew
/// and the blocks of one that was laid out in advance. Times of the file, which it leaves out, mean nothing here.
const DURABLE: PersistMode = PersistMode::SyncData;

/// Bytes of messages that one sync makes durable at most; bounds what a group holds in memory.
const GROUP_BYTES: usize = 4 * 1024 * 1024;

/// The writer's own state.
pub struct Writer {
    shared: Arc<Shared>,
    engine: Arc<Engine>,
    mark: Arc<MarkFile>,
    keys: keys::Digest,
    last: u64,
    last_placed_at: Timestamp,
    meters: Meters,
}

type Answers = Vec<(Reply<Outcome>, Result<Outcome, Error>)>;

impl Writer {
    /// A writer that goes on after the sequence and the time of the last place.
    pub fn new(
        shared: Arc<Shared>,
        engine: Arc<Engine>,
        mark: Arc<MarkFile>,
        keys: keys::Digest,
        last_placed_at: Timestamp,
    ) -> Self {
        let last = shared.durable();
        Self { shared, engine, mark, keys, last, last_placed_at, meters: Meters::new() }
    }

    /// Works until the queue is closed and empty.
    pub fn run(mut self) {
        let mut work = Work::default();
        loop {
            self.shared.queue.take(&mut work);
            for order in work.orders.drain(..) {
                self.obey(order);
            }
            let mut waiting = work.submissions.drain(..).peekable();
            while waiting.peek().is_some() {
                let mut bytes = 0;
                let group = std::iter::from_fn(|| {
                    let fits = |next: &Submission| bytes == 0 || bytes + next.draft.len() <= GROUP_BYTES;
                    let next = waiting.next_if(fits)?;
                    bytes += next.draft.len();
                    Some(next)
                });
                let limit = self.shared.options.group_messages.max(1);
                self.accept(group.take(limit));
            }
            drop(waiting);
            if work.closed {
                return;
            }
        }
    }

    /// Decides a group, makes it durable and answers it.
    fn accept(&mut self, group: impl Iterator<Item = Submission>) {
        if let Err(refusal) = self.shared.check_acceptance() {
            let cause = refusal.cause().map_or_else(String::new, ToString::to_string);
            for submission in group {
                let _ = submission.reply.send(Err(Error::store_unavailable(cause.as_str())));
            }
            return;
        }
        let clock = self.shared.clock.now();
        // Never back along the sequence, whatever the clock does and whatever is imported: the feed finds a time by halving.
        let mut placed_at = self.last_placed_at;
        let first = self.last + 1;
        let mut count = 0;
        let mut batch = self.engine.db.batch().durability(Some(DURABLE));
        let mut entries = Vec::new();
        let (mut known, mut decided): (Answers, Answers) = (Vec::new(), Vec::new());
        let (mut runtime, mut waiting) = (None, Vec::new());
        for submission in group {
            let sequence = first + count;
            let found = self.find(&submission, clock.max(placed_at));
            let Submission { hash, sender, fingerprint, draft, import, reply, runtime: callers, span, .. } = submission;
            runtime = Some(callers);
            match found {
                Ok(None) => {
                    // A time in the future, of another machine's clock, must not drag along all that follows.
                    placed_at = placed_at.max(import.map_or(clock, |import| import.accepted_at.min(clock)));
                    let (record, accepted_at) = match import {
                        None => (draft.finish(sequence, placed_at), placed_at),
                        Some(Import { accepted_at, in_feed }) => {
                            (draft.finish_import(sequence, placed_at, accepted_at, in_feed), accepted_at)
                        }
                    };
                    batch.insert(&self.engine.messages, sequence.to_be_bytes(), Slice::from(record));
                    entries.push(Entry { sequence, place: hash.place, sender });
                    self.shared.recent.insert(&hash, Accepted::new(&hash, sequence, accepted_at, fingerprint));
                    count += 1;
                    // Few are traced.
                    if !span.is_none() {
                        waiting.push(span);
                    }
                    decided.push((reply, Ok(Outcome::Accepted(self.shared.acceptance(accepted_at)))));
                }
                Ok(Some((outcome, named))) if named < first => known.push((reply, Ok(outcome))),
                // It names a message of this very group, which is not durable yet.
                Ok(Some((outcome, _))) => decided.push((reply, Ok(outcome))),
                Err(error) => known.push((reply, Err(error))),
            }
        }
        let Some(runtime) = runtime else { return };
        answer(known, &runtime, None);
        if count == 0 {
            return;
        }
        let last = self.last + count;
        self.shared.set_committing(true);
        let committed = self.meters.measure(&waiting, count, || batch.commit());
        self.shared.set_committing(false);
        // Told to the exporter before their callers go on.
        drop(waiting);
        match committed {
            Ok(()) => {
                self.last = last;
                self.last_placed_at = placed_at;
                self.shared.unindexed.extend(entries);
                self.shared.publish(last);
                // Those who are answered now are likely to submit again at once.
                let opening = (decided.len() > 1).then(|| self.shared.queue.opening());
                answer(decided, &runtime, opening);
                self.bound_memory();
            }
            Err(error) => {
                // Never tried again: after a failed sync nobody knows what the disk holds.
                let why = format!("a group of messages could not be made durable: {error}");
                for (_, result) in &mut decided {
                    *result = Err(Error::store_unavailable(why.as_str()));
                }
                self.shared.fail(why);
                answer(decided, &runtime, None);
            }
        }
    }

    /// The message that makes `submission` a duplicate, and its sequence.
    fn find(&self, submission: &Submission, now: Timestamp) -> Result<Option<(Outcome, u64)>, Error> {
        let Submission { key, hash, checked, .. } = submission;
        if let Some(known) = self.shared.find_recent(hash, || now)? {
            return Ok(Some((self.shared.duplicate(known.accepted_at, known.fingerprint), known.sequence)));
        }
        if *checked >= self.shared.recent.floor() {
            return Ok(None);
        }
        // It waited so long that what was accepted since is not all remembered.
        let durable = self.shared.durable();
        let read = |view: View<'_>| Ok(self.shared.duplicate(view.accepted_at, view.fingerprint));
        let found = self.shared.find_indexed(&self.engine, hash, key, durable, read)?;
        Ok(found.map(|outcome| (outcome, durable)))
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::CreateKey(record, reply) => {
                let result = self.change_keys(|digest, engine| keys::create(digest, engine, &record));
                let _ = reply.send(result);
            }
            Order::RevokeKey(id, at, reply) => {
                let result = self.change_keys(|digest, engine| keys::revoke(digest, engine, &id, at));
                let _ = reply.send(result);
            }
            Order::TouchKeys(used, reply) => {
                let _ = reply.send(self.check().and_then(|()| keys::touch(&self.engine, &used)));
            }
            Order::Retain(reply) => {
                let result = self.check().and_then(|()| retention::advance(&self.shared, &self.engine, self.last));
                let _ = reply.send(result);
            }
        }
    }

    /// On a disk that is nearly full, orders are still obeyed: a key must be revocable, and retention makes room.
    fn check(&self) -> Result<(), Error> {
        self.shared.check_failure()
    }

    /// Changes a key durably, and the mark with it: a key is never lost unnoticed, not even the last one.
    fn change_keys<T>(
        &mut self,
        change: impl FnOnce(&mut keys::Digest, &Engine) -> Result<keys::Change<T>, Error>,
    ) -> Result<T, Error> {
        self.check()?;
        match change(&mut self.keys, &self.engine)? {
            keys::Change::None(value) => Ok(value),
            keys::Change::Batch(batch, value) => {
                let outcome =
                    batch.durability(Some(DURABLE)).commit().map_err(|error| error.to_string()).and_then(|()| {
                        self.shared.key_mutations.store(self.keys.mutations, std::sync::atomic::Ordering::Release);
                        self.mark.write(&self.shared, false).map_err(|error| error.to_string())
                    });
                match outcome {
                    Ok(()) => Ok(value),
                    Err(error) => {
                        let why = format!("a key could not be made durable: {error}");
                        self.shared.fail(why.clone());
                        Err(Error::store_unavailable(why))
                    }
                }
            }
        }
    }

    /// Has what is in memory written to tables when it is full, and waits when that takes too long.
    fn bound_memory(&self) {
        let is_full = |times| self.shared.fullness(&self.engine) >= times;
        if !is_full(1.0) {
            return;
        }
        self.shared.upkeep.ring();
        while is_full(2.0) && !self.shared.has_failed() && self.shared.rotated.sleep(Duration::from_millis(100)) {}
    }
}

/// Completes a group's futures from inside the runtime: one wake-up from here instead of one a message. Then lets the
/// next group in, when whoever was answered has had time to join it.
fn answer(mut answers: Answers, runtime: &Handle, opening: Option<Opening>) {
    match answers.len() {
        0 => {}
        1 => {
            if let Some((reply, result)) = answers.pop() {
                let _ = reply.send(result);
            }
        }
        _ => {
            runtime.spawn(async move {
                for (reply, result) in answers {
                    let _ = reply.send(result);
                }
                if let Some(opening) = opening {
                    opening.open_after_others().await;
                }
            });
        }
    }
}

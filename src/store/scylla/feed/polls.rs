//! Quick polls of the newest end of every shard, for those who want messages on sight.
//!
//! Which shards have rows there is read for all of them at once, where that is cheap (`scan_plan`); only these are polled.
//! A shard that had something new lately is polled often, one that is silent ever more rarely. What polls do not meet, a
//! pass does: they make delivery quick, not complete.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, sleep, sleep_until};

use super::{tail::Run, tasks::RECENT};
use crate::store::scylla::{
    error::Failed,
    ticks::{self, Ticks},
};

/// A shard that had something new lately is polled after this, and for so long after it.
const BUSY: Duration = Duration::from_millis(100);
const LATELY: Duration = Duration::from_secs(5);
/// Any other after this at least; the longer it is silent, the later: after so much of its silence, and this at most. Which
/// shards have rows is asked in the same way, by the silence of all.
const IDLE: Duration = Duration::from_millis(300);
const SILENCE_PART: u32 = 30;
const SILENT: Duration = Duration::from_millis(1500);
/// A poll begins so long before the newest attempt: others may have been under way.
const OVERLAP: Duration = Duration::from_millis(500);
/// Polls that are under way at once.
const POLLS: usize = 16;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ask {
    /// Which shards have rows.
    Plan,
    /// What is new in a shard.
    Shard(i32),
}

/// What was asked.
enum Asked {
    Plan(Result<BTreeMap<i32, BTreeSet<i32>>, Failed>),
    Shard(i32),
}

/// When what is asked.
#[derive(Debug, Default)]
struct Schedule {
    due: BTreeSet<(Instant, Ask)>,
    at: BTreeMap<Ask, Instant>,
    under_way: BTreeSet<Ask>,
    /// To be asked again at once when it comes back.
    again: BTreeSet<Ask>,
    /// The buckets that have rows, by shard.
    open: BTreeMap<i32, BTreeSet<i32>>,
}

impl Schedule {
    /// Begins anew with a plan.
    fn restart(&mut self, now: Instant) {
        self.open.clear();
        self.due.clear();
        self.at.clear();
        self.hasten(Ask::Plan, now);
    }

    /// What is due; it must be handed to [`Schedule::back`].
    fn take(&mut self, now: Instant) -> Option<Ask> {
        let (_, ask) = self.due.first().copied().filter(|(at, _)| *at <= now)?;
        self.forget(ask);
        self.under_way.insert(ask);
        Some(ask)
    }

    /// When something is due.
    fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// It was asked at `now`, and is to be asked again after `pause`.
    fn back(&mut self, ask: Ask, now: Instant, pause: Duration) {
        self.under_way.remove(&ask);
        let pause = if self.again.remove(&ask) { Duration::ZERO } else { pause };
        self.hasten(ask, now + pause);
    }

    /// Asks no later than `at`; of a shard without rows, whether it has some by then.
    fn hasten(&mut self, ask: Ask, at: Instant) {
        let ask = match ask {
            Ask::Shard(shard) if !self.open.contains_key(&shard) => Ask::Plan,
            Ask::Shard(_) | Ask::Plan => ask,
        };
        if self.under_way.contains(&ask) {
            return;
        }
        if self.at.get(&ask).is_none_or(|due| at < *due) {
            self.forget(ask);
            self.due.insert((at, ask));
            self.at.insert(ask, at);
        }
    }

    fn forget(&mut self, ask: Ask) {
        if let Some(at) = self.at.remove(&ask) {
            self.due.remove(&(at, ask));
        }
    }

    /// These buckets have rows, by shard. Those that are new are polled at once, but not all in one moment.
    fn plan(&mut self, open: BTreeMap<i32, BTreeSet<i32>>, shards: u16, now: Instant) {
        let before = mem::replace(&mut self.open, open);
        let fresh = |(shard, buckets): (&i32, &BTreeSet<i32>)| {
            let is_fresh = before.get(shard).is_none_or(|before| !buckets.is_subset(before));
            is_fresh.then_some(*shard)
        };
        let fresh: Vec<_> = self.open.iter().filter_map(fresh).collect();
        for (number, shard) in (0..).zip(fresh) {
            let ask = Ask::Shard(shard);
            if self.under_way.contains(&ask) {
                self.again.insert(ask);
            }
            self.hasten(ask, now + IDLE * number / u32::from(shards.max(1)));
        }
        for shard in before.keys().filter(|shard| !self.open.contains_key(shard)).copied().collect::<Vec<_>>() {
            self.forget(Ask::Shard(shard));
        }
    }
}

/// After which time to ask again what was silent for so long; without a time, ever since.
fn pause(silence: Option<Duration>) -> Duration {
    silence.map_or(SILENT, |silence| (silence / SILENCE_PART).clamp(IDLE, SILENT))
}

impl Run {
    /// Looks into the newest end of every shard, more often where there is something.
    pub(super) async fn polls(&self) {
        let mut schedule = Schedule::default();
        let mut was_wanted = false;
        let mut busy_until = BTreeMap::<i32, Instant>::new();
        let mut asking = FuturesUnordered::new();
        loop {
            let Some((wanted, woken)) = self.with(|state| {
                let wanted = state.has_fast() && state.position.is_some() && !state.pending.is_full();
                (wanted, mem::take(&mut state.woken))
            }) else {
                return;
            };
            let now = Instant::now();
            if wanted && !was_wanted {
                schedule.restart(now);
            }
            was_wanted = wanted;
            for shard in woken {
                schedule.hasten(Ask::Shard(shard), now + IDLE);
            }
            while wanted && asking.len() < POLLS {
                let Some(ask) = schedule.take(now) else { break };
                let open = match ask {
                    Ask::Shard(shard) => schedule.open.get(&shard).cloned().unwrap_or_default(),
                    Ask::Plan => BTreeSet::new(),
                };
                let is_busy =
                    matches!(ask, Ask::Shard(shard) if busy_until.get(&shard).is_some_and(|until| *until > now));
                asking.push(self.ask(ask, open, is_busy, schedule.open.is_empty()));
            }
            let next = schedule.next().unwrap_or(now).max(now);
            let (idle, is_due) = (asking.is_empty(), schedule.next().is_some());
            tokio::select! {
                Some(asked) = asking.next(), if !idle => {
                    let now = Instant::now();
                    match asked {
                        Asked::Plan(open) => {
                            let silence = self.with(|state| state.silence(now)).flatten();
                            // The next sender may be one that nobody met yet.
                            let is_busy = silence.is_some_and(|silence| silence < LATELY);
                            schedule.back(Ask::Plan, now, if is_busy { BUSY } else { pause(silence) });
                            match open {
                                Ok(open) => schedule.plan(open, self.tail.core.sharding.shards, now),
                                Err(failed) => tracing::debug!(%failed, "it is not known which shards have rows"),
                            }
                        }
                        Asked::Shard(shard) => {
                            if self.with(|state| state.busy.remove(&shard)).unwrap_or_default() {
                                busy_until.insert(shard, now + LATELY);
                            }
                            let is_busy = busy_until.get(&shard).is_some_and(|until| *until > now);
                            let silence = self.with(|state| state.silence_of(shard, now)).flatten();
                            let pause = if is_busy { BUSY } else { pause(silence) };
                            schedule.back(Ask::Shard(shard), now, pause);
                        }
                    }
                }
                () = sleep_until(next), if wanted && is_due && asking.len() < POLLS => {}
                // Nobody wants to be told at once now; whoever joins says so.
                () = sleep(IDLE), if !wanted => {}
                () = self.tail.polls_wanted.notified() => {}
            }
        }
    }

    async fn ask(&self, ask: Ask, open: BTreeSet<i32>, is_busy: bool, is_first: bool) -> Asked {
        match ask {
            Ask::Plan => Asked::Plan(self.open_buckets(is_first).await),
            Ask::Shard(shard) => {
                self.poll(shard, &open, is_busy).await;
                Asked::Shard(shard)
            }
        }
    }

    /// The buckets of late that have rows, by shard; at first from the position on.
    async fn open_buckets(&self, is_first: bool) -> Result<BTreeMap<i32, BTreeSet<i32>>, Failed> {
        let core = &*self.tail.core;
        let now = ticks::at(core.now());
        let position = self.with(|state| state.position).flatten().unwrap_or(now);
        let mut from = if is_first { position } else { position.max(ticks::before(now, RECENT)) };
        let (all, upto) = (self.shards(), self.tail.edge());
        let mut open = BTreeMap::<i32, BTreeSet<i32>>::new();
        while from < upto {
            let scan_plan = core.scan_plan(&all, from, upto).await?;
            for (bucket, shards) in scan_plan.buckets {
                for shard in shards {
                    open.entry(shard).or_default().insert(bucket);
                }
            }
            from = scan_plan.upto;
        }
        Ok(open)
    }

    /// Takes in what is new of a shard.
    async fn poll(&self, shard: i32, open: &BTreeSet<i32>, is_busy: bool) {
        let now = ticks::at(self.tail.core.now());
        let from: Option<Ticks> = self.with(|state| {
            let newest = usize::try_from(shard).ok().and_then(|shard| state.newest.get(shard)).copied();
            // One that is ahead of its time must not hide the others.
            ticks::before(newest.unwrap_or_default().min(now), OVERLAP).max(state.position.unwrap_or(now))
        });
        let Some(from) = from else { return };
        let (first, last) = (ticks::bucket(from.saturating_add(1)), ticks::bucket(ticks::after(now, OVERLAP)));
        for bucket in first..=last {
            // Where messages come all the time the next bucket is likely to have some before that is known.
            let may_have_rows = open.contains(&bucket) || (is_busy && bucket == last);
            if !may_have_rows {
                continue;
            }
            if let Err(failed) = self.read_bucket(shard, bucket, from, self.tail.edge(), 0).await {
                tracing::debug!(shard, %failed, "a shard could not be looked into");
                return;
            }
        }
        // The position may stay far behind. What comes late below this is met when it moves.
        self.with(|state| state.has_read(shard, ticks::before(now, RECENT)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(buckets: &[(i32, i32)]) -> BTreeMap<i32, BTreeSet<i32>> {
        let mut open = BTreeMap::<i32, BTreeSet<i32>>::new();
        for (shard, bucket) in buckets {
            open.entry(*shard).or_default().insert(*bucket);
        }
        open
    }

    #[test]
    fn the_longer_it_was_silent_the_later_a_shard_is_polled_again() {
        let seconds = [0, 9, 30, 45, 3600].map(|seconds| pause(Some(Duration::from_secs(seconds))).as_millis());
        assert_eq!(seconds, [300, 300, 1000, 1500, 1500]);
        assert_eq!(pause(None), SILENT);
    }

    #[test]
    fn only_shards_with_rows_are_polled_and_those_with_a_new_bucket_at_once() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.restart(start);
        assert_eq!((schedule.take(start), schedule.take(start)), (Some(Ask::Plan), None));
        schedule.back(Ask::Plan, start, SILENT);
        schedule.plan(open(&[(3, 7)]), 64, start);
        assert_eq!((schedule.take(start), schedule.take(start)), (Some(Ask::Shard(3)), None));
        schedule.back(Ask::Shard(3), start, SILENT);
        // Nothing new, something new, and nothing any more.
        schedule.plan(open(&[(3, 7)]), 64, start);
        assert_eq!(schedule.take(start), None);
        schedule.plan(open(&[(3, 7), (3, 8)]), 64, start);
        assert_eq!(schedule.take(start), Some(Ask::Shard(3)));
        // It came to know of the next bucket while it was under way.
        schedule.plan(open(&[(3, 8), (3, 9)]), 64, start);
        schedule.back(Ask::Shard(3), start, SILENT);
        assert_eq!(schedule.take(start), Some(Ask::Shard(3)));
        schedule.plan(open(&[]), 64, start);
        schedule.back(Ask::Shard(3), start, SILENT);
        assert_eq!(schedule.take(start + SILENT), Some(Ask::Plan));
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn what_the_process_accepts_wakes_its_shard() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.plan(open(&[(3, 7)]), 64, start);
        assert_eq!(schedule.take(start), Some(Ask::Shard(3)));
        schedule.back(Ask::Shard(3), start, SILENT);
        schedule.hasten(Ask::Shard(3), start + IDLE);
        // Of a shard that had no rows so far, the plan tells.
        schedule.hasten(Ask::Shard(4), start + IDLE);
        let taken = [schedule.take(start + IDLE), schedule.take(start + IDLE), schedule.take(start + IDLE)];
        assert_eq!(taken, [Some(Ask::Plan), Some(Ask::Shard(3)), None]);
    }
}

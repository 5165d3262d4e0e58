//! A lease on a slot, without I/O: who may take it, who may act on it, what its next statement says.
//!
//! In the manner of the Kinesis client library: no lifetime in the database and no wall clock. Each statement about a
//! lease names the last epoch and beat that its sender knows, so that one which was stuck and runs much later changes
//! nothing. The epoch fences off an owner that was deposed while it slept.

use std::time::Duration;

use tokio::time::Instant;

use super::{lwt::Row, ticks::Ticks};

/// A lease whose epoch and beat stood still for so long, by the observer's own monotonic clock, may be taken.
pub const STALE: Duration = Duration::from_secs(10);
/// An owner stops acting so long after the start of its last renewal that succeeded: well before anyone may take over.
pub const ACT: Duration = Duration::from_secs(6);

/// The row of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Who has it; nobody if empty.
    pub owner: String,
    /// One more with each taking.
    pub epoch: i64,
    /// One more with each statement that succeeds.
    pub beat: i64,
    /// No claim is begun any more for an attempt up to here that was not checked before.
    pub resolving_upto: Ticks,
    /// Every reference up to here has its claim or never will.
    pub resolved_upto: Ticks,
}

impl Lease {
    /// Reads the row; `None` where a column is missing.
    pub fn read(row: &Row) -> Option<Self> {
        Some(Self {
            // An empty text may come back as none.
            owner: row.text("owner").unwrap_or_default().to_owned(),
            epoch: row.bigint("epoch")?,
            beat: row.bigint("beat")?,
            resolving_upto: row.bigint("resolving_upto")?,
            resolved_upto: row.bigint("resolved_upto")?,
        })
    }
}

/// Watches a lease of another process, or of nobody.
#[derive(Debug, Default)]
pub struct Watch {
    /// The epoch and beat that were seen last, and since when they stand still.
    seen: Option<(i64, i64, Instant)>,
}

impl Watch {
    /// Takes note of a lease that was read between `begun` and `ended`; whether it may be taken.
    pub fn observe(&mut self, lease: &Lease, begun: Instant, ended: Instant) -> bool {
        let since = match self.seen {
            Some((epoch, beat, since)) if (epoch, beat) == (lease.epoch, lease.beat) => since,
            Some(_) | None => {
                self.seen = Some((lease.epoch, lease.beat, ended));
                ended
            }
        };
        lease.owner.is_empty() || begun.saturating_duration_since(since) >= STALE
    }
}

/// The statement that takes a lease, in the words of the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taking {
    /// What the row must have.
    pub expected_epoch: i64,
    /// What the row must have.
    pub expected_beat: i64,
}

impl Taking {
    /// Takes the lease as it was read.
    pub fn of(lease: &Lease) -> Self {
        Self { expected_epoch: lease.epoch, expected_beat: lease.beat }
    }

    /// The epoch it gives the row.
    pub fn epoch(self) -> i64 {
        self.expected_epoch.saturating_add(1)
    }

    /// The beat it gives the row.
    pub fn beat(self) -> i64 {
        self.expected_beat.saturating_add(1)
    }
}

/// A lease that this process has, as far as it knows.
#[derive(Debug)]
pub struct Held {
    epoch: i64,
    beat: i64,
    resolving_upto: Ticks,
    resolved_upto: Ticks,
    /// What this owner has resolved; it is published with the next renewal.
    finished: Ticks,
    /// When the last renewal that succeeded was begun.
    renewed: Instant,
    /// Whether the row is known: the last statement was answered, or the row was settled since.
    is_clear: bool,
}

/// The statement that renews a lease, in the words of the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    /// What the row must have.
    pub expected_epoch: i64,
    /// What the row must have.
    pub expected_beat: i64,
    /// What it then has.
    pub beat: i64,
    /// What it then has.
    pub resolving_upto: Ticks,
    /// What it then has.
    pub resolved_upto: Ticks,
}

impl Held {
    /// The lease after a taking of `lease` was carried out that was begun at `begun`.
    pub fn taken(lease: &Lease, taking: Taking, begun: Instant) -> Self {
        Self {
            epoch: taking.epoch(),
            beat: taking.beat(),
            resolving_upto: lease.resolving_upto,
            resolved_upto: lease.resolved_upto,
            finished: lease.resolved_upto,
            renewed: begun,
            is_clear: true,
        }
    }

    /// Whether the owner may act on the lease at `now`.
    pub fn may_act(&self, now: Instant) -> bool {
        self.is_clear && now.saturating_duration_since(self.renewed) < ACT
    }

    /// Whether the row must be settled before the next statement.
    pub fn is_clear(&self) -> bool {
        self.is_clear
    }

    /// The epoch.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// The last beat that is known.
    pub fn beat(&self) -> i64 {
        self.beat
    }

    /// Where the next scan begins.
    pub fn finished(&self) -> Ticks {
        self.finished
    }

    /// How far a scan may go that is begun now: this was published before.
    pub fn resolving_upto(&self) -> Ticks {
        self.resolving_upto
    }

    /// For how long the lease was not renewed.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.renewed)
    }

    /// The next renewal: resolving goes up to `horizon`, but never back.
    pub fn renewal(&self, horizon: Ticks) -> Renewal {
        Renewal {
            expected_epoch: self.epoch,
            expected_beat: self.beat,
            beat: self.beat.saturating_add(1),
            resolving_upto: horizon.max(self.resolving_upto),
            resolved_upto: self.finished.max(self.resolved_upto),
        }
    }

    /// `renewal`, which was begun at `begun`, was carried out.
    pub fn renewed(&mut self, renewal: Renewal, begun: Instant) {
        self.beat = renewal.beat;
        self.resolving_upto = renewal.resolving_upto;
        self.resolved_upto = renewal.resolved_upto;
        self.renewed = begun;
        self.is_clear = true;
    }

    /// Nobody knows whether the last statement was carried out, or ever will be.
    pub fn became_unclear(&mut self) {
        self.is_clear = false;
    }

    /// Takes over what the row has; `false` when the lease is another's by now. The time of the last renewal stays: which
    /// statement the row's beat is from is not known.
    #[must_use]
    pub fn settle(&mut self, row: &Lease, me: &str) -> bool {
        if row.owner != me || row.epoch != self.epoch || row.beat < self.beat {
            return false;
        }
        self.beat = row.beat;
        self.resolving_upto = row.resolving_upto.max(self.resolving_upto);
        self.resolved_upto = row.resolved_upto.max(self.resolved_upto);
        self.is_clear = true;
        true
    }

    /// Everything up to `upto` is resolved. Only what lies below the published mark counts.
    pub fn finish(&mut self, upto: Ticks) {
        self.finished = self.finished.max(upto.min(self.resolving_upto));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row() -> Lease {
        Lease { owner: String::new(), epoch: 0, beat: 0, resolving_upto: 100, resolved_upto: 100 }
    }

    #[test]
    fn a_lease_is_taken_only_when_nobody_has_it_or_it_stood_still() {
        let start = Instant::now();
        let mut lease = Lease { owner: "other".to_owned(), ..row() };
        let mut watch = Watch::default();
        assert!(!watch.observe(&lease, start, start));
        assert!(!watch.observe(&lease, start + STALE - Duration::from_millis(1), start + STALE * 2));
        lease.beat += 1;
        assert!(!watch.observe(&lease, start + STALE, start + STALE));
        assert!(!watch.observe(&lease, start + STALE * 2 - Duration::from_millis(1), start + STALE * 2));
        assert!(watch.observe(&lease, start + STALE * 2, start + STALE * 2));
        lease.owner.clear();
        lease.beat += 1;
        assert!(watch.observe(&lease, start, start));
    }

    #[test]
    fn an_owner_stops_acting_before_anybody_may_take_over() {
        let start = Instant::now();
        let mut held = Held::taken(&row(), Taking::of(&row()), start);
        assert!(held.may_act(start + ACT - Duration::from_millis(1)));
        assert!(!held.may_act(start + ACT));
        held.renewed(held.renewal(200), start + Duration::from_secs(3));
        assert!(held.may_act(start + ACT));
        held.became_unclear();
        assert!(!held.may_act(start + Duration::from_secs(3)));
        assert!(ACT < STALE);
    }

    #[test]
    fn only_what_was_published_before_can_be_finished() {
        let mut held = Held::taken(&row(), Taking::of(&row()), Instant::now());
        held.finish(150);
        assert_eq!(held.finished(), 100);
        let renewal = held.renewal(150);
        assert_eq!((renewal.resolving_upto, renewal.resolved_upto), (150, 100));
        held.renewed(renewal, Instant::now());
        held.finish(150);
        // Published by the next renewal, and a clock that went back moves nothing back.
        let renewal = held.renewal(90);
        assert_eq!((renewal.resolving_upto, renewal.resolved_upto), (150, 150));
    }

    /// What two processes, each sure of itself, do to one row when statements are lost, late or doubled.
    #[derive(Debug, Clone)]
    enum Step {
        /// The process takes the lease as it last saw it, whatever its clock says.
        Take(usize),
        /// It renews; the statement is carried out and answered, carried out unanswered, or stays stuck.
        Renew(usize, Ticks, Fate),
        /// It settles its view of the row.
        Settle(usize),
        /// It finishes what it has published.
        Finish(usize),
        /// A stuck statement is carried out after all.
        Run(usize),
    }

    #[derive(Debug, Clone, Copy)]
    enum Fate {
        Answered,
        Unanswered,
        Stuck,
    }

    fn step() -> impl Strategy<Value = Step> {
        let fate = prop_oneof![Just(Fate::Answered), Just(Fate::Unanswered), Just(Fate::Stuck)];
        prop_oneof![
            (0..2usize).prop_map(Step::Take),
            (0..2usize, 100..1000i64, fate).prop_map(|(who, horizon, fate)| Step::Renew(who, horizon, fate)),
            (0..2usize).prop_map(Step::Settle),
            (0..2usize).prop_map(Step::Finish),
            (0..8usize).prop_map(Step::Run),
        ]
    }

    fn renew(row: &mut Lease, owner: &str, renewal: Renewal) -> bool {
        let holds = row.epoch == renewal.expected_epoch && row.owner == owner && row.beat == renewal.expected_beat;
        if holds {
            row.beat = renewal.beat;
            row.resolving_upto = renewal.resolving_upto;
            row.resolved_upto = renewal.resolved_upto;
        }
        holds
    }

    proptest! {
        #[test]
        fn the_marks_never_go_back_whatever_is_lost_or_late(steps in proptest::collection::vec(step(), 1..60)) {
            let names = ["a", "b"];
            let (mut lease, mut held, mut stuck) = (row(), [None, None], Vec::new());
            let now = Instant::now();
            for step in steps {
                let before = lease.clone();
                match step {
                    Step::Take(who) => {
                        let taking = Taking::of(&lease);
                        held[who] = Some(Held::taken(&lease, taking, now));
                        lease.owner = names[who].to_owned();
                        (lease.epoch, lease.beat) = (taking.epoch(), taking.beat());
                    }
                    Step::Renew(who, horizon, fate) => {
                        let Some(mine) = held[who].as_mut().filter(|mine: &&mut Held| mine.is_clear()) else { continue };
                        let renewal = mine.renewal(horizon);
                        match fate {
                            Fate::Answered => {
                                if renew(&mut lease, names[who], renewal) {
                                    mine.renewed(renewal, now);
                                } else {
                                    mine.became_unclear();
                                }
                            }
                            Fate::Unanswered => {
                                renew(&mut lease, names[who], renewal);
                                mine.became_unclear();
                            }
                            Fate::Stuck => {
                                stuck.push((who, renewal));
                                mine.became_unclear();
                            }
                        }
                    }
                    Step::Settle(who) => {
                        if held[who].as_mut().is_some_and(|mine| !mine.settle(&lease, names[who])) {
                            held[who] = None;
                        }
                    }
                    Step::Finish(who) => {
                        if let Some(mine) = held[who].as_mut().filter(|mine| mine.is_clear()) {
                            mine.finish(mine.resolving_upto());
                        }
                    }
                    Step::Run(which) => {
                        if !stuck.is_empty() {
                            let (who, renewal) = stuck.remove(which % stuck.len());
                            renew(&mut lease, names[who], renewal);
                        }
                    }
                }
                prop_assert!(lease.resolved_upto >= before.resolved_upto);
                prop_assert!(lease.resolving_upto >= before.resolving_upto);
                prop_assert!(lease.resolved_upto <= lease.resolving_upto);
                prop_assert!(lease.epoch >= before.epoch);
            }
        }
    }
}

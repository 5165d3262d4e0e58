//! Resolves: every reference up to a mark gets its claim, or never will.
//!
//! One task a slot. It watches the slot's lease until it may take it; then it goes round: publish how far it will
//! resolve, scan up to there, finish what was left half done. The mark is published before the scan, so that a submission
//! whose references the scan did not meet finds the mark before it claims. What is resolved is published with the next
//! round. See `lease` for who may do what, `roll` for the finishing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};
use uuid::Uuid;

use super::{
    claim::Claim,
    clock::ClockWatch,
    core::Core,
    error::{Failed, Fate},
    lease::{Held, Lease, Taking, Watch},
    lwt::Decision,
    progress::Progress,
    repeat::{self, UNCLEAR},
    roll_forward::RollForward,
    scan::{CONCURRENT, Reference, side_by_side},
    sharding,
    ticks::{self, Ticks},
};
use crate::telemetry::names;

/// After a taking, before the next: other processes have their turn.
const BETWEEN_TAKINGS: Duration = Duration::from_millis(200);
/// A clock that cannot be compared for so long cannot be trusted.
const CLOCK_PATIENCE: Duration = Duration::from_secs(3);
/// The next round after one that finished something, for whoever waits for the mark.
const SOON: Duration = Duration::from_millis(500);

/// So many references are settled at a time, so that the lease is kept meanwhile.
const CHUNK: usize = 64;
/// Of large ones fewer: about so many bytes of messages are held.
const CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// Of slow ones fewer: no more are begun after so long.
const CHUNK_TIME: Duration = Duration::from_millis(1500);
/// Of more references that cannot be settled it is the database, and not they.
const MOST_STUCK: usize = 256;

/// What the tasks of all slots share.
pub struct Resolver {
    core: Arc<Core>,
    clock: Arc<ClockWatch>,
    /// This process, in the rows of leases.
    me: String,
    /// One taking at a time.
    taking: Mutex<()>,
    held: AtomicUsize,
}

/// Why a round ended early.
enum Ended {
    /// The lease is another's.
    Lost,
    /// The clock is off, or cannot be compared.
    Clock,
    /// The store closes.
    Closing,
    /// The next round may do better.
    Failed(Failed),
}

impl From<Failed> for Ended {
    fn from(failed: Failed) -> Self {
        Ended::Failed(failed)
    }
}

impl Resolver {
    /// Begins to resolve in tasks of the store, which end when it closes and give back their leases first.
    pub fn start(core: &Arc<Core>, clock: &Arc<ClockWatch>) {
        let resolver = Arc::new(Self {
            core: Arc::clone(core),
            clock: Arc::clone(clock),
            me: Uuid::new_v4().to_string(),
            taking: Mutex::default(),
            held: AtomicUsize::new(0),
        });
        // There from the beginning: what first appears with a count has no rate.
        for name in [
            names::STORE_LATE_ATTEMPTS_TOTAL,
            names::RESOLVER_ROLLED_FORWARD_TOTAL,
            names::RESOLVER_ORPHANS_TOTAL,
            names::RESOLVER_UNCLEAR_TOTAL,
        ] {
            metrics::counter!(name).increment(0);
        }
        for slot in 0..i32::from(core.sharding.slots) {
            let resolver = Arc::clone(&resolver);
            core.tasks.spawn(async move { resolver.run(slot).await });
        }
    }

    async fn run(&self, slot: i32) {
        let shards: Vec<i32> = self.core.sharding.shards_of(slot).collect();
        let cycle = self.core.options.cycle;
        let mut watch = Watch::default();
        // From the beginning, so that a slot which no process ever took is seen.
        self.tell_lag(slot, 0);
        loop {
            let mut held = loop {
                match self.try_take(slot, &mut watch).await {
                    Ok(Some(held)) => break held,
                    Ok(None) => {}
                    Err(failed) => tracing::debug!(slot, %failed, "a lease could not be looked at"),
                }
                if self.pause(cycle).await.is_none() {
                    return;
                }
            };
            tracing::info!(slot, epoch = held.epoch(), "resolving a slot");
            self.count(1);
            let mut progress = Progress::from(held.finished());
            let ended = loop {
                let pause = match self.round(slot, &shards, &mut held, &mut progress).await {
                    Ok(0) => cycle,
                    Ok(_) => SOON.min(cycle),
                    Err(Ended::Failed(failed)) => {
                        tracing::warn!(slot, %failed, "a round of resolving was given up; the next goes on from there");
                        cycle
                    }
                    Err(Ended::Lost) => break "another process took the lease",
                    Err(Ended::Closing) => {
                        self.give_back(slot, &held).await;
                        break "the store closes";
                    }
                    Err(Ended::Clock) => {
                        self.give_back(slot, &held).await;
                        break "the clock cannot be trusted";
                    }
                };
                if self.pause(pause).await.is_none() {
                    self.give_back(slot, &held).await;
                    break "the store closes";
                }
            };
            self.uncount();
            self.tell_lag(slot, 0);
            metrics::gauge!(names::RESOLVER_STUCK, "slot" => slot.to_string()).set(0.0);
            tracing::info!(slot, epoch = held.epoch(), why = ended, "no longer resolving a slot");
            if self.pause(cycle).await.is_none() {
                return;
            }
        }
    }

    /// Sleeps; `None` when the store closes.
    async fn pause(&self, duration: Duration) -> Option<()> {
        self.core.stop.run_until_cancelled(sleep(duration)).await
    }

    async fn try_take(&self, slot: i32, watch: &mut Watch) -> Result<Option<Held>, Failed> {
        let begun = Instant::now();
        let lease = self.core.lease(slot).await?;
        if !watch.observe(&lease, begun, Instant::now()) {
            return Ok(None);
        }
        let _turn = self.taking.lock().await;
        if self.pause(BETWEEN_TAKINGS).await.is_none() || self.clock.recent(&self.core).await?.is_off() {
            return Ok(None);
        }
        let (taking, begun) = (Taking::of(&lease), Instant::now());
        let (expected_epoch, expected_beat) = (taking.expected_epoch, taking.expected_beat);
        let set = (self.me.as_str(), taking.epoch(), taking.beat());
        let values = (set.0, set.1, set.2, sharding::RESOLVER, slot, expected_epoch, expected_beat);
        let is_taken = match self.core.decide(&self.core.cql.take_lease, values).await {
            Ok(Decision::Applied) => true,
            Ok(Decision::Refused(_)) => false,
            Err(failed) => {
                tracing::debug!(slot, %failed, "it is not clear whether a lease was taken");
                let row = self.core.settled_lease(slot).await?;
                row.owner == self.me && row.epoch == taking.epoch()
            }
        };
        Ok(is_taken.then(|| Held::taken(&lease, taking, begun)))
    }

    async fn give_back(&self, slot: i32, held: &Held) {
        let (epoch, beat, me) = (held.epoch(), held.beat(), self.me.as_str());
        let values = ("", epoch, beat.saturating_add(1), sharding::RESOLVER, slot, epoch, me, beat);
        if let Err(failed) = self.core.decide(&self.core.cql.give_lease, values).await {
            tracing::debug!(slot, %failed, "a lease was not given back; others take it when it stood still");
        }
    }

    /// One round; how many references were finished.
    async fn round(&self, slot: i32, shards: &[i32], held: &mut Held, progress: &mut Progress) -> Result<usize, Ended> {
        let core = &*self.core;
        let until = Instant::now() + CLOCK_PATIENCE;
        let clock = repeat::until(until, || self.clock.recent(core), |_| {}).await.map_err(|failed| {
            tracing::warn!(slot, %failed, "the clock cannot be compared with the database's");
            Ended::Clock
        })?;
        if clock.is_off() {
            return Err(Ended::Clock);
        }
        self.renew(slot, held, ticks::before(clock.earlier(), core.options.window)).await?;
        self.tell_lag(slot, clock.earlier().saturating_sub(held.finished()));
        let again = progress.stuck();
        let mut rolled = self.settle_references(slot, &again, held, progress).await?;
        held.finish(progress.finished());
        let upto = held.resolving_upto();
        while progress.scanned() < upto {
            let scan_plan = core.scan_plan(shards, progress.scanned(), upto).await?;
            for (bucket, shards) in scan_plan.buckets {
                let end = scan_plan.upto.min(ticks::bucket_end(bucket));
                rolled += self.resolve(slot, &shards, bucket, end, held, progress).await?;
                progress.scan_to(end);
                held.finish(progress.finished());
            }
            progress.scan_to(scan_plan.upto);
            held.finish(progress.finished());
        }
        let stuck = progress.count_stuck();
        metrics::gauge!(names::RESOLVER_STUCK, "slot" => slot.to_string()).set(stuck as f64);
        if stuck > 0 {
            tracing::warn!(slot, stuck, "references cannot be settled now, and hold the mark back");
        }
        Ok(rolled)
    }

    /// Resolves one bucket of `shards` up to `end`, page by page, with the pages of all read side by side.
    async fn resolve(
        &self,
        slot: i32,
        shards: &[i32],
        bucket: i32,
        end: Ticks,
        held: &mut Held,
        progress: &mut Progress,
    ) -> Result<usize, Ended> {
        let (mut rolled, mut unfinished) = (0, shards.to_vec());
        while !unfinished.is_empty() {
            let pages = unfinished.iter().map(|shard| {
                let (shard, after) = (*shard, progress.after(*shard));
                async move { (shard, self.core.references(shard, bucket, after, end).await) }
            });
            let pages: Vec<_> = side_by_side(pages).collect().await;
            unfinished.clear();
            let mut failed = None;
            for (shard, page) in pages {
                let page = match page {
                    Ok(page) => page,
                    // What the others have is settled all the same.
                    Err(error) => {
                        failed = Some(error);
                        continue;
                    }
                };
                let Some(last) = page.last else { continue };
                rolled += self.settle_references(slot, &page.references, held, progress).await?;
                progress.reach(shard, last);
                if page.is_full {
                    unfinished.push(shard);
                }
            }
            if let Some(failed) = failed {
                return Err(failed.into());
            }
        }
        Ok(rolled)
    }

    /// Settles references chunk by chunk, each with its own deadlines, so that what is done stays done whatever comes next. How
    /// many were finished.
    async fn settle_references(
        &self,
        slot: i32,
        references: &[Reference],
        held: &mut Held,
        progress: &mut Progress,
    ) -> Result<usize, Ended> {
        let mut rolled = 0;
        for chunk in references.chunks(CHUNK) {
            // What is done is done, and another process goes on.
            if self.core.stop.is_cancelled() {
                return Err(Ended::Closing);
            }
            let undecided = self.undecided(chunk, progress).await;
            rolled += self.roll_forward(slot, undecided, held, progress).await?;
            if progress.count_stuck() > MOST_STUCK {
                return Err(Failed::unclear("too many references cannot be settled").into());
            }
            // A long scan keeps its lease.
            if held.age(Instant::now()) > self.core.options.cycle {
                self.renew(slot, held, held.resolving_upto()).await?;
            }
        }
        Ok(rolled)
    }

    /// Which of the references have no claim yet. One of which that is not found out holds up no other.
    async fn undecided<'a>(&self, references: &'a [Reference], progress: &mut Progress) -> Vec<&'a Reference> {
        // The claim of one that was accepted for this process is there, by a decision which is final.
        let (accepted, unknown): (Vec<_>, Vec<_>) =
            references.iter().partition(|reference| self.core.accepted.get(&reference.attempt.id).is_some());
        for reference in accepted {
            progress.settle(reference);
        }
        let heads = unknown.into_iter().map(|reference| async move {
            let found = self.core.claim_head(&reference.key).await;
            (reference, found)
        });
        let heads: Vec<_> = side_by_side(heads).collect().await;
        let mut undecided = Vec::new();
        for (reference, found) in heads {
            match found {
                Ok(None) => undecided.push(reference),
                Ok(Some(found)) => {
                    if found.attempt != reference.attempt.id {
                        metrics::counter!(names::RESOLVER_ORPHANS_TOTAL).increment(1);
                    }
                    progress.settle(reference);
                }
                // There is a claim, though nobody can read it: none is to be made.
                Err(failed) if failed.fate == Fate::Bug => {
                    self.core.found_unreadable("messages", &reference.key.fingerprint());
                    progress.settle(reference);
                }
                Err(failed) => {
                    tracing::debug!(%failed, "a claim could not be read");
                    progress.stick(reference);
                }
            }
        }
        undecided
    }

    /// Makes the references good, makes sure of the lease, and claims; as many of them at a time as have room.
    async fn roll_forward(
        &self,
        slot: i32,
        undecided: Vec<&Reference>,
        held: &mut Held,
        progress: &mut Progress,
    ) -> Result<usize, Ended> {
        let core = &*self.core;
        let mut rest = undecided.into_iter().peekable();
        let (mut claimed, mut orphans) = (0, 0);
        while rest.peek().is_some() {
            let claims = self.make_good(&mut rest, progress).await;
            if claims.is_empty() {
                continue;
            }
            self.renew(slot, held, held.resolving_upto()).await?;
            let until = Instant::now() + UNCLEAR;
            let unclear = || metrics::counter!(names::RESOLVER_UNCLEAR_TOTAL).increment(1);
            let rolling = claims.iter().map(|(reference, claim)| async move {
                let rolled = core.roll_forward(claim, until, unclear).await;
                (*reference, rolled)
            });
            let rolled: Vec<_> = side_by_side(rolling).collect().await;
            for (reference, rolled) in rolled {
                match rolled {
                    Ok(RollForward::Claimed) => claimed += 1,
                    Ok(RollForward::Orphan) => orphans += 1,
                    // No claim of it can be written, by whomever; and its absence was read since the last try.
                    Err(failed) if failed.fate == Fate::Bug && progress.is_stuck(reference) => {
                        core.found_unreadable("messages", &reference.key.fingerprint());
                    }
                    Err(failed) => {
                        tracing::debug!(slot, %failed, "it is not clear yet whose a message is");
                        progress.stick(reference);
                        continue;
                    }
                }
                progress.settle(reference);
            }
        }
        if claimed + orphans > 0 {
            metrics::counter!(names::RESOLVER_ROLLED_FORWARD_TOTAL).increment(claimed);
            metrics::counter!(names::RESOLVER_ORPHANS_TOTAL).increment(orphans);
            tracing::info!(slot, claimed, orphans, "finished what submissions left half done");
        }
        Ok(usize::try_from(claimed + orphans).unwrap_or(usize::MAX))
    }

    /// Reads the rows of references and writes them again, for the scan may have seen what one replica alone has: as many of
    /// `rest` as fit into [`CHUNK_BYTES`] and [`CHUNK_TIME`], and one at least.
    async fn make_good<'a>(
        &self,
        rest: &mut impl Iterator<Item = &'a Reference>,
        progress: &mut Progress,
    ) -> Vec<(&'a Reference, Claim)> {
        let core = &*self.core;
        let begun = Instant::now();
        let make = |reference: &'a Reference| async move {
            let until = Instant::now() + core.options.reference_window;
            let claim = core.claim_of(reference).await;
            let good = match claim {
                Ok(Some(claim)) => core.write_references(&claim, until).await.map(|()| Some(claim)),
                other => other,
            };
            (reference, good)
        };
        let (mut making, mut claims, mut bytes) = (FuturesUnordered::new(), Vec::new(), 0);
        loop {
            let has_room = bytes < CHUNK_BYTES && begun.elapsed() < CHUNK_TIME;
            while making.len() < CONCURRENT && (has_room || (making.is_empty() && claims.is_empty())) {
                let Some(reference) = rest.next() else { break };
                making.push(make(reference));
            }
            let Some((reference, good)) = making.next().await else { return claims };
            match good {
                Ok(Some(claim)) => {
                    bytes += claim.message.len();
                    claims.push((reference, claim));
                }
                // It went away by its age: nobody could deliver it.
                Ok(None) => progress.settle(reference),
                // Nobody can make a claim of it, now or later.
                Err(failed) if failed.fate == Fate::Bug => {
                    core.found_unreadable("feed", &reference.key.fingerprint());
                    progress.settle(reference);
                }
                Err(failed) => {
                    tracing::debug!(%failed, "a reference could not be made good");
                    progress.stick(reference);
                }
            }
        }
    }

    /// Renews the lease and publishes both marks. Unless it succeeds the round is over.
    async fn renew(&self, slot: i32, held: &mut Held, horizon: Ticks) -> Result<(), Ended> {
        if !held.is_clear() {
            self.settle(slot, held).await?;
        }
        let (renewal, begun) = (held.renewal(horizon), Instant::now());
        let values = (
            renewal.beat,
            renewal.resolving_upto,
            renewal.resolved_upto,
            sharding::RESOLVER,
            slot,
            renewal.expected_epoch,
            self.me.as_str(),
            renewal.expected_beat,
        );
        match self.core.decide(&self.core.cql.renew_lease, values).await {
            Ok(Decision::Applied) => {
                held.renewed(renewal, begun);
                self.core.marks.note(slot, renewal.resolved_upto, begun);
                // It may have taken longer than the lease allows.
                if held.may_act(Instant::now()) {
                    Ok(())
                } else {
                    Err(Failed::unclear("the renewal took too long").into())
                }
            }
            Ok(Decision::Refused(_)) => {
                held.became_unclear();
                self.settle(slot, held).await?;
                Err(Failed::unclear("an earlier renewal was carried out late").into())
            }
            Err(failed) => {
                held.became_unclear();
                Err(failed.into())
            }
        }
    }

    async fn settle(&self, slot: i32, held: &mut Held) -> Result<(), Ended> {
        let row: Lease = self.core.settled_lease(slot).await?;
        if held.settle(&row, &self.me) { Ok(()) } else { Err(Ended::Lost) }
    }

    /// How far behind its clock the resolver of a slot is; 0 for one that is another's.
    fn tell_lag(&self, slot: i32, lag: Ticks) {
        let lag = lag as f64 / ticks::PER_SECOND as f64;
        metrics::gauge!(names::RESOLVER_LAG_SECONDS, "slot" => slot.to_string()).set(lag);
    }

    fn count(&self, more: usize) {
        let held = self.held.fetch_add(more, Ordering::Relaxed) + more;
        metrics::gauge!(names::LEASES_HELD).set(held as f64);
    }

    fn uncount(&self) {
        let held = self.held.fetch_sub(1, Ordering::Relaxed) - 1;
        metrics::gauge!(names::LEASES_HELD).set(held as f64);
    }
}

//! One submission against the database: references, then the check, then the claim.
//!
//! The order is the whole of it. References first, so that whatever is accepted can be found. The check after they are
//! acknowledged, so that no resolver has passed over them. The claim last: it alone accepts.

use std::{collections::HashSet, sync::Arc};

use metrics::counter;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{
    barrier::Barrier,
    claim::{Claim, ClaimHead},
    core::Core,
    dedup_cache::ClaimSummary,
    error::{Failed, Fate},
    failpoint::{Breach, Step, breaks, reach},
    feed::Tail,
    lwt::Decision,
    repeat::{self, UNCLEAR},
    sharding::RESOLVER,
    ticks::{self, Ticks},
};
use crate::{domain::NewMessage, telemetry::names};

/// How a flight ended clearly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// The message of this flight was accepted.
    Accepted(ClaimSummary),
    /// Another was before.
    Duplicate(ClaimSummary),
}

/// An attempt that came too late is followed by one more.
const ATTEMPTS: usize = 2;

/// What flights share.
pub struct SubmitPipeline {
    core: Arc<Core>,
    /// Told of what was accepted, for the readers of this process.
    tail: Arc<Tail>,
    /// One a slot.
    barriers: Vec<Arc<Barrier>>,
    /// Shards and buckets of which [`super::cql::Statements::insert_bucket`] was acknowledged.
    buckets: Mutex<HashSet<(i32, i32)>>,
}

impl SubmitPipeline {
    /// For the keyspace of `core`.
    pub fn new(core: Arc<Core>, tail: Arc<Tail>) -> Self {
        let barriers = (0..core.sharding.slots).map(|_| Arc::default()).collect();
        Self { core, tail, barriers, buckets: Mutex::default() }
    }

    /// Submits `message`; `read_first` where it is likely to be a duplicate.
    ///
    /// # Errors
    /// Of whatever kind, the message may be accepted or not.
    pub async fn submit(&self, message: &NewMessage, read_first: bool) -> Result<Claimed, Failed> {
        let core = &*self.core;
        let deadline = Instant::now() + core.options.deadline;
        if read_first {
            // Absence or failure says nothing; then the claim decides.
            if let Ok(Ok(Some(found))) = timeout_at(deadline, core.claim_head(message.key())).await {
                return Ok(Claimed::Duplicate(known(&found)));
            }
        }
        let content = message.content();
        let shard = core.sharding.shard(message.key().org.as_str(), message.key().env, content.from_id.as_str());
        let mut mine = Vec::with_capacity(ATTEMPTS);
        let mut last = Failed::unclear("the references came too late");
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                counter!(names::STORE_LATE_ATTEMPTS_TOTAL).increment(1);
            }
            let claim = Claim::new(message, core.attempt()?);
            mine.push(claim.attempt);
            reach(Step::BeforeReferences).await;
            let until = deadline.min(Instant::now() + core.options.reference_window);
            match self.refer(&claim, shard, until).await {
                Ok(()) => {}
                Err(failed) if failed.fate == Fate::Bug => return Err(failed),
                Err(failed) => {
                    last = failed;
                    continue;
                }
            }
            reach(Step::AfterReferences).await;
            let is_in_time = self.resolving_upto(shard, deadline).await? < ticks::of(claim.attempt);
            if is_in_time || breaks(Breach::NoCheck) {
                reach(Step::BeforeClaim).await;
                let claimed = self.claim(message, &claim, &mine, deadline).await;
                reach(Step::AfterClaim).await;
                return claimed;
            }
        }
        Err(last)
    }

    /// Writes both references of `claim`, again and again until `until`.
    ///
    /// # Errors
    /// Of whatever kind, any of the writes may have arrived or may yet.
    pub async fn refer(&self, claim: &Claim, shard: i32, until: Instant) -> Result<(), Failed> {
        let core = &*self.core;
        let bucket = ticks::bucket(ticks::of(claim.attempt));
        self.open_bucket(shard, bucket, until).await?;
        let feed = async {
            reach(Step::BeforeFeedRow).await;
            repeat::until(until, || core.write_feed_row(claim), |_| {}).await
        };
        let sender = async {
            reach(Step::BeforeSenderRow).await;
            repeat::until(until, || core.write_sender_row(claim), |_| {}).await
        };
        // Both are waited for, though one may have failed: a write that is given up may still arrive.
        let (feed, sender) = tokio::join!(feed, sender);
        feed.and(sender)
    }

    /// Says that `bucket` has rows of `shard`, before the first one of this process is written.
    async fn open_bucket(&self, shard: i32, bucket: i32, until: Instant) -> Result<(), Failed> {
        if self.buckets.lock().contains(&(shard, bucket)) {
            return Ok(());
        }
        let core = &*self.core;
        let values = (ticks::day(bucket), shard, bucket, core.now().as_micros());
        repeat::until(until, || core.write(&core.cql.insert_bucket, values), |_| {}).await?;
        let mut buckets = self.buckets.lock();
        // A clock that goes back comes to older ones; they are said again.
        buckets.retain(|(_, known)| known.abs_diff(bucket) <= 2);
        buckets.insert((shard, bucket));
        Ok(())
    }

    /// How far the resolver of the slot of `shard` has begun, by a read that begins now or later.
    ///
    /// # Errors
    /// As the driver's error is classified.
    pub async fn resolving_upto(&self, shard: i32, deadline: Instant) -> Result<Ticks, Failed> {
        let slot = self.core.sharding.slot(shard);
        let barrier = usize::try_from(slot).ok().and_then(|slot| self.barriers.get(slot));
        let barrier = barrier.ok_or_else(|| Failed::malformed("a slot that is none"))?;
        let read = || {
            let core = Arc::clone(&self.core);
            barrier.after_now(move || {
                let core = Arc::clone(&core);
                async move { read_upto(&core, slot).await }
            })
        };
        repeat::until(deadline, read, |_| {}).await
    }

    /// Writes the claim until it is clear whose it is.
    async fn claim(
        &self,
        message: &NewMessage,
        claim: &Claim,
        mine: &[Uuid],
        deadline: Instant,
    ) -> Result<Claimed, Failed> {
        let core = &*self.core;
        let values = claim.values();
        let until = deadline.min(Instant::now() + UNCLEAR);
        let decided = repeat::until(
            until,
            || core.decide(&core.cql.claim, &values),
            |failed| counter!(names::STORE_UNCLEAR_CLAIMS_TOTAL, "cause" => failed.label).increment(1),
        );
        match decided.await? {
            Decision::Applied => {
                core.accepted.insert(claim.attempt, ());
                self.tail.accepted(claim.attempt, message);
                Ok(Claimed::Accepted(ClaimSummary {
                    accepted_at: claim.accepted_at,
                    fingerprint: Some(claim.fingerprint),
                }))
            }
            Decision::Refused(row) => {
                let found = ClaimHead::read(&row)?;
                // An earlier try that seemed lost, or the resolver, which found the references: ours all the same.
                let claimed = if mine.contains(&found.attempt) { Claimed::Accepted } else { Claimed::Duplicate };
                Ok(claimed(known(&found)))
            }
        }
    }
}

fn known(found: &ClaimHead) -> ClaimSummary {
    ClaimSummary { accepted_at: found.accepted_at, fingerprint: found.fingerprint }
}

async fn read_upto(core: &Core, slot: i32) -> Result<Ticks, Failed> {
    let rows = core.read(&core.cql.read_upto, (RESOLVER, slot)).await?;
    let row = rows.maybe_first_row::<(Option<i64>,)>().map_err(|error| Failed::malformed(error.to_string()))?;
    row.and_then(|(upto,)| upto)
        .ok_or_else(|| Failed::malformed("the row of a lease is missing; run 'message-webhook migrate'"))
}

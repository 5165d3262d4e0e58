//! Submissions: one flight a key and process, and the cache of those that ended clearly.
//!
//! A flight is a task of its own, which a caller's leaving never cancels. Who submits a key that is under way follows
//! that flight instead of beginning another: two coordinators that contend for one key cost both a second.

use std::{collections::HashMap, sync::Arc};

use metrics::counter;
use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::Instrument as _;

use super::{
    core::Core,
    dedup_cache::{ClaimSummary, DedupCache, KeyDigest, key_digest},
    error::{Failed, Fate},
    feed::Tail,
    submit_pipeline::{Claimed, SubmitPipeline},
};
use crate::{
    domain::{Error, NewMessage},
    store::{Acceptance, Outcome},
    telemetry::names,
};

/// How a flight ended; nothing while it is under way.
type End = Option<Result<Claimed, Failed>>;

/// Flights under way, and what is known of those that ended clearly.
pub struct Submissions {
    core: Arc<Core>,
    pipeline: SubmitPipeline,
    dedup_cache: DedupCache,
    flights: Mutex<HashMap<KeyDigest, watch::Receiver<End>>>,
}

impl Submissions {
    /// For the keyspace of `core`.
    pub fn new(core: Arc<Core>, tail: Arc<Tail>) -> Arc<Self> {
        let dedup_cache = DedupCache::new(core.options.remembered);
        Arc::new(Self {
            pipeline: SubmitPipeline::new(Arc::clone(&core), tail),
            core,
            dedup_cache,
            flights: Mutex::default(),
        })
    }

    /// What writes references and looks at marks.
    pub fn pipeline(&self) -> &SubmitPipeline {
        &self.pipeline
    }

    /// Submits `message`, or follows the flight of its key.
    pub async fn submit(self: &Arc<Self>, message: NewMessage) -> Result<Outcome, Error> {
        let digest = key_digest(message.key());
        if let Some(known) = self.remembered(&digest) {
            return Ok(self.duplicate(known));
        }
        let (flight, mut end) = {
            let mut flights = self.flights.lock();
            match flights.get(&digest) {
                Some(end) => (None, end.clone()),
                // It may have ended since: a flight is remembered before it leaves the map.
                None => match self.remembered(&digest) {
                    Some(known) => return Ok(self.duplicate(known)),
                    None => {
                        let (tell, end) = watch::channel(None);
                        flights.insert(digest, end.clone());
                        (Some(Flight { submissions: Arc::clone(self), digest, tell }), end)
                    }
                },
            }
        };
        let own = flight.is_some();
        if let Some(flight) = flight {
            // Its statements belong to the trace of who began it, also when that caller has left.
            self.core.tasks.spawn(flight.run(message).in_current_span());
        }
        // Without an end the flight is gone by a panic.
        let end =
            end.wait_for(Option::is_some).await.map_err(|_| Error::store_unavailable("the flight ended"))?.clone();
        match end.unwrap_or_else(|| Err(Failed::unclear("the flight ended"))) {
            Ok(Claimed::Accepted(known)) if own => Ok(Outcome::Accepted(self.acceptance(known))),
            Ok(Claimed::Accepted(known) | Claimed::Duplicate(known)) => Ok(self.duplicate(known)),
            Err(failed) => Err(failed.into()),
        }
    }

    /// What is remembered of a key, unless its claim may be gone.
    fn remembered(&self, digest: &KeyDigest) -> Option<ClaimSummary> {
        let known = self.dedup_cache.get(digest)?;
        // The claim itself lives a day longer.
        if self.core.is_past(known.accepted_at) {
            self.dedup_cache.forget(digest);
            return None;
        }
        counter!(names::STORE_CLAIMS_TOTAL, "outcome" => "remembered").increment(1);
        Some(known)
    }

    fn acceptance(&self, known: ClaimSummary) -> Acceptance {
        let accepted_at = known.accepted_at;
        Acceptance { accepted_at, duplicates_until: accepted_at.saturating_add(self.core.options.retention) }
    }

    fn duplicate(&self, known: ClaimSummary) -> Outcome {
        Outcome::Duplicate { first: self.acceptance(known), fingerprint: known.fingerprint }
    }
}

/// The place of one flight in the map, which is freed however the flight ends.
struct Flight {
    submissions: Arc<Submissions>,
    digest: KeyDigest,
    tell: watch::Sender<End>,
}

impl Flight {
    async fn run(self, message: NewMessage) {
        let Submissions { pipeline, dedup_cache, .. } = &*self.submissions;
        let end = pipeline.submit(&message, dedup_cache.has_many_duplicates()).await;
        let outcome = match &end {
            Ok(Claimed::Accepted(known)) => {
                dedup_cache.keep(self.digest, *known);
                dedup_cache.count(false);
                "accepted"
            }
            Ok(Claimed::Duplicate(known)) => {
                dedup_cache.keep(self.digest, *known);
                dedup_cache.count(true);
                "duplicate"
            }
            Err(failed) if failed.fate == Fate::Bug => "failed",
            Err(_) => "unclear",
        };
        counter!(names::STORE_CLAIMS_TOTAL, "outcome" => outcome).increment(1);
        // Remembered first, then out of the map, then told: who comes in between finds the one or the other.
        self.submissions.flights.lock().remove(&self.digest);
        let _ = self.tell.send(Some(end));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        // Only after a panic is there anything left, and then nobody may follow it.
        if std::thread::panicking() {
            self.submissions.flights.lock().remove(&self.digest);
        }
    }
}

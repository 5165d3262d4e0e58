//! What the store's threads and its callers share.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use tokio::{sync::watch, task::spawn_blocking};

use super::{
    engine::Engine,
    gaps::Gaps,
    index::KeyHash,
    options::Options,
    queue::{Bell, Queue, closed},
    recent::{Accepted, Recent},
    unindexed::Unindexed,
};
use crate::{
    domain::{Clock, Error, Fingerprint, MessageKey, Timestamp},
    store::{Acceptance, Outcome, record::View},
};

/// Identifies a store in its cursors: those of another are refused.
pub type StoreId = [u8; 16];

/// Runs `read` where it may block.
///
/// # Errors
/// Those of `read`; the store is closed.
pub async fn blocking<T: Send + 'static>(
    shared: &Arc<Shared>,
    read: impl FnOnce(&Shared, &Engine) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let shared = Arc::clone(shared);
    spawn_blocking(move || read(&shared, &*shared.engine()?)).await.map_err(Error::internal)?
}

/// A commit that takes longer makes the store unready.
const HANGING: Duration = Duration::from_secs(10);

/// Everything but the threads themselves.
pub struct Shared {
    pub options: Options,
    pub clock: Arc<dyn Clock>,
    pub id: StoreId,
    /// `None` once the store is closed.
    engine: RwLock<Option<Arc<Engine>>>,
    pub queue: Arc<Queue>,
    /// What was accepted lately, durable or about to be.
    pub recent: Recent,
    /// The index entries that are in memory only.
    pub unindexed: Unindexed,
    /// The last sequence that is synced: readers see nothing beyond it. Everything up to it is applied in memory before
    /// it is published here.
    durable: AtomicU64,
    /// The same, for those who wait for it.
    grown: watch::Sender<u64>,
    /// The oldest retained sequence; everything below counts as absent.
    pub oldest: AtomicU64,
    /// What compactions leave out: below `oldest`, and never the last message.
    pub droppable: Arc<AtomicU64>,
    /// Up to where all index entries lie in tables.
    pub flushed: AtomicU64,
    /// The engine's number of the first commit that may not lie in tables as a whole.
    pub flushed_commit: AtomicU64,
    /// Held while memtables are written to tables.
    pub flushing: Mutex<()>,
    /// Mutations of keys so far; see [`super::keys`].
    pub key_mutations: AtomicU64,
    /// Sequences that were lost, with the operator's consent.
    pub gaps: Gaps,
    /// Why nothing is accepted any more.
    failure: OnceLock<String>,
    began: Instant,
    /// When the writer last began a commit, in milliseconds since `began`; 0 while there is none.
    committing: AtomicU64,
    /// Whether the disk is too full to accept anything.
    pub disk_full: AtomicBool,
    /// Wakes the thread that rotates memtables and removes what is past its retention.
    pub upkeep: Bell,
    /// Wakes the thread that gives space back.
    pub reclaiming: Bell,
    /// Wakes the thread that writes the mark.
    pub marking: Bell,
    /// Rung when memtables were rotated, for a writer that waits for it.
    pub rotated: Bell,
}

/// What [`Shared`] begins with, as the opening found it.
pub struct Found {
    pub id: StoreId,
    pub last: u64,
    pub oldest: u64,
    pub flushed: u64,
    pub flushed_commit: u64,
    pub key_mutations: u64,
    pub gaps: Gaps,
}

impl Shared {
    pub fn new(
        options: Options,
        clock: Arc<dyn Clock>,
        engine: Engine,
        droppable: Arc<AtomicU64>,
        found: Found,
    ) -> Self {
        // Several groups of full bodies; a queue in front of a slow disk must not eat the machine's memory.
        const QUEUE_BYTES: usize = 32 * 1024 * 1024;
        Self {
            clock,
            id: found.id,
            engine: RwLock::new(Some(Arc::new(engine))),
            queue: Arc::new(Queue::new(options.queue_messages, QUEUE_BYTES)),
            recent: Recent::new(found.last, options.unindexed_messages.saturating_mul(2)),
            unindexed: Unindexed::default(),
            options,
            durable: AtomicU64::new(found.last),
            grown: watch::Sender::new(found.last),
            oldest: AtomicU64::new(found.oldest),
            droppable,
            flushed: AtomicU64::new(found.flushed),
            flushed_commit: AtomicU64::new(found.flushed_commit),
            flushing: Mutex::new(()),
            key_mutations: AtomicU64::new(found.key_mutations),
            gaps: found.gaps,
            failure: OnceLock::new(),
            began: Instant::now(),
            committing: AtomicU64::new(0),
            disk_full: AtomicBool::new(false),
            upkeep: Bell::default(),
            reclaiming: Bell::default(),
            marking: Bell::default(),
            rotated: Bell::default(),
        }
    }

    /// The engine, unless the store is closed.
    pub fn engine(&self) -> Result<Arc<Engine>, Error> {
        self.engine.read().clone().ok_or_else(closed)
    }

    /// Takes the engine away from everybody.
    pub fn take_engine(&self) -> Option<Arc<Engine>> {
        self.engine.write().take()
    }

    /// The last sequence that is synced.
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Lets readers see everything up to `sequence`.
    pub fn publish(&self, sequence: u64) {
        self.durable.store(sequence, Ordering::Release);
        self.grown.send_replace(sequence);
    }

    /// Follows the last synced sequence.
    pub fn grown(&self) -> watch::Receiver<u64> {
        self.grown.subscribe()
    }

    /// Ends the threads in the background and whoever waits for the feed to grow.
    pub fn ring_out(&self) {
        for bell in [&self.upkeep, &self.reclaiming, &self.marking, &self.rotated] {
            bell.close();
        }
        self.grown.send_modify(|_| {});
    }

    /// Whether the store is closed.
    pub fn is_closed(&self) -> bool {
        self.engine.read().is_none()
    }

    /// Ends acceptance for good.
    pub fn fail(&self, why: String) {
        tracing::error!(why, "the store accepts nothing any more; restart it when the cause is gone");
        // Only the first cause counts.
        let _ = self.failure.set(why);
    }

    /// Whether acceptance has ended.
    pub fn has_failed(&self) -> bool {
        self.failure.get().is_some()
    }

    /// Whether acceptance has not ended.
    pub fn check_failure(&self) -> Result<(), Error> {
        self.failure.get().map_or(Ok(()), |why| Err(Error::store_unavailable(why.as_str())))
    }

    /// Whether something can be accepted now.
    pub fn check_acceptance(&self) -> Result<(), Error> {
        self.check_failure()?;
        if self.disk_full.load(Ordering::Relaxed) {
            return Err(Error::store_unavailable("the disk is nearly full"));
        }
        Ok(())
    }

    /// Notes that a commit begins, or that it ended.
    pub fn set_committing(&self, is_committing: bool) {
        // Never 0 while there is one.
        let now = self.began.elapsed().as_millis().max(1);
        self.committing.store(if is_committing { now as u64 } else { 0 }, Ordering::Relaxed);
    }

    /// Whether the disk answers: a commit that hangs is no failure yet, but nothing is accepted meanwhile.
    pub fn check_progress(&self) -> Result<(), Error> {
        let since = self.committing.load(Ordering::Relaxed);
        let now = self.began.elapsed().as_millis() as u64;
        if since > 0 && now.saturating_sub(since) > HANGING.as_millis() as u64 {
            return Err(Error::store_unavailable("the disk does not answer"));
        }
        Ok(())
    }

    /// How much of what may be kept in memory until it is written to tables there is; 1 is full.
    pub fn fullness(&self, engine: &Engine) -> f64 {
        let bytes = engine.memtable_bytes() as f64 / self.options.memtable_bytes as f64;
        let unindexed = self.durable().saturating_sub(self.recent.indexed()) as f64;
        bytes.max(unindexed / self.options.unindexed_messages as f64)
    }

    /// Whether a message that was accepted at `accepted_at` counts as absent at `now`.
    pub fn is_expired(&self, accepted_at: Timestamp, now: Timestamp) -> bool {
        accepted_at.saturating_add(self.retention()) <= now
    }

    pub fn retention(&self) -> Duration {
        self.options.retention
    }

    /// The times of an acceptance at `accepted_at`.
    pub fn acceptance(&self, accepted_at: Timestamp) -> Acceptance {
        Acceptance { accepted_at, duplicates_until: accepted_at.saturating_add(self.retention()) }
    }

    /// Finds `key` among the messages that are durable and neither removed nor expired, and reads what `read` wants.
    ///
    /// # Errors
    /// Internal for damage, and for another message under the same hash: that one must not make this one vanish.
    pub fn find<T>(
        &self,
        engine: &Engine,
        hash: &KeyHash,
        key: &MessageKey,
        read: impl FnOnce(View<'_>) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let durable = self.durable();
        // In this order: an entry leaves the memory only when the index has it.
        match self.recent.get(hash) {
            Some(accepted) => self.read(engine, accepted.sequence, key, durable, read),
            None => self.find_indexed(engine, hash, key, durable, read),
        }
    }

    /// The same among what is indexed, up to `durable`; [`Shared::recent`] was asked in vain before.
    ///
    /// # Errors
    /// Those of [`Shared::find`].
    pub fn find_indexed<T>(
        &self,
        engine: &Engine,
        hash: &KeyHash,
        key: &MessageKey,
        durable: u64,
        read: impl FnOnce(View<'_>) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        match engine.sequence_of(&hash.place)? {
            Some(sequence) => self.read(engine, sequence, key, durable, read),
            None => Ok(None),
        }
    }

    fn read<T>(
        &self,
        engine: &Engine,
        sequence: u64,
        key: &MessageKey,
        durable: u64,
        read: impl FnOnce(View<'_>) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        // Beyond `durable` the entry is of a group that is not published yet: it may replace one that expired.
        if sequence > durable || sequence < self.oldest.load(Ordering::Acquire) {
            return Ok(None);
        }
        let Some(record) = engine.message(sequence)? else {
            // Retention may have passed by since.
            if sequence < self.oldest.load(Ordering::Acquire) || self.gaps.contains(sequence) {
                return Ok(None);
            }
            return Err(Error::internal(format!("message {sequence} is missing though an index names it")));
        };
        let view = View::read(sequence, &record).map_err(Error::internal)?;
        if !view.has_key(key) {
            return Err(another_key(sequence));
        }
        if self.is_expired(view.accepted_at, self.clock.now()) {
            return Ok(None);
        }
        read(view).map(Some)
    }

    /// What was accepted lately with the key of `hash` and is neither removed nor expired; durable or about to be.
    ///
    /// # Errors
    /// Internal for another message under the same hash, as [`Shared::find`].
    pub fn find_recent(&self, hash: &KeyHash, now: impl FnOnce() -> Timestamp) -> Result<Option<Accepted>, Error> {
        let Some(accepted) = self.recent.get(hash) else { return Ok(None) };
        if !accepted.has_key(hash) {
            return Err(another_key(accepted.sequence));
        }
        let is_gone =
            accepted.sequence < self.oldest.load(Ordering::Acquire) || self.is_expired(accepted.accepted_at, now());
        Ok((!is_gone).then_some(accepted))
    }

    /// The duplicate that a submission of a message accepted before is.
    pub fn duplicate(&self, accepted_at: Timestamp, fingerprint: Fingerprint) -> Outcome {
        Outcome::Duplicate { first: self.acceptance(accepted_at), fingerprint: Some(fingerprint) }
    }
}

fn another_key(sequence: u64) -> Error {
    Error::internal(format!("message {sequence} has another key with the same hash"))
}

//! Reading references: where there may be some, and page by page what there is.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
    time::Duration,
};

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use scylla::value::CqlTimeuuid;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    claim,
    core::Core,
    error::Failed,
    lease::Lease,
    lwt::Row,
    prepared::Prepared,
    sharding,
    ticks::{self, Ticks},
};
use crate::domain::{Error, Message, MessageKey, MessageSid, OrgId};

/// References in one read.
pub const PAGE: usize = 500;
/// Statements of one scan that are under way at once.
pub const CONCURRENT: usize = 16;
/// Buckets in one read of those that have rows.
const BUCKETS: usize = 5_000;
/// Of more buckets in a row it is always read first which have rows; of fewer only on days that have no more rows than that
/// in `feed_buckets`, for whoever is busy all day has rows in all.
const FEW: i32 = 3;
const SPARSE: usize = 512;

/// An attempt in the order of its time. Two of the same 100 ns are in any order, but always in the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    /// Its time.
    pub ticks: Ticks,
    /// Its id.
    pub id: Uuid,
}

impl Attempt {
    /// Before every attempt that is later than `ticks`, after all others.
    pub fn after(ticks: Ticks) -> Self {
        Self { ticks: ticks.saturating_add(1), id: Uuid::nil() }
    }
}

impl From<Uuid> for Attempt {
    fn from(id: Uuid) -> Self {
        Self { ticks: ticks::of(id), id }
    }
}

/// A row of the feed: an attempt to accept a message, which counts if the claim of the key has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Its shard.
    pub shard: i32,
    /// The attempt.
    pub attempt: Attempt,
    /// The message.
    pub key: MessageKey,
}

/// Rows of the feed that were read at once.
#[derive(Debug)]
pub struct Page {
    /// Those that can be read.
    pub references: Vec<Reference>,
    /// The attempt of the last row, readable or not.
    pub last: Option<Uuid>,
    /// Whether there may be more.
    pub is_full: bool,
}

/// What a reference is worth, by the claim of its key.
#[derive(Debug)]
pub enum Standing {
    /// There is no claim yet.
    Undecided,
    /// Another attempt was accepted.
    Orphan,
    /// The message was accepted by this attempt, and its content erased since, or it is past its retention.
    Erased,
    /// The message was accepted, and nobody can read it here.
    Lost,
    /// The message was accepted by this attempt.
    Accepted {
        /// The message.
        message: Message,
        /// The size of its record.
        bytes: usize,
    },
}

/// Buckets that a scan must look into, and how far that brings it.
#[derive(Debug, PartialEq, Eq)]
pub struct ScanPlan {
    /// The shards that may have rows, by bucket, in the order of time.
    pub buckets: BTreeMap<i32, Vec<i32>>,
    /// Where the plan ends: there the next one begins.
    pub upto: Ticks,
}

impl Core {
    /// The first plan of a scan of `shards` from `from` (excluded) to `upto` (included). Whatever was acknowledged
    /// before the call is in its buckets.
    ///
    /// # Errors
    /// As the driver's errors are classified.
    pub async fn scan_plan(&self, shards: &[i32], from: Ticks, upto: Ticks) -> Result<ScanPlan, Failed> {
        let (first, last) = (ticks::bucket(from.saturating_add(1)), ticks::bucket(upto));
        let day = ticks::day(first);
        let unasked = || ScanPlan { buckets: (first..=last).map(|bucket| (bucket, shards.to_vec())).collect(), upto };
        let are_few = last.saturating_sub(first) < FEW;
        if are_few && (shards.len() <= 1 || self.crowded_day.load(Ordering::Relaxed) == day) {
            return Ok(unasked());
        }
        let most = if are_few { SPARSE } else { BUCKETS };
        let wanted: BTreeSet<i32> = shards.iter().copied().collect();
        let mut buckets = BTreeMap::<i32, Vec<i32>>::new();
        // With many shards a day has hundreds of thousands.
        let mut after = (-1, 0);
        loop {
            let rows = self.read(&self.cql.list_buckets, (day, after.0, after.1, most as i32)).await?;
            if are_few && rows.rows_num() >= SPARSE {
                // It does not become fewer before the day is over.
                self.crowded_day.store(day, Ordering::Relaxed);
                return Ok(unasked());
            }
            for row in rows.rows::<(i32, i32)>().map_err(malformed)? {
                after = row.map_err(malformed)?;
                let (shard, bucket) = after;
                if wanted.contains(&shard) && (first..=last).contains(&bucket) {
                    buckets.entry(bucket).or_default().push(shard);
                }
            }
            if rows.rows_num() < most {
                break;
            }
        }
        Ok(ScanPlan { buckets, upto: upto.min(ticks::day_end(day) - 1) })
    }

    /// The references of a shard's bucket after `after` and up to `upto`, of at most [`PAGE`] rows, in their order. Rows that
    /// cannot be read are passed over.
    ///
    /// # Errors
    /// As the driver's errors are classified.
    pub async fn references(&self, shard: i32, bucket: i32, after: Uuid, upto: Ticks) -> Result<Page, Failed> {
        let (after, upto) = (CqlTimeuuid::from(after), CqlTimeuuid::from(ticks::last(upto)));
        // Far below 2^31.
        let rows = self.read(&self.cql.scan_feed, (shard, bucket, after, upto, PAGE as i32)).await?;
        let mut page = Page { references: Vec::with_capacity(rows.rows_num()), last: None, is_full: false };
        page.is_full = rows.rows_num() >= PAGE;
        for row in rows.rows::<(CqlTimeuuid, Option<String>, Option<String>, Option<String>)>().map_err(malformed)? {
            let (attempt, org, env, sid) = row.map_err(malformed)?;
            let attempt = Attempt::from(Uuid::from(attempt));
            page.last = Some(attempt.id);
            match key(org, env, sid) {
                Some(key) => page.references.push(Reference { shard, attempt, key }),
                None => self.found_unreadable("feed", &attempt.id.to_string()),
            }
        }
        Ok(page)
    }

    /// What a reference of `attempt` to `key` is worth, at quorum. [`Standing::Undecided`] is the one answer that is not
    /// final.
    ///
    /// # Errors
    /// [`crate::domain::Kind::StoreUnavailable`].
    pub async fn standing(&self, attempt: Uuid, key: &MessageKey) -> Result<Standing, Error> {
        let Some(row) = self.claim(key).await? else { return Ok(Standing::Undecided) };
        if row.timeuuid("attempt_id").is_some_and(|accepted| accepted != attempt) {
            return Ok(Standing::Orphan);
        }
        let bytes = row.blob("message").map_or(0, <[u8]>::len);
        match claim::message(key, &row) {
            Err(_) => {
                self.found_unreadable("messages", &key.fingerprint());
                Ok(Standing::Lost)
            }
            // One that was imported may be past its retention though its attempt is not.
            Ok(message) => Ok(message
                .filter(|message| !self.is_past(message.accepted_at))
                .map_or(Standing::Erased, |message| Standing::Accepted { message, bytes })),
        }
    }

    /// Before this, references are past the retention.
    pub fn oldest(&self) -> Ticks {
        ticks::before(ticks::at(self.now()), self.options.retention)
    }

    /// The lease of a slot, at quorum.
    ///
    /// # Errors
    /// As the driver's errors are classified; a lease that is missing.
    pub async fn lease(&self, slot: i32) -> Result<Lease, Failed> {
        self.lease_by(&self.cql.read_lease, slot).await
    }

    /// The lease of a slot, after what was undecided about it is settled.
    ///
    /// # Errors
    /// As the driver's errors are classified; a lease that is missing.
    pub async fn settled_lease(&self, slot: i32) -> Result<Lease, Failed> {
        self.lease_by(&self.cql.settle_lease, slot).await
    }

    async fn lease_by(&self, statement: &Prepared, slot: i32) -> Result<Lease, Failed> {
        let begun = Instant::now();
        let rows = self.read(statement, (sharding::RESOLVER, slot)).await?;
        let row = rows.maybe_first_row::<Row>().map_err(malformed)?;
        let lease = row.as_ref().and_then(Lease::read).ok_or_else(|| Failed::malformed("the row of a lease"))?;
        self.marks.note(slot, lease.resolved_upto, begun);
        Ok(lease)
    }

    /// How far every slot is resolved, at quorum: the least of all.
    ///
    /// # Errors
    /// As the driver's errors are classified; a lease that is missing.
    pub async fn resolved_upto(&self) -> Result<Ticks, Failed> {
        let leases = concurrently((0..i32::from(self.sharding.slots)).map(|slot| self.lease(slot))).await?;
        leases.into_iter().map(|lease| lease.resolved_upto).min().ok_or_else(|| Failed::malformed("there is no lease"))
    }

    /// How far every slot is resolved at least: as it was learned no longer ago than `age`, of whatever statement, or is
    /// read now.
    ///
    /// # Errors
    /// As [`Core::resolved_upto`].
    pub async fn known_resolved_upto(&self, age: Duration) -> Result<Ticks, Failed> {
        let marks = concurrently((0..i32::from(self.sharding.slots)).map(|slot| async move {
            match self.marks.known(slot, age) {
                Some(mark) => Ok(mark),
                None => self.lease(slot).await.map(|lease| lease.resolved_upto),
            }
        }));
        marks.await?.into_iter().min().ok_or_else(|| Failed::malformed("there is no lease"))
    }
}

/// What all the futures give, in their order, some of them under way at once; or the first failure.
pub fn concurrently<T, E, F: Future<Output = Result<T, E>>>(
    futures: impl IntoIterator<Item = F>,
) -> impl Future<Output = Result<Vec<T>, E>> {
    // Made at once: an iterator that is kept while they run would have to be sendable with its closure.
    let futures: Vec<F> = futures.into_iter().collect();
    stream::iter(futures).buffered(CONCURRENT).try_collect()
}

/// What all the futures give, in their order, some of them under way at once.
pub fn side_by_side<T, F: Future<Output = T>>(futures: impl IntoIterator<Item = F>) -> impl Stream<Item = T> {
    // Made at once, as above.
    let futures: Vec<F> = futures.into_iter().collect();
    stream::iter(futures).buffered(CONCURRENT)
}

fn key(org: Option<String>, env: Option<String>, sid: Option<String>) -> Option<MessageKey> {
    Some(MessageKey { org: OrgId::new(&org?).ok()?, env: claim::environment(&env?)?, sid: MessageSid::new(sid?).ok()? })
}

fn malformed(error: impl std::fmt::Display) -> Failed {
    Failed::malformed(error.to_string())
}

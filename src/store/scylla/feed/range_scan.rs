//! Reading a range of attempt time from the database: the references of all shards merged in the order of their time,
//! and the messages of those that count.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    domain::{Error, Message, MessageKey},
    store::{
        PageLimit,
        scylla::{
            core::Core,
            error::Failed,
            scan::{Attempt, Reference, Standing, concurrently},
            ticks::{self, Ticks},
        },
    },
};

/// Claims that are read at once at most.
const BATCH: usize = 32;
/// A page with something in it is given after so long, full or not.
const LONG_ENOUGH: Duration = Duration::from_millis(200);

/// The way from one point in attempt time (excluded) to another (included).
#[derive(Debug)]
pub struct RangeScan {
    /// Everything up to here was given.
    mark: Ticks,
    upto: Ticks,
    /// Buckets that are to be read, with their shards, and how far they bring the scan.
    buckets: BTreeMap<i32, Vec<i32>>,
    scan_plan: Ticks,
    /// The shards of the bucket that is being read.
    streams: Vec<Stream>,
    /// Where that bucket, or what of it is wanted, ends.
    end: Ticks,
    /// About how large the latest messages were.
    size: usize,
}

/// One shard's bucket.
#[derive(Debug)]
struct Stream {
    shard: i32,
    bucket: i32,
    /// What was read of it last.
    after: Uuid,
    read: VecDeque<Reference>,
    is_done: bool,
}

/// Messages of a scan, in order.
#[derive(Debug)]
pub struct ScannedMessage {
    /// The attempt.
    pub attempt: Attempt,
    /// The message; where nobody can read it, its key.
    pub message: Result<Message, MessageKey>,
    /// Everything up to here is in this message and those before it.
    pub mark: Ticks,
}

impl RangeScan {
    /// The way from `from` to `upto`.
    pub fn new(from: Ticks, upto: Ticks) -> Self {
        Self {
            mark: from,
            upto: upto.max(from),
            buckets: BTreeMap::new(),
            scan_plan: from,
            streams: Vec::new(),
            end: from,
            size: 0,
        }
    }

    /// Everything up to here was given.
    pub fn mark(&self) -> Ticks {
        self.mark
    }

    /// Whether everything was given.
    pub fn is_done(&self) -> bool {
        self.mark >= self.upto
    }

    /// The next messages within `limit`, of the attempts that `wants`; none when the scan is done. One that cannot be read comes
    /// alone. After an error, and when
    /// the future was dropped, the scan is of no use any more.
    ///
    /// # Errors
    /// As reading the database has them.
    pub async fn page(
        &mut self,
        core: &Core,
        limit: PageLimit,
        wants: impl Fn(&Attempt) -> bool,
    ) -> Result<Vec<ScannedMessage>, Error> {
        let begun = Instant::now();
        let (mut found, mut bytes) = (Vec::new(), 0);
        while !self.is_done() {
            self.fill(core).await?;
            let room = limit.messages.saturating_sub(found.len());
            let batch = self.pop(self.batch(limit.bytes.saturating_sub(bytes)).min(room));
            let standings = concurrently(batch.iter().map(|(reference, _)| async {
                if wants(&reference.attempt) {
                    core.standing(reference.attempt.id, &reference.key).await
                } else {
                    Ok(Standing::Orphan)
                }
            }));
            let standings = standings.await?;
            let mut batch = batch.into_iter().zip(standings);
            while let Some(((reference, mark), standing)) = batch.next() {
                let attempt = reference.attempt;
                match standing {
                    Standing::Accepted { message, bytes: more } => {
                        self.size = (self.size + more) / 2;
                        bytes += more;
                        if bytes > limit.bytes && !found.is_empty() {
                            self.unpop(std::iter::once(reference).chain(batch.map(|((reference, _), _)| reference)));
                            return Ok(found);
                        }
                        found.push(ScannedMessage { attempt, message: Ok(message), mark });
                    }
                    Standing::Lost if found.is_empty() => {
                        self.mark = self.mark.max(mark);
                        found.push(ScannedMessage { attempt, message: Err(reference.key), mark });
                        self.unpop(batch.map(|((reference, _), _)| reference));
                        return Ok(found);
                    }
                    Standing::Lost => {
                        self.unpop(std::iter::once(reference).chain(batch.map(|((reference, _), _)| reference)));
                        return Ok(found);
                    }
                    Standing::Undecided | Standing::Orphan | Standing::Erased => {}
                }
                self.mark = self.mark.max(mark);
            }
            if found.len() >= limit.messages || (!found.is_empty() && begun.elapsed() >= LONG_ENOUGH) {
                break;
            }
        }
        Ok(found)
    }

    /// So many claims are read at once where there is room for so many bytes: by what messages were like lately, so that large
    /// ones are not read to be put back.
    fn batch(&self, room: usize) -> usize {
        (room / self.size.max(1)).clamp(1, BATCH)
    }

    /// Reads on wherever it is not known what comes next.
    async fn fill(&mut self, core: &Core) -> Result<(), Failed> {
        while self.streams.iter().all(|stream| stream.is_done && stream.read.is_empty()) {
            self.mark = self.mark.max(self.end);
            if let Some((bucket, shards)) = self.buckets.pop_first() {
                let after = ticks::last(self.mark);
                let stream = |shard| Stream { shard, bucket, after, read: VecDeque::new(), is_done: false };
                self.streams = shards.into_iter().map(stream).collect();
                self.end = ticks::bucket_end(bucket).min(self.scan_plan);
                break;
            }
            self.streams.clear();
            self.end = self.scan_plan;
            self.mark = self.mark.max(self.scan_plan);
            if self.is_done() {
                return Ok(());
            }
            let all: Vec<i32> = (0..i32::from(core.sharding.shards)).collect();
            let scan_plan = core.scan_plan(&all, self.mark, self.upto).await?;
            (self.buckets, self.scan_plan) = (scan_plan.buckets, scan_plan.upto);
        }
        let end = self.end;
        let empty = self.streams.iter_mut().filter(|stream| stream.read.is_empty() && !stream.is_done);
        concurrently(empty.map(|stream| stream.fill(core, end))).await?;
        if self.streams.iter().all(|stream| stream.read.is_empty()) {
            self.mark = self.mark.max(end);
        }
        Ok(())
    }

    /// The next references, each with the mark after it: just before the one that follows. Stops where it is not known
    /// which comes next.
    fn pop(&mut self, most: usize) -> Vec<(Reference, Ticks)> {
        let mut popped = Vec::new();
        while popped.len() < most && self.streams.iter().all(|stream| stream.is_done || !stream.read.is_empty()) {
            let next = self.streams.iter_mut().filter(|stream| !stream.read.is_empty());
            let next = next.min_by_key(|stream| stream.read.front().map(|reference| reference.attempt));
            let Some(reference) = next.and_then(|stream| stream.read.pop_front()) else { break };
            let mark = self.streams.iter().filter_map(Stream::floor).min().unwrap_or(self.end);
            popped.push((reference, mark));
        }
        popped
    }

    /// Puts references back that were popped last.
    fn unpop(&mut self, references: impl Iterator<Item = Reference>) {
        let references: Vec<_> = references.collect();
        for reference in references.into_iter().rev() {
            if let Some(stream) = self.streams.iter_mut().find(|stream| stream.shard == reference.shard) {
                stream.read.push_front(reference);
            }
        }
    }
}

impl Stream {
    async fn fill(&mut self, core: &Core, upto: Ticks) -> Result<(), Failed> {
        let page = core.references(self.shard, self.bucket, self.after, upto).await?;
        self.is_done = !page.is_full;
        self.after = page.last.unwrap_or(self.after);
        self.read = page.references.into();
        Ok(())
    }

    /// What comes next of it is later than this; nothing where nothing comes.
    fn floor(&self) -> Option<Ticks> {
        let next = match self.read.front() {
            Some(reference) => reference.attempt.ticks,
            None if self.is_done => return None,
            None => ticks::of(self.after),
        };
        Some(next.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{Environment, MessageKey, MessageSid, OrgId};

    fn reference(shard: i32, ticks: Ticks) -> Reference {
        let key = MessageKey {
            org: OrgId::new("acme").expect("valid"),
            env: Environment::Dev,
            sid: MessageSid::new("m").expect("valid"),
        };
        // The shard is in the id, so that two attempts at one time differ.
        let low = ticks::last(ticks).as_u128() & !0xFF;
        Reference { shard, attempt: Uuid::from_u128(low | shard as u128).into(), key }
    }

    /// A scan whose streams are read as far as they go.
    fn scan(shards: &[Vec<Ticks>], is_done: bool) -> RangeScan {
        let mut scan = RangeScan::new(0, 1000);
        scan.end = 1000;
        for (shard, ticks) in (0..).zip(shards) {
            let mut ticks = ticks.clone();
            ticks.sort_unstable();
            let read: VecDeque<_> = ticks.iter().map(|ticks| reference(shard, *ticks)).collect();
            let after = read.back().map_or(ticks::last(0), |last| last.attempt.id);
            scan.streams.push(Stream { shard, bucket: 0, after, read, is_done });
        }
        scan
    }

    proptest! {
        #[test]
        fn shards_are_merged_in_order_and_no_mark_passes_what_is_left(
            shards in proptest::collection::vec(proptest::collection::vec(1..50i64, 0..12), 1..5),
            is_done: bool, step in 1..7usize, back in 0..7usize,
        ) {
            let mut scan = scan(&shards, is_done);
            let mut popped = Vec::new();
            loop {
                let mut batch = scan.pop(step);
                if batch.is_empty() {
                    break;
                }
                for (_, mark) in &batch {
                    // Nothing that is not popped yet lies at or below the mark.
                    prop_assert!(popped.iter().chain(&batch).filter(|(other, _): &&(Reference, Ticks)|
                        other.attempt.ticks <= *mark).count() >= shards.iter().flatten().filter(|at| **at <= *mark).count());
                }
                let kept = batch.len().saturating_sub(back).max(1);
                let rest = batch.split_off(kept);
                scan.unpop(rest.into_iter().map(|(reference, _)| reference));
                popped.extend(batch);
            }
            prop_assert!(popped.is_sorted_by_key(|(reference, _)| reference.attempt));
            if is_done {
                prop_assert_eq!(popped.len(), shards.iter().map(Vec::len).sum::<usize>());
                prop_assert!(popped.last().is_none_or(|(_, mark)| *mark == 1000));
            }
        }
    }
}

//! What is known of the log by hash: runs over sealed segments, and memory for what no run covers. Both are one view,
//! swapped at once, so that an entry is never in neither.

use std::{cmp::Reverse, sync::Arc};

use parking_lot::RwLock;

use super::{
    index::{Hash, Recent, Run, RunError, RunKind},
    log::Position,
    sabotage::{Sabotage, is_planted},
};

/// The entries of a record that was written.
#[derive(Debug, Clone, Copy)]
pub struct NewEntry {
    /// The hash of the message's key.
    pub id: Hash,
    /// The hash of its sender.
    pub sender: Hash,
    /// Where it is.
    pub position: Position,
}

/// What a look-up found.
#[derive(Debug, Clone, Copy)]
pub struct Looked {
    /// The newest record with the hash.
    pub found: Option<Position>,
    /// Everything before this place was looked through.
    pub through: Position,
}

/// What was accepted since a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// Nothing with the hash.
    Nothing,
    /// Something, or memory no longer reaches back so far: it is to be looked up anew.
    LookAgain,
}

/// See the module.
pub struct View(RwLock<Inner>);

struct Inner {
    /// Of sealed segments that no run covers, the oldest first.
    sealed: Vec<Arc<Recent>>,
    /// Of the segment that is written; `None` in a store that is only read.
    current: Option<Recent>,
    /// The oldest first.
    ids: Arc<[Arc<Run>]>,
    senders: Arc<[Arc<Run>]>,
    /// Everything before this place is in runs or in memory.
    through: Position,
}

impl View {
    /// Of what recovery found.
    pub fn new(mut recents: Vec<Recent>, runs: Vec<Run>, through: Position) -> Self {
        let current = recents.pop();
        let sealed = recents.into_iter().map(Arc::new).collect();
        let (ids, senders): (Vec<_>, Vec<_>) =
            runs.into_iter().map(Arc::new).partition(|run| run.kind() == RunKind::Ids);
        let inner = Inner { sealed, current, ids: in_order(ids), senders: in_order(senders), through };
        Self(RwLock::new(inner))
    }

    /// The newest record with the hash `id`, among all that is durable.
    ///
    /// # Errors
    /// What stands in the way of knowing; never "absent" then.
    pub fn look(&self, id: &Hash) -> Result<Looked, RunError> {
        let (through, runs) = {
            let inner = self.0.read();
            let found = inner.recents().find_map(|recent| recent.newest(id));
            if let Some(found) = found {
                return Ok(Looked { found: Some(Position(found)), through: inner.through });
            }
            (inner.through, Arc::clone(&inner.ids))
        };
        // Runs may overlap for a time: one that is damaged stands beside what it was made of until it is made anew. So the first
        // one that has the hash need not have the newest record.
        let mut newest: Option<u64> = None;
        for run in runs.iter().rev() {
            if newest.is_some_and(|newest| run.span().to < Position(newest).segment()) {
                continue;
            }
            let found = match run.newest(id) {
                Err(RunError::Damaged(_)) if is_planted(Sabotage::DamagedPageIsAbsent) => None,
                found => found?,
            };
            newest = newest.max(found);
        }
        Ok(Looked { found: newest.map(Position), through })
    }

    /// What became known of `id` since a look-up that went `through` everything before that place.
    pub fn since(&self, id: &Hash, through: Position) -> Since {
        let inner = self.0.read();
        let reaches_back = inner.recents().last().is_none_or(|oldest| oldest.segment() <= through.segment());
        if !reaches_back && !is_planted(Sabotage::MemoryLetGo) {
            return Since::LookAgain;
        }
        let newest = inner.recents().find_map(|recent| recent.newest(id));
        if newest.is_some_and(|newest| newest >= through.0) { Since::LookAgain } else { Since::Nothing }
    }

    /// Positions of `sender` below `below`, descending: `limit` of them, or fewer at the end.
    ///
    /// # Errors
    /// What stands in the way of knowing.
    pub fn newest_of(&self, sender: &Hash, below: Position, limit: usize) -> Result<Vec<u64>, RunError> {
        let mut found = Vec::new();
        let runs = {
            let inner = self.0.read();
            for recent in inner.recents() {
                found.extend(recent.newest_of(sender, below.0, limit.saturating_sub(found.len())));
            }
            Arc::clone(&inner.senders)
        };
        for run in runs.iter().rev() {
            let is_older = |last: &u64| run.span().to < Position(*last).segment();
            if found.len() >= limit && found.last().is_none_or(is_older) {
                continue;
            }
            // All that it has of the page: where runs overlap, its newest may be there already.
            let overlaps = found.last().is_some_and(|last| !is_older(last));
            let wanted = if overlaps { limit } else { limit.saturating_sub(found.len()) };
            found.extend(run.newest_below(sender, below.0, wanted)?);
            if overlaps {
                found.sort_unstable_by_key(|position| Reverse(*position));
                found.dedup();
                found.truncate(limit);
            }
        }
        Ok(found)
    }

    /// Adds what a frame brought; from now on everything before `through` is known.
    pub fn add(&self, entries: &[NewEntry], through: Position) {
        let mut inner = self.0.write();
        if let Some(recent) = &mut inner.current {
            for entry in entries {
                recent.insert(entry.id, entry.sender, entry.position.0);
            }
        }
        inner.through = through;
    }

    /// Begins the memory of another segment.
    pub fn begin(&self, segment: u32, through: Position) {
        let mut inner = self.0.write();
        // As much room as the last one took: a table that grows holds up its writer for milliseconds.
        let room = inner.current.as_ref().map_or(0, Recent::len);
        let sealed = inner.current.replace(Recent::with_room(segment, room));
        inner.sealed.extend(sealed.map(Arc::new));
        inner.through = through;
    }

    /// How many segments no run covers, the one that is written included.
    pub fn uncovered(&self) -> usize {
        self.0.read().recents().count()
    }

    /// The oldest segment that is sealed and that no run covers.
    pub fn to_cover(&self) -> Option<u32> {
        self.0.read().sealed.first().map(|oldest| oldest.segment())
    }

    /// The entries of a sealed segment's memory, in the order of a run of `kind`.
    pub fn sorted(&self, segment: u32, kind: RunKind) -> Vec<super::index::Entry> {
        // Sorted without the lock, which the writer needs.
        let sealed = self.0.read().sealed.iter().find(|recent| recent.segment() == segment).map(Arc::clone);
        let Some(recent) = sealed else { return Vec::new() };
        match kind {
            RunKind::Ids => recent.ids_sorted(),
            RunKind::Senders => recent.senders_sorted(),
        }
    }

    /// Puts runs of `segment` in the place of its memory.
    pub fn cover(&self, segment: u32, runs: [Run; 2]) {
        if is_planted(Sabotage::RunAfterMemory) {
            self.0.write().sealed.retain(|recent| recent.segment() != segment);
            return;
        }
        let mut inner = self.0.write();
        for run in runs {
            inner.put(run);
        }
        inner.sealed.retain(|recent| recent.segment() != segment);
    }

    /// Puts runs in the place of those that they were made of, all at once: an entry is never in neither.
    pub fn replace(&self, runs: Vec<Run>, inputs: &[Arc<Run>]) {
        let mut inner = self.0.write();
        let is_input = |run: &Arc<Run>| inputs.iter().any(|input| Arc::ptr_eq(run, input));
        for kind in [RunKind::Ids, RunKind::Senders] {
            let kept: Vec<_> = inner.of(kind).iter().filter(|run| !is_input(run)).map(Arc::clone).collect();
            *inner.of(kind) = in_order(kept);
        }
        for run in runs {
            inner.put(run);
        }
    }

    /// The runs of `kind`, the oldest first.
    pub fn runs(&self, kind: RunKind) -> Arc<[Arc<Run>]> {
        let inner = self.0.read();
        Arc::clone(match kind {
            RunKind::Ids => &inner.ids,
            RunKind::Senders => &inner.senders,
        })
    }

    /// Lets go of runs whose segments are all below `oldest`; gives them.
    pub fn forget(&self, oldest: u32) -> Vec<Arc<Run>> {
        let mut inner = self.0.write();
        let mut gone = Vec::new();
        for kind in [RunKind::Ids, RunKind::Senders] {
            let (old, kept): (Vec<_>, Vec<_>) =
                inner.of(kind).iter().map(Arc::clone).partition(|run| run.span().to < oldest);
            gone.extend(old);
            *inner.of(kind) = kept.into();
        }
        gone
    }
}

impl Inner {
    /// What no run covers, the newest first.
    fn recents(&self) -> impl Iterator<Item = &Recent> {
        self.current.iter().chain(self.sealed.iter().rev().map(AsRef::as_ref))
    }

    fn of(&mut self, kind: RunKind) -> &mut Arc<[Arc<Run>]> {
        match kind {
            RunKind::Ids => &mut self.ids,
            RunKind::Senders => &mut self.senders,
        }
    }

    fn put(&mut self, run: Run) {
        let runs = self.of(run.kind());
        // One of the same segments is what it replaces: it would give each of its entries twice.
        let mut kept: Vec<_> = runs.iter().filter(|old| old.span() != run.span()).map(Arc::clone).collect();
        kept.push(Arc::new(run));
        *runs = in_order(kept);
    }
}

fn in_order(mut runs: Vec<Arc<Run>>) -> Arc<[Arc<Run>]> {
    runs.sort_by_key(|run| (run.span().from, Reverse(run.span().to)));
    runs.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::index::{
        End, Entry, Span,
        run_tests::{IDENTITY, hash},
        test_disk::TestDisk,
    };

    fn place(segment: u32) -> Position {
        Position::new(segment, 4096)
    }

    /// A view of runs over these segments, each with one record of one key and sender in each of its segments that is in `at`.
    fn view(kind: RunKind, spans: &[(u32, u32)], at: &[u32]) -> View {
        let disk = TestDisk::default();
        let run = |&(from, to): &(u32, u32)| {
            let within = at.iter().filter(|segment| (from..=to).contains(segment));
            let entries: Vec<_> = within.map(|segment| Entry { hash: hash(1), position: place(*segment).0 }).collect();
            let (count, end) = (entries.len() as u64, End { position: place(to).0, checksum: 0 });
            let mut entries = entries.into_iter().map(Ok);
            Run::write(&disk, &IDENTITY, kind, Span { from, to }, end, count, &mut entries).expect("written")
        };
        View::new(Vec::new(), spans.iter().map(run).collect(), place(9))
    }

    #[test]
    fn where_runs_overlap_a_sender_has_each_message_once_and_in_order() {
        let view = view(RunKind::Senders, &[(1, 3), (3, 3), (3, 5), (6, 6)], &[1, 3, 5, 6]);
        let newest = |limit, below| view.newest_of(&hash(1), below, limit).expect("read");
        let all = [6, 5, 3, 1].map(|segment| place(segment).0);
        for limit in 1..6 {
            assert_eq!(newest(limit, place(9)), all[..limit.min(4)], "{limit}");
        }
        assert_eq!(newest(2, place(5)), all[2..]);
    }

    #[test]
    fn where_runs_overlap_the_newest_record_counts() {
        let view = view(RunKind::Ids, &[(1, 7), (3, 3)], &[3, 7]);
        assert_eq!(view.look(&hash(1)).expect("read").found, Some(place(7)));
    }
}

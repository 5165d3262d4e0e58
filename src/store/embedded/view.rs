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
        for run in runs.iter().rev() {
            let found = match run.newest(id) {
                Err(RunError::Damaged(_)) if is_planted(Sabotage::DamagedPageIsAbsent) => None,
                found => found?,
            };
            if let Some(found) = found {
                return Ok(Looked { found: Some(Position(found)), through });
            }
        }
        Ok(Looked { found: None, through })
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
            if found.len() >= limit {
                break;
            }
            found.extend(run.newest_below(sender, below.0, limit - found.len())?);
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

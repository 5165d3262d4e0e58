//! Accepted messages whose index entries are in memory only.
//!
//! A group's batch has the messages alone: index entries, each at a random place of its own, would cost the engine more
//! than the messages do. They are kept here, and written to tables in bulk when memtables are; see [`super::upkeep`].
//! Nothing is lost with them: each can be made again from its message, and an opening does so.
//!
//! Everything here is synced: the writer adds a group when its commit is done, right before it is published. Readers ask
//! here first and the index afterwards, and an entry is taken away from here only when the index has it, so none falls
//! between the two.

use std::{ops::RangeInclusive, sync::Arc};

use parking_lot::RwLock;

use super::{
    index::{Hash, SenderKey, sender_key},
    numbered::{Hashed, Numbered},
};

/// The index entries of one message.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    pub sequence: u64,
    pub place: Hash,
    pub sender: Hash,
}

/// See the module.
#[derive(Default)]
pub struct Unindexed(RwLock<State>);

#[derive(Default)]
struct State {
    /// What grows.
    open: Generation,
    /// What is being written to tables; everything in it is older.
    sealed: Option<Arc<Generation>>,
    /// Empty, with the memory of one that was released: the next one grows as large, and fresh memory is dear.
    spare: Generation,
}

/// Entries in the order of their sequences.
#[derive(Default)]
pub struct Generation(Numbered<Linked>);

struct Linked {
    entry: Entry,
    /// The number of the one before of the same sender.
    previous: Option<u32>,
}

impl Hashed for Linked {
    fn hash(&self) -> &Hash {
        &self.entry.sender
    }
}

impl Unindexed {
    /// Adds what was accepted and synced, in the order of the sequence.
    pub fn extend(&self, entries: impl IntoIterator<Item = Entry>) {
        let open = &mut self.0.write().open;
        for entry in entries {
            open.push(entry);
        }
    }

    /// Up to `limit` messages of `sender` in `range`, the newest first.
    pub fn newest_of(&self, sender: &Hash, range: RangeInclusive<u64>, limit: usize) -> Vec<u64> {
        let state = self.0.read();
        let mut found = Vec::new();
        for generation in std::iter::once(&state.open).chain(state.sealed.as_deref()) {
            let wanted = generation.newest_of(sender).skip_while(|sequence| sequence > range.end());
            found.extend(wanted.take_while(|sequence| sequence >= range.start()).take(limit - found.len()));
        }
        found
    }

    /// Everything up to now, which stays here until [`Unindexed::release`]; what comes later is kept apart. What was
    /// sealed before and not released is given again, and nothing else.
    pub fn seal(&self) -> Arc<Generation> {
        let state = &mut *self.0.write();
        let seal = || Arc::new(std::mem::replace(&mut state.open, std::mem::take(&mut state.spare)));
        Arc::clone(state.sealed.get_or_insert_with(seal))
    }

    /// Lets go of what was sealed: the indexes have it.
    pub fn release(&self) {
        let released = self.0.write().sealed.take();
        // Not under the lock, which every group takes. One that somebody else still holds is theirs to drop.
        let Some(mut spare) = released.and_then(Arc::into_inner) else { return };
        spare.0.clear();
        self.0.write().spare = spare;
    }
}

impl Generation {
    fn push(&mut self, entry: Entry) {
        self.0.push(&entry.sender, |previous| Linked { entry, previous });
    }

    fn newest_of(&self, sender: &Hash) -> impl Iterator<Item = u64> {
        let mut next = self.0.latest(sender);
        std::iter::from_fn(move || {
            let linked = self.0.rows().get(next? as usize)?;
            next = linked.previous;
            Some(linked.entry.sequence)
        })
    }

    /// The last sequence; `None` when it is empty.
    pub fn last(&self) -> Option<u64> {
        self.0.rows().last().map(|linked| linked.entry.sequence)
    }

    /// What `sids` is to have, sorted; of several messages under one hash the last counts.
    pub fn sids(&self) -> Vec<(Hash, u64)> {
        let mut sids: Vec<_> = self.0.rows().iter().map(|linked| (linked.entry.place, linked.entry.sequence)).collect();
        sids.sort_unstable_by_key(|(place, sequence)| (*place, std::cmp::Reverse(*sequence)));
        sids.dedup_by_key(|(place, _)| *place);
        sids
    }

    /// The keys that `senders` is to have, sorted.
    pub fn senders(&self) -> Vec<SenderKey> {
        let mut senders: Vec<_> =
            self.0.rows().iter().map(|linked| sender_key(&linked.entry.sender, linked.entry.sequence)).collect();
        senders.sort_unstable();
        senders
    }
}

impl FromIterator<Entry> for Generation {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        let mut generation = Self::default();
        for entry in entries {
            generation.push(entry);
        }
        generation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Hash = [1; 16];
    const BOB: Hash = [2; 16];

    fn entry(sequence: u64, place: u8, sender: Hash) -> Entry {
        Entry { sequence, place: [place; 16], sender }
    }

    #[test]
    fn a_senders_messages_come_newest_first_over_the_seal_and_until_the_release() {
        let unindexed = Unindexed::default();
        unindexed.extend([entry(1, 9, ALICE), entry(2, 8, BOB), entry(3, 7, ALICE)]);
        let sealed = unindexed.seal();
        assert_eq!(sealed.last(), Some(3));
        unindexed.extend([entry(4, 6, ALICE), entry(5, 5, BOB)]);
        assert_eq!(unindexed.newest_of(&ALICE, 1..=5, 10), [4, 3, 1]);
        assert_eq!(unindexed.newest_of(&ALICE, 2..=3, 10), [3]);
        assert_eq!(unindexed.newest_of(&ALICE, 1..=5, 2), [4, 3]);
        assert!(unindexed.newest_of(&[3; 16], 1..=5, 10).is_empty());
        // Not released: nothing newer is sealed in its place.
        assert_eq!(unindexed.seal().last(), Some(3));
        unindexed.release();
        assert_eq!(unindexed.newest_of(&ALICE, 1..=5, 10), [4]);
        assert_eq!(unindexed.seal().last(), Some(5));
    }

    #[test]
    fn entries_are_sorted_for_the_tables_and_the_last_under_a_hash_counts() {
        let generation: Generation =
            [entry(1, 9, BOB), entry(2, 3, ALICE), entry(3, 9, ALICE), entry(4, 5, BOB)].into_iter().collect();
        assert_eq!(generation.sids(), [([3; 16], 2), ([5; 16], 4), ([9; 16], 3)]);
        let senders = [(ALICE, 2), (ALICE, 3), (BOB, 1), (BOB, 4)];
        assert_eq!(generation.senders(), senders.map(|(sender, sequence)| sender_key(&sender, sequence)));
        assert_eq!(Generation::default().last(), None);
    }
}

//! What no run covers yet, in memory: the records of one segment, by the hashes of their keys and senders.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable, hash_table};

use super::format::{Entry, Hash};

/// Rows that are allocated at once: 160 KiB. Rows never move, so an insert never waits for a copy of them, and at most
/// one block is partly empty.
const BLOCK: usize = 4096;
/// No row.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Row {
    id: Hash,
    sender: Hash,
    offset: u32,
    /// The row before with the same sender, or [`NONE`].
    previous: u32,
}

/// The records of one segment, inserted in the order of their positions. Some 57 bytes each at 150,000.
pub struct Recent {
    segment: u32,
    rows: Rows,
    /// The latest row of each id.
    ids: Table,
    /// The latest row of each sender.
    senders: Table,
}

impl Recent {
    /// Nothing of `segment`.
    pub fn new(segment: u32) -> Self {
        Self { segment, rows: Rows(Vec::new()), ids: Table::default(), senders: Table::default() }
    }

    /// Nothing of `segment`, with room for this many records. More are taken in too, but then a table grows, and the
    /// insert that makes it grow takes milliseconds.
    pub fn with_room(segment: u32, records: usize) -> Self {
        let table = || Table { rows: HashTable::with_capacity(records), hasher: DefaultHashBuilder::default() };
        Self { ids: table(), senders: table(), ..Self::new(segment) }
    }

    /// Adds a record. `position` must be in this segment and above all that were inserted.
    pub fn insert(&mut self, id: Hash, sender: Hash, position: u64) {
        debug_assert_eq!(position >> 32, u64::from(self.segment));
        // A segment has fewer records than u32 has numbers.
        let number = self.rows.len() as u32;
        self.ids.replace(&self.rows, &id, number, |row| &row.id);
        let previous = self.senders.replace(&self.rows, &sender, number, |row| &row.sender);
        self.rows.push(Row { id, sender, offset: position as u32, previous });
    }

    /// The greatest position with this id.
    pub fn newest(&self, id: &Hash) -> Option<u64> {
        let number = self.ids.get(&self.rows, id, |row| &row.id);
        self.rows.get(number).map(|row| self.position(row))
    }

    /// At most `limit` positions of `sender` below `below`, the greatest first.
    pub fn newest_of(&self, sender: &Hash, below: u64, limit: usize) -> Vec<u64> {
        let is_below = |row: &Row| self.position(row) < below;
        let mut number = self.senders.get(&self.rows, sender, |row| &row.sender);
        // Down the rows of this sender, and at the same time down all rows from `below` on: one of the two is short.
        let mut scanned = self.rows.partition_point(is_below);
        while let Some(row) = self.rows.get(number).filter(|row| !is_below(row)) {
            number = row.previous;
            scanned = scanned.wrapping_sub(1);
            if self.rows.get(scanned).is_some_and(|row| row.sender == *sender) {
                number = scanned;
                break;
            }
        }
        let first = self.rows.get(number);
        std::iter::successors(first, |row| self.rows.get(row.previous))
            .map(|row| self.position(row))
            .take(limit)
            .collect()
    }

    /// Records.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no records.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 0
    }

    /// The segment.
    pub fn segment(&self) -> u32 {
        self.segment
    }

    /// Bytes in memory.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        let blocks: usize = self.rows.0.iter().map(|block| block.capacity() * size_of::<Row>()).sum();
        blocks + self.ids.rows.allocation_size() + self.senders.rows.allocation_size()
    }

    /// What a run of ids is made of.
    pub fn ids_sorted(&self) -> Vec<Entry> {
        self.sorted(|row| row.id)
    }

    /// What a run of senders is made of.
    pub fn senders_sorted(&self) -> Vec<Entry> {
        self.sorted(|row| row.sender)
    }

    fn sorted(&self, hash: impl Fn(&Row) -> Hash) -> Vec<Entry> {
        let rows = self.rows.0.iter().flatten();
        let mut entries = Vec::with_capacity(self.len());
        entries.extend(rows.map(|row| Entry { hash: hash(row), position: self.position(row) }));
        entries.sort_unstable();
        entries
    }

    fn position(&self, row: &Row) -> u64 {
        u64::from(self.segment) << 32 | u64::from(row.offset)
    }
}

/// Rows by number, in the order of their positions, in blocks of [`BLOCK`].
struct Rows(Vec<Vec<Row>>);

impl Rows {
    fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * BLOCK + last.len())
    }

    fn get(&self, number: u32) -> Option<&Row> {
        let number = number as usize;
        self.0.get(number / BLOCK)?.get(number % BLOCK)
    }

    fn push(&mut self, row: Row) {
        match self.0.last_mut().filter(|last| last.len() < BLOCK) {
            Some(last) => last.push(row),
            None => {
                let mut block = Vec::with_capacity(BLOCK);
                block.push(row);
                self.0.push(block);
            }
        }
    }

    /// How many rows are before the first for which `is_before` does not hold.
    fn partition_point(&self, is_before: impl Fn(&Row) -> bool) -> u32 {
        let blocks = self.0.partition_point(|block| block.first().is_some_and(&is_before));
        let Some(block) = blocks.checked_sub(1) else { return 0 };
        let within = self.0.get(block).map_or(0, |rows| rows.partition_point(is_before));
        (block * BLOCK + within) as u32
    }
}

/// Numbers of rows by a hash in them.
#[derive(Default)]
struct Table {
    rows: HashTable<u32>,
    /// With a seed of its own: callers choose what is hashed, and can grind it.
    hasher: DefaultHashBuilder,
}

impl Table {
    /// The row under `hash`, or [`NONE`].
    fn get(&self, rows: &Rows, hash: &Hash, of: impl Fn(&Row) -> &Hash) -> u32 {
        let is = |number: &u32| rows.get(*number).is_some_and(|row| of(row) == hash);
        self.rows.find(self.hasher.hash_one(hash), is).copied().unwrap_or(NONE)
    }

    /// Puts `number` under `hash`, and gives the row that was there, or [`NONE`].
    fn replace(&mut self, rows: &Rows, hash: &Hash, number: u32, of: impl Fn(&Row) -> &Hash) -> u32 {
        let Self { rows: table, hasher } = self;
        let is = |known: &u32| rows.get(*known).is_some_and(|row| of(row) == hash);
        // Every number in the table is a row's, but for the one that is inserted now, whose hash is known.
        let hash_of = |known: &u32| hasher.hash_one(rows.get(*known).map_or(hash, &of));
        match table.entry(hasher.hash_one(hash), is, hash_of) {
            hash_table::Entry::Occupied(mut known) => std::mem::replace(known.get_mut(), number),
            hash_table::Entry::Vacant(free) => {
                free.insert(number);
                NONE
            }
        }
    }
}

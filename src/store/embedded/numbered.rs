//! Rows in the order in which they came, found by a hash: the table, which is looked into at random, has four bytes a row
//! and stays small.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::index::Hash;

/// A row that is found by a hash.
pub trait Hashed {
    /// What it is found by.
    fn hash(&self) -> &Hash;
}

/// See the module.
pub struct Numbered<T> {
    rows: Vec<T>,
    /// The number of the latest row under each hash.
    latest: HashTable<u32>,
    /// Keyed: callers choose what is hashed.
    hasher: DefaultHashBuilder,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), latest: HashTable::new(), hasher: DefaultHashBuilder::default() }
    }
}

impl<T: Hashed> Numbered<T> {
    /// All rows; the first has number 0.
    pub fn rows(&self) -> &[T] {
        &self.rows
    }

    /// The number of the latest row under `hash`.
    pub fn latest(&self, hash: &Hash) -> Option<u32> {
        self.latest.find(self.hasher.hash_one(hash), |number| has_hash(&self.rows, *number, hash)).copied()
    }

    /// Adds the row that `make` makes of the number of the latest one before it under `hash`. The row must have `hash`.
    pub fn push(&mut self, hash: &Hash, make: impl FnOnce(Option<u32>) -> T) {
        let Self { rows, latest, hasher } = self;
        // Memory is full long before the number is.
        let number = rows.len() as u32;
        let hash_of =
            |number: &u32| hasher.hash_one(rows.get(*number as usize).map(T::hash).copied().unwrap_or_default());
        let entry = latest.entry(hasher.hash_one(hash), |number| has_hash(rows, *number, hash), hash_of);
        let before = match entry {
            hashbrown::hash_table::Entry::Occupied(mut known) => Some(std::mem::replace(known.get_mut(), number)),
            hashbrown::hash_table::Entry::Vacant(free) => {
                free.insert(number);
                None
            }
        };
        rows.push(make(before));
    }

    /// Forgets all rows and keeps their memory.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.latest.clear();
    }
}

fn has_hash<T: Hashed>(rows: &[T], number: u32, hash: &Hash) -> bool {
    rows.get(number as usize).is_some_and(|row| row.hash() == hash)
}

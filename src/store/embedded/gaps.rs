//! Sequences that were lost and whose loss the operator accepted.

use crate::store::record::{Damaged, Reader};

/// Ranges of lost sequences, both ends included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gaps(Vec<(u64, u64)>);

impl Gaps {
    /// Adds a range.
    pub fn add(&mut self, first: u64, last: u64) {
        self.0.push((first, last));
    }

    /// Whether `sequence` was lost.
    pub fn contains(&self, sequence: u64) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&sequence))
    }

    /// The end of the lost range that `sequence` is in.
    pub fn end_of(&self, sequence: u64) -> Option<u64> {
        self.iter().find(|(first, last)| (*first..=*last).contains(&sequence)).map(|(_, last)| last)
    }

    /// The ranges.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().copied()
    }

    /// How many sequences from `first` on were lost.
    pub fn count_from(&self, first: u64) -> u64 {
        self.iter().map(|(from, to)| (to + 1).saturating_sub(from.max(first))).sum()
    }

    /// Forgets what lies below `oldest`.
    pub fn forget_below(&mut self, oldest: u64) {
        self.0.retain(|(_, last)| *last >= oldest);
    }

    /// For the store.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.iter().flat_map(|(first, last)| [first.to_be_bytes(), last.to_be_bytes()].concat()).collect()
    }

    /// Reads what [`Gaps::to_bytes`] gave.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Damaged> {
        let mut gaps = Self::default();
        while !reader.0.is_empty() {
            let (first, last) = (u64::from_be_bytes(reader.array()?), u64::from_be_bytes(reader.array()?));
            if first > last || last == u64::MAX {
                return Err(Damaged("a lost range is none"));
            }
            gaps.add(first, last);
        }
        Ok(gaps)
    }
}

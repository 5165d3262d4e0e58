//! What was accepted lately, in memory: the writer decides by it, and callers whose message came again a moment ago are
//! answered from it.
//!
//! Complete: it knows everything that was accepted after its floor, and the index knows everything up to it: an entry is
//! forgotten only when the index has it. So whoever finds nothing here first, and nothing in the index afterwards, knows
//! that there is nothing. What it knows of a message is what a duplicate is told, so nothing is read from the engine for
//! one; the other half of the key's hash stands for the key itself.

use parking_lot::RwLock;

use super::{
    index::{Hash, KeyHash},
    numbered::{Hashed, Numbered},
};
use crate::domain::{Fingerprint, Timestamp};

/// One accepted message.
#[derive(Debug, Clone, Copy)]
pub struct Accepted {
    /// Its sequence; not durable yet when it is beyond the durable one.
    pub sequence: u64,
    pub accepted_at: Timestamp,
    pub fingerprint: Fingerprint,
    check: Hash,
}

/// See the module.
pub struct Recent(RwLock<Generations>);

struct Generations {
    /// Messages of one generation. There may be more while the index lags behind.
    capacity: usize,
    /// Everything up to this sequence is in the index.
    indexed: u64,
    floor: u64,
    /// The first sequence of `young`, minus one.
    middle: u64,
    young: Numbered<Row>,
    old: Numbered<Row>,
}

struct Row {
    place: Hash,
    accepted: Accepted,
}

impl Hashed for Row {
    fn hash(&self) -> &Hash {
        &self.place
    }
}

impl Accepted {
    /// A message with the key of `hash`.
    pub fn new(hash: &KeyHash, sequence: u64, accepted_at: Timestamp, fingerprint: Fingerprint) -> Self {
        Self { sequence, accepted_at, fingerprint, check: hash.check }
    }

    /// Whether this is the message with the key of `hash`, and not another one under the same first half.
    pub fn has_key(&self, hash: &KeyHash) -> bool {
        self.check == hash.check
    }
}

impl Recent {
    /// Knows nothing, and everything after `last`, up to which the index knows all. Remembers at least the latest
    /// `capacity` messages.
    pub fn new(last: u64, capacity: usize) -> Self {
        let (young, old) = (Numbered::default(), Numbered::default());
        Self(RwLock::new(Generations { capacity, indexed: last, floor: last, middle: last, young, old }))
    }

    /// What was accepted lately under `hash`.
    pub fn get(&self, hash: &KeyHash) -> Option<Accepted> {
        let generations = self.0.read();
        [&generations.young, &generations.old].into_iter().find_map(|generation| {
            let number = generation.latest(&hash.place)?;
            generation.rows().get(number as usize).map(|row| row.accepted)
        })
    }

    /// Everything that was accepted after this sequence is known.
    pub fn floor(&self) -> u64 {
        self.0.read().floor
    }

    /// Everything up to this sequence is in the index.
    pub fn indexed(&self) -> u64 {
        self.0.read().indexed
    }

    /// Notes that the index has everything up to `sequence`.
    pub fn set_indexed(&self, sequence: u64) {
        self.0.write().indexed = sequence;
    }

    /// Notes what the writer accepts; sequences come in order.
    pub fn insert(&self, hash: &KeyHash, accepted: Accepted) {
        let generations = &mut *self.0.write();
        if generations.young.rows().len() >= generations.capacity && generations.middle <= generations.indexed {
            generations.floor = generations.middle;
            generations.middle = accepted.sequence - 1;
            std::mem::swap(&mut generations.young, &mut generations.old);
            // Keeps its memory, which the new generation needs.
            generations.young.clear();
        }
        // One that expired may be accepted again: the later counts.
        generations.young.push(&hash.place, |_| Row { place: hash.place, accepted });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u64) -> KeyHash {
        let mut place = Hash::default();
        place[..8].copy_from_slice(&number.to_be_bytes());
        KeyHash { place, check: [7; 16] }
    }

    fn accepted(sequence: u64) -> Accepted {
        let at = Timestamp::from_micros(1).expect("a time");
        Accepted::new(&hash(sequence), sequence, at, Fingerprint::from_bytes([1; Fingerprint::LENGTH]))
    }

    #[test]
    fn everything_after_the_floor_is_known_and_memory_stays_bounded() {
        let recent = Recent::new(100, 8);
        for sequence in 101..200 {
            recent.insert(&hash(sequence), accepted(sequence));
            recent.set_indexed(sequence - 3);
            let floor = recent.floor();
            assert!(sequence - floor <= 16, "{sequence} over {floor}");
            for known in floor + 1..=sequence {
                assert_eq!(recent.get(&hash(known)).map(|known| known.sequence), Some(known));
            }
            assert!(recent.get(&hash(sequence + 1)).is_none());
        }
        assert!(recent.get(&hash(101)).is_none());
    }

    #[test]
    fn nothing_is_forgotten_that_the_index_does_not_have() {
        let recent = Recent::new(100, 8);
        for sequence in 101..200 {
            recent.insert(&hash(sequence), accepted(sequence));
            assert!(recent.floor() <= recent.indexed());
        }
        assert!((101..200).all(|sequence| recent.get(&hash(sequence)).is_some()));
        recent.set_indexed(150);
        for sequence in 200..300 {
            recent.insert(&hash(sequence), accepted(sequence));
            assert!(recent.floor() <= recent.indexed());
        }
        assert!((151..300).all(|sequence| recent.get(&hash(sequence)).is_some()));
        recent.set_indexed(299);
        for sequence in 300..320 {
            recent.insert(&hash(sequence), accepted(sequence));
        }
        assert!(recent.floor() >= 299 && recent.get(&hash(299)).is_none());
    }

    #[test]
    fn of_several_under_one_place_the_latest_counts() {
        let recent = Recent::new(100, 2);
        for sequence in 101..104 {
            recent.insert(&hash(1), accepted(sequence));
            recent.set_indexed(sequence);
            assert_eq!(recent.get(&hash(1)).map(|known| known.sequence), Some(sequence));
        }
    }

    #[test]
    fn another_key_under_the_same_place_is_told_apart() {
        let known = accepted(5);
        assert!(known.has_key(&hash(5)));
        assert!(!known.has_key(&KeyHash { check: [8; 16], ..hash(5) }));
    }
}

//! What one reader was given: everything up to a mark, and single attempts above it.

use std::collections::BTreeSet;

use crate::store::scylla::{scan::Attempt, ticks::Ticks};

/// So many attempts above the mark are remembered. When resolving stands still for so long that there are more, they are
/// forgotten: a reader that then falls behind is given some of them again.
const MOST: usize = 500_000;

/// Delivers once what lies above the mark, however often it is offered; below the mark, nothing.
#[derive(Debug)]
pub struct Delivered {
    mark: Ticks,
    above: BTreeSet<Attempt>,
}

impl Delivered {
    /// Everything up to `mark` is delivered.
    pub fn upto(mark: Ticks) -> Self {
        Self { mark, above: BTreeSet::new() }
    }

    /// Up to here everything is delivered.
    pub fn mark(&self) -> Ticks {
        self.mark
    }

    /// Whether `attempt` was not delivered yet.
    pub fn is_new(&self, attempt: &Attempt) -> bool {
        attempt.ticks > self.mark && !self.above.contains(attempt)
    }

    /// Notes a delivery.
    pub fn note(&mut self, attempt: Attempt) {
        if attempt.ticks > self.mark {
            if self.above.len() >= MOST {
                self.above.clear();
            }
            self.above.insert(attempt);
        }
    }

    /// Everything up to `mark` is delivered now. A mark never goes back.
    pub fn advance(&mut self, mark: Ticks) {
        if mark > self.mark {
            self.mark = mark;
            self.above = self.above.split_off(&Attempt::after(mark));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn attempt(ticks: Ticks, id: u128) -> Attempt {
        Attempt { ticks, id: Uuid::from_u128(id) }
    }

    proptest! {
        #[test]
        fn each_attempt_is_delivered_once_and_none_below_the_mark(
            steps in proptest::collection::vec(prop_oneof![
                4 => (0..40i64, 0..3u128).prop_map(|(ticks, id)| Ok(attempt(ticks, id))),
                1 => (0..40i64).prop_map(Err),
            ], 0..200)
        ) {
            let (mut seen, mut delivered, mut mark) = (Delivered::upto(5), BTreeSet::new(), 5);
            for step in steps {
                match step {
                    Ok(offered) => {
                        let expected = offered.ticks > mark && !delivered.contains(&offered);
                        prop_assert_eq!(seen.is_new(&offered), expected);
                        if expected {
                            seen.note(offered);
                            delivered.insert(offered);
                        }
                    }
                    Err(next) => {
                        seen.advance(next);
                        mark = mark.max(next);
                    }
                }
                prop_assert_eq!(seen.mark(), mark);
                // Memory is what lies above the mark.
                let above = delivered.iter().filter(|attempt| attempt.ticks > mark).count();
                prop_assert_eq!(seen.above.len(), above);
            }
        }
    }
}

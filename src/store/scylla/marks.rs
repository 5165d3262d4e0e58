//! How far slots are resolved, by what this process learned last: it reads or renews every lease all the time, so that its
//! readers need not ask again while there is nothing to read. What is resolved stays so, however old the news.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::ticks::Ticks;

/// See the module.
#[derive(Debug, Default)]
pub struct Marks {
    by_slot: Mutex<HashMap<i32, (Ticks, Instant)>>,
}

impl Marks {
    /// A statement that was begun at `begun` told that `slot` is resolved up to `mark`, or made it so.
    pub fn note(&self, slot: i32, mark: Ticks, begun: Instant) {
        let mut by_slot = self.by_slot.lock();
        let known = by_slot.entry(slot).or_insert((mark, begun));
        *known = (known.0.max(mark), known.1.max(begun));
    }

    /// How far `slot` is resolved, if that was learned no longer ago than `age`.
    pub fn known(&self, slot: i32, age: Duration) -> Option<Ticks> {
        self.by_slot.lock().get(&slot).filter(|(_, learned)| learned.elapsed() <= age).map(|(mark, _)| *mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_known_for_a_while_and_never_goes_back() {
        let (marks, now) = (Marks::default(), Instant::now());
        assert_eq!(marks.known(0, Duration::from_secs(60)), None);
        marks.note(0, 7, now);
        // A read that was overtaken.
        marks.note(0, 5, now);
        assert_eq!(marks.known(0, Duration::from_secs(60)), Some(7));
        assert_eq!((marks.known(1, Duration::from_secs(60)), marks.known(0, Duration::ZERO)), (None, None));
    }
}

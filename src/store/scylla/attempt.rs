//! The ids of attempts to accept a message.

use parking_lot::Mutex;
use uuid::{Builder, Uuid};

use super::{ticks::Ticks, time::Reading};
use crate::domain::Error;

/// Gives version 1 UUIDs that nobody else gives. They never go back, but where the clock was ahead and is set right.
pub struct Attempts(Mutex<State>);

struct State {
    last: Ticks,
    source: Source,
}

/// What tells the attempts of one source from those of all others.
#[derive(Clone, Copy)]
struct Source {
    node: [u8; 6],
    counter: u16,
}

impl Attempts {
    /// A source with a random node id.
    ///
    /// # Errors
    /// [`crate::domain::Kind::Internal`] when the machine gives no randomness.
    pub fn new() -> Result<Self, Error> {
        Ok(Self(Mutex::new(State { last: 0, source: Source::draw()? })))
    }

    /// The next attempt: at the time of `clock`, or right after the last one where that has not moved on. A last one that is
    /// too far ahead is of a clock that was wrong; then the source is drawn anew, for that clock may have given the same
    /// ticks before.
    ///
    /// # Errors
    /// [`crate::domain::Kind::Internal`] when the machine gives no randomness.
    pub fn next(&self, clock: Reading) -> Result<Uuid, Error> {
        let mut state = self.0.lock();
        let mut ticks = clock.own.max(state.last.saturating_add(1));
        if ticks > clock.latest().max(clock.own) {
            state.source = Source::draw()?;
            ticks = clock.own;
        }
        state.last = ticks;
        let Source { node, counter } = state.source;
        // Never negative: a time is after 1582.
        Ok(Builder::from_gregorian_timestamp(ticks as u64, counter, &node).into_uuid())
    }
}

impl Source {
    fn draw() -> Result<Self, Error> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| Error::internal(format!("no randomness: {error}")))?;
        let [first, node @ .., high, low] = random;
        let [a, b, c, d, e] = node;
        // The bit marks a node id that is no hardware address.
        Ok(Self { node: [first | 1, a, b, c, d, e], counter: u16::from_be_bytes([high, low]) })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::ticks, *};

    fn at(seconds: i64) -> Reading {
        let own = seconds * ticks::PER_SECOND;
        Reading { own, database: own, uncertainty: 0 }
    }

    #[test]
    fn attempts_do_not_go_back_with_a_clock_that_is_still_good_enough() {
        let attempts = Attempts::new().expect("random");
        let ahead = Reading { own: at(101).own, ..at(100) };
        let first = attempts.next(ahead).expect("random");
        assert_eq!(first.get_version_num(), 1);
        assert_eq!(ticks::of(first), at(101).own);
        let second = attempts.next(at(100)).expect("random");
        assert_eq!(ticks::of(second), at(101).own + 1);
        assert_eq!(first.as_fields().3[2..], second.as_fields().3[2..]);
        assert_eq!(ticks::of(attempts.next(at(102)).expect("random")), at(102).own);
    }

    #[test]
    fn after_a_clock_that_was_wrong_attempts_begin_at_the_right_time_and_repeat_none() {
        let attempts = Attempts::new().expect("random");
        let first = attempts.next(at(100)).expect("random");
        let wrong = attempts.next(at(700)).expect("random");
        // Set right again, to ticks that were given before.
        let right = attempts.next(at(100)).expect("random");
        assert_eq!((ticks::of(wrong), ticks::of(right)), (at(700).own, at(100).own));
        assert_ne!(first, right);
        assert_eq!(ticks::of(attempts.next(at(100)).expect("random")), at(100).own + 1);
    }

    #[test]
    fn two_processes_at_one_instant_give_different_attempts() {
        let (one, other) = (Attempts::new().expect("random"), Attempts::new().expect("random"));
        assert_ne!(one.next(at(7)).expect("random"), other.next(at(7)).expect("random"));
    }
}

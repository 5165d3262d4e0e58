//! The ids of attempts to accept a message.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use uuid::{Builder, Uuid};

use super::ticks;
use crate::domain::{Clock, Error};

/// Gives version 1 UUIDs that no other process gives and that never go back within this one, whatever its clock does.
pub struct Attempts {
    clock: Arc<dyn Clock>,
    last: AtomicI64,
    node: [u8; 6],
    counter: u16,
}

impl Attempts {
    /// A source with a random node id.
    ///
    /// # Errors
    /// [`crate::domain::Kind::Internal`] when the machine gives no randomness.
    pub fn new(clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| Error::internal(format!("no randomness: {error}")))?;
        let [first, node @ .., high, low] = random;
        let [a, b, c, d, e] = node;
        // The bit marks a node id that is no hardware address.
        let node = [first | 1, a, b, c, d, e];
        Ok(Self { clock, last: AtomicI64::new(0), node, counter: u16::from_be_bytes([high, low]) })
    }

    /// The next attempt: at the clock's time, or right after the last one where the clock has not moved on.
    pub fn next(&self) -> Uuid {
        let now = ticks::at(self.clock.now());
        let mut last = self.last.load(Ordering::Relaxed);
        let ticks = loop {
            let next = now.max(last + 1);
            match self.last.compare_exchange_weak(last, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break next,
                Err(newer) => last = newer,
            }
        };
        // Never negative: a time is after 1582.
        Builder::from_gregorian_timestamp(ticks as u64, self.counter, &self.node).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI64;

    use super::*;
    use crate::domain::Timestamp;

    struct Hand(AtomicI64);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(self.0.load(Ordering::Relaxed)).expect("valid")
        }
    }

    #[test]
    fn attempts_never_go_back_when_the_clock_does() {
        let hand = Arc::new(Hand(AtomicI64::new(2_000_000)));
        let attempts = Attempts::new(Arc::clone(&hand) as Arc<dyn Clock>).expect("random");
        let first = attempts.next();
        assert_eq!(first.get_version_num(), 1);
        assert_eq!(ticks::micros(ticks::of(first)), 2_000_000);
        hand.0.store(1_000_000, Ordering::Relaxed);
        assert_eq!(ticks::of(attempts.next()), ticks::of(first) + 1);
        hand.0.store(3_000_000, Ordering::Relaxed);
        assert_eq!(ticks::micros(ticks::of(attempts.next())), 3_000_000);
    }

    #[test]
    fn two_processes_at_one_instant_give_different_attempts() {
        let clock = || Arc::new(Hand(AtomicI64::new(7))) as Arc<dyn Clock>;
        let (one, other) = (Attempts::new(clock()).expect("random"), Attempts::new(clock()).expect("random"));
        assert_ne!(one.next(), other.next());
    }
}

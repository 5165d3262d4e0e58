//! The time of this process, held against the database's at every look.
//!
//! A comparison (`clock`) leaves a fixed point: the database's time at an instant of the clock that nobody can set. From it
//! the database's time is known at any later instant. So a wall clock that was set is found out by the next look at it, not
//! by the next comparison: no attempt is ever made by it, and nothing is taken for expired.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{
    error::Failed,
    ticks::{self, Ticks},
};
use crate::domain::{Clock, Timestamp};

/// How far the process's clock may be off.
pub const TOLERATED: Ticks = 2 * ticks::PER_SECOND;
/// A fixed point serves for so long: the clock that nobody can set runs true, but not for ever.
const SERVES: Duration = Duration::from_secs(600);

/// See the module.
pub struct Time {
    clock: Arc<dyn Clock>,
    fixed: Mutex<Option<Fixed>>,
    /// Takes the process's clock for the database's: for tests that move time.
    trusts: bool,
}

/// The database's time at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed {
    /// The database's time.
    pub database: Ticks,
    /// The instant, by the time since boot.
    pub since_boot: Duration,
    /// By how much the database's time may be another.
    pub uncertainty: Ticks,
}

/// The process's clock beside the database's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// What the process's clock shows.
    pub own: Ticks,
    /// The database's time.
    pub database: Ticks,
    /// By how much that may be another.
    pub uncertainty: Ticks,
}

impl Reading {
    /// By how much the process's clock is ahead; negative if it is behind.
    pub fn ahead(&self) -> Ticks {
        self.own.saturating_sub(self.database)
    }

    /// Whether the process's clock is certainly too far off.
    pub fn is_off(&self) -> bool {
        self.ahead().saturating_abs().saturating_sub(self.uncertainty) > TOLERATED
    }

    /// The latest attempt that may be made now.
    pub fn latest(&self) -> Ticks {
        self.database.saturating_add(TOLERATED).saturating_add(self.uncertainty)
    }

    /// The lesser of both: nothing that is accepted later by a good clock is much earlier.
    pub fn earlier(&self) -> Ticks {
        self.own.min(self.database)
    }
}

impl Time {
    /// By `clock`, with nothing to hold it against.
    pub fn new(clock: Arc<dyn Clock>, trusts: bool) -> Self {
        Self { clock, fixed: Mutex::default(), trusts }
    }

    /// What the process's clock shows, right or wrong.
    pub fn own(&self) -> Ticks {
        ticks::at(self.clock.now())
    }

    /// The time since boot, which nobody can set.
    pub fn since_boot(&self) -> Duration {
        self.clock.since_boot()
    }

    /// Holds the clock against `fixed` from now on.
    pub fn fix(&self, fixed: Fixed) {
        *self.fixed.lock() = Some(fixed);
    }

    /// Both clocks now; `None` while they were not compared, or too long ago.
    pub fn read(&self) -> Option<Reading> {
        self.since_compared().filter(|(_, since)| *since <= SERVES).map(|(reading, _)| reading)
    }

    /// Both clocks now, and how long ago they were compared.
    pub fn since_compared(&self) -> Option<(Reading, Duration)> {
        let own = self.own();
        if self.trusts {
            return Some((Reading { own, database: own, uncertainty: 0 }, Duration::ZERO));
        }
        let fixed = (*self.fixed.lock())?;
        let since = self.since_boot().saturating_sub(fixed.since_boot);
        let database = ticks::after(fixed.database, since);
        Some((Reading { own, database, uncertainty: fixed.uncertainty }, since))
    }

    /// The time by which attempts are made: the process's own.
    ///
    /// # Errors
    /// While the clock is off, or it is not known whether it is. Nothing was done then.
    pub fn for_attempts(&self) -> Result<Reading, Failed> {
        match self.read() {
            None => Err(Failed::clock("the clock was not compared with the database's yet")),
            Some(reading) if reading.is_off() => {
                let ahead = seconds(reading.ahead());
                Err(Failed::clock(format!("the clock is {ahead:.1} s ahead of the database's")))
            }
            Some(reading) => Ok(reading),
        }
    }

    /// The time by which things are old or new: the process's own, and the database's where that one is off.
    pub fn now(&self) -> Timestamp {
        match self.since_compared() {
            Some((reading, _)) if reading.is_off() => ticks::time(reading.database),
            Some(_) | None => self.clock.now(),
        }
    }
}

/// `ticks` in seconds.
pub fn seconds(ticks: Ticks) -> f64 {
    ticks as f64 / ticks::PER_SECOND as f64
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    const BEGIN: i64 = 1_811_851_200;

    /// A clock that a test sets, beside one that nobody can.
    #[derive(Default)]
    struct Hand {
        set: AtomicI64,
        since_boot: AtomicI64,
    }

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            let passed = self.since_boot.load(Ordering::Relaxed);
            Timestamp::from_seconds(BEGIN + passed + self.set.load(Ordering::Relaxed)).expect("valid")
        }

        fn since_boot(&self) -> Duration {
            Duration::from_secs(self.since_boot.load(Ordering::Relaxed).unsigned_abs())
        }
    }

    fn at(seconds: i64) -> Ticks {
        ticks::at(Timestamp::from_seconds(seconds).expect("valid"))
    }

    fn compared() -> (Arc<Hand>, Time) {
        let hand = Arc::new(Hand::default());
        let time = Time::new(Arc::clone(&hand) as Arc<dyn Clock>, false);
        time.fix(Fixed { database: at(BEGIN), since_boot: Duration::ZERO, uncertainty: 0 });
        (hand, time)
    }

    #[test]
    fn a_clock_that_is_set_is_found_out_by_the_next_look_and_believed_when_it_is_set_right() {
        let (hand, time) = compared();
        hand.since_boot.store(7, Ordering::Relaxed);
        assert_eq!(time.for_attempts().expect("good").own, at(BEGIN + 7));
        for step in [600, -600, 40 * 86_400, -40 * 86_400] {
            hand.set.store(step, Ordering::Relaxed);
            let refused = time.for_attempts().expect_err("off");
            assert!(refused.to_string().contains(&format!("{step}.0 s ahead")), "{refused}");
            // What is old and what is new goes by the database's time meanwhile.
            assert_eq!(ticks::at(time.now()), at(BEGIN + 7));
            hand.set.store(0, Ordering::Relaxed);
            assert!(time.for_attempts().is_ok());
        }
        // Small differences are let be.
        hand.set.store(2, Ordering::Relaxed);
        assert_eq!(time.for_attempts().expect("good").own, at(BEGIN + 9));
    }

    fn reading(ahead: f64) -> Reading {
        let own = at(BEGIN) + (ahead * ticks::PER_SECOND as f64) as Ticks;
        Reading { own, database: at(BEGIN), uncertainty: ticks::PER_SECOND / 10 }
    }

    #[test]
    fn a_clock_more_than_two_seconds_off_is_told_from_one_that_is_not() {
        for (ahead, is_off) in [(0.0, false), (1.9, false), (-1.9, false), (2.2, true), (-2.2, true), (60.0, true)] {
            assert_eq!(reading(ahead).is_off(), is_off, "{ahead}");
            assert!((seconds(reading(ahead).ahead()) - ahead).abs() < 0.01, "{ahead}");
        }
        // A slow answer is not held against the clock.
        assert!(!Reading { uncertainty: 3 * ticks::PER_SECOND, ..reading(4.9) }.is_off());
    }

    #[test]
    fn the_earlier_of_both_clocks_counts() {
        assert_eq!(reading(-2.0).earlier(), at(BEGIN - 2));
        assert_eq!(reading(60.0).earlier(), at(BEGIN));
    }

    #[test]
    fn without_a_comparison_or_with_one_of_long_ago_no_attempt_is_made() {
        let hand = Arc::new(Hand::default());
        let never = Time::new(Arc::clone(&hand) as Arc<dyn Clock>, false);
        assert!(never.for_attempts().is_err());
        let (hand, time) = compared();
        hand.since_boot.store(600, Ordering::Relaxed);
        assert!(time.for_attempts().is_ok());
        hand.since_boot.store(601, Ordering::Relaxed);
        assert!(time.for_attempts().is_err());
    }
}

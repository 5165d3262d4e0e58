//! Where the time of acceptance comes from; tests put their own in its place.

use std::time::Duration;

use super::Timestamp;

/// A source of the present time.
pub trait Clock: Send + Sync + 'static {
    /// The present time, as the machine's wall clock has it: it can be set, forward and back.
    fn now(&self) -> Timestamp;

    /// The time since the machine was started, its sleep included; nobody can set it. A clock without one says that it runs
    /// with its wall clock.
    fn since_boot(&self) -> Duration {
        Duration::from_micros(self.now().as_micros().unsigned_abs())
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the machine's clock is read")]
    fn now(&self) -> Timestamp {
        Timestamp::from_system(std::time::SystemTime::now())
    }

    fn since_boot(&self) -> Duration {
        // Elsewhere the monotonic clock is the nearest that there is; on Apple's systems it goes on in sleep, too.
        #[cfg(target_os = "linux")]
        const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;
        let now = rustix::time::clock_gettime(CLOCK);
        // Neither is ever negative, and nanoseconds are below a second.
        Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_runs_since_it_was_started_and_a_clock_without_that_runs_with_its_wall_clock() {
        struct Stands;
        impl Clock for Stands {
            fn now(&self) -> Timestamp {
                Timestamp::from_micros(5_000_001).expect("in range")
            }
        }
        assert_eq!(Stands.since_boot(), Duration::from_micros(5_000_001));
        let boot = SystemClock.since_boot();
        assert!(boot > Duration::ZERO && SystemClock.since_boot() >= boot);
        assert!(SystemClock.now() > Timestamp::from_seconds(1_700_000_000).expect("in range"));
    }
}

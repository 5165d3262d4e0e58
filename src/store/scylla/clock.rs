//! How far the process's clock is from the database's.
//!
//! No message depends on it: a clock that is off makes attempts late or early, so that they are repeated or arrive out of
//! order. So a process whose clock is off resolves nothing and is not ready.

use std::time::Duration;

use parking_lot::Mutex;
use scylla::value::CqlTimeuuid;
use tokio::time::Instant;

use super::{
    core::Core,
    error::Failed,
    ticks::{self, Ticks},
};
use crate::{domain::Error, telemetry::names};

/// How far the clock may be off.
const TOLERATED: Duration = Duration::from_secs(2);
/// How often it is compared.
const EVERY: Duration = Duration::from_secs(1);

/// The latest comparison.
#[derive(Debug, Default)]
pub struct ClockWatch {
    last: Mutex<Option<Comparison>>,
    /// Takes the process's clock for the database's: for tests that move time.
    trusts: bool,
}

/// The process's clock beside the database's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison {
    /// The lesser of both: nothing that is accepted later by a good clock is much earlier.
    pub earlier: Ticks,
    /// By how much the process's clock is ahead, in ticks; negative if it is behind.
    offset: i64,
    /// How much of that may be due to the time that the question took.
    uncertainty: i64,
}

impl Comparison {
    /// The clock showed `before` when the database was asked, and `after` when it had answered `database`; `took` is how
    /// long that was.
    fn new(before: Ticks, after: Ticks, database: Ticks, took: Duration) -> Self {
        let uncertainty = i64::try_from(took.as_nanos() / 200).unwrap_or(i64::MAX);
        let middle = before.saturating_add(uncertainty);
        Self { earlier: after.min(database), offset: middle.saturating_sub(database), uncertainty }
    }

    /// Whether the clock is certainly too far off.
    pub fn is_off(&self) -> bool {
        let tolerated = i64::try_from(TOLERATED.as_nanos() / 100).unwrap_or(i64::MAX);
        self.offset.saturating_abs().saturating_sub(self.uncertainty) > tolerated
    }

    /// By how many seconds the clock is ahead.
    pub fn seconds(&self) -> f64 {
        self.offset as f64 / ticks::PER_SECOND as f64
    }
}

impl Core {
    /// The time of one node of the database.
    ///
    /// # Errors
    /// As the driver's errors are classified.
    async fn database_time(&self) -> Result<Ticks, Failed> {
        let rows = self.read(&self.cql.now, ()).await?;
        let (now,) = rows.single_row::<(CqlTimeuuid,)>().map_err(|error| Failed::malformed(error.to_string()))?;
        Ok(ticks::of(now.into()))
    }
}

impl ClockWatch {
    /// One that takes the process's clock for the database's: for tests that move time.
    pub fn trusting() -> Self {
        Self { trusts: true, ..Self::default() }
    }

    /// Compares the clocks now.
    ///
    /// # Errors
    /// When the database does not tell its time.
    pub async fn compare(&self, core: &Core) -> Result<Comparison, Failed> {
        let (before, begun) = (ticks::at(core.now()), Instant::now());
        let database = core.database_time().await?;
        let database = if self.trusts { before } else { database };
        let comparison = Comparison::new(before, ticks::at(core.now()), database, begun.elapsed());
        metrics::gauge!(names::CLOCK_OFFSET_SECONDS).set(comparison.seconds());
        let was_off = self.last.lock().replace(comparison).is_some_and(|last| last.is_off());
        if comparison.is_off() != was_off {
            let ahead = comparison.seconds();
            if was_off {
                tracing::info!(ahead, "the clock agrees with the database's again");
            } else {
                tracing::error!(
                    ahead,
                    "the clock is more than 2 s off the database's; set it right, until then this process is not ready"
                );
            }
        }
        Ok(comparison)
    }

    /// Whether the clock is good enough to serve, by the latest comparison.
    ///
    /// # Errors
    /// [`crate::domain::Kind::StoreUnavailable`] when it is off.
    pub fn check(&self) -> Result<(), Error> {
        match *self.last.lock() {
            Some(comparison) if comparison.is_off() => {
                let ahead = comparison.seconds();
                Err(Error::store_unavailable(format!("the clock is {ahead:.1} s ahead of the database's")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Compares every second until the store closes.
    pub async fn run(&self, core: &Core) {
        loop {
            if let Err(failed) = self.compare(core).await {
                tracing::debug!(%failed, "the database does not tell its time");
            }
            if core.stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> i64 {
        (seconds * ticks::PER_SECOND as f64) as i64
    }

    #[test]
    fn a_clock_more_than_two_seconds_off_is_told_from_one_that_is_not() {
        let now = seconds(1e9);
        for (ahead, is_off) in [(0.0, false), (1.9, false), (-1.9, false), (2.2, true), (-2.2, true), (60.0, true)] {
            let own = now + seconds(ahead);
            let comparison = Comparison::new(own, own + seconds(0.2), now + seconds(0.1), Duration::from_millis(200));
            assert_eq!(comparison.is_off(), is_off, "{ahead}");
            assert!((comparison.seconds() - ahead).abs() < 0.01, "{ahead}");
        }
    }

    #[test]
    fn a_slow_answer_is_not_held_against_the_clock() {
        // Asked at 0 s, answered at 5 s: the database may have looked at its clock at any time between.
        for told in [0.0, 5.0] {
            let comparison =
                Comparison::new(seconds(100.0), seconds(105.0), seconds(100.0 + told), Duration::from_secs(5));
            assert!(!comparison.is_off());
        }
    }

    #[test]
    fn the_earlier_of_both_clocks_counts() {
        let of =
            |own: f64, database: f64| Comparison::new(seconds(own), seconds(own), seconds(database), Duration::ZERO);
        assert_eq!(of(8.0, 10.0).earlier, seconds(8.0));
        assert_eq!(of(70.0, 10.0).earlier, seconds(10.0));
    }
}

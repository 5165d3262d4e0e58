//! How far the process's clock is from the database's.
//!
//! A clock that is off would put attempts where no reader looks for them in time. So a process whose clock is off, or was
//! not compared yet, accepts nothing, resolves nothing and is not ready.

use std::{collections::BTreeSet, time::Duration};

use parking_lot::Mutex;

use super::{
    core::Core,
    database_clock::{Agreed, agree, ask},
    error::Failed,
    time::{Reading, seconds},
};
use crate::telemetry::names;

/// How often it is compared.
const EVERY: Duration = Duration::from_secs(1);
/// A comparison is good for whoever asks so soon after it.
const RECENT: Duration = Duration::from_millis(1500);

/// Compares the clocks.
#[derive(Debug, Default)]
pub struct ClockWatch {
    /// Whether the clock was off when they were compared last.
    was_off: Mutex<bool>,
    /// The database's nodes whose clocks were off then.
    off: Mutex<BTreeSet<String>>,
}

impl ClockWatch {
    /// Compares the clocks now.
    ///
    /// # Errors
    /// When the database does not tell its time.
    pub async fn compare(&self, core: &Core) -> Result<Reading, Failed> {
        let told = ask(&core.session, &core.datacenter, &core.cql.now, || core.time.since_boot()).await?;
        let agreed = agree(&told, (core.time.own(), core.time.since_boot()))
            .ok_or_else(|| Failed::unclear("no node tells its time"))?;
        core.time.fix(agreed.fixed);
        self.name(&agreed);
        let reading = core.time.read().ok_or_else(|| Failed::clock("the clock stood still"))?;
        let ahead = seconds(reading.ahead());
        metrics::gauge!(names::CLOCK_OFFSET_SECONDS).set(ahead);
        let was_off = std::mem::replace(&mut *self.was_off.lock(), reading.is_off());
        if reading.is_off() != was_off {
            if was_off {
                tracing::info!(ahead, "the clock agrees with the database's again");
            } else {
                tracing::error!(
                    ahead,
                    "the clock is more than 2 s off the database's; set it right, until then this process accepts nothing"
                );
            }
        }
        Ok(reading)
    }

    /// Both clocks, by a comparison of just now, or one that is made for this.
    ///
    /// # Errors
    /// When the database does not tell its time.
    pub async fn recent(&self, core: &Core) -> Result<Reading, Failed> {
        match core.time.since_compared() {
            Some((reading, since)) if since <= RECENT => Ok(reading),
            Some(_) | None => self.compare(core).await,
        }
    }

    /// Says which of the database's nodes have a clock that the others do not agree with.
    fn name(&self, agreed: &Agreed) {
        let mut known = self.off.lock();
        for (node, ahead, is_off) in &agreed.nodes {
            let ahead = seconds(*ahead);
            metrics::gauge!(names::DATABASE_CLOCK_OFFSET_SECONDS, "node" => node.clone()).set(ahead);
            if *is_off && known.insert(node.clone()) {
                tracing::error!(
                    node,
                    ahead,
                    "a node of the database has a clock that is more than 2 s off the others'"
                );
            } else if !*is_off && known.remove(node) {
                tracing::info!(node, ahead, "a node of the database has a clock that agrees with the others' again");
            }
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

//! The clock of the program.

use std::sync::Arc;

use crate::domain::{Clock, SystemClock};

/// The machine's clock.
#[cfg(not(feature = "failpoints"))]
pub fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

/// The machine's clock, wrong by as many milliseconds as stand in the file that `CLOCK_SHIFT_FILE` names, e.g. `-8000`: for
/// tests of what a wrong clock does. What stands there counts from then on, so that a clock can go wrong in a process that
/// runs.
#[cfg(feature = "failpoints")]
pub fn clock() -> Arc<dyn Clock> {
    match std::env::var_os("CLOCK_SHIFT_FILE") {
        Some(file) => Arc::new(Shifted(file.into())),
        None => Arc::new(SystemClock),
    }
}

#[cfg(feature = "failpoints")]
struct Shifted(std::path::PathBuf);

#[cfg(feature = "failpoints")]
impl Clock for Shifted {
    fn now(&self) -> crate::domain::Timestamp {
        let shift = std::fs::read_to_string(&self.0).ok().and_then(|text| text.trim().parse::<i64>().ok());
        let (now, shift) = (SystemClock.now(), shift.unwrap_or_default());
        let by = std::time::Duration::from_millis(shift.unsigned_abs());
        if shift > 0 { now.saturating_add(by) } else { now.saturating_sub(by) }
    }

    fn since_boot(&self) -> std::time::Duration {
        SystemClock.since_boot()
    }
}

//! The clock of the program.

use std::sync::Arc;

use crate::domain::{Clock, SystemClock};

/// The machine's clock.
#[cfg(not(feature = "failpoints"))]
pub fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

/// The machine's clock, wrong by as many milliseconds as `MESSAGE_WEBHOOK_CLOCK_SHIFT_MS` says, e.g. `-8000`: for tests of
/// what a wrong clock does.
#[cfg(feature = "failpoints")]
pub fn clock() -> Arc<dyn Clock> {
    const SHIFT: &str = "MESSAGE_WEBHOOK_CLOCK_SHIFT_MS";
    let shift = std::env::var(SHIFT).unwrap_or_default();
    match shift.parse::<i64>() {
        Ok(millis) => {
            Arc::new(Shifted { ahead: millis > 0, by: std::time::Duration::from_millis(millis.unsigned_abs()) })
        }
        Err(_) => Arc::new(SystemClock),
    }
}

#[cfg(feature = "failpoints")]
struct Shifted {
    ahead: bool,
    by: std::time::Duration,
}

#[cfg(feature = "failpoints")]
impl Clock for Shifted {
    fn now(&self) -> crate::domain::Timestamp {
        let now = SystemClock.now();
        if self.ahead { now.saturating_add(self.by) } else { now.saturating_sub(self.by) }
    }
}

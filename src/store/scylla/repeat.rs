//! Repeating what failed: short pauses with jitter, so that processes that contend for one row do not do so in step.

use std::{future::Future, time::Duration};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    core::Core,
    error::{Failed, Fate},
};

/// A statement whose outcome is unclear is repeated for this long at most.
pub const UNCLEAR: Duration = Duration::from_secs(6);

/// The pauses between repetitions.
pub fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(Duration::from_millis(400))
        .with_jitter()
        .without_max_times()
        .build()
}

/// Runs `statement` until it succeeds, fails for good, or `until` has passed; then the last failure is given. `seen` is
/// told of each failure.
pub async fn until<T, F: Future<Output = Result<T, Failed>>>(
    until: Instant,
    mut statement: impl FnMut() -> F,
    mut seen: impl FnMut(&Failed),
) -> Result<T, Failed> {
    let mut pauses = pauses();
    loop {
        let failed = match timeout_at(until, statement()).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(failed)) => failed,
            Err(_) => Failed::unclear("the time for it ran out"),
        };
        seen(&failed);
        let pause = pauses.next().unwrap_or(Duration::from_millis(400));
        if failed.fate == Fate::Bug || Instant::now() + pause >= until {
            return Err(failed);
        }
        sleep(pause).await;
    }
}

/// As [`until`], for the store's deadline and at most [`UNCLEAR`].
pub async fn until_clear<T, F: Future<Output = Result<T, Failed>>>(
    core: &Core,
    statement: impl FnMut() -> F,
) -> Result<T, Failed> {
    until(Instant::now() + core.options.deadline.min(UNCLEAR), statement, |_| {}).await
}

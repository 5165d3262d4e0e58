//! Signals to stop.

use std::{
    fmt, io,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Tells a server to stop: first in good order, then at once. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    drain: CancellationToken,
    now: CancellationToken,
    asked: Arc<OnceLock<Instant>>,
}

/// Why a server did not end in good order.
#[derive(Debug)]
pub enum StopError {
    /// A second signal came.
    AtOnce,
    /// The deadline passed.
    Deadline {
        /// The configured deadline.
        deadline: Duration,
        /// What was still under way, in words.
        left: String,
    },
    /// A part of the server ended by itself, which is a bug; the rest was drained.
    Broken(&'static str),
    /// The store could not be closed; what was acknowledged is durable nevertheless.
    Store(String),
}

impl Stop {
    /// Asks for an end in good order, and the second time for one at once.
    pub fn signal(&self) {
        if self.drain.is_cancelled() {
            self.now.cancel();
        } else {
            // The first time counts.
            let _ = self.asked.set(Instant::now());
            self.drain.cancel();
        }
    }

    /// What is left of `time`, which began when an end was asked for.
    pub fn left_of(&self, time: Duration) -> Duration {
        if self.now.is_cancelled() {
            return Duration::ZERO;
        }
        self.asked.get().map_or(time, |asked| time.saturating_sub(asked.elapsed()))
    }

    /// Returns when an end in good order is asked for.
    pub async fn drain(&self) {
        self.drain.cancelled().await;
    }

    /// Whether an end is asked for.
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Returns when an end at once is asked for.
    pub async fn now(&self) {
        self.now.cancelled().await;
    }

    /// Passes SIGTERM and SIGINT of this process on. SIGHUP ends it no more.
    ///
    /// The handlers are in place when this returns; as PID 1 a process without them cannot be stopped but by SIGKILL.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub fn on_signals(&self) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        // By which servers are asked to read files again. Whoever does that to one without files must not end it.
        let mut hangup = signal(SignalKind::hangup())?;
        let stop = self.clone();
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    Some(()) = terminate.recv() => "SIGTERM",
                    Some(()) = interrupt.recv() => "SIGINT",
                    Some(()) = hangup.recv() => {
                        tracing::info!("SIGHUP: files that have changed are read again, if any are set");
                        continue;
                    }
                    else => return,
                };
                if stop.is_draining() {
                    tracing::warn!(signal = name, "a second signal: ending at once");
                } else {
                    tracing::info!(signal = name, "ending in good order; a second signal ends at once");
                }
                stop.signal();
            }
        });
        Ok(())
    }
}

impl fmt::Display for StopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StopError::AtOnce => f.write_str("Ended at once, by a second signal; what was acknowledged is durable"),
            StopError::Deadline { deadline, left } => {
                let deadline = humantime::format_duration(*deadline);
                write!(
                    f,
                    "Not ended in good order within {deadline} (shutdown_deadline): {left}; what was acknowledged is durable"
                )
            }
            StopError::Broken(name) => write!(f, "What serves {name} ended by itself"),
            StopError::Store(error) => write!(f, "The store was not closed in good order: {error}"),
        }
    }
}

impl std::error::Error for StopError {}

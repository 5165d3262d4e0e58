//! Whether this process takes work, and whether it can be read from: one value, shown by `/readyz` and by gRPC health.

use tokio::sync::watch;

/// Where a process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadinessState {
    /// Ports are bound, the store is not open yet.
    Starting,
    /// Takes work.
    Ready,
    /// The disk of the store is full: nothing is accepted now, and what is stored can be read.
    ReadOnly,
    /// The store cannot accept now.
    StoreUnavailable,
    /// The store accepts nothing any more until the process is restarted.
    StoreFailed,
    /// Shuts down: no new work.
    Draining,
}

/// The one value; cheap to clone and to watch.
#[derive(Debug, Clone)]
pub struct Readiness(watch::Sender<ReadinessState>);

impl Readiness {
    /// A process that has just begun.
    pub fn starting() -> Self {
        Self(watch::Sender::new(ReadinessState::Starting))
    }

    /// Moves on to `state`; draining is final.
    pub fn set(&self, state: ReadinessState) {
        self.0.send_if_modified(|current| {
            let moves = *current != ReadinessState::Draining && *current != state;
            if moves {
                *current = state;
            }
            moves
        });
    }

    /// The present state.
    pub fn get(&self) -> ReadinessState {
        *self.0.borrow()
    }

    /// Follows the state.
    pub fn watch(&self) -> watch::Receiver<ReadinessState> {
        self.0.subscribe()
    }
}

impl ReadinessState {
    /// All states, for metrics.
    pub const ALL: [ReadinessState; 6] = [
        ReadinessState::Starting,
        ReadinessState::Ready,
        ReadinessState::ReadOnly,
        ReadinessState::StoreUnavailable,
        ReadinessState::StoreFailed,
        ReadinessState::Draining,
    ];

    /// Whether messages are taken: what the webhook is for.
    pub fn accepts(self) -> bool {
        match self {
            ReadinessState::Ready => true,
            ReadinessState::Starting
            | ReadinessState::ReadOnly
            | ReadinessState::StoreUnavailable
            | ReadinessState::StoreFailed
            | ReadinessState::Draining => false,
        }
    }

    /// Whether messages can be looked up and followed, which goes on where a disk is full, and for a while where it has failed.
    pub fn reads(self) -> bool {
        match self {
            ReadinessState::Ready | ReadinessState::ReadOnly | ReadinessState::StoreFailed => true,
            ReadinessState::Starting | ReadinessState::StoreUnavailable | ReadinessState::Draining => false,
        }
    }

    /// The word that `/readyz` answers and logs use.
    pub fn as_str(self) -> &'static str {
        match self {
            ReadinessState::Starting => "starting",
            ReadinessState::Ready => "ready",
            ReadinessState::ReadOnly => "read_only",
            ReadinessState::StoreUnavailable => "store_unavailable",
            ReadinessState::StoreFailed => "store_failed",
            ReadinessState::Draining => "draining",
        }
    }
}

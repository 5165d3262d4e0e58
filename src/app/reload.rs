//! What is told of files that are read again while the server runs.

use std::sync::Arc;

use metrics::{Gauge, gauge};

use crate::{
    domain::{Clock, Timestamp},
    telemetry::names,
};

/// How the last look at one file, or at those of one listener, went.
#[derive(Clone)]
pub(super) struct Reload {
    successful: Gauge,
    at: Gauge,
    clock: Arc<dyn Clock>,
}

impl Reload {
    /// Of the files that metrics call `file`.
    pub(super) fn of(file: &'static str, clock: &Arc<dyn Clock>) -> Self {
        Self {
            successful: gauge!(names::FILE_RELOAD_SUCCESSFUL, "file" => file),
            at: gauge!(names::FILE_RELOAD_SUCCESS_TIMESTAMP_SECONDS, "file" => file),
            clock: Arc::clone(clock),
        }
    }

    /// What the file holds was taken into use now.
    pub(super) fn taken(&self) {
        self.at.set(seconds(self.clock.now()));
        self.good();
    }

    /// What the file holds is in use.
    pub(super) fn good(&self) {
        self.successful.set(1.0);
    }

    /// The file is broken; what was read before stays in use.
    pub(super) fn broken(&self) {
        self.successful.set(0.0);
    }
}

/// UNIX time, as gauges have it.
pub(super) fn seconds(instant: Timestamp) -> f64 {
    instant.since(Timestamp::EPOCH)
}

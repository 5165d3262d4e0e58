//! Checking what lies at rest, at a limited rate: once a week, and after an unclean stop.

use std::time::Duration;

use metrics::gauge;

use super::reader::{ReadError, WalkStep, Walker};
use crate::{
    domain::Timestamp,
    store::embedded::{background, index::RunKind, shared::Shared},
    telemetry::names,
};

/// Between two rounds.
const WEEK: Duration = Duration::from_hours(7 * 24);
/// Bytes that one step reads, about.
const PIECE: usize = 1024 * 1024;

/// See the module.
pub struct Scrubber {
    /// On the age clock: when the next round begins, in microseconds.
    due: u64,
    walker: Option<(u32, Walker)>,
    damaged: u64,
}

impl Scrubber {
    /// Begins at once if `now`, else in a week.
    pub fn new(shared: &Shared, now: bool) -> Self {
        let due = if now { 0 } else { after(shared.clock.age()) };
        Self { due, walker: None, damaged: 0 }
    }

    /// Checks the next piece; whether a round is under way.
    pub fn step(&mut self, shared: &Shared) -> bool {
        if shared.clock.age() < self.due {
            return false;
        }
        let mut read = 0;
        while read < PIECE {
            let Some((segment, walker)) = &mut self.walker else {
                let next = shared.log.bounds().0;
                if !self.open(shared, next) {
                    self.end(shared);
                    return false;
                }
                continue;
            };
            match walker.step() {
                Ok(Some(WalkStep::Record(record, _))) => {
                    read += record.head.span();
                    if record.body.is_none() {
                        self.damaged += 1;
                        shared.found_damage(record.position);
                    }
                }
                Ok(Some(WalkStep::Lost(from, ..))) => {
                    self.damaged += 1;
                    shared.found_damage(from);
                }
                Ok(None) | Err(ReadError::Gone | ReadError::Damaged) => {
                    let next = segment.saturating_add(1);
                    if !self.open(shared, next) {
                        self.end(shared);
                        return false;
                    }
                }
                Err(ReadError::Io(error)) => {
                    tracing::warn!(%error, "stored messages could not be checked; the next round is in a week");
                    self.end(shared);
                    return false;
                }
            }
        }
        true
    }

    fn open(&mut self, shared: &Shared, segment: u32) -> bool {
        // The next that is there: one may be lost.
        self.walker = shared
            .log
            .headers(segment..)
            .into_iter()
            .next()
            .and_then(|header| Walker::new(&shared.log, &header).ok())
            .map(|walker| (walker.position().segment(), walker));
        self.walker.is_some()
    }

    fn end(&mut self, shared: &Shared) {
        for kind in [RunKind::Ids, RunKind::Senders] {
            if let Err(error) = background::find_damaged(shared, &shared.view.runs(kind)) {
                tracing::warn!(%error, "the index could not be checked; the next round is in a week");
            }
        }
        gauge!(names::STORE_DAMAGED).set(self.damaged as f64);
        tracing::info!(damaged = self.damaged, "all that is stored was checked");
        self.damaged = 0;
        self.walker = None;
        self.due = after(shared.clock.age());
    }
}

fn after(age: u64) -> u64 {
    let week = Timestamp::EPOCH.saturating_add(WEEK).as_micros().unsigned_abs();
    age.saturating_add(week)
}

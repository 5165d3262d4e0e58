//! How far a submission of many messages is, on a terminal; what became of all, at the end.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::{super::output::talk, item::Outcome};

pub(super) struct Progress {
    /// Draws on stderr, and only where that is a terminal.
    bar: ProgressBar,
    accepted: u64,
    duplicates: u64,
    /// Of the duplicates.
    may_be_own: u64,
    refused: u64,
}

impl Progress {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} messages, {per_sec}, {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, accepted: 0, duplicates: 0, may_be_own: 0, refused: 0 }
    }

    pub(super) fn add(&mut self, outcome: &Outcome) {
        self.bar.inc(1);
        match outcome {
            Outcome::Accepted => self.accepted += 1,
            Outcome::Duplicate { may_be_own, .. } => {
                self.duplicates += 1;
                self.may_be_own += u64::from(*may_be_own);
            }
            Outcome::Refused(_) => self.refused += 1,
        }
    }

    /// Says what became of all; the number of those refused.
    pub(super) fn finish(self) -> u64 {
        self.bar.finish_and_clear();
        talk(&format!("{} accepted, {} duplicates, {} refused", self.accepted, self.duplicates, self.refused));
        if self.may_be_own > 0 {
            talk(&format!(
                "{} of the duplicates may be new: they were sent again because an answer was lost",
                self.may_be_own
            ));
        }
        self.refused
    }
}

//! How far the owner of a slot has come, beyond what the row of its lease says. Without I/O.
//!
//! Kept as long as the lease is: what was scanned below a published mark need not be scanned again, for no reference that
//! comes later is claimed. What cannot be settled now holds the mark back, and nothing else.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::{
    scan::{Attempt, Reference},
    ticks::{self, Ticks},
};

/// See the module.
#[derive(Debug, Default)]
pub struct Progress {
    /// Up to here all shards were scanned.
    scanned: Ticks,
    /// The shards that were scanned further, and up to which attempt.
    reached: HashMap<i32, Uuid>,
    /// What could not be settled, in the order of time.
    stuck: BTreeMap<Attempt, Reference>,
}

impl Progress {
    /// Everything up to `finished` is resolved.
    pub fn from(finished: Ticks) -> Self {
        Self { scanned: finished, ..Self::default() }
    }

    /// Where the scan of all shards goes on.
    pub fn scanned(&self) -> Ticks {
        self.scanned
    }

    /// After which attempt the scan of a shard goes on.
    pub fn after(&self, shard: i32) -> Uuid {
        let reached = self.reached.get(&shard).copied().filter(|reached| ticks::of(*reached) > self.scanned);
        reached.unwrap_or_else(|| ticks::last(self.scanned))
    }

    /// A shard was scanned up to `attempt`.
    pub fn reach(&mut self, shard: i32, attempt: Uuid) {
        self.reached.insert(shard, attempt);
    }

    /// All shards were scanned up to `upto`.
    pub fn scan_to(&mut self, upto: Ticks) {
        self.scanned = upto.max(self.scanned);
    }

    /// Up to where everything is resolved.
    pub fn finished(&self) -> Ticks {
        let first = self.stuck.keys().next().map(|attempt| attempt.ticks.saturating_sub(1));
        first.map_or(self.scanned, |before| before.min(self.scanned))
    }

    /// A reference cannot be settled now.
    pub fn stick(&mut self, reference: &Reference) {
        self.stuck.insert(reference.attempt, reference.clone());
    }

    /// Whether a reference could not be settled before.
    pub fn is_stuck(&self, reference: &Reference) -> bool {
        self.stuck.contains_key(&reference.attempt)
    }

    /// A reference is settled.
    pub fn settle(&mut self, reference: &Reference) {
        self.stuck.remove(&reference.attempt);
    }

    /// What could not be settled so far.
    pub fn stuck(&self) -> Vec<Reference> {
        self.stuck.values().cloned().collect()
    }

    /// How many those are.
    pub fn count_stuck(&self) -> usize {
        self.stuck.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Environment, MessageKey, MessageSid, OrgId};

    fn reference(ticks: Ticks) -> Reference {
        let key = MessageKey {
            org: OrgId::new("acme").expect("valid"),
            env: Environment::Dev,
            sid: MessageSid::new("m").expect("valid"),
        };
        Reference { shard: 1, attempt: ticks::first(ticks).into(), key }
    }

    #[test]
    fn a_shard_is_scanned_on_from_where_it_was_and_never_from_further_back() {
        let mut progress = Progress::from(100);
        assert_eq!(progress.after(1), ticks::last(100));
        progress.reach(1, ticks::first(150));
        assert_eq!((progress.after(1), progress.after(2)), (ticks::first(150), ticks::last(100)));
        progress.scan_to(200);
        assert_eq!((progress.after(1), progress.after(2)), (ticks::last(200), ticks::last(200)));
        progress.scan_to(50);
        assert_eq!(progress.scanned(), 200);
    }

    #[test]
    fn what_is_stuck_holds_the_mark_back_and_not_the_scan() {
        let mut progress = Progress::from(100);
        progress.stick(&reference(150));
        progress.stick(&reference(170));
        progress.scan_to(300);
        assert_eq!((progress.scanned(), progress.finished(), progress.count_stuck()), (300, 149, 2));
        progress.settle(&reference(150));
        assert_eq!(progress.finished(), 169);
        progress.settle(&reference(170));
        assert_eq!(progress.finished(), 300);
    }
}

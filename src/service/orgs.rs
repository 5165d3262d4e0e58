//! Submissions counted by organisation: only where an operator wants it, and for so many of them, because each is a series
//! for ever and callers choose their number.

use std::collections::HashMap;

use metrics::counter;
use parking_lot::RwLock;

use super::{Outcome, Target, receipt::Outcomes};
use crate::{
    domain::{Environment, OrgId},
    telemetry::names,
};

/// No organisation: a name of one begins with a letter or a digit.
const OTHER: &str = "_other";

/// See the module.
pub(super) struct Orgs {
    most: usize,
    known: RwLock<HashMap<(OrgId, Environment), Outcomes>>,
    others: Option<Outcomes>,
}

impl Orgs {
    /// Counts `most` organisations and environments by name, the first ones that come; 0 for none.
    pub(super) fn new(most: usize) -> Self {
        Self { most, known: RwLock::default(), others: (most > 0).then(|| counters(OTHER, OTHER)) }
    }

    /// Counts a submission that was acknowledged.
    pub(super) fn count(&self, target: &Target, outcome: Outcome) {
        let Some(others) = &self.others else { return };
        let key = (target.org.clone(), target.env);
        if let Some(outcomes) = self.known.read().get(&key) {
            return outcomes.count(outcome);
        }
        let mut known = self.known.write();
        if known.len() >= self.most && !known.contains_key(&key) {
            drop(known);
            return others.count(outcome);
        }
        known.entry(key).or_insert_with(|| counters(target.org.as_str(), target.env.as_str())).count(outcome);
    }
}

fn counters(org: &str, env: &'static str) -> Outcomes {
    Outcomes::new(
        |word| counter!(names::ORG_SUBMISSIONS_TOTAL, "org_id" => org.to_owned(), "env" => env, "outcome" => word),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(org: &str) -> Target {
        Target { org: OrgId::new(org).expect("valid"), env: Environment::Dev }
    }

    #[test]
    fn only_so_many_organisations_are_counted_by_name() {
        let orgs = Orgs::new(2);
        for org in ["a", "b", "c", "a", "d"] {
            orgs.count(&target(org), Outcome::Accepted);
        }
        assert_eq!(orgs.known.read().len(), 2);
        let none = Orgs::new(0);
        none.count(&target("a"), Outcome::Accepted);
        assert!(none.known.read().is_empty());
    }
}

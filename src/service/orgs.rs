//! Submissions counted by organisation: only where an operator wants it, and for so many of them, because each is a series
//! for ever and callers choose their number.

use std::collections::HashMap;

use metrics::{Counter, counter};
use parking_lot::RwLock;

use super::Authorized;
use crate::{
    domain::{Environment, OrgId},
    telemetry::names,
};

const OUTCOMES: [&str; 3] = ["accepted", "duplicate", "duplicate_mismatch"];
/// No organisation: a name of one begins with a letter or a digit.
const OTHER: &str = "_other";

/// See the module.
pub(super) struct Orgs {
    most: usize,
    known: RwLock<HashMap<(OrgId, Environment), Counters>>,
    others: Option<Counters>,
}

type Counters = [Counter; OUTCOMES.len()];

impl Orgs {
    /// Counts `most` organisations and environments by name, the first ones that come; 0 for none.
    pub(super) fn new(most: usize) -> Self {
        Self { most, known: RwLock::default(), others: (most > 0).then(|| counters(OTHER, OTHER)) }
    }

    /// Counts a submission that was acknowledged.
    pub(super) fn count(&self, authorized: &Authorized, outcome: &'static str) {
        let Some(others) = &self.others else { return };
        let key = (authorized.org.clone(), authorized.env);
        if let Some(counters) = self.known.read().get(&key) {
            return increment(counters, outcome);
        }
        let mut known = self.known.write();
        if known.len() >= self.most && !known.contains_key(&key) {
            drop(known);
            return increment(others, outcome);
        }
        let counters = known.entry(key).or_insert_with(|| counters(authorized.org.as_str(), authorized.env.as_str()));
        increment(counters, outcome);
    }
}

fn counters(org: &str, env: &'static str) -> Counters {
    OUTCOMES.map(|outcome| {
        counter!(names::ORG_SUBMISSIONS_TOTAL, "org_id" => org.to_owned(), "env" => env, "outcome" => outcome)
    })
}

fn increment(counters: &Counters, outcome: &'static str) {
    let counter = OUTCOMES.iter().zip(counters).find(|(each, _)| **each == outcome);
    if let Some((_, counter)) = counter {
        counter.increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Scope;

    #[test]
    fn only_so_many_organisations_are_counted_by_name() {
        let orgs = Orgs::new(2);
        for org in ["a", "b", "c", "a", "d"] {
            let org = OrgId::new(org).expect("valid");
            orgs.count(&Authorized { org, env: Environment::Dev, scope: Scope::Submit }, "accepted");
        }
        assert_eq!(orgs.known.read().len(), 2);
        let none = Orgs::new(0);
        let org = OrgId::new("a").expect("valid");
        none.count(&Authorized { org, env: Environment::Dev, scope: Scope::Submit }, "accepted");
        assert!(none.known.read().is_empty());
    }
}

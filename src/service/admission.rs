//! Back-pressure and quota: how much is let in before the store is asked.

use super::{
    places::{Holder, Placed, Places, Use},
    rates::{RateLimits, Rates, Submission},
};
use crate::domain::{Environment, Error, OrgId};

/// What admission lets in.
#[derive(Debug, Clone)]
pub struct AdmissionLimits {
    /// Calls that may wait for the store at once; one more is answered 503. When they run short, reads and dev are refused before
    /// submissions and prod, and whoever holds most before the others.
    pub in_flight: usize,
    /// What each may submit in a time.
    pub rates: RateLimits,
}

/// Decides whether a call may go to the store now.
pub struct Admission {
    places: Places,
    rates: Rates,
}

/// Held while the store works on a call.
#[derive(Debug)]
pub struct Admitted {
    _place: Placed,
}

impl Admission {
    /// Admission within `limits`.
    pub fn new(limits: &AdmissionLimits) -> Self {
        Self { places: Places::new(limits.in_flight), rates: Rates::new(&limits.rates) }
    }

    /// Lets one submission in.
    ///
    /// # Errors
    /// `RateLimited` and `Overloaded`, each with the time after which a retry may succeed.
    pub fn admit(&self, submission: Submission<'_>) -> Result<Admitted, Error> {
        let (org, env) = (submission.org, submission.env);
        self.rates.count(submission)?;
        Ok(Admitted { _place: self.places.take(Use::Submission, Holder::Org(org.clone(), env))? })
    }

    /// Lets one look-up or list in.
    ///
    /// # Errors
    /// `Overloaded`, with the time after which a retry may succeed.
    pub fn admit_read(&self, org: &OrgId, env: Environment) -> Result<Admitted, Error> {
        Ok(Admitted { _place: self.places.take(Use::Read, Holder::Org(org.clone(), env))? })
    }

    /// Whether no submission is let in that has not ended.
    pub fn is_idle(&self) -> bool {
        self.places.submissions() == 0
    }

    /// Forgets who has been idle; called now and then so that memory stays bounded.
    pub fn forget_idle(&self) {
        self.rates.forget_idle();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::{Environment, FromId, KeyId, Kind, OrgId};

    #[test]
    fn one_submission_more_than_may_wait_is_overload_until_another_ends() {
        let admission = Admission::new(&AdmissionLimits { in_flight: 1, rates: RateLimits::default() });
        let (key, org) = (KeyId::new("aaaaaaaaaaaa").expect("valid"), OrgId::new("acme").expect("valid"));
        let from_id = FromId::new("ada").expect("valid");
        let (key, org, from_id, env) = (&key, &org, &from_id, Environment::Dev);
        let admit = || admission.admit(Submission { key, key_rate: None, browser: None, org, env, from_id });
        let first = admit().expect("room");
        let error = admit().expect_err("full");
        assert_eq!((error.kind(), error.retry_after()), (Kind::Overloaded, Some(Duration::from_secs(1))));
        drop(first);
        assert!(admit().is_ok());
    }
}

//! Back-pressure and quota: how much is let in before the store is asked.

use std::{num::NonZeroU32, sync::Arc};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::{Environment, Error, OrgId};

/// What admission lets in.
#[derive(Debug, Clone)]
pub struct AdmissionLimits {
    /// Submissions that may wait for the store at once; one more is answered 503.
    pub in_flight: usize,
    /// Submissions a second of one org and environment, with a burst of as many; `None` for no limit.
    pub per_org_per_second: Option<NonZeroU32>,
}

/// Decides whether a submission may go to the store now.
pub struct Admission {
    in_flight: Arc<Semaphore>,
    places: usize,
    quota: Option<DefaultKeyedRateLimiter<(OrgId, Environment)>>,
}

/// Held while the store works on a submission.
#[derive(Debug)]
pub struct Admitted {
    _in_flight: OwnedSemaphorePermit,
}

impl Admission {
    /// Admission within `limits`.
    pub fn new(limits: &AdmissionLimits) -> Self {
        let places = limits.in_flight.min(Semaphore::MAX_PERMITS);
        Self {
            in_flight: Arc::new(Semaphore::new(places)),
            places,
            quota: limits.per_org_per_second.map(|rate| RateLimiter::keyed(Quota::per_second(rate))),
        }
    }

    /// Lets one submission in.
    ///
    /// # Errors
    /// `RateLimited` and `Overloaded`, each with the time after which a retry may succeed.
    pub fn admit(&self, org: &OrgId, env: Environment) -> Result<Admitted, Error> {
        if let Some(quota) = &self.quota
            && let Err(not_until) = quota.check_key(&(org.clone(), env))
        {
            let wait = not_until.wait_time_from(governor::clock::DefaultClock::default().now());
            return Err(Error::rate_limited(wait));
        }
        let in_flight = Arc::clone(&self.in_flight).try_acquire_owned().map_err(|_| Error::overloaded())?;
        Ok(Admitted { _in_flight: in_flight })
    }

    /// Whether no submission is let in that has not ended.
    pub fn is_idle(&self) -> bool {
        self.in_flight.available_permits() == self.places
    }

    /// Forgets organisations that have been idle; called now and then so that memory stays bounded.
    pub fn forget_idle(&self) {
        if let Some(quota) = &self.quota {
            quota.retain_recent();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::Kind;

    fn acme() -> OrgId {
        OrgId::new("acme").expect("valid")
    }

    #[test]
    fn one_submission_more_than_may_wait_is_overload_until_another_ends() {
        let admission = Admission::new(&AdmissionLimits { in_flight: 1, per_org_per_second: None });
        let first = admission.admit(&acme(), Environment::Dev).expect("room");
        let error = admission.admit(&acme(), Environment::Dev).expect_err("full");
        assert_eq!((error.kind(), error.retry_after()), (Kind::Overloaded, Some(Duration::from_secs(1))));
        drop(first);
        assert!(admission.admit(&acme(), Environment::Dev).is_ok());
    }

    #[test]
    fn one_org_over_its_quota_is_told_when_to_come_back_and_the_other_environment_is_not() {
        let admission = Admission::new(&AdmissionLimits { in_flight: 9, per_org_per_second: NonZeroU32::new(1) });
        assert!(admission.admit(&acme(), Environment::Dev).is_ok());
        let error = admission.admit(&acme(), Environment::Dev).expect_err("over quota");
        assert_eq!(error.kind(), Kind::RateLimited);
        assert!(error.retry_after().is_some());
        assert!(admission.admit(&acme(), Environment::Prod).is_ok());
    }
}

//! Back-pressure and quota: how much is let in before the store is asked.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::rates::{RateLimits, Rates};
use crate::domain::{Environment, Error, FromId, KeyId, OrgId};

/// What admission lets in.
#[derive(Debug, Clone)]
pub struct AdmissionLimits {
    /// Submissions that may wait for the store at once; one more is answered 503.
    pub in_flight: usize,
    /// What each may submit in a time.
    pub rates: RateLimits,
}

/// Decides whether a submission may go to the store now.
pub struct Admission {
    in_flight: Arc<Semaphore>,
    places: usize,
    rates: Rates,
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
        Self { in_flight: Arc::new(Semaphore::new(places)), places, rates: Rates::new(&limits.rates) }
    }

    /// Lets one submission in.
    ///
    /// # Errors
    /// `RateLimited` and `Overloaded`, each with the time after which a retry may succeed.
    pub fn admit(&self, key: &KeyId, org: &OrgId, env: Environment, from_id: &FromId) -> Result<Admitted, Error> {
        self.rates.count(key, org, env, from_id)?;
        let in_flight = Arc::clone(&self.in_flight).try_acquire_owned().map_err(|_| Error::overloaded())?;
        Ok(Admitted { _in_flight: in_flight })
    }

    /// Whether no submission is let in that has not ended.
    pub fn is_idle(&self) -> bool {
        self.in_flight.available_permits() == self.places
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
    use crate::domain::Kind;

    #[test]
    fn one_submission_more_than_may_wait_is_overload_until_another_ends() {
        let admission = Admission::new(&AdmissionLimits { in_flight: 1, rates: RateLimits::default() });
        let (key, org) = (KeyId::new("aaaaaaaaaaaa").expect("valid"), OrgId::new("acme").expect("valid"));
        let admit = || admission.admit(&key, &org, Environment::Dev, &FromId::new("ada").expect("valid"));
        let first = admit().expect("room");
        let error = admit().expect_err("full");
        assert_eq!((error.kind(), error.retry_after()), (Kind::Overloaded, Some(Duration::from_secs(1))));
        drop(first);
        assert!(admit().is_ok());
    }
}

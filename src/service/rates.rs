//! How much each may submit in a time: a sender, an API key, an organisation.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use parking_lot::RwLock;

use crate::domain::{ClientAddress, Environment, Error, FromId, KeyId, Limited, OrgId, Rate, RateExceeded};

/// What may come in a time; `None` for no limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct RateLimits {
    /// Of one end user of an organisation, in one environment.
    pub per_sender: Option<Rate>,
    /// By one API key.
    pub per_key: Option<Rate>,
    /// Of one organisation, in one environment.
    pub per_org: Option<Rate>,
    /// By one browser key, in place of [`RateLimits::per_key`].
    pub browser_per_key: Option<Rate>,
    /// Of one end user, under one browser key.
    pub browser_per_sender: Option<Rate>,
    /// From one client address, under one browser key.
    pub browser_per_address: Option<Rate>,
}

/// A submission, as far as it is counted.
#[derive(Debug, Clone, Copy)]
pub struct Submission<'a> {
    /// By which key it comes.
    pub key: &'a KeyId,
    /// That key's own rate, in place of the one for every key or every browser key.
    pub key_rate: Option<Rate>,
    /// What is known of the browser, where it is a browser key.
    pub browser: Option<Browser>,
    /// For which organisation.
    pub org: &'a OrgId,
    /// In which environment.
    pub env: Environment,
    /// Of whom the message is.
    pub from_id: &'a FromId,
}

/// From where a submission with a browser key comes.
#[derive(Debug, Clone, Copy)]
pub struct Browser {
    /// The client's address; where it is not known only its sender counts.
    pub address: Option<IpAddr>,
}

/// Counts submissions within [`RateLimits`] and the rates that keys have of their own.
pub struct Rates {
    limits: RateLimits,
    senders: Apart<Owner, FromId>,
    browser_senders: Apart<KeyId, FromId>,
    browser_addresses: Apart<KeyId, IpAddr>,
    own_keys: Apart<Rate, KeyId>,
    keys: Option<Limiter<KeyId>>,
    orgs: Option<Limiter<Owner>>,
}

type Owner = (OrgId, Environment);

/// The names of each group apart. Senders are grouped by their organisation and environment: whoever makes senders up fills its own
/// memory of them alone; so do the users of a browser key. Keys with a rate of their own are grouped by it, so that another rate counts as soon as a key has it.
struct Apart<G, K: Clone + Hash + Eq> {
    limit: Limited,
    of: RwLock<HashMap<G, Arc<Limiter<K>>>>,
}

/// One rate for each of many.
pub(super) struct Limiter<K: Clone + Hash + Eq> {
    limit: Limited,
    rate: Rate,
    counts: DefaultKeyedRateLimiter<K>,
    /// Counted since idle ones were forgotten.
    counted: AtomicUsize,
    is_full: AtomicBool,
}

/// So many are counted by name, some 100 bytes each: of each organisation and environment so many senders. Where more than this
/// come within the rate's window, which an attacker with a good key can do by making senders up, this limit pauses for that
/// organisation, and the wider ones hold. Of failed authentication it pauses for everybody: whoever has that many addresses is not
/// held back by a limit for each of them.
pub(super) const MOST_COUNTED: usize = 100_000;

impl Rates {
    /// Rates within `limits`.
    pub fn new(limits: &RateLimits) -> Self {
        Self {
            limits: *limits,
            senders: Apart::new(Limited::Sender),
            browser_senders: Apart::new(Limited::Sender),
            browser_addresses: Apart::new(Limited::Address),
            own_keys: Apart::new(Limited::Key),
            keys: limits.per_key.map(|rate| Limiter::new(Limited::Key, rate)),
            orgs: limits.per_org.map(|rate| Limiter::new(Limited::Org, rate)),
        }
    }

    /// Counts one submission, from the narrowest limit to the widest: what a sender may not send costs its organisation nothing.
    ///
    /// # Errors
    /// [`crate::domain::Kind::RateLimited`], with the limit and the time after which there is room.
    pub fn count(&self, submission: Submission<'_>) -> Result<(), Error> {
        let Submission { key, key_rate, browser, org, env, from_id } = submission;
        if let Some(Browser { address }) = browser {
            // The address first: who makes senders up is stopped before they are counted.
            if let (Some(rate), Some(address)) = (self.limits.browser_per_address, address) {
                self.browser_addresses.limiter(key.clone(), rate).count(&ClientAddress(address).assigned())?;
            }
            if let Some(rate) = self.limits.browser_per_sender {
                self.browser_senders.limiter(key.clone(), rate).count(from_id)?;
            }
        }
        if let Some(rate) = self.limits.per_sender {
            self.senders.limiter((org.clone(), env), rate).count(from_id)?;
        }
        match (key_rate.or(browser.and(self.limits.browser_per_key)), &self.keys) {
            (Some(rate), _) => self.own_keys.limiter(rate, rate).count(key)?,
            (None, Some(keys)) => keys.count(key)?,
            (None, None) => {}
        }
        if let Some(orgs) = &self.orgs {
            orgs.count(&(org.clone(), env))?;
        }
        Ok(())
    }

    /// Forgets whoever has room for a whole burst again: to them nothing is owed.
    pub fn forget_idle(&self) {
        self.senders.forget_idle();
        self.browser_senders.forget_idle();
        self.browser_addresses.forget_idle();
        self.own_keys.forget_idle();
        self.keys.iter().for_each(Limiter::forget_idle);
        self.orgs.iter().for_each(Limiter::forget_idle);
    }
}

impl<G: Hash + Eq, K: Clone + Hash + Eq> Apart<G, K> {
    fn new(limit: Limited) -> Self {
        Self { limit, of: RwLock::default() }
    }

    fn limiter(&self, group: G, rate: Rate) -> Arc<Limiter<K>> {
        if let Some(known) = self.of.read().get(&group) {
            return Arc::clone(known);
        }
        let fresh = || Arc::new(Limiter::new(self.limit, rate));
        Arc::clone(self.of.write().entry(group).or_insert_with(fresh))
    }

    fn forget_idle(&self) {
        self.of.read().values().for_each(|limiter| limiter.forget_idle());
        // One that somebody is just counting in stays.
        self.of.write().retain(|_, limiter| !limiter.counts.is_empty() || Arc::strong_count(limiter) > 1);
    }
}

impl<K: Clone + Hash + Eq> Limiter<K> {
    pub(super) fn new(limit: Limited, rate: Rate) -> Self {
        // An interval is never zero: no rate is as high as one in a nanosecond.
        let quota = Quota::with_period(rate.interval()).unwrap_or(Quota::per_second(rate.burst()));
        let counts = RateLimiter::keyed(quota.allow_burst(rate.burst()));
        Self { limit, rate, counts, counted: AtomicUsize::new(0), is_full: AtomicBool::new(false) }
    }

    /// Counts one of `key`.
    ///
    /// # Errors
    /// [`crate::domain::Kind::RateLimited`].
    pub(super) fn count(&self, key: &K) -> Result<(), Error> {
        if self.is_full.load(Ordering::Relaxed) {
            return Ok(());
        }
        if let Err(not_until) = self.counts.check_key(key) {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            return Err(Error::rate_limited(RateExceeded { limit: self.limit, rate: self.rate, wait }));
        }
        if self.counted.fetch_add(1, Ordering::Relaxed) >= MOST_COUNTED {
            self.forget_idle();
        }
        Ok(())
    }

    /// Forgets whoever has room for a whole burst again.
    pub(super) fn forget_idle(&self) {
        self.counted.store(0, Ordering::Relaxed);
        self.counts.retain_recent();
        self.is_full.store(self.counts.len() >= MOST_COUNTED, Ordering::Relaxed);
    }

    /// How many are counted by name.
    #[cfg(test)]
    pub(super) fn named(&self) -> usize {
        self.counts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Kind;

    fn limits(per_sender: &str, per_key: &str, per_org: &str) -> Rates {
        let [per_sender, per_key, per_org] = [per_sender, per_key, per_org].map(Rate::parse);
        Rates::new(&RateLimits { per_sender, per_key, per_org, ..RateLimits::default() })
    }

    fn count(rates: &Rates, key: &str, env: Environment, sender: &str) -> Result<(), &'static str> {
        let (key, org) = (KeyId::new(key).expect("valid"), OrgId::new("acme").expect("valid"));
        count_at(rates, &key, None, &org, env, sender)
    }

    fn count_at(
        rates: &Rates,
        key: &KeyId,
        key_rate: Option<Rate>,
        org: &OrgId,
        env: Environment,
        sender: &str,
    ) -> Result<(), &'static str> {
        let from_id = &FromId::new(sender).expect("valid");
        rates.count(Submission { key, key_rate, browser: None, org, env, from_id }).map_err(|error| {
            assert_eq!(error.kind(), Kind::RateLimited);
            error.rate_exceeded().expect("told").limit.as_str()
        })
    }

    const A: &str = "aaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbb";
    const C: &str = "cccccccccccc";

    #[test]
    fn each_sender_key_and_organisation_has_its_own_and_the_narrowest_refuses_first() {
        let rates = limits("1/h", "2/h", "3/h");
        let dev = Environment::Dev;
        assert_eq!(count(&rates, A, dev, "ada"), Ok(()));
        assert_eq!(count(&rates, A, dev, "ada"), Err("sender"));
        assert_eq!(count(&rates, A, dev, "bob"), Ok(()));
        assert_eq!(count(&rates, A, dev, "cyd"), Err("key"));
        assert_eq!(count(&rates, B, dev, "dan"), Ok(()));
        assert_eq!(count(&rates, B, dev, "eve"), Err("org"));
        assert_eq!(count(&rates, C, Environment::Prod, "fay"), Ok(()), "the other environment is another");
    }

    #[test]
    fn a_keys_own_rate_counts_in_place_of_the_one_for_every_key_and_a_new_one_at_once() {
        let rates = limits("", "1/h", "");
        let (key, org) = (KeyId::new(A).expect("valid"), OrgId::new("acme").expect("valid"));
        let sent = |rate: &str| {
            let sent =
                (0..5).filter(|_| count_at(&rates, &key, Rate::parse(rate), &org, Environment::Dev, "ada").is_ok());
            sent.count()
        };
        assert_eq!(sent("3/h"), 3, "more than the setting leaves to others");
        assert_eq!(sent("3/h"), 0);
        assert_eq!(sent("4/h"), 4, "another rate begins anew");
        assert_eq!(count(&rates, B, Environment::Dev, "ada"), Ok(()));
        assert_eq!(count(&rates, B, Environment::Dev, "ada"), Err("key"));
        rates.forget_idle();
        assert_eq!(sent("3/h"), 0, "nobody who owes is forgotten");
        assert_eq!(sent("1000000/s"), 5);
    }

    #[test]
    fn each_sender_and_each_address_under_a_browser_key_has_a_budget_of_its_own() {
        let [browser_per_sender, browser_per_address] = ["1/h", "2/h"].map(Rate::parse);
        let rates = Rates::new(&RateLimits { browser_per_sender, browser_per_address, ..RateLimits::default() });
        let org = &OrgId::new("acme").expect("valid");
        let sent = |key: &str, sender: &str, address: &str| {
            let (key, from_id) = (&KeyId::new(key).expect("valid"), &FromId::new(sender).expect("valid"));
            let browser = Some(Browser { address: address.parse().ok() });
            let submission = Submission { key, key_rate: None, browser, org, env: Environment::Dev, from_id };
            rates.count(submission).map_err(|error| error.rate_exceeded().expect("told").limit.as_str())
        };
        assert_eq!(sent(A, "ada", "192.0.2.1"), Ok(()));
        assert_eq!(sent(A, "ada", "192.0.2.2"), Err("sender"));
        assert_eq!(sent(A, "bob", "::ffff:192.0.2.1"), Ok(()), "the second of the first address");
        assert_eq!(sent(A, "cyd", "192.0.2.1"), Err("address"));
        assert_eq!(sent(A, "cyd", "192.0.2.3"), Ok(()), "who is refused for an address is not counted as a sender");
        assert_eq!(sent(B, "ada", "192.0.2.1"), Ok(()), "another key's are others");
        assert_eq!(sent(A, "dan", "2001:db8::1"), Ok(()));
        assert_eq!(sent(A, "eve", "2001:db8::ffff:2"), Ok(()));
        assert_eq!(sent(A, "fay", "2001:db8:0:0:1::"), Err("address"), "one network of 64 bits");
        assert_eq!(sent(A, "fay", "2001:db8:0:1::"), Ok(()));
        assert_eq!(sent(A, "ada", "not told"), Err("sender"));
    }

    #[test]
    fn a_browser_key_without_a_rate_of_its_own_has_that_of_browser_keys_and_leaves_the_rest_to_others() {
        let [browser_per_key, per_org] = ["2/h", "4/h"].map(Rate::parse);
        let rates = Rates::new(&RateLimits { browser_per_key, per_org, ..RateLimits::default() });
        let (org, from_id) = (&OrgId::new("acme").expect("valid"), &FromId::new("ada").expect("valid"));
        let sent = |key: &str, key_rate: Option<Rate>, browser: Option<Browser>| {
            let key = &KeyId::new(key).expect("valid");
            let submission = Submission { key, key_rate, browser, org, env: Environment::Dev, from_id };
            rates.count(submission).map_err(|error| error.rate_exceeded().expect("told").limit.as_str())
        };
        let browser = Some(Browser { address: None });
        assert_eq!([0; 3].map(|_| sent(A, None, browser)), [Ok(()), Ok(()), Err("key")]);
        assert_eq!([0; 2].map(|_| sent(B, Rate::parse("1/h"), browser)), [Ok(()), Err("key")], "its own goes before");
        assert_eq!([0; 2].map(|_| sent(C, None, None)), [Ok(()), Err("org")], "of other keys it says nothing");
    }

    #[test]
    fn whoever_makes_senders_up_pauses_its_own_limit_of_senders_and_nobody_elses() {
        let rates = limits("1/h", "", "");
        let key = KeyId::new(A).expect("valid");
        let (many, other) = (OrgId::new("many").expect("valid"), OrgId::new("other").expect("valid"));
        let sent = |org: &OrgId, sender: &str| count_at(&rates, &key, None, org, Environment::Dev, sender).is_ok();
        assert!(sent(&other, "ada"));
        assert!((0..=MOST_COUNTED).all(|number| sent(&many, &number.to_string())));
        assert!(sent(&many, "0"), "too many to be counted: the wider limits hold alone");
        assert!(!sent(&other, "ada"), "another organisation's are counted as before");
    }

    #[test]
    fn what_a_sender_may_not_send_costs_its_key_and_organisation_nothing() {
        let rates = limits("1/h", "2/h", "2/h");
        assert_eq!(count(&rates, A, Environment::Dev, "ada"), Ok(()));
        for _ in 0..10 {
            assert_eq!(count(&rates, A, Environment::Dev, "ada"), Err("sender"));
        }
        assert_eq!(count(&rates, A, Environment::Dev, "bob"), Ok(()));
    }

    #[test]
    fn a_burst_comes_at_once_and_without_limits_nobody_is_counted() {
        let rates = limits("1/h burst 3", "", "");
        let sent = (0..5).filter(|_| count(&rates, A, Environment::Dev, "ada").is_ok()).count();
        assert_eq!(sent, 3);
        let free = limits("", "", "");
        assert!((0..1000).all(|_| count(&free, A, Environment::Dev, "ada").is_ok()));
    }
}

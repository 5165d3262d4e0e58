//! How often authentication may fail for one address. Only failures are counted, and only their answers change: whoever has a
//! good key is let in, whatever others behind the same proxy or NAT do.

use std::net::IpAddr;

use metrics::{Counter, counter};

use super::rates::Limiter;
use crate::{
    domain::{ClientAddress, Error, Kind, Limited, Rate},
    telemetry::names,
};

/// Counts failed authentication by address.
pub struct FailedAuth {
    limit: Option<Limiter<IpAddr>>,
    refused: Counter,
    limited: Counter,
}

impl FailedAuth {
    /// Within `rate` for each address; `None` for no limit.
    pub fn new(rate: Option<Rate>) -> Self {
        let failures = |code: &'static str| counter!(names::AUTH_FAILURES_TOTAL, "code" => code);
        let limit = rate.map(|rate| Limiter::new(Limited::FailedAuth, rate));
        Self { limit, refused: failures("unauthenticated"), limited: failures("rate_limited") }
    }

    /// What a call from `client` is told that was refused with `error`: that, or, where authentication failed too often from there,
    /// [`Kind::RateLimited`] in its place.
    pub fn judge(&self, client: Option<&ClientAddress>, error: Error) -> Error {
        if error.kind() != Kind::Unauthenticated {
            return error;
        }
        let exceeded = match (&self.limit, client) {
            (Some(limit), Some(client)) => limit.count(&client.assigned()).err(),
            _ => None,
        };
        let count = if exceeded.is_some() { &self.limited } else { &self.refused };
        count.increment(1);
        exceeded.unwrap_or(error)
    }

    /// Forgets addresses that have room for a whole burst again.
    pub fn forget_idle(&self) {
        self.limit.iter().for_each(Limiter::forget_idle);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::rates::MOST_COUNTED, *};

    fn told(failures: &FailedAuth, address: &str) -> Kind {
        let client = ClientAddress(address.parse().expect("an address"));
        failures.judge(Some(&client), Error::bad_key()).kind()
    }

    #[test]
    fn beyond_its_burst_an_address_is_told_to_wait_and_others_are_not() {
        let failures = FailedAuth::new(Rate::parse("1/h burst 2"));
        let (v4, same) = ("192.0.2.1", "::ffff:192.0.2.1");
        assert_eq!([v4, same, v4, same].map(|address| told(&failures, address)), {
            [Kind::Unauthenticated, Kind::Unauthenticated, Kind::RateLimited, Kind::RateLimited]
        });
        assert_eq!(told(&failures, "192.0.2.2"), Kind::Unauthenticated);
        let error = failures.judge(Some(&ClientAddress(v4.parse().expect("an address"))), Error::no_key());
        let exceeded = error.rate_exceeded().expect("told");
        assert_eq!(exceeded.limit, Limited::FailedAuth);
        assert!(error.retry_after().is_some_and(|wait| wait > Duration::from_secs(3500)));
    }

    #[test]
    fn whoever_has_a_network_of_ipv6_has_one_budget() {
        let failures = FailedAuth::new(Rate::parse("1/h"));
        let addresses = ["2001:db8:1:2::1", "2001:db8:1:2:ffff::", "2001:db8:1:3::1"];
        let kinds = addresses.map(|address| told(&failures, address));
        assert_eq!(kinds, [Kind::Unauthenticated, Kind::RateLimited, Kind::Unauthenticated]);
    }

    #[test]
    fn what_is_no_failed_authentication_is_not_counted_and_without_a_limit_nothing_is() {
        let failures = FailedAuth::new(Rate::parse("1/h"));
        let client = ClientAddress("192.0.2.1".parse().expect("an address"));
        for _ in 0..9 {
            assert_eq!(failures.judge(Some(&client), Error::overloaded()).kind(), Kind::Overloaded);
            assert_eq!(failures.judge(None, Error::bad_key()).kind(), Kind::Unauthenticated);
        }
        assert_eq!(told(&failures, "192.0.2.1"), Kind::Unauthenticated);
        let free = FailedAuth::new(None);
        assert!((0..1000).all(|_| told(&free, "192.0.2.1") == Kind::Unauthenticated));
    }

    #[test]
    fn memory_is_bounded_whatever_addresses_there_are() {
        let failures = FailedAuth::new(Rate::parse("1/h"));
        for number in 0..=MOST_COUNTED {
            let address = IpAddr::from(u32::try_from(number).expect("small").to_be_bytes());
            let _ = failures.judge(Some(&ClientAddress(address)), Error::bad_key());
        }
        let counted = || failures.limit.as_ref().map_or(0, Limiter::named);
        let full = counted();
        for number in 0..1000_u32 {
            let _ = failures.judge(
                Some(&ClientAddress(IpAddr::from([203, 0, (number >> 8) as u8, number as u8]))),
                Error::bad_key(),
            );
        }
        assert_eq!((full, counted()), (MOST_COUNTED + 1, MOST_COUNTED + 1));
    }
}

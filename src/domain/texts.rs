//! What callers are told, each text once: the constructors of [`Error`]. Texts about fields are with the fields' rules, and
//! what only a protocol can be wrong about is told by `protocol::call`.

use std::{borrow::Cow, error::Error as StdError, time::Duration};

use super::{Credential, Environment, Error, Kind, Limited, Rate, RateExceeded, Scope, ViolationCode, Violations};

type Cause = Box<dyn StdError + Send + Sync>;

/// Sooner would be too soon where nothing more is known.
const A_MOMENT: Duration = Duration::from_secs(1);

impl Error {
    /// A bug: the caller is told nothing but that, the log gets `cause`.
    pub fn internal(cause: impl Into<Cause>) -> Self {
        Self::new(Kind::Internal, "Internal server error").with_cause(cause)
    }

    /// The store cannot decide now; the same submission may be retried after a second.
    pub fn store_unavailable(cause: impl Into<Cause>) -> Self {
        Self::new(
            Kind::StoreUnavailable,
            "The message could not be stored now; send it again with the same 'message_sid'",
        )
        .with_retry_after(A_MOMENT)
        .with_cause(cause)
    }

    /// The store does not answer within the service's deadline.
    pub fn store_too_slow(cause: impl Into<Cause>) -> Self {
        let text = "The store did not answer in time; send the message again with the same 'message_sid'";
        Self::new(Kind::DeadlineExceeded, text).with_retry_after(A_MOMENT).with_cause(cause)
    }

    /// The store does not tell of a key within the service's deadline.
    pub fn key_too_slow(cause: impl Into<Cause>) -> Self {
        let text = "The API key could not be checked in time; send the request again in a moment";
        Self::new(Kind::DeadlineExceeded, text).with_retry_after(A_MOMENT).with_cause(cause)
    }

    /// A submission that has more than `limit` bytes.
    pub fn too_large(limit: usize) -> Self {
        Self::new(Kind::BodyTooLarge, format!("The message is larger than {limit} bytes; send a shorter one"))
    }

    /// Which pages may call with a browser key is not known.
    pub fn pages_unknown(cause: impl Into<Cause>) -> Self {
        Self::new(Kind::StoreUnavailable, "Whether this page may call cannot be told now; ask again in a moment")
            .with_retry_after(A_MOMENT)
            .with_cause(cause)
    }

    /// More is under way than may be.
    pub fn overloaded() -> Self {
        Self::new(Kind::Overloaded, "The service has more work than it can take; send again in a moment")
            .with_retry_after(A_MOMENT)
    }

    /// A limit is used up for now; a caller has a key.
    pub fn rate_limited(exceeded: RateExceeded) -> Self {
        Self::rate_limited_for(Credential::ApiKey, exceeded)
    }

    /// The error, told to a caller by `credential`: what has the limit of a key is called by that.
    #[must_use]
    pub fn told_to(self, credential: Credential) -> Self {
        match (credential, self.rate_exceeded()) {
            (Credential::Certificate, Some(exceeded)) => Self::rate_limited_for(credential, *exceeded),
            (Credential::Certificate, None) | (Credential::ApiKey, _) => self,
        }
    }

    fn rate_limited_for(credential: Credential, exceeded: RateExceeded) -> Self {
        let rate = exceeded.rate;
        let sends = |who: &str| format!("{who} sends more messages than its limit of {rate}; wait and send again");
        let text = match exceeded.limit {
            Limited::Sender => sends("This 'from_id'"),
            Limited::Key => sends(&format!("This {credential}")),
            Limited::Org => sends("This organisation"),
            Limited::Address => sends("The address that this comes from"),
            Limited::FailedAuth => {
                format!(
                    "From this address requests without a valid API key come faster than {rate}; send one with a valid key"
                )
            }
        };
        let wait = exceeded.wait.max(A_MOMENT);
        Self::new(Kind::RateLimited, text).with_retry_after(wait).with_rate_exceeded(exceeded)
    }

    /// The process stops; `advice` is how to go on elsewhere.
    pub fn draining(advice: &'static str) -> Self {
        Self::new(Kind::Draining, format!("The service is shutting down; {advice}")).with_retry_after(A_MOMENT)
    }

    /// No key is sent.
    pub fn no_key() -> Self {
        Self::new(Kind::Unauthenticated, "Send an API key in one header, as 'Authorization: Bearer <api_key>'")
    }

    /// The key is no good; what is wrong with it is not told, nor which ids exist.
    pub fn bad_key() -> Self {
        Self::new(
            Kind::Unauthenticated,
            "No valid API key: send 'Authorization: Bearer <api_key>' with a key that is neither expired nor revoked",
        )
    }

    /// There is no key, and the client's certificate is good for nothing here.
    pub fn unknown_certificate() -> Self {
        Self::new(
            Kind::Unauthenticated,
            "No API key, and the client's certificate has no name, or more than one, that is known here, or has expired: send \
             'Authorization: Bearer <api_key>', or have one of its names put into the keys file as [[identities]]",
        )
    }

    /// The caller is of another organisation or environment.
    pub fn anothers(credential: Credential) -> Self {
        let text = format!("This {credential} belongs to another organisation or environment");
        Self::new(Kind::PermissionDenied, text)
    }

    /// The key is a browser key, and the call does not come from a page of its origins.
    pub fn not_its_page(names_an_origin: bool) -> Self {
        Self::new(
            Kind::PermissionDenied,
            if names_an_origin {
                "This browser key is for pages of other origins than that in the header 'Origin'; send it from one of its own, or make a \
                 key with this origin"
            } else {
                "This browser key is for web pages, and the call has no header 'Origin'; a server sends a key of its own, which is no browser \
                 key"
            },
        )
    }

    /// The key is a browser key, and no browser calls this way.
    pub fn only_for_the_webhook() -> Self {
        let text = "This browser key is for web pages and the HTTP webhook alone; for gRPC send another key";
        Self::new(Kind::PermissionDenied, text)
    }

    /// The caller is of the right organisation, and knows of both environments.
    pub fn other_environment(credential: Credential, own: Environment, called: Environment) -> Self {
        let text = format!(
            "This {credential} is for '{own}', and the call is for '{called}'; send it with one for '{called}'"
        );
        Self::new(Kind::PermissionDenied, text)
    }

    /// The caller may not do that.
    pub fn scope_missing(credential: Credential, scope: Scope) -> Self {
        Self::new(Kind::PermissionDenied, format!("This {credential} lacks the scope '{scope}'"))
    }

    /// The caller may not let another one do that.
    pub fn cannot_grant(credential: Credential, scope: Scope) -> Self {
        let text = format!("This {credential} lacks the scope '{scope}' and so cannot grant it");
        Self::new(Kind::PermissionDenied, text)
    }

    /// The caller may not let another key submit at a rate beyond `most`.
    pub fn cannot_grant_rate(credential: Credential, most: Rate) -> Self {
        let text = format!(
            "This {credential} grants a rate of at most {most}; leave 'rate' out, or ask whoever runs the service for a higher one"
        );
        Self::new(Kind::PermissionDenied, text)
    }

    /// The caller's organisation has as many live keys as it may make.
    pub fn too_many_keys(credential: Credential, most: usize) -> Self {
        let text = format!(
            "This {credential} keeps at most {most} live keys in its organisation and environment, a browser key counted once for \
             each origin; revoke some, or ask whoever runs the service for more"
        );
        Self::new(Kind::PermissionDenied, text)
    }

    /// The caller's organisation made as many keys lately as it may.
    pub fn too_many_new_keys(credential: Credential, most: usize, days: u64) -> Self {
        let text = format!(
            "This {credential} makes at most {most} keys in {days} days for its organisation and environment, a browser key counted \
             once for each origin; use keys for longer, or ask whoever runs the service for more"
        );
        Self::new(Kind::PermissionDenied, text)
    }

    /// The caller may not manage another's keys.
    pub fn manages_only_its_own(credential: Credential) -> Self {
        let text = format!("This {credential} manages only the keys of its own organisation and environment");
        Self::new(Kind::PermissionDenied, text)
    }

    /// There is no such message.
    pub fn message_not_found() -> Self {
        Self::new(Kind::MessageNotFound, "No message with this 'message_sid' is kept")
    }

    /// There is no such key.
    pub fn key_not_found() -> Self {
        Self::new(Kind::KeyNotFound, "There is no key with this id")
    }

    /// What came after a cursor is past its retention.
    pub fn cursor_expired() -> Self {
        let text = "Messages after 'cursor' are past their retention; begin with a new cursor";
        Self::new(Kind::CursorExpired, text)
    }

    /// One wrong argument that is not part of a message.
    pub fn invalid_argument(field: &'static str, code: ViolationCode, message: impl Into<Cow<'static, str>>) -> Self {
        let mut violations = Violations::default();
        violations.push(field, code, message);
        violations.into_error(Kind::InvalidArgument)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Rate;

    #[test]
    fn what_may_succeed_later_says_when_and_nothing_else_does() {
        let soon = [
            Error::store_unavailable("cause"),
            Error::store_too_slow("cause"),
            Error::key_too_slow("cause"),
            Error::overloaded(),
            Error::draining("go on elsewhere"),
        ];
        assert!(soon.iter().all(|error| error.retry_after() == Some(A_MOMENT)), "{soon:?}");
        let never =
            [Error::internal("cause"), Error::too_large(5), Error::no_key(), Error::bad_key(), Error::cursor_expired()];
        assert!(never.iter().all(|error| error.retry_after().is_none()), "{never:?}");
    }

    #[test]
    fn a_limit_that_is_used_up_is_told_with_whose_it_is_and_at_least_a_moment_to_wait() {
        let rate = Rate::parse("5/s").expect("a rate");
        for (limit, whose) in [(Limited::Sender, "from_id"), (Limited::Key, "API key"), (Limited::Org, "organisation")]
        {
            for (wait, told) in [(Duration::ZERO, A_MOMENT), (Duration::from_secs(7), Duration::from_secs(7))] {
                let exceeded = RateExceeded { limit, rate, wait };
                let error = Error::rate_limited(exceeded);
                assert!(error.public_message().contains(whose) && error.public_message().contains("5/s"), "{error}");
                assert_eq!((error.retry_after(), error.rate_exceeded()), (Some(told), Some(&exceeded)));
            }
        }
        assert_eq!([Limited::Sender, Limited::Key, Limited::Org].map(Limited::as_str), ["sender", "key", "org"]);
    }

    #[test]
    fn an_argument_is_told_with_its_field() {
        let error = Error::invalid_argument("cursor", ViolationCode::InvalidValue, "no cursor");
        assert_eq!((error.kind(), error.public_message()), (Kind::InvalidArgument, "no cursor"));
        let [violation] = error.violations() else { panic!("one") };
        assert_eq!((violation.field.as_str(), violation.code), ("cursor", ViolationCode::InvalidValue));
    }
}

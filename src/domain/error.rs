//! The one error of the crate's core: a closed set of kinds, a public text, and a cause that never leaves the process.

use std::{borrow::Cow, error::Error as StdError, fmt, time::Duration};

use super::{Environment, OrgId, RateExceeded, Violation};

/// What can be wrong with a message, a key or a store, as far as a caller would act differently on it. What only a protocol
/// can be wrong about is none of them.
///
/// `protocol::status` gives each kind its HTTP status, gRPC code and published reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One or more fields break a rule of the contract.
    InvalidMessage,
    /// An argument that is not part of a message (cursor, page token, key request) breaks a rule.
    InvalidArgument,
    /// No key, or one that is unknown, expired or revoked.
    Unauthenticated,
    /// A good key for another org or env, or without the scope.
    PermissionDenied,
    /// There is no such message.
    MessageNotFound,
    /// There is no such key.
    KeyNotFound,
    /// The message is larger than the limit.
    BodyTooLarge,
    /// The caller's quota is used up for now.
    RateLimited,
    /// The service has more work than it can take.
    Overloaded,
    /// The service is shutting down.
    Draining,
    /// The store cannot decide now.
    StoreUnavailable,
    /// The disk of the store has no room.
    DiskFull,
    /// A deadline of the service passed before the store decided.
    DeadlineExceeded,
    /// The feed cursor is older than what is retained.
    CursorExpired,
    /// The disk has lost the content of a message that was accepted.
    DataLoss,
    /// A bug.
    Internal,
}

impl Kind {
    /// All kinds, for tables and documents that must name each.
    pub const ALL: [Kind; 16] = [
        Kind::InvalidMessage,
        Kind::InvalidArgument,
        Kind::Unauthenticated,
        Kind::PermissionDenied,
        Kind::MessageNotFound,
        Kind::KeyNotFound,
        Kind::BodyTooLarge,
        Kind::RateLimited,
        Kind::Overloaded,
        Kind::Draining,
        Kind::StoreUnavailable,
        Kind::DiskFull,
        Kind::DeadlineExceeded,
        Kind::CursorExpired,
        Kind::DataLoss,
        Kind::Internal,
    ];
}

/// An error with a text for the caller and a cause for the log.
///
/// `Display` and [`Error::public_message`] are the public text; the cause is reached only through
/// [`Error::cause`], which the edge logs once and never sends.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    message: Cow<'static, str>,
    violations: Vec<Violation>,
    retry_after: Option<Duration>,
    rate_exceeded: Option<RateExceeded>,
    cause: Option<Box<dyn StdError + Send + Sync>>,
    subject: Option<String>,
    concerns: Option<(OrgId, Environment)>,
}

impl Error {
    /// An error of `kind` whose public text is `message`; `texts.rs` has those that are told.
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            violations: Vec::new(),
            retry_after: None,
            rate_exceeded: None,
            cause: None,
            subject: None,
            concerns: None,
        }))
    }

    /// Adds the cause, which stays inside the process.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// Adds what is wrong with which field.
    pub(super) fn with_violations(mut self, violations: Vec<Violation>) -> Self {
        self.0.violations = violations;
        self
    }

    /// Adds which limit is used up.
    pub(super) fn with_rate_exceeded(mut self, exceeded: RateExceeded) -> Self {
        self.0.rate_exceeded = Some(exceeded);
        self
    }

    /// Adds how long the caller should wait before it tries again.
    #[must_use]
    pub fn with_retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    /// Adds which message it is about, by [`super::MessageKey::fingerprint`].
    #[must_use]
    pub fn about(mut self, fingerprint: String) -> Self {
        self.0.subject = Some(fingerprint);
        self
    }

    /// Says whom alone it concerns.
    #[must_use]
    pub fn concerning(mut self, org: OrgId, env: Environment) -> Self {
        self.0.concerns = Some((org, env));
        self
    }

    /// Whom alone it concerns, where not everybody.
    pub fn concerns(&self) -> Option<(&OrgId, Environment)> {
        self.0.concerns.as_ref().map(|(org, env)| (org, *env))
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The text for the caller; it tells no internal detail and no message content.
    pub fn public_message(&self) -> &str {
        &self.0.message
    }

    /// Every rule that was broken, in the order of the contract's field table.
    pub fn violations(&self) -> &[Violation] {
        &self.0.violations
    }

    /// How long to wait before a retry, where a retry can help.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The limit that is used up, where it is that.
    pub fn rate_exceeded(&self) -> Option<&RateExceeded> {
        self.0.rate_exceeded.as_ref()
    }

    /// Whether it is the service's own failure: neither the caller's mistake nor more than it was let have.
    pub fn is_ours(&self) -> bool {
        matches!(
            self.0.kind,
            Kind::StoreUnavailable | Kind::DiskFull | Kind::DeadlineExceeded | Kind::DataLoss | Kind::Internal
        )
    }

    /// Which message it is about, by [`super::MessageKey::fingerprint`]; for the log.
    pub fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    /// The cause, for the log at the edge and for nobody else.
    pub fn cause(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.0.cause.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("cause", &self.0.cause)
            .finish()
    }
}

// `source` stays empty on purpose: generic error printers walk it, and the cause must not be printed to callers.
impl StdError for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_what_was_added_and_shows_its_text_alone() {
        let error = Error::new(Kind::StoreUnavailable, "Try again");
        assert_eq!((error.subject(), error.retry_after(), error.concerns()), (None, None, None));
        assert!(error.cause().is_none() && error.rate_exceeded().is_none() && error.violations().is_empty());
        let org = OrgId::new("acme").expect("valid");
        let error = error.with_cause("the disk").with_retry_after(Duration::from_secs(2));
        let error = error.about("0123".into()).concerning(org.clone(), Environment::Prod);
        assert_eq!((error.kind(), error.public_message()), (Kind::StoreUnavailable, "Try again"));
        assert_eq!((error.subject(), error.retry_after()), (Some("0123"), Some(Duration::from_secs(2))));
        assert_eq!(error.concerns(), Some((&org, Environment::Prod)));
        assert_eq!(error.cause().map(ToString::to_string).as_deref(), Some("the disk"));
        assert_eq!(error.to_string(), "Try again");
        assert!(StdError::source(&error).is_none());
    }

    #[test]
    fn what_callers_do_wrong_or_too_often_is_not_the_services_failure() {
        let ours: Vec<_> = Kind::ALL.into_iter().filter(|kind| Error::new(*kind, "").is_ours()).collect();
        let expected = [Kind::StoreUnavailable, Kind::DiskFull, Kind::DeadlineExceeded, Kind::DataLoss, Kind::Internal];
        assert_eq!(ours, expected);
    }
}

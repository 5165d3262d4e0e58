//! The one error of the crate's core: a closed set of kinds, a public text, and a cause that never leaves the process.

use std::{borrow::Cow, error::Error as StdError, fmt, time::Duration};

/// What went wrong, as far as a caller would act differently on it.
///
/// `protocol::status` gives each kind its HTTP status, gRPC code and published reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One or more fields break a rule of the contract.
    InvalidMessage,
    /// An argument that is not part of a message (cursor, page token, key request) breaks a rule.
    InvalidArgument,
    /// The body is not one JSON object in UTF-8.
    MalformedJson,
    /// No key, or one that is unknown, expired or revoked.
    Unauthenticated,
    /// A good key for another org or env, or without the scope.
    PermissionDenied,
    /// There is no such path.
    NotFound,
    /// There is no such message.
    MessageNotFound,
    /// There is no such key.
    KeyNotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The body came too slowly.
    RequestTimeout,
    /// The body or the gRPC message is larger than the limit.
    BodyTooLarge,
    /// The content type is not JSON.
    UnsupportedMediaType,
    /// The content encoding is not identity.
    UnsupportedContentEncoding,
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
    /// The deadline that the caller set passed.
    CallerDeadlineExceeded,
    /// The feed cursor is older than what is retained.
    CursorExpired,
    /// The disk has lost the content of a message that was accepted.
    DataLoss,
    /// A bug.
    Internal,
}

impl Kind {
    /// All kinds, for tables and documents that must name each.
    pub const ALL: [Kind; 23] = [
        Kind::InvalidMessage,
        Kind::InvalidArgument,
        Kind::MalformedJson,
        Kind::Unauthenticated,
        Kind::PermissionDenied,
        Kind::NotFound,
        Kind::MessageNotFound,
        Kind::KeyNotFound,
        Kind::MethodNotAllowed,
        Kind::RequestTimeout,
        Kind::BodyTooLarge,
        Kind::UnsupportedMediaType,
        Kind::UnsupportedContentEncoding,
        Kind::RateLimited,
        Kind::Overloaded,
        Kind::Draining,
        Kind::StoreUnavailable,
        Kind::DiskFull,
        Kind::DeadlineExceeded,
        Kind::CallerDeadlineExceeded,
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
    cause: Option<Box<dyn StdError + Send + Sync>>,
    subject: Option<String>,
}

impl Error {
    /// An error of `kind` whose public text is `message`.
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            violations: Vec::new(),
            retry_after: None,
            cause: None,
            subject: None,
        }))
    }

    /// A bug: the caller is told nothing but that, the log gets `cause`.
    pub fn internal(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(Kind::Internal, "Internal server error").with_cause(cause)
    }

    /// The store cannot decide now; the same submission may be retried after a second.
    pub fn store_unavailable(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(
            Kind::StoreUnavailable,
            "The message could not be stored now; send it again with the same 'message_sid'",
        )
        .with_retry_after(Duration::from_secs(1))
        .with_cause(cause)
    }

    /// One wrong argument that is not part of a message.
    pub fn invalid_argument(field: &'static str, code: ViolationCode, message: impl Into<Cow<'static, str>>) -> Self {
        let mut violations = Violations::default();
        violations.push(field, code, message);
        violations.into_error(Kind::InvalidArgument)
    }

    /// Adds the cause, which stays inside the process.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
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

/// One broken rule: which field, a stable word for machines, a text that says what to send instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field's name as the published page spells it.
    pub field: Cow<'static, str>,
    /// The stable word.
    pub code: ViolationCode,
    /// The text for people; it never repeats a content.
    pub message: Cow<'static, str>,
}

/// The stable words of violations (`errors[].code` in JSON; in the text of a gRPC field violation).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ViolationCode {
    /// A required field is absent, null or empty.
    Missing,
    /// A field has another type than the contract's.
    WrongType,
    /// A field was given more than once.
    DuplicateField,
    /// More bytes or items than allowed.
    TooLong,
    /// A control character where none may be.
    ControlCharacter,
    /// Not a time that the contract knows.
    InvalidTimestamp,
    /// A time before 1970 or after 9999.
    TimestampOutOfRange,
    /// More than one media item.
    TooManyMedia,
    /// Not an absolute http or https URL with a host and without user information.
    InvalidUrl,
    /// A URL whose path does not end in an accepted extension.
    UnsupportedExtension,
    /// A URL whose host is not reachable from the public internet.
    PrivateHost,
    /// An argument that is none of the accepted values.
    InvalidValue,
}

impl ViolationCode {
    /// All codes, for documents that must name each.
    pub const ALL: [ViolationCode; 12] = [
        ViolationCode::Missing,
        ViolationCode::WrongType,
        ViolationCode::DuplicateField,
        ViolationCode::TooLong,
        ViolationCode::ControlCharacter,
        ViolationCode::InvalidTimestamp,
        ViolationCode::TimestampOutOfRange,
        ViolationCode::TooManyMedia,
        ViolationCode::InvalidUrl,
        ViolationCode::UnsupportedExtension,
        ViolationCode::PrivateHost,
        ViolationCode::InvalidValue,
    ];

    /// The word as it is published.
    pub fn as_str(self) -> &'static str {
        match self {
            ViolationCode::Missing => "missing",
            ViolationCode::WrongType => "wrong_type",
            ViolationCode::DuplicateField => "duplicate_field",
            ViolationCode::TooLong => "too_long",
            ViolationCode::ControlCharacter => "control_character",
            ViolationCode::InvalidTimestamp => "invalid_timestamp",
            ViolationCode::TimestampOutOfRange => "timestamp_out_of_range",
            ViolationCode::TooManyMedia => "too_many_media",
            ViolationCode::InvalidUrl => "invalid_url",
            ViolationCode::UnsupportedExtension => "unsupported_extension",
            ViolationCode::PrivateHost => "private_host",
            ViolationCode::InvalidValue => "invalid_value",
        }
    }
}

/// Collects violations so that all are reported at once.
#[derive(Debug, Default)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// Notes one broken rule.
    pub fn push(
        &mut self,
        field: impl Into<Cow<'static, str>>,
        code: ViolationCode,
        message: impl Into<Cow<'static, str>>,
    ) {
        self.0.push(Violation { field: field.into(), code, message: message.into() });
    }

    /// Notes the rule that `result` broke, or gives its value.
    pub fn check<T>(&mut self, result: Result<T, Violation>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(violation) => {
                self.0.push(violation);
                None
            }
        }
    }

    /// Whether no rule was broken.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The error that reports all of them; its message reads well alone.
    pub fn into_error(self, kind: Kind) -> Error {
        let message = self.0.iter().map(|v| v.message.as_ref()).collect::<Vec<_>>().join("; ");
        let mut error = Error::new(kind, message);
        error.0.violations = self.0;
        error
    }
}

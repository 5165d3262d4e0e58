//! What is wrong with a field: as values, so that each edge names the field as its callers know it.

use std::{borrow::Cow, fmt};

use super::{Error, Kind};

/// A field that a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// The end user.
    FromId,
    /// The message's id.
    MessageSid,
    /// When the user sent it.
    Timestamp,
    /// The text.
    MessageBody,
    /// The images.
    ImageUrls,
    /// The audios.
    AudioUrls,
    /// What is no part of a message, by its name on the wire.
    Argument(Cow<'static, str>),
}

impl Field {
    /// Those of a message, in the order of the published page, which is the order of the reported violations.
    pub const OF_A_MESSAGE: &'static [Field] =
        &[Field::FromId, Field::MessageSid, Field::Timestamp, Field::MessageBody, Field::ImageUrls, Field::AudioUrls];

    /// The name, of a message's field as the published page spells it.
    pub fn as_str(&self) -> &str {
        match self {
            Field::FromId => "from_id",
            Field::MessageSid => "message_sid",
            Field::Timestamp => "timestamp",
            Field::MessageBody => "message_body",
            Field::ImageUrls => "image_urls",
            Field::AudioUrls => "audio_urls",
            Field::Argument(name) => name,
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<&'static str> for Field {
    fn from(argument: &'static str) -> Self {
        Field::Argument(argument.into())
    }
}

impl From<String> for Field {
    fn from(argument: String) -> Self {
        Field::Argument(argument.into())
    }
}

/// One broken rule: which field, a stable word for machines, a text that says what to send instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field.
    pub field: Field,
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
    pub fn push(&mut self, field: impl Into<Field>, code: ViolationCode, message: impl Into<Cow<'static, str>>) {
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
        Error::new(kind, message).with_violations(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_collected_and_told_together() {
        let mut violations = Violations::default();
        assert!(violations.is_empty());
        assert_eq!(violations.check(Ok(5)), Some(5));
        assert!(violations.is_empty());
        violations.push("cursor", ViolationCode::InvalidValue, "First");
        let second = Violation { field: Field::Timestamp, code: ViolationCode::Missing, message: "second".into() };
        assert_eq!(violations.check::<()>(Err(second.clone())), None);
        assert!(!violations.is_empty());
        let error = violations.into_error(Kind::InvalidArgument);
        assert_eq!((error.kind(), error.public_message()), (Kind::InvalidArgument, "First; second"));
        assert_eq!(error.violations().get(1), Some(&second));
    }

    #[test]
    fn words_and_names_are_those_of_the_page_and_each_another() {
        let words: std::collections::BTreeSet<_> = ViolationCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(words.len(), ViolationCode::ALL.len());
        assert!(words.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')));
        let names: Vec<_> = Field::OF_A_MESSAGE.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["from_id", "message_sid", "timestamp", "message_body", "image_urls", "audio_urls"]);
        assert_eq!(Field::from("env".to_owned()), Field::from("env"));
        assert_eq!(Field::from("env").as_str(), "env");
    }
}

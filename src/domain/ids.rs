//! Who and which: organisation, environment, end user, message.

use std::{fmt, str::FromStr, sync::Arc};

use super::{Field, Violation, ViolationCode};

const MAX_ORG_BYTES: usize = 63;
const MAX_ID_BYTES: usize = 255;

/// An organisation: `[A-Za-z0-9][A-Za-z0-9_-]{0,62}`, case-sensitive, never registered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrgId(Arc<str>);

impl OrgId {
    /// Whether [`OrgId::new`] takes `text`.
    pub fn is_well_formed(text: &str) -> bool {
        text.len() <= MAX_ORG_BYTES
            && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    }

    /// Checks `text`.
    ///
    /// # Errors
    /// A violation of field `org_id` when the rule above is broken.
    pub fn new(text: &str) -> Result<Self, Violation> {
        if Self::is_well_formed(text) {
            Ok(Self(text.into()))
        } else {
            Err(Violation {
                field: "org_id".into(),
                code: ViolationCode::InvalidValue,
                message: "'org_id' must be 1 to 63 of A-Z, a-z, 0-9, '_' and '-', and begin with a letter or digit"
                    .into(),
            })
        }
    }

    /// The text as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `dev` or `prod`: two worlds of one organisation that never meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Environment {
    /// Development.
    Dev,
    /// Production.
    Prod,
}

impl Environment {
    /// Both.
    pub const ALL: [Environment; 2] = [Environment::Dev, Environment::Prod];

    /// The word in paths, keys and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Environment::Dev => "dev",
            Environment::Prod => "prod",
        }
    }
}

impl FromStr for Environment {
    type Err = Violation;

    fn from_str(text: &str) -> Result<Self, Violation> {
        match text {
            "dev" => Ok(Environment::Dev),
            "prod" => Ok(Environment::Prod),
            _ => Err(Violation {
                field: "env".into(),
                code: ViolationCode::InvalidValue,
                message: "'env' must be 'dev' or 'prod'".into(),
            }),
        }
    }
}

/// The end user in the caller's system: 1 to 255 bytes, no control characters, compared byte for byte.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FromId(Box<str>);

impl FromId {
    /// Checks `text`.
    ///
    /// # Errors
    /// A violation of field `from_id`.
    pub fn new(text: impl Into<Box<str>>) -> Result<Self, Violation> {
        checked_id(Field::FromId, text.into()).map(Self)
    }

    /// The text as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The message's id in the caller's system and the idempotency key: 1 to 255 bytes, no control characters,
/// compared byte for byte.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageSid(Box<str>);

impl MessageSid {
    /// Checks `text`.
    ///
    /// # Errors
    /// A violation of field `message_sid`.
    pub fn new(text: impl Into<Box<str>>) -> Result<Self, Violation> {
        checked_id(Field::MessageSid, text.into()).map(Self)
    }

    /// The text as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What identifies a message: two orgs, or `dev` and `prod` of one, never collide.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MessageKey {
    /// Whose message.
    pub org: OrgId,
    /// In which world.
    pub env: Environment,
    /// Which.
    pub sid: MessageSid,
}

/// Whose messages a list shows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sender {
    /// The organisation.
    pub org: OrgId,
    /// The environment.
    pub env: Environment,
    /// The end user.
    pub from_id: FromId,
}

fn checked_id(field: Field, text: Box<str>) -> Result<Box<str>, Violation> {
    let (code, message) = if text.is_empty() {
        (ViolationCode::Missing, format!("Missing '{field}'"))
    } else if text.len() > MAX_ID_BYTES {
        (ViolationCode::TooLong, format!("'{field}' has {} bytes in UTF-8; send at most {MAX_ID_BYTES}", text.len()))
    } else if text.chars().any(char::is_control) {
        (ViolationCode::ControlCharacter, format!("'{field}' has a control character; send it without"))
    } else {
        return Ok(text);
    };
    Err(Violation { field, code, message: message.into() })
}

impl fmt::Display for OrgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// An end user's id is personal, and a sid often holds one: `Debug` tells their lengths only.
impl fmt::Debug for FromId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FromId({} bytes)", self.0.len())
    }
}

impl fmt::Debug for MessageSid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageSid({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_organisation_has_1_to_63_of_some_letters_and_begins_with_no_sign() {
        let (longest, longer) = ("a".repeat(63), "a".repeat(64));
        for good in ["a", "Z", "9", "a-b_C", &longest] {
            assert_eq!(OrgId::new(good).map(|org| org.as_str().to_owned()), Ok(good.to_owned()));
            assert_eq!(OrgId::new(good).expect(good).to_string(), good);
        }
        for bad in ["", "-a", "_a", "a.b", "a b", "ä", "a/b", &longer] {
            let violation = OrgId::new(bad).expect_err(bad);
            assert_eq!((violation.field.as_str(), violation.code), ("org_id", ViolationCode::InvalidValue));
        }
    }

    #[test]
    fn an_environment_is_one_of_two_words() {
        for env in Environment::ALL {
            assert_eq!(env.as_str().parse(), Ok(env));
            assert_eq!(env.to_string(), env.as_str());
        }
        for bad in ["", "DEV", "staging"] {
            assert_eq!(bad.parse::<Environment>().expect_err(bad).field.as_str(), "env");
        }
    }

    #[test]
    fn an_id_has_1_to_255_bytes_and_no_control_character() {
        let (longest, longer) = ("ä".repeat(127) + "a", "ä".repeat(128));
        for good in [" ", "user_12345", "\u{a0}", &longest] {
            assert_eq!(FromId::new(good).expect(good).as_str(), good);
            assert_eq!(MessageSid::new(good).expect(good).as_str(), good);
        }
        for (bad, code) in [
            ("", ViolationCode::Missing),
            (longer.as_str(), ViolationCode::TooLong),
            ("a\u{7f}", ViolationCode::ControlCharacter),
            ("\u{85}", ViolationCode::ControlCharacter),
        ] {
            let from = FromId::new(bad).expect_err(bad);
            assert_eq!((from.field, from.code), (Field::FromId, code));
            let sid = MessageSid::new(bad).expect_err(bad);
            assert_eq!((sid.field, sid.code), (Field::MessageSid, code));
        }
    }
}

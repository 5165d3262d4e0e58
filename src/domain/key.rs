//! API keys as they are stored: of a key's text (`key_text.rs`) nothing but a hash of its secret.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Environment, OrgId, Origin, Rate, Scope, Scopes, Timestamp, Violation, ViolationCode, key_text::alphabet};

pub(super) const ID_CHARS: usize = 12;

/// A key's public name, 12 characters of `a-z2-7`; it may be logged.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub(super) Box<str>);

/// To whom a key belongs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeyOwner {
    /// One organisation in one environment.
    Org {
        /// The organisation.
        org: OrgId,
        /// The environment.
        env: Environment,
    },
    /// Internal services: every organisation and environment.
    Platform,
}

/// SHA-256 of a secret of 256 random bits; a slow hash would protect nothing more.
#[derive(Clone, Copy)]
pub struct SecretHash([u8; 32]);

/// A key as it is stored: everything but the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its public name.
    pub id: KeyId,
    /// To whom it belongs.
    pub owner: KeyOwner,
    /// What it may do.
    pub scopes: Scopes,
    /// How many messages it may submit in a time; `None` where the setting for every key decides.
    pub rate: Option<Rate>,
    /// The pages that may call with it, of a browser key, which has at least one; of any other key none, and the origin does not matter.
    pub origins: Vec<Origin>,
    /// What its secret must hash to.
    pub secret_hash: SecretHash,
    /// When it was created.
    pub created_at: Timestamp,
    /// From when on it is refused, if ever.
    pub expires_at: Option<Timestamp>,
    /// Since when it is refused, if it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl KeyRecord {
    /// The most origins of one key.
    pub const MOST_ORIGINS: usize = 16;

    /// Whether it is a browser key: it may be public, and so can nothing but submit, for pages of its origins.
    pub fn is_browser(&self) -> bool {
        !self.origins.is_empty()
    }

    /// Whether what it is given fits together.
    ///
    /// # Errors
    /// What does not, with the field as in a request for a key.
    pub fn check(&self) -> Result<(), Violation> {
        if self.scopes.is_empty() {
            let message = "A key needs at least one scope of 'submit', 'read', 'stream' and 'admin'";
            return Err(Violation { field: "scopes".into(), code: ViolationCode::Missing, message: message.into() });
        }
        if self.is_browser() {
            self.check_browser()?;
        }
        if self.rate.is_some() && !self.scopes.contains(Scope::Submit) {
            let message = "A rate limits submissions: leave it out, or give the key the scope 'submit'";
            return Err(Violation { field: "rate".into(), code: ViolationCode::InvalidValue, message: message.into() });
        }
        Ok(())
    }

    fn check_browser(&self) -> Result<(), Violation> {
        let violation = |field: &'static str, code, message: String| {
            Err(Violation { field: field.into(), code, message: message.into() })
        };
        if self.owner == KeyOwner::Platform {
            let message =
                "A browser key may be public: it belongs to one organisation and environment, never to the platform";
            return violation("platform", ViolationCode::InvalidValue, message.to_owned());
        }
        if let Some(scope) = self.scopes.iter().find(|scope| *scope != Scope::Submit) {
            let message = format!(
                "A browser key may be public: its only scope is 'submit'. For '{scope}' make another key, which stays on servers"
            );
            return violation("scopes", ViolationCode::InvalidValue, message);
        }
        if self.origins.len() > Self::MOST_ORIGINS {
            let message =
                format!("A browser key has at most {} origins; make another key for the rest", Self::MOST_ORIGINS);
            return violation("origins", ViolationCode::TooLong, message);
        }
        Ok(())
    }

    /// Whether the key is neither revoked nor expired at `now`.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|expiry| now < expiry)
    }
}

impl KeyId {
    /// Takes a key id as it stands in a key or in a list.
    pub fn new(text: &str) -> Option<Self> {
        let well_formed = text.len() == ID_CHARS && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'));
        well_formed.then(|| Self(text.into()))
    }

    /// A name for who has another name, always the same.
    pub fn of_name(name: &str) -> Self {
        let mut id = alphabet().encode(&Sha256::digest(name));
        id.truncate(ID_CHARS);
        Self(id.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SecretHash {
    pub(super) fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// Takes the 32 bytes of a stored hash.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// For the store.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SecretHash {}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::key_text::tests::{acme, browser_key, new_key};

    #[test]
    fn a_browser_key_belongs_to_one_organisation_and_does_nothing_but_submit() {
        assert_eq!(browser_key(acme(), &[Scope::Submit], 16).record.check(), Ok(()));
        for (key, field) in [
            (browser_key(acme(), &[Scope::Submit, Scope::Read], 1), "scopes"),
            (browser_key(acme(), &[Scope::Stream], 1), "scopes"),
            (browser_key(acme(), &[], 1), "scopes"),
            (browser_key(KeyOwner::Platform, &[Scope::Submit], 1), "platform"),
            (browser_key(acme(), &[Scope::Submit], 17), "origins"),
        ] {
            assert_eq!(key.record.check().expect_err(field).field, field.into());
        }
        assert_eq!(new_key(acme()).record.check(), Ok(()));
    }

    #[test]
    fn a_key_is_live_until_it_expires_or_is_revoked() {
        let at = |seconds| Timestamp::from_seconds(seconds).expect("in range");
        let mut record = new_key(acme()).record;
        assert!(record.is_live(at(5)));
        record.expires_at = Some(at(5));
        assert!(record.is_live(at(4)) && !record.is_live(at(5)));
        record.expires_at = None;
        record.revoked_at = Some(at(1));
        assert!(!record.is_live(at(2)));
    }

    #[test]
    fn an_id_has_12_letters_of_its_alphabet_and_a_name_has_always_the_same() {
        assert_eq!(KeyId::new("abcxyz234567").expect("good").to_string(), "abcxyz234567");
        for bad in ["", "abcxyz23456", "abcxyz2345678", "abcxyz23456A", "abcxyz234561", "abcxyz23456-"] {
            assert_eq!(KeyId::new(bad), None, "{bad}");
        }
        let id = KeyId::of_name("reader.example.org");
        assert!(KeyId::new(id.as_str()).is_some() && id == KeyId::of_name("reader.example.org"));
        assert_ne!(id, KeyId::of_name("reader.example.com"));
    }
}

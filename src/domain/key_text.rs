//! The text of a key, as its user holds it: `mw_<dev|prod|platform>_<key id>_<secret>`; that of a browser key, which may be public,
//! says so before its id: `mw_<dev|prod>_b_<key id>_<secret>`.

use std::fmt;

use data_encoding::{Encoding, Specification};

use super::{
    Environment, Error, KeyId, KeyOwner, KeyRecord, Origin, Rate, Scopes, SecretHash, Timestamp, key::ID_CHARS,
};

const PREFIX: &str = "mw";
/// What a browser key has before its id, which is longer.
const BROWSER: &str = "b";
const SECRET_BYTES: usize = 32;
const CHECKSUM_BYTES: usize = 4;
/// 36 bytes in groups of 5 bits, without padding.
const SECRET_CHARS: usize = ((SECRET_BYTES + CHECKSUM_BYTES) * 8).div_ceil(5);

/// A key that was just made: the record for the store and the text for its user, who alone will ever have it.
#[derive(Debug)]
pub struct NewKey {
    /// For the store.
    pub record: KeyRecord,
    /// For the user.
    pub text: KeyText,
}

/// The whole key as its user holds it.
pub struct KeyText(String);

/// A key that somebody presented: well formed, not yet looked up.
pub struct PresentedKey {
    /// Its public name.
    pub id: KeyId,
    secret: [u8; SECRET_BYTES],
    realm: Realm,
    is_browser: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Realm {
    Env(Environment),
    Platform,
}

impl NewKey {
    /// A fresh key.
    ///
    /// # Errors
    /// [`super::Kind::Internal`] when the machine gives no randomness.
    pub fn generate(
        owner: KeyOwner,
        scopes: Scopes,
        created_at: Timestamp,
        expires_at: Option<Timestamp>,
    ) -> Result<Self, Error> {
        Self::generate_for(Vec::new(), owner, scopes, created_at, expires_at)
    }

    /// A fresh browser key for pages of `origins`, or any other key where there are none.
    ///
    /// # Errors
    /// As [`NewKey::generate`].
    pub fn generate_for(
        origins: Vec<Origin>,
        owner: KeyOwner,
        scopes: Scopes,
        created_at: Timestamp,
        expires_at: Option<Timestamp>,
    ) -> Result<Self, Error> {
        let mut random = [0_u8; SECRET_BYTES + ID_CHARS];
        getrandom::fill(&mut random).map_err(|e| Error::internal(format!("no randomness: {e}")))?;
        let (secret, id) = random.split_at(SECRET_BYTES);
        let mut id = alphabet().encode(id);
        id.truncate(ID_CHARS);
        let realm = owner.realm();
        let mark = if origins.is_empty() { String::new() } else { format!("{BROWSER}_") };
        let head = format!("{PREFIX}_{realm}_{mark}{id}_");
        let mut tail = secret.to_vec();
        tail.extend_from_slice(&checksum(&head, secret));
        let text = KeyText(head + &alphabet().encode(&tail));
        let record = KeyRecord {
            id: KeyId(id.into()),
            owner,
            scopes,
            rate: None,
            origins,
            secret_hash: SecretHash::of(secret),
            created_at,
            expires_at,
            revoked_at: None,
        };
        Ok(Self { record, text })
    }

    /// The same key with a rate of its own.
    #[must_use]
    pub fn with_rate(mut self, rate: Option<Rate>) -> Self {
        self.record.rate = rate;
        self
    }
}

impl PresentedKey {
    /// Reads a key's text; `None` where it cannot be a key of this service, by its checksum too.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('_');
        let (prefix, realm, mark) = (parts.next()?, parts.next()?, parts.next()?);
        let is_browser = mark == BROWSER;
        let id = if is_browser { parts.next()? } else { mark };
        let tail = parts.next()?;
        if prefix != PREFIX || parts.next().is_some() || tail.len() != SECRET_CHARS {
            return None;
        }
        let realm = Realm::from_word(realm)?;
        let id = KeyId::new(id)?;
        let bytes = alphabet().decode(tail.as_bytes()).ok()?;
        let (secret, sum) = bytes.split_at_checked(SECRET_BYTES)?;
        let head = text.get(..text.len() - SECRET_CHARS)?;
        if sum != checksum(head, secret) {
            return None;
        }
        Some(Self { id, secret: secret.try_into().ok()?, realm, is_browser })
    }

    /// Whether its text says that it is a browser key, which is no secret.
    pub fn is_browser(&self) -> bool {
        self.is_browser
    }

    /// Whether this is the key of `record`: same secret, compared in constant time, and the realm and the kind that the text names.
    pub fn proves(&self, record: &KeyRecord) -> bool {
        let same_secret = SecretHash::of(&self.secret) == record.secret_hash;
        let same_kind = self.realm == record.owner.realm() && self.is_browser == record.is_browser();
        same_secret && self.id == record.id && same_kind
    }
}

impl KeyOwner {
    fn realm(&self) -> Realm {
        match self {
            KeyOwner::Org { env, .. } => Realm::Env(*env),
            KeyOwner::Platform => Realm::Platform,
        }
    }
}

impl Realm {
    fn from_word(word: &str) -> Option<Self> {
        match word {
            "platform" => Some(Realm::Platform),
            _ => word.parse().ok().map(Realm::Env),
        }
    }
}

impl KeyText {
    /// The key itself. Only for handing it to its user: never for a log.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Base32 of RFC 4648 in lower case without padding; made once.
pub(super) fn alphabet() -> &'static Encoding {
    static ENCODING: std::sync::OnceLock<Encoding> = std::sync::OnceLock::new();
    ENCODING.get_or_init(|| {
        let mut specification = Specification::new();
        specification.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
        #[expect(
            clippy::expect_used,
            reason = "32 distinct ASCII symbols are a valid alphabet; a test encodes with it"
        )]
        specification.encoding().expect("valid alphabet")
    })
}

fn checksum(head: &str, secret: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head.as_bytes());
    hasher.update(secret);
    hasher.finalize().to_be_bytes()
}

impl fmt::Display for Realm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Realm::Env(env) => env.as_str(),
            Realm::Platform => "platform",
        })
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyText(…)")
    }
}

impl fmt::Debug for PresentedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PresentedKey({}, …)", self.id)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{OrgId, Scope};

    pub(in crate::domain) fn new_key(owner: KeyOwner) -> NewKey {
        NewKey::generate(owner, Scopes::from_iter([Scope::Submit]), Timestamp::EPOCH, None).expect("randomness")
    }

    pub(in crate::domain) fn acme() -> KeyOwner {
        KeyOwner::Org { org: OrgId::new("acme").expect("valid"), env: Environment::Dev }
    }

    #[test]
    fn a_generated_key_proves_its_own_record_and_no_other() {
        for owner in [acme(), KeyOwner::Platform] {
            let key = new_key(owner.clone());
            let presented = PresentedKey::parse(key.text.reveal()).expect("well formed");
            assert!(presented.proves(&key.record));
            assert!(!presented.proves(&new_key(owner).record));
        }
        assert!(new_key(acme()).text.reveal().starts_with("mw_dev_"));
    }

    pub(in crate::domain) fn browser_key(owner: KeyOwner, scopes: &[Scope], origins: usize) -> NewKey {
        let origin = |number| Origin::parse(&format!("https://shop{number}.example")).expect("an origin");
        let scopes = scopes.iter().copied().collect();
        NewKey::generate_for((0..origins).map(origin).collect(), owner, scopes, Timestamp::EPOCH, None)
            .expect("randomness")
    }

    #[test]
    fn a_browser_key_says_so_in_its_text_and_proves_no_record_of_another_kind() {
        let key = browser_key(acme(), &[Scope::Submit], 1);
        let (text, mut record) = (key.text.reveal(), key.record.clone());
        assert!(text.starts_with(&format!("mw_dev_b_{}_", record.id)), "{text}");
        let presented = PresentedKey::parse(text).expect("well formed");
        assert!(presented.is_browser() && presented.proves(&record));
        record.origins.clear();
        assert!(!presented.proves(&record), "a store that lost the origins opens nothing");
        assert!(PresentedKey::parse(&text.replace("_b_", "_")).is_none(), "the mark is part of the checksum");
        let other = new_key(acme());
        let presented = PresentedKey::parse(other.text.reveal()).expect("well formed");
        let record = KeyRecord { origins: key.record.origins, ..other.record };
        assert!(!presented.is_browser() && !presented.proves(&record));
    }

    #[test]
    fn one_wrong_character_anywhere_is_caught_by_the_checksum() {
        let key = new_key(acme());
        let text = key.text.reveal();
        for position in 0..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes[position] = if bytes[position] == b'a' { b'b' } else { b'a' };
            let changed = String::from_utf8(bytes).expect("ASCII");
            assert!(PresentedKey::parse(&changed).is_none(), "{position}");
        }
    }

    #[test]
    fn debug_shows_neither_secret_nor_hash() {
        let key = new_key(acme());
        let secret = key.text.reveal().rsplit('_').next().expect("four parts").to_owned();
        let shown = format!("{key:?} {:?}", PresentedKey::parse(key.text.reveal()));
        assert!(!shown.contains(&secret), "{shown}");
    }

    #[test]
    fn a_right_checksum_makes_no_key_of_another_form() {
        let sealed = |head: &str| {
            let secret = [7; SECRET_BYTES];
            head.to_owned() + &alphabet().encode(&[secret.as_slice(), &checksum(head, &secret)].concat())
        };
        assert!(PresentedKey::parse(&sealed("mw_dev_abcdefghijkl_")).is_some());
        for bad in [
            "xx_dev_abcdefghijkl_",
            "mw_test_abcdefghijkl_",
            "mw_dev_abcdefghijk_",
            "mw_dev_abcdefghijkl_a_",
            "mw_dev_",
        ] {
            assert!(PresentedKey::parse(&sealed(bad)).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_key_proves_only_a_record_of_its_own_id_realm_and_secret() {
        let key = new_key(acme());
        let presented = PresentedKey::parse(key.text.reveal()).expect("well formed");
        let prod = KeyOwner::Org { org: OrgId::new("acme").expect("valid"), env: Environment::Prod };
        let other = new_key(acme()).record;
        assert!(!presented.proves(&KeyRecord { owner: prod, ..key.record.clone() }));
        assert!(!presented.proves(&KeyRecord { owner: KeyOwner::Platform, ..key.record.clone() }));
        assert!(!presented.proves(&KeyRecord { id: other.id.clone(), ..key.record.clone() }));
        assert!(!presented.proves(&KeyRecord { secret_hash: other.secret_hash, ..key.record.clone() }));
        assert_eq!(SecretHash::from_bytes(*key.record.secret_hash.as_bytes()), key.record.secret_hash);
        assert_ne!(other.secret_hash, key.record.secret_hash);
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused_without_a_panic(text in "(mw_(dev|prod|platform)_)?\\PC*") {
            let _ = PresentedKey::parse(&text);
        }
    }
}

//! API keys: `mw_<dev|prod|platform>_<key id>_<secret>`, of which only a hash of the secret is ever stored. A browser key, which may
//! be public, says so before its id: `mw_<dev|prod>_b_<key id>_<secret>`.

use std::fmt;

use data_encoding::{Encoding, Specification};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Environment, Error, OrgId, Origin, Rate, Scope, Scopes, Timestamp, Violation, ViolationCode};

const PREFIX: &str = "mw";
/// What a browser key has before its id, which is longer.
const BROWSER: &str = "b";
const ID_CHARS: usize = 12;
const SECRET_BYTES: usize = 32;
const CHECKSUM_BYTES: usize = 4;
/// 36 bytes in groups of 5 bits, without padding.
const SECRET_CHARS: usize = ((SECRET_BYTES + CHECKSUM_BYTES) * 8).div_ceil(5);

/// A key's public name, 12 characters of `a-z2-7`; it may be logged.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(Box<str>);

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
}

impl NewKey {
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
        let same_secret = SecretHash::of(&self.secret).0.ct_eq(&record.secret_hash.0);
        let same_kind = self.realm == record.owner.realm() && self.is_browser == record.is_browser();
        bool::from(same_secret) && self.id == record.id && same_kind
    }
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
    fn of(secret: &[u8]) -> Self {
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

impl KeyText {
    /// The key itself. Only for handing it to its user: never for a log.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Base32 of RFC 4648 in lower case without padding; made once.
fn alphabet() -> &'static Encoding {
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn new_key(owner: KeyOwner) -> NewKey {
        NewKey::generate(owner, Scopes::from_iter([Scope::Submit]), Timestamp::EPOCH, None).expect("randomness")
    }

    fn acme() -> KeyOwner {
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

    fn browser_key(owner: KeyOwner, scopes: &[Scope], origins: usize) -> NewKey {
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
    fn a_set_of_scopes_has_what_was_put_into_it_and_nothing_else() {
        assert!(Scopes::default().is_empty());
        for scope in Scope::ALL {
            let alone = Scopes::from_iter([scope]);
            assert!(Scope::ALL.into_iter().all(|other| alone.contains(other) == (other == scope)));
            assert!(!alone.is_empty() && alone.iter().eq([scope]));
            assert_eq!(Scopes::from_bits(alone.to_bits() | 0xf0), alone);
            assert_eq!((scope.as_str().parse(), scope.to_string().as_str()), (Ok(scope), scope.as_str()));
        }
        let all: Scopes = Scope::ALL.into_iter().collect();
        assert_eq!((all.to_bits(), Scopes::from_bits(15)), (15, all));
        assert_eq!("Submit".parse::<Scope>().expect_err("no scope").field.as_str(), "scopes");
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

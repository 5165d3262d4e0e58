//! API keys: `mw_<dev|prod|platform>_<key id>_<secret>`, of which only a hash of the secret is ever stored.

use std::{fmt, str::FromStr};

use data_encoding::{Encoding, Specification};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Environment, Error, OrgId, Rate, Timestamp, Violation, ViolationCode};

const PREFIX: &str = "mw";
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

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Submit messages.
    Submit,
    /// Look messages up and list them.
    Read,
    /// Follow the feed.
    Stream,
    /// Manage keys.
    Admin,
}

/// A set of scopes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

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
        let mut random = [0_u8; SECRET_BYTES + ID_CHARS];
        getrandom::fill(&mut random).map_err(|e| Error::internal(format!("no randomness: {e}")))?;
        let (secret, id) = random.split_at(SECRET_BYTES);
        let mut id = alphabet().encode(id);
        id.truncate(ID_CHARS);
        let realm = owner.realm();
        let head = format!("{PREFIX}_{realm}_{id}_");
        let mut tail = secret.to_vec();
        tail.extend_from_slice(&checksum(&head, secret));
        let text = KeyText(head + &alphabet().encode(&tail));
        let record = KeyRecord {
            id: KeyId(id.into()),
            owner,
            scopes,
            rate: None,
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
        let (prefix, realm, id, tail) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
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
        Some(Self { id, secret: secret.try_into().ok()?, realm })
    }

    /// Whether this is the key of `record`: same secret, compared in constant time, and the realm that the text names.
    pub fn proves(&self, record: &KeyRecord) -> bool {
        let same_secret = SecretHash::of(&self.secret).0.ct_eq(&record.secret_hash.0);
        bool::from(same_secret) && self.id == record.id && self.realm == record.owner.realm()
    }
}

impl KeyRecord {
    /// Whether what it is given fits together.
    ///
    /// # Errors
    /// What does not, with the field as in a request for a key.
    pub fn check(&self) -> Result<(), Violation> {
        if self.scopes.is_empty() {
            let message = "A key needs at least one scope of 'submit', 'read', 'stream' and 'admin'";
            return Err(Violation { field: "scopes".into(), code: ViolationCode::Missing, message: message.into() });
        }
        if self.rate.is_some() && !self.scopes.contains(Scope::Submit) {
            let message = "A rate limits submissions: leave it out, or give the key the scope 'submit'";
            return Err(Violation { field: "rate".into(), code: ViolationCode::InvalidValue, message: message.into() });
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

impl Scope {
    /// All scopes.
    pub const ALL: [Scope; 4] = [Scope::Submit, Scope::Read, Scope::Stream, Scope::Admin];

    /// The word in commands, files and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Submit => "submit",
            Scope::Read => "read",
            Scope::Stream => "stream",
            Scope::Admin => "admin",
        }
    }

    fn bit(self) -> u8 {
        match self {
            Scope::Submit => 1,
            Scope::Read => 2,
            Scope::Stream => 4,
            Scope::Admin => 8,
        }
    }
}

impl Scopes {
    /// Whether `scope` is in the set.
    pub fn contains(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// The scopes in the set.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set as one byte, for the store.
    pub fn to_bits(self) -> u8 {
        self.0
    }

    /// Takes what [`Scopes::to_bits`] gave; unknown bits of a later version grant nothing here.
    pub fn from_bits(bits: u8) -> Self {
        Scope::ALL.into_iter().filter(|scope| bits & scope.bit() != 0).collect()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
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

impl FromStr for Scope {
    type Err = Violation;

    fn from_str(word: &str) -> Result<Self, Violation> {
        Scope::ALL.into_iter().find(|scope| scope.as_str() == word).ok_or_else(|| Violation {
            field: "scopes".into(),
            code: ViolationCode::InvalidValue,
            message: "A scope must be 'submit', 'read', 'stream' or 'admin'".into(),
        })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
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

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
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

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused_without_a_panic(text in "(mw_(dev|prod|platform)_)?\\PC*") {
            let _ = PresentedKey::parse(&text);
        }
    }
}

//! The small state of the store: API keys, and the number of the oldest segment. It is what the records of kind *state* in
//! the log come to; each segment begins with a snapshot of it.
//!
//! A snapshot: version u8 (1), oldest segment u32, number of keys u32, then for each key its entry and when it was last
//! used i64 (microseconds, the least i64 for never). An entry: length of the id u8, the id, length of the record u16, the
//! record, which [`encode_key`] makes.
//!
//! The body of a state record, by its first byte:
//!
//! | | |
//! |---|---|
//! | 1 | a key as it is from now on: its entry |
//! | 2 | when keys were last used: number u16; for each the length of its id u8, the id, the time i64 |
//! | 3 | the oldest segment that is kept, u32 |
//! | 4 | the clock of acceptance went back: the time i64 that it goes on from |
//!
//! Numbers are little endian.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    domain::{Environment, KeyId, KeyOwner, KeyRecord, OrgId, Origin, Rate, Scopes, SecretHash, Timestamp},
    store::{
        ListedKey,
        record::{Damaged, Reader, text},
    },
};

const VERSION: u8 = 1;
const KEY: u8 = 1;
const USED: u8 = 2;
const OLDEST: u8 = 3;
const CLOCK: u8 = 4;
const NEVER: i64 = i64::MIN;

const TAG_EXPIRES: u8 = 1;
const TAG_REVOKED: u8 = 2;
const TAG_RATE: u8 = 3;
const TAG_ORIGIN: u8 = 4;

/// A snapshot larger than this takes no new keys.
const MAX_SNAPSHOT: usize = 4 * 1024 * 1024 - 64 * 1024;

/// A change of the state, as a record has it.
#[derive(Debug, Clone)]
pub enum Change {
    /// A key as it is from now on.
    Key(Box<KeyRecord>),
    /// When keys were last used.
    Used(Vec<(KeyId, Timestamp)>),
    /// The oldest segment that is kept.
    Oldest(u32),
    /// The clock of acceptance went back to this.
    Clock(Timestamp),
}

/// Why a change cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoChange {
    /// It is damaged.
    Damaged,
    /// It is of a later program.
    Newer,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct State {
    keys: BTreeMap<KeyId, ListedKey>,
    /// The oldest segment that is kept.
    pub oldest: u32,
    /// About how long the snapshot of it is.
    bytes: usize,
}

impl State {
    /// A new store's.
    pub fn new() -> Self {
        Self { oldest: 1, ..Self::default() }
    }

    /// The key with `id`.
    pub fn key(&self, id: &KeyId) -> Option<&KeyRecord> {
        self.keys.get(id).map(|key| &key.record)
    }

    /// All keys, or those of `org`, in the order of their ids.
    pub fn keys(&self, org: Option<&OrgId>) -> Vec<ListedKey> {
        let is_wanted = |key: &&ListedKey| match (&key.record.owner, org) {
            (_, None) => true,
            (KeyOwner::Org { org, .. }, Some(wanted)) => org == wanted,
            (KeyOwner::Platform, Some(_)) => false,
        };
        self.keys.values().filter(is_wanted).cloned().collect()
    }

    /// Whether there is room for another key.
    pub fn has_room(&self) -> bool {
        self.bytes < MAX_SNAPSHOT
    }

    /// What [`Change`] leads from here.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Key(record) => {
                let last_used_at = self.keys.get(&record.id).and_then(|key| key.last_used_at);
                let key = ListedKey { record: *record, last_used_at };
                self.bytes += entry_of(&key.record).len() + 8;
                self.keys.insert(key.record.id.clone(), key);
            }
            Change::Used(used) => {
                for (id, at) in used {
                    if let Some(key) = self.keys.get_mut(&id) {
                        key.last_used_at = Some(at);
                    }
                }
            }
            Change::Oldest(oldest) => self.oldest = self.oldest.max(oldest),
            Change::Clock(_) => {}
        }
    }

    /// Lets go of keys that ended longer ago than `retention`.
    pub fn forget(&mut self, now: Timestamp, retention: Duration) {
        self.keys.retain(|_, key| {
            let ended = key.record.revoked_at.into_iter().chain(key.record.expires_at).min();
            ended.is_none_or(|ended| ended.saturating_add(retention) > now)
        });
    }

    /// The snapshot's bytes.
    pub fn snapshot(&mut self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.oldest.to_le_bytes());
        // Fewer than fit into 4 MiB.
        bytes.extend_from_slice(&(self.keys.len() as u32).to_le_bytes());
        for key in self.keys.values() {
            bytes.extend_from_slice(&entry_of(&key.record));
            bytes.extend_from_slice(&key.last_used_at.map_or(NEVER, Timestamp::as_micros).to_le_bytes());
        }
        self.bytes = bytes.len();
        bytes
    }

    /// Reads what [`State::snapshot`] gave.
    ///
    /// # Errors
    /// [`NoChange`]; bytes of any kind give that and no panic.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, NoChange> {
        let mut reader = Reader(bytes);
        if reader.byte()? != VERSION {
            return Err(NoChange::Newer);
        }
        let (oldest, count) = (reader.u32()?, reader.u32()?);
        let mut keys = BTreeMap::new();
        for _ in 0..count {
            let record = read_entry(&mut reader)?;
            let used = i64::from_le_bytes(reader.array()?);
            keys.insert(record.id.clone(), ListedKey { record, last_used_at: Timestamp::from_micros(used) });
        }
        Ok(Self { keys, oldest, bytes: bytes.len() })
    }
}

impl Change {
    /// The oldest segment, of a change of that.
    pub fn oldest(&self) -> Option<u32> {
        match self {
            Change::Oldest(oldest) => Some(*oldest),
            Change::Key(_) | Change::Used(_) | Change::Clock(_) => None,
        }
    }

    /// The body of its record.
    pub fn to_body(&self) -> Vec<u8> {
        match self {
            Change::Key(record) => [&[KEY], entry_of(record).as_slice()].concat(),
            Change::Used(used) => {
                let used = used.get(..used.len().min(usize::from(u16::MAX))).unwrap_or_default();
                let mut bytes = vec![USED];
                bytes.extend_from_slice(&(used.len() as u16).to_le_bytes());
                for (id, at) in used {
                    put_id(&mut bytes, id);
                    bytes.extend_from_slice(&at.as_micros().to_le_bytes());
                }
                bytes
            }
            Change::Oldest(oldest) => [&[OLDEST], oldest.to_le_bytes().as_slice()].concat(),
            Change::Clock(time) => [&[CLOCK], time.as_micros().to_le_bytes().as_slice()].concat(),
        }
    }

    /// Reads what [`Change::to_body`] gave.
    ///
    /// # Errors
    /// [`NoChange`]; bytes of any kind give that and no panic.
    pub fn from_body(bytes: &[u8]) -> Result<Self, NoChange> {
        let mut reader = Reader(bytes);
        Ok(match reader.byte()? {
            KEY => Change::Key(Box::new(read_entry(&mut reader)?)),
            USED => {
                let count = u16::from_le_bytes(reader.array()?);
                let mut used = Vec::new();
                for _ in 0..count {
                    used.push((read_id(&mut reader)?, reader.timestamp()?));
                }
                Change::Used(used)
            }
            OLDEST => Change::Oldest(reader.u32()?),
            CLOCK => Change::Clock(reader.timestamp()?),
            _ => return Err(NoChange::Newer),
        })
    }
}

impl From<Damaged> for NoChange {
    fn from(_: Damaged) -> Self {
        NoChange::Damaged
    }
}

fn put_id(bytes: &mut Vec<u8>, id: &KeyId) {
    // A key's id is far shorter than 255 bytes.
    bytes.push(id.as_str().len() as u8);
    bytes.extend_from_slice(id.as_str().as_bytes());
}

fn read_id(reader: &mut Reader<'_>) -> Result<KeyId, Damaged> {
    KeyId::new(reader.id()?).ok_or(Damaged("a key's id breaks its rule"))
}

fn entry_of(record: &KeyRecord) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_id(&mut bytes, &record.id);
    let encoded = encode_key(record);
    // At most 63 bytes of an org, some 100 of fixed length, and 16 origins of some 300.
    bytes.extend_from_slice(&(encoded.len() as u16).to_le_bytes());
    bytes.extend_from_slice(&encoded);
    bytes
}

fn read_entry(reader: &mut Reader<'_>) -> Result<KeyRecord, NoChange> {
    let id = read_id(reader)?;
    let length = u16::from_le_bytes(reader.array()?);
    decode_key(&id, reader.bytes(length.into())?)
}

/// The stored bytes of a key's record: version u8 (1), owner u8 (0 platform, 1 dev, 2 prod), org (u8 length and bytes, empty
/// for the platform), scopes u8, hash of the secret 32 bytes, created i64; then optional parts, each tag u8, length u32,
/// the bytes: 1 expires i64, 2 revoked i64, 3 its own rate, as [`Rate`] is shown, 4 an origin of a
/// browser key, any number of times. A reader skips tags that it does not know.
pub fn encode_key(record: &KeyRecord) -> Vec<u8> {
    let (owner, org) = match &record.owner {
        KeyOwner::Platform => (0, ""),
        KeyOwner::Org { org, env: Environment::Dev } => (1, org.as_str()),
        KeyOwner::Org { org, env: Environment::Prod } => (2, org.as_str()),
    };
    // An org has at most 63 bytes.
    let mut bytes = vec![VERSION, owner, org.len() as u8];
    bytes.extend_from_slice(org.as_bytes());
    bytes.push(record.scopes.to_bits());
    bytes.extend_from_slice(record.secret_hash.as_bytes());
    bytes.extend_from_slice(&record.created_at.as_micros().to_le_bytes());
    for (tag, time) in [(TAG_EXPIRES, record.expires_at), (TAG_REVOKED, record.revoked_at)] {
        if let Some(time) = time {
            bytes.push(tag);
            bytes.extend_from_slice(&8_u32.to_le_bytes());
            bytes.extend_from_slice(&time.as_micros().to_le_bytes());
        }
    }
    if let Some(rate) = record.rate {
        put_part(&mut bytes, TAG_RATE, &rate.to_string());
    }
    for origin in &record.origins {
        put_part(&mut bytes, TAG_ORIGIN, origin.as_str());
    }
    bytes
}

fn put_part(bytes: &mut Vec<u8>, tag: u8, text: &str) {
    bytes.push(tag);
    // Some hundred bytes at most.
    bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

/// Reads what [`encode_key`] gave.
///
/// # Errors
/// [`NoChange`]; bytes of any kind give that and no panic.
pub fn decode_key(id: &KeyId, bytes: &[u8]) -> Result<KeyRecord, NoChange> {
    let mut reader = Reader(bytes);
    if reader.byte()? != VERSION {
        return Err(NoChange::Newer);
    }
    let owner = reader.byte()?;
    let org = reader.id()?;
    let env = match owner {
        0 => None,
        1 => Some(Environment::Dev),
        2 => Some(Environment::Prod),
        _ => return Err(NoChange::Newer),
    };
    let owner = match env {
        None => KeyOwner::Platform,
        Some(env) => KeyOwner::Org { org: OrgId::new(org).map_err(|_| NoChange::Damaged)?, env },
    };
    let scopes = Scopes::from_bits(reader.byte()?);
    let secret_hash = SecretHash::from_bytes(reader.array()?);
    let created_at = reader.timestamp()?;
    let (mut expires_at, mut revoked_at, mut rate, mut origins) = (None, None, None, Vec::new());
    while !reader.0.is_empty() {
        let tag = reader.byte()?;
        let length = reader.u32()?;
        let mut part = Reader(reader.bytes(length as usize)?);
        match tag {
            TAG_EXPIRES => expires_at = Some(part.timestamp()?),
            TAG_REVOKED => revoked_at = Some(part.timestamp()?),
            TAG_ORIGIN => origins.push(Origin::from_stored(text(part.0)?)),
            TAG_RATE => rate = Some(Rate::parse(text(part.0)?).ok_or(NoChange::Newer)?),
            _ => {}
        }
    }
    Ok(KeyRecord { id: id.clone(), owner, scopes, rate, origins, secret_hash, created_at, expires_at, revoked_at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{NewKey, Scope};

    #[test]
    fn a_snapshot_and_its_changes_read_as_they_were_written() {
        let mut state = State::default();
        for org in ["acme", "other"] {
            let owner = KeyOwner::Org { org: OrgId::new(org).expect("valid"), env: Environment::Prod };
            let expires = (org == "acme").then(|| Timestamp::from_seconds(99).expect("a time"));
            let scopes: Scopes = [Scope::Submit].into_iter().collect();
            let origins =
                ["https://a.example", "https://b.example:8443"].map(|text| Origin::parse(text).expect("an origin"));
            let origins = if org == "acme" { origins.to_vec() } else { Vec::new() };
            let mut key = NewKey::generate_for(origins, owner, scopes, Timestamp::EPOCH, expires).expect("a key");
            key.record.rate = (org == "other").then(|| Rate::parse("50/min burst 100").expect("a rate"));
            let id = key.record.id.clone();
            for change in [
                Change::Key(Box::new(key.record)),
                Change::Used(vec![(id, Timestamp::from_seconds(7).expect("a time"))]),
                Change::Oldest(3),
            ] {
                state.apply(Change::from_body(&change.to_body()).expect("whole"));
            }
        }
        let snapshot = state.snapshot();
        let again = State::from_snapshot(&snapshot).expect("whole");
        assert_eq!(again.keys(None), state.keys(None));
        assert_eq!((again.oldest, again.keys(None).len()), (3, 2));
        for length in 0..snapshot.len() {
            assert!(State::from_snapshot(&snapshot[..length]).is_err(), "{length}");
        }
        state.forget(Timestamp::from_seconds(200).expect("a time"), Duration::from_secs(100));
        assert_eq!(state.keys(None).len(), 1);
    }

    #[test]
    fn what_a_key_has_of_its_own_stands_behind_what_every_key_has_and_a_part_of_a_later_program_is_skipped() {
        let owner = KeyOwner::Org { org: OrgId::new("acme").expect("valid"), env: Environment::Dev };
        let plain = KeyRecord {
            id: KeyId::new("abcdefgh2345").expect("an id"),
            owner,
            scopes: [Scope::Submit].into_iter().collect(),
            rate: None,
            origins: Vec::new(),
            secret_hash: SecretHash::from_bytes([7; 32]),
            created_at: Timestamp::EPOCH,
            expires_at: None,
            revoked_at: None,
        };
        let before = [&[1, 1, 4], b"acme".as_slice(), &[1], &[7; 32], &[0; 8]].concat();
        assert_eq!(encode_key(&plain), before, "as ever");
        let origins = vec![Origin::parse("https://a.example").expect("an origin")];
        let own = KeyRecord { rate: Rate::parse("50/s"), origins, ..plain };
        let parts = [b"\x03\x04\x00\x00\x0050/s".as_slice(), b"\x04\x11\x00\x00\x00https://a.example"].concat();
        let bytes = encode_key(&own);
        assert_eq!(bytes, [before, parts].concat());
        assert_eq!(decode_key(&own.id, &bytes).as_ref(), Ok(&own));
        let later = [bytes, vec![200, 1, 0, 0, 0, 9]].concat();
        assert_eq!(decode_key(&own.id, &later), Ok(own));
    }

    #[test]
    fn an_origin_that_was_taken_once_stays_readable_whatever_is_taken_today() {
        let stored = "https://shop.example:443";
        assert!(Origin::parse(stored).is_err(), "of those that are not taken");
        let key = NewKey::generate_for(
            vec![Origin::from_stored(stored)],
            KeyOwner::Platform,
            [Scope::Submit].into_iter().collect(),
            Timestamp::EPOCH,
            None,
        );
        let record = key.expect("randomness").record;
        assert_eq!(decode_key(&record.id, &encode_key(&record)), Ok(record));
    }
}

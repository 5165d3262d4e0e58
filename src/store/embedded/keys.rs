//! API keys in the store.
//!
//! | key in `meta` | value |
//! |---|---|
//! | `k` and the key's id | the record below |
//! | `u` and the key's id | when it was last used, i64 microseconds, little endian |
//! | [`LAST`](super::index::LAST) | mutations u64, digest u64, CRC-32 u32 |
//!
//! A lost key, or worse a lost revocation, must not go unnoticed. So each change counts as one mutation and moves a
//! digest over all records, the wrapping sum of their XXH3-64; both are stored with the change, the count in the mark
//! too. The opening computes the digest again.
//!
//! The record, numbers little endian: version u8 (1), checksum u64 (XXH3-64 over the id and everything after it),
//! owner u8 (0 platform, 1 dev, 2 prod), org (u8 length and bytes, empty for the platform), scopes u8, hash of the
//! secret 32 bytes, created i64; then optional parts as in [`crate::store::record`]: 1 expires i64, 2 revoked i64.

use fjall::{OwnedWriteBatch, PersistMode};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::{
    engine::{Engine, failed},
    index::LAST,
};
use crate::{
    domain::{Environment, Error, KeyId, KeyOwner, KeyRecord, OrgId, Scopes, SecretHash, Timestamp},
    store::{
        ListedKey,
        record::{Damaged, Reader},
    },
};

const VERSION: u8 = 1;
const RECORD: u8 = b'k';
const USED: u8 = b'u';
const TAG_EXPIRES: u8 = 1;
const TAG_REVOKED: u8 = 2;

/// Stands for all records of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digest {
    /// Changes so far.
    pub mutations: u64,
    sum: u64,
}

/// What a change of keys comes to.
pub enum Change<T> {
    /// Nothing is to be written.
    None(T),
    /// This is, and then the answer holds.
    Batch(OwnedWriteBatch, T),
}

impl Digest {
    fn replace(&mut self, old: Option<(&[u8], &[u8])>, new: (&[u8], &[u8])) {
        self.mutations += 1;
        self.sum = self.sum.wrapping_sub(old.map_or(0, pair)).wrapping_add(pair(new));
    }

    /// For the store.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = [self.mutations.to_be_bytes(), self.sum.to_be_bytes()].concat();
        let sum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// Reads what [`Digest::to_bytes`] gave.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn read(bytes: &[u8]) -> Result<Self, Damaged> {
        let (body, sum) = bytes.split_last_chunk().ok_or(Damaged("the digest of the keys is too short"))?;
        if crc32fast::hash(body).to_be_bytes() != *sum {
            return Err(Damaged("the checksum of the digest of the keys does not match"));
        }
        let mut reader = Reader(body);
        Ok(Self { mutations: u64::from_be_bytes(reader.array()?), sum: u64::from_be_bytes(reader.array()?) })
    }

    /// The stored digest, and the one of the records that are there.
    ///
    /// # Errors
    /// What the engine cannot read, or a damaged digest.
    pub fn load(engine: &Engine) -> Result<(Self, Self), Error> {
        let stored = match engine.meta.get(LAST).map_err(failed)? {
            Some(bytes) => Self::read(&bytes).map_err(Error::internal)?,
            None => Self::default(),
        };
        let mut counted = Self { mutations: stored.mutations, sum: 0 };
        for guard in engine.meta.prefix([RECORD]) {
            let (key, value) = guard.into_inner().map_err(failed)?;
            counted.sum = counted.sum.wrapping_add(pair((&key, &value)));
        }
        Ok((stored, counted))
    }

    /// Makes what is there the truth, after a loss that the operator accepted.
    ///
    /// # Errors
    /// What the engine cannot write.
    pub fn store(self, engine: &Engine) -> Result<(), Error> {
        let mut batch = engine.db.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&engine.meta, LAST, self.to_bytes());
        batch.commit().map_err(failed)
    }
}

fn pair((key, value): (&[u8], &[u8])) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(key);
    hasher.update(value);
    hasher.digest()
}

/// Adds `record`.
pub fn create(digest: &mut Digest, engine: &Engine, record: &KeyRecord) -> Result<Change<()>, Error> {
    let key = place(RECORD, &record.id);
    if engine.meta.get(&key).map_err(failed)?.is_some() {
        return Err(Error::internal(format!("a key {} exists", record.id)));
    }
    Ok(Change::Batch(write(digest, engine, &key, None, record), ()))
}

/// Revokes a key; the first revocation's time stays.
pub fn revoke(
    digest: &mut Digest,
    engine: &Engine,
    id: &KeyId,
    at: Timestamp,
) -> Result<Change<Option<KeyRecord>>, Error> {
    let key = place(RECORD, id);
    let Some(old) = engine.meta.get(&key).map_err(failed)? else { return Ok(Change::None(None)) };
    let mut record = decode(id, &old).map_err(Error::internal)?;
    if record.revoked_at.is_some() {
        return Ok(Change::None(Some(record)));
    }
    record.revoked_at = Some(at);
    Ok(Change::Batch(write(digest, engine, &key, Some(&old), &record), Some(record)))
}

fn write(digest: &mut Digest, engine: &Engine, key: &[u8], old: Option<&[u8]>, record: &KeyRecord) -> OwnedWriteBatch {
    let value = encode(record);
    digest.replace(old.map(|old| (key, old)), (key, &value));
    let mut batch = engine.db.batch();
    batch.insert(&engine.meta, key, value);
    batch.insert(&engine.meta, LAST, digest.to_bytes());
    batch
}

/// Notes when keys were used, without waiting for the disk.
pub fn touch(engine: &Engine, used: &[(KeyId, Timestamp)]) -> Result<(), Error> {
    let mut batch = engine.db.batch().durability(Some(PersistMode::Buffer));
    for (id, at) in used {
        if engine.meta.get(place(RECORD, id)).map_err(failed)?.is_some() {
            batch.insert(&engine.meta, place(USED, id), at.as_micros().to_le_bytes());
        }
    }
    batch.commit().map_err(Error::store_unavailable)
}

/// The key with `id`.
pub fn get(engine: &Engine, id: &KeyId) -> Result<Option<KeyRecord>, Error> {
    let value = engine.meta.get(place(RECORD, id)).map_err(failed)?;
    value.map(|value| decode(id, &value).map_err(Error::internal)).transpose()
}

/// All keys, or those of `org`, in the order of their ids.
pub fn list(engine: &Engine, org: Option<&OrgId>) -> Result<Vec<ListedKey>, Error> {
    let mut keys = Vec::new();
    for guard in engine.meta.prefix([RECORD]) {
        let (key, value) = guard.into_inner().map_err(failed)?;
        let id = id_of(&key).ok_or_else(|| Error::internal(Damaged("a key's id breaks its rule")))?;
        let record = decode(&id, &value).map_err(Error::internal)?;
        let wanted = match (&record.owner, org) {
            (_, None) => true,
            (KeyOwner::Org { org, .. }, Some(wanted)) => org == wanted,
            (KeyOwner::Platform, Some(_)) => false,
        };
        if wanted {
            let used = engine.meta.get(place(USED, &id)).map_err(failed)?;
            let last_used_at = used
                .and_then(|used| used.as_ref().try_into().ok().map(i64::from_le_bytes))
                .and_then(Timestamp::from_micros);
            keys.push(ListedKey { record, last_used_at });
        }
    }
    Ok(keys)
}

fn place(kind: u8, id: &KeyId) -> Vec<u8> {
    [&[kind], id.as_str().as_bytes()].concat()
}

fn id_of(key: &[u8]) -> Option<KeyId> {
    KeyId::new(std::str::from_utf8(key.get(1..)?).ok()?)
}

/// The stored bytes of `record`.
pub fn encode(record: &KeyRecord) -> Vec<u8> {
    let (owner, org) = match &record.owner {
        KeyOwner::Platform => (0, ""),
        KeyOwner::Org { org, env: Environment::Dev } => (1, org.as_str()),
        KeyOwner::Org { org, env: Environment::Prod } => (2, org.as_str()),
    };
    // An org has at most 63 bytes.
    let mut rest = vec![owner, org.len() as u8];
    rest.extend_from_slice(org.as_bytes());
    rest.push(record.scopes.to_bits());
    rest.extend_from_slice(record.secret_hash.as_bytes());
    rest.extend_from_slice(&record.created_at.as_micros().to_le_bytes());
    for (tag, time) in [(TAG_EXPIRES, record.expires_at), (TAG_REVOKED, record.revoked_at)] {
        if let Some(time) = time {
            rest.push(tag);
            rest.extend_from_slice(&8_u32.to_le_bytes());
            rest.extend_from_slice(&time.as_micros().to_le_bytes());
        }
    }
    [&[VERSION], checksum(&record.id, &rest).to_le_bytes().as_slice(), &rest].concat()
}

/// Reads what [`encode`] gave.
///
/// # Errors
/// [`Damaged`]; bytes of any kind give that and no panic.
pub fn decode(id: &KeyId, bytes: &[u8]) -> Result<KeyRecord, Damaged> {
    let mut reader = Reader(bytes);
    if reader.byte()? != VERSION {
        return Err(Damaged("its version is unknown"));
    }
    if u64::from_le_bytes(reader.array()?) != checksum(id, reader.0) {
        return Err(Damaged("its checksum does not match"));
    }
    let owner = reader.byte()?;
    let org = reader.id()?;
    let env = match owner {
        0 => None,
        1 => Some(Environment::Dev),
        2 => Some(Environment::Prod),
        _ => return Err(Damaged("its owner is unknown")),
    };
    let owner = match env {
        None => KeyOwner::Platform,
        Some(env) => KeyOwner::Org { org: OrgId::new(org).map_err(|_| Damaged("an org breaks its rule"))?, env },
    };
    let scopes = Scopes::from_bits(reader.byte()?);
    let secret_hash = SecretHash::from_bytes(reader.array()?);
    let created_at = reader.timestamp()?;
    let (mut expires_at, mut revoked_at) = (None, None);
    while !reader.0.is_empty() {
        let tag = reader.byte()?;
        let length = u32::from_le_bytes(reader.array()?);
        let mut part = Reader(reader.bytes(length as usize)?);
        match tag {
            TAG_EXPIRES => expires_at = Some(part.timestamp()?),
            TAG_REVOKED => revoked_at = Some(part.timestamp()?),
            _ => {}
        }
    }
    Ok(KeyRecord { id: id.clone(), owner, scopes, secret_hash, created_at, expires_at, revoked_at })
}

fn checksum(id: &KeyId, rest: &[u8]) -> u64 {
    xxh3_64(&[id.as_str().as_bytes(), rest].concat())
}

//! Records about the store itself, in `meta` beside those of [`super::keys`].
//!
//! | key | value |
//! |---|---|
//! | `store` | format version u16 (1), id of the store 16 bytes, checksum u64 |
//! | `oldest` | oldest retained sequence u64, checksum u64 |
//! | `tick` | nothing; see [`Engine::release_tables`] |
//! | `gaps` | lost ranges, first and last u64 each, checksum u64 |
//!
//! Numbers are big endian; the checksum is XXH3-64 over the key and what stands before it.

use fjall::PersistMode;
use xxhash_rust::xxh3::Xxh3;

use super::{
    engine::{Engine, failed},
    gaps::Gaps,
    shared::StoreId,
};
use crate::{
    domain::Error,
    store::record::{Damaged, Reader},
};

/// The place of the oldest retained sequence.
pub const OLDEST: &[u8] = b"oldest";
/// A record that means nothing.
pub const TICK: &[u8] = b"tick";
const STORE: &[u8] = b"store";
const GAPS: &[u8] = b"gaps";
const FORMAT: u16 = 1;

/// The value of [`OLDEST`].
pub fn oldest_value(sequence: u64) -> Vec<u8> {
    seal(OLDEST, sequence.to_be_bytes().to_vec())
}

/// What `meta` says.
#[derive(Debug, Default)]
pub struct Meta {
    /// `None` in an engine that was just made.
    pub store: Option<StoreId>,
    pub oldest: u64,
    pub gaps: Gaps,
}

impl Meta {
    /// Reads it.
    ///
    /// # Errors
    /// What the engine cannot read, damage, or a format of a later version.
    pub fn load(engine: &Engine) -> Result<Self, Error> {
        let read = |key: &[u8]| -> Result<Option<Vec<u8>>, Error> {
            let value = engine.meta.get(key).map_err(failed)?;
            value.map(|value| unseal(key, &value).map(<[u8]>::to_vec).map_err(Error::internal)).transpose()
        };
        let store = read(STORE)?
            .map(|bytes| {
                let mut reader = Reader(&bytes);
                match reader.array().map(u16::from_be_bytes)? {
                    FORMAT => reader.array(),
                    _ => Err(Damaged("the store's format is of another version")),
                }
            })
            .transpose()
            .map_err(Error::internal)?;
        let oldest = read(OLDEST)?
            .map_or(Ok(1), |bytes| Reader(&bytes).array().map(u64::from_be_bytes))
            .map_err(Error::internal)?;
        let gaps = read(GAPS)?.map_or(Ok(Gaps::default()), |bytes| Gaps::read(&mut Reader(&bytes)));
        Ok(Self { store, oldest, gaps: gaps.map_err(Error::internal)? })
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// What the engine cannot write.
    pub fn store(&self, engine: &Engine) -> Result<(), Error> {
        let mut batch = engine.db.batch().durability(Some(PersistMode::SyncAll));
        if let Some(id) = self.store {
            batch.insert(&engine.meta, STORE, seal(STORE, [FORMAT.to_be_bytes().as_slice(), &id].concat()));
        }
        batch.insert(&engine.meta, OLDEST, oldest_value(self.oldest));
        batch.insert(&engine.meta, GAPS, seal(GAPS, self.gaps.to_bytes()));
        batch.commit().map_err(failed)
    }
}

fn seal(key: &[u8], mut value: Vec<u8>) -> Vec<u8> {
    let sum = checksum(key, &value);
    value.extend_from_slice(&sum.to_be_bytes());
    value
}

fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], Damaged> {
    let (body, sum) = value.split_last_chunk().ok_or(Damaged("a record of the store itself is too short"))?;
    if checksum(key, body).to_be_bytes() == *sum {
        Ok(body)
    } else {
        Err(Damaged("the checksum of a record of the store itself does not match"))
    }
}

fn checksum(key: &[u8], value: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(key);
    hasher.update(value);
    hasher.digest()
}

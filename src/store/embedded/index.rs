//! Keys and values of the indexes and of the records that are not messages.
//!
//! | keyspace | key | value |
//! |---|---|---|
//! | `messages` | sequence, u64 big endian | the record |
//! | `sids` | first 16 bytes of SHA-256 over org, env and sid, each with its length | sequence u64, CRC-32 u32 |
//! | `senders` | the same over org, env and `from_id`, then the sequence, u64 big endian | CRC-32 u32 |
//! | `sids`, `senders` | [`LAST`] | the last sequence this index knows u64, CRC-32 u32 |
//!
//! A CRC-32 covers the key and what stands before it in the value. [`LAST`] is shorter than any key of an entry, so no
//! look-up and no scan of entries meets it. `messages` needs no such record: the last key is the last sequence, and
//! retention always leaves that one.

use sha2::{Digest, Sha256};

use crate::{
    domain::{Environment, MessageKey, Sender},
    store::record::{Damaged, View},
};

/// The place of an index's last sequence.
pub const LAST: &[u8] = b"\xFFlast";

/// The first half of a SHA-256: nobody can make two keys with one hash, and 16 bytes keep the index small.
pub type Hash = [u8; 16];

const SENDER_KEY: usize = size_of::<Hash>() + 8;

/// The key of a sender's entry.
pub type SenderKey = [u8; SENDER_KEY];

/// The whole digest of a message's key: as good as the key itself where two are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyHash {
    /// What the index has it under.
    pub place: Hash,
    /// The other half.
    pub check: Hash,
}

/// The hash of a message's key.
pub fn key_hash(key: &MessageKey) -> KeyHash {
    let [place, check] = halves(b's', key.org.as_str(), key.env, key.sid.as_str());
    KeyHash { place, check }
}

/// The hash of a sender.
pub fn sender_hash(sender: &Sender) -> Hash {
    sender_hash_of(sender.org.as_str(), sender.env, sender.from_id.as_str())
}

pub(super) fn sid_hash_of(org: &str, env: Environment, sid: &str) -> Hash {
    let [place, _] = halves(b's', org, env, sid);
    place
}

pub(super) fn sender_hash_of(org: &str, env: Environment, from_id: &str) -> Hash {
    let [place, _] = halves(b'f', org, env, from_id);
    place
}

/// The hashes under which the indexes name the message of a record: of its key and of its sender.
pub fn hashes(record: &View<'_>) -> (Hash, Hash) {
    let (org, env, sid, from_id) = record.ids();
    (sid_hash_of(org, env, sid), sender_hash_of(org, env, from_id))
}

/// Both halves of the digest; indexes have the first.
fn halves(domain: u8, org: &str, env: Environment, id: &str) -> [Hash; 2] {
    let mut hasher = Sha256::new();
    hasher.update([domain]);
    for part in [org, env.as_str(), id] {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    let digest: [u8; 32] = hasher.finalize().into();
    let mut halves = [Hash::default(); 2];
    // Two times 16 of 32 bytes.
    for (half, bytes) in halves.iter_mut().zip(digest.chunks_exact(size_of::<Hash>())) {
        half.copy_from_slice(bytes);
    }
    halves
}

/// The value that names `sequence` under `key`, in `sids` and under [`LAST`].
pub fn sequence_value(key: &[u8], sequence: u64) -> [u8; 12] {
    let mut value = [0; 12];
    let (head, tail) = value.split_at_mut(8);
    head.copy_from_slice(&sequence.to_be_bytes());
    tail.copy_from_slice(&crc(key, head).to_be_bytes());
    value
}

/// Reads what [`sequence_value`] gave.
///
/// # Errors
/// [`Damaged`].
pub fn read_sequence(key: &[u8], value: &[u8]) -> Result<u64, Damaged> {
    let value: &[u8; 12] = value.try_into().map_err(|_| Damaged("an index entry has another length"))?;
    let (head, tail) = value.split_at(8);
    if crc(key, head).to_be_bytes() != *tail {
        return Err(Damaged("the checksum of an index entry does not match"));
    }
    head.try_into().map(u64::from_be_bytes).map_err(|_| Damaged("an index entry has another length"))
}

/// The key of a sender's entry for `sequence`.
pub fn sender_key(sender: &Hash, sequence: u64) -> SenderKey {
    let mut key = [0; SENDER_KEY];
    let (head, tail) = key.split_at_mut(size_of::<Hash>());
    head.copy_from_slice(sender);
    tail.copy_from_slice(&sequence.to_be_bytes());
    key
}

/// The value of a sender's entry.
pub fn sender_value(key: &SenderKey) -> [u8; 4] {
    crc(key, &[]).to_be_bytes()
}

/// Reads the sequence of a sender's entry.
///
/// # Errors
/// [`Damaged`].
pub fn read_sender(key: &[u8], value: &[u8]) -> Result<u64, Damaged> {
    let sequence = sender_sequence(key).ok_or(Damaged("an index entry has another length"))?;
    if crc(key, &[]).to_be_bytes() == *value {
        Ok(sequence)
    } else {
        Err(Damaged("the checksum of an index entry does not match"))
    }
}

/// The sequence in the key of a sender's entry; `None` for [`LAST`].
pub fn sender_sequence(key: &[u8]) -> Option<u64> {
    let key: &SenderKey = key.try_into().ok()?;
    key.last_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// The sequence in a key of `messages`.
///
/// # Errors
/// [`Damaged`].
pub fn read_message_key(key: &[u8]) -> Result<u64, Damaged> {
    key.try_into().map(u64::from_be_bytes).map_err(|_| Damaged("a message's key has another length"))
}

fn crc(key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(value);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_read_alike_when_joined_have_different_hashes() {
        let hash = |org, id| sid_hash_of(org, Environment::Dev, id);
        assert_ne!(hash("ab", "c"), hash("a", "bc"));
        assert_ne!(sid_hash_of("a", Environment::Dev, "b"), sid_hash_of("a", Environment::Prod, "b"));
        assert_ne!(sid_hash_of("a", Environment::Dev, "b"), sender_hash_of("a", Environment::Dev, "b"));
    }

    #[test]
    fn an_entry_under_another_key_or_with_a_changed_bit_is_damaged() {
        let value = sequence_value(&[1; 16], 7);
        assert_eq!(read_sequence(&[1; 16], &value), Ok(7));
        assert!(read_sequence(&[2; 16], &value).is_err());
        for bit in 0..value.len() * 8 {
            let mut changed = value;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(read_sequence(&[1; 16], &changed).is_err(), "{bit}");
        }
        let key = sender_key(&[3; 16], 9);
        assert_eq!(read_sender(&key, &sender_value(&key)), Ok(9));
        assert!(read_sender(&sender_key(&[3; 16], 10), &sender_value(&key)).is_err());
        assert_eq!(sender_sequence(LAST), None);
    }
}

//! What a process remembers of the keys that were accepted: enough to answer a duplicate without the database, and no
//! content.

use std::sync::atomic::{AtomicU32, Ordering};

use quick_cache::sync::Cache;
use sha2::{Digest as _, Sha256};

use crate::domain::{Fingerprint, MessageKey, Timestamp};

/// Stands for a key. SHA-256, for two keys with one digest would be one message.
pub type KeyDigest = [u8; 32];

/// A clear outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimSummary {
    /// When the message was accepted.
    pub accepted_at: Timestamp,
    /// The fingerprint of what was accepted; `None` where it was erased.
    pub fingerprint: Option<Fingerprint>,
}

/// Keys that were accepted, the most wanted of them, and how often the database is asked about such.
pub struct DedupCache {
    known: Cache<KeyDigest, ClaimSummary>,
    /// The share of duplicates among recent flights; [`WHOLE`] is all.
    duplicates: AtomicU32,
}

const WHOLE: u32 = 1 << 24;
/// Of the share so much is decided by the latest flight.
const LATEST: u32 = 64;
/// From this share on the claim is read first.
const MANY: u32 = WHOLE / 20;

/// The digest of `key`.
pub fn key_digest(key: &MessageKey) -> KeyDigest {
    let mut hasher = Sha256::new();
    for part in [key.org.as_str(), key.env.as_str(), key.sid.as_str()] {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().into()
}

impl DedupCache {
    /// Remembers up to `capacity` keys.
    pub fn new(capacity: usize) -> Self {
        Self { known: Cache::new(capacity), duplicates: AtomicU32::new(0) }
    }

    /// What is remembered.
    pub fn get(&self, digest: &KeyDigest) -> Option<ClaimSummary> {
        self.known.get(digest)
    }

    /// Remembers a clear outcome.
    pub fn keep(&self, digest: KeyDigest, known: ClaimSummary) {
        self.known.insert(digest, known);
    }

    /// Forgets what has lived as long as a claim does.
    pub fn forget(&self, digest: &KeyDigest) {
        self.known.remove(digest);
    }

    /// Takes the outcome of a flight into account.
    pub fn count(&self, duplicate: bool) {
        let latest = if duplicate { WHOLE / LATEST } else { 0 };
        // Best effort: of two at once one may be lost.
        let share = self.duplicates.load(Ordering::Relaxed);
        self.duplicates.store(share - share / LATEST + latest, Ordering::Relaxed);
    }

    /// Whether so many flights were about duplicates that reading first is cheaper than finding out by a claim.
    pub fn has_many_duplicates(&self) -> bool {
        self.duplicates.load(Ordering::Relaxed) > MANY
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Environment, MessageSid, OrgId};

    fn key(org: &str, env: Environment, sid: &str) -> MessageKey {
        MessageKey { org: OrgId::new(org).expect("valid"), env, sid: MessageSid::new(sid).expect("valid") }
    }

    #[test]
    fn keys_that_read_alike_when_joined_have_different_digests() {
        let digests = [
            key_digest(&key("ab", Environment::Dev, "c")),
            key_digest(&key("a", Environment::Dev, "bc")),
            key_digest(&key("ab", Environment::Prod, "c")),
        ];
        assert!(digests[0] != digests[1] && digests[0] != digests[2]);
    }

    #[test]
    fn it_holds_no_more_than_it_may() {
        let memory = DedupCache::new(100);
        let known = ClaimSummary { accepted_at: Timestamp::EPOCH, fingerprint: None };
        for number in 0..10_000 {
            memory.keep(key_digest(&key("a", Environment::Dev, &number.to_string())), known);
        }
        assert!(memory.known.len() <= 100);
    }

    #[test]
    fn one_duplicate_in_ten_is_many_and_one_in_a_hundred_is_not() {
        for (every, many) in [(10, true), (100, false)] {
            let memory = DedupCache::new(1);
            let seen: Vec<_> = (1..2000)
                .map(|number| {
                    memory.count(number % every == 0);
                    memory.has_many_duplicates()
                })
                .collect();
            assert_eq!(seen.iter().filter(|seen| **seen).count() > 1500, many, "one in {every}");
        }
        let memory = DedupCache::new(1);
        (0..1_000_000).for_each(|_| memory.count(true));
        (0..1_000).for_each(|_| memory.count(false));
        assert!(!memory.has_many_duplicates());
    }
}

//! To which shard of the feed a sender belongs, and to which slot a shard.

use xxhash_rust::xxh3::Xxh3;

use crate::domain::{Environment, Sender};

/// The name of the resolver's leases, one a slot.
pub const RESOLVER: &str = "resolver";

/// How many shards and slots there are; a constant of the keyspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharding {
    /// Shards of the feed, at least 1.
    pub shards: u16,
    /// Groups of shards, at least 1.
    pub slots: u16,
}

impl Sharding {
    /// The shard of a sender. Stored for ever: another hash would part a sender's messages.
    pub fn shard(self, org: &str, env: Environment, from_id: &str) -> i32 {
        let mut hasher = Xxh3::new();
        for part in [org, env.as_str(), from_id] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        let shards = u64::from(self.shards.max(1));
        // Below 2^16.
        (hasher.digest() % shards) as i32
    }

    /// The shard of `sender`.
    pub fn shard_of(self, sender: &Sender) -> i32 {
        self.shard(sender.org.as_str(), sender.env, sender.from_id.as_str())
    }

    /// The slot of a shard.
    pub fn slot(self, shard: i32) -> i32 {
        shard % i32::from(self.slots.max(1))
    }

    /// The shards of a slot.
    pub fn shards_of(self, slot: i32) -> impl Iterator<Item = i32> {
        (slot..i32::from(self.shards)).step_by(usize::from(self.slots.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_stays_in_the_shard_where_it_was() {
        let sharding = Sharding { shards: 64, slots: 8 };
        let shards = ["user_abc123", "user_äöü", "1"].map(|from| sharding.shard("acme", Environment::Prod, from));
        assert_eq!(shards, [53, 59, 5]);
        assert_ne!(sharding.shard("acme", Environment::Dev, "user_abc123"), shards[0]);
    }

    #[test]
    fn every_shard_is_in_one_slot() {
        let sharding = Sharding { shards: 10, slots: 4 };
        let mut all: Vec<_> =
            (0..4).flat_map(|slot| sharding.shards_of(slot).map(move |shard| (shard, slot))).collect();
        all.sort_unstable();
        assert_eq!(all.len(), 10);
        assert!(all.iter().all(|(shard, slot)| sharding.slot(*shard) == *slot));
    }
}

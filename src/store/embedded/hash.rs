//! What the index knows messages and senders by: the first 16 bytes of a SHA-256 over their parts, each with its length. A
//! fast hash would not do: whoever can make two keys with one hash makes the second an error of its owner's.

use sha2::{Digest, Sha256};

use super::index::Hash;
use crate::domain::{Environment, MessageKey, NewMessage, Sender};

/// The hash of a message's key.
pub fn of_key(key: &MessageKey) -> Hash {
    of_parts(b's', key.org.as_str(), key.env, key.sid.as_str())
}

/// The hash of a sender.
pub fn of_sender(sender: &Sender) -> Hash {
    of_parts(b'f', sender.org.as_str(), sender.env, sender.from_id.as_str())
}

/// The hash of the sender of `message`.
pub fn of_sender_of(message: &NewMessage) -> Hash {
    let key = message.key();
    of_parts(b'f', key.org.as_str(), key.env, message.content().from_id.as_str())
}

fn of_parts(kind: u8, org: &str, env: Environment, id: &str) -> Hash {
    let mut hasher = Sha256::new();
    // At most 63 bytes of an org and 255 of an id.
    let env = match env {
        Environment::Dev => 0,
        Environment::Prod => 1,
    };
    hasher.update([kind, env, org.len() as u8]);
    hasher.update(org);
    hasher.update([id.len() as u8]);
    hasher.update(id);
    let digest: [u8; 32] = hasher.finalize().into();
    digest.first_chunk().copied().unwrap_or_default()
}

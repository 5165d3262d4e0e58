//! What tells whether a retry carries the content that was accepted first.

use sha2::{Digest, Sha256};

use super::{Content, Media};

/// Written before the digest, so that another recipe can be told from this one.
const VERSION: u8 = 1;

/// A versioned SHA-256 over a message's content, `message_sid` excepted.
///
/// Of a media URL only scheme, host, port and path count: a bridge that signs a link again on a retry has not
/// changed the message. Instants count, not their spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; Fingerprint::LENGTH]);

impl Fingerprint {
    /// Bytes of a stored fingerprint: the version and the digest.
    pub const LENGTH: usize = 33;

    /// The fingerprint of `content`.
    pub fn of(content: &Content) -> Self {
        let mut hasher = Sha256::new();
        field(&mut hasher, content.from_id.as_str().as_bytes());
        field(&mut hasher, &content.timestamp.as_micros().to_be_bytes());
        optional(&mut hasher, content.body.as_deref());
        let (kind, url) = match &content.media {
            None => (0, None),
            Some(Media::Image(url)) => (1, Some(url)),
            Some(Media::Audio(url)) => (2, Some(url)),
        };
        hasher.update([kind]);
        optional(&mut hasher, url.map(|url| url.unsigned_part()).as_deref());
        let mut bytes = [VERSION; Self::LENGTH];
        // The digest has 32 bytes, so both sides of the copy are equally long.
        let (_, digest) = bytes.split_at_mut(1);
        digest.copy_from_slice(&hasher.finalize());
        Self(bytes)
    }

    /// Takes what [`Fingerprint::as_bytes`] gave.
    pub fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }

    /// For the store.
    pub fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    /// Whether both contents are the same; fingerprints of different versions cannot be compared and count as equal,
    /// for a caller must not be told of a difference that may not exist.
    pub fn matches(&self, other: &Fingerprint) -> bool {
        self.0.first() != other.0.first() || self.0 == other.0
    }
}

fn field(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update((bytes.len() as u64).to_be_bytes());
    hasher.update(bytes);
}

fn optional(hasher: &mut Sha256, text: Option<&str>) {
    hasher.update([u8::from(text.is_some())]);
    field(hasher, text.unwrap_or_default().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_cannot_be_compared_and_every_other_byte_counts() {
        let bytes: [u8; Fingerprint::LENGTH] = std::array::from_fn(|at| at as u8 + 7);
        let one = Fingerprint::from_bytes(bytes);
        assert_eq!(one.as_bytes(), &bytes);
        for at in 0..Fingerprint::LENGTH {
            let mut bytes = *one.as_bytes();
            bytes[at] = 2;
            assert_eq!(one.matches(&Fingerprint::from_bytes(bytes)), at == 0, "{at}");
        }
    }
}

//! Checksums. All but those of segment headers begin from the store's secret, so that no text of a message can be made to
//! look like a frame.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Random bytes of one store that all its checksums begin from. They are in segment headers and nowhere else.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret {
    low: u64,
    high: u64,
}

impl Secret {
    /// From the bytes in a segment header.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let whole = u128::from_le_bytes(bytes);
        // The halves.
        Self { low: whole as u64, high: (whole >> 64) as u64 }
    }

    /// As a segment header has it.
    pub fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.high) << 64 | u128::from(self.low)).to_le_bytes()
    }

    /// The checksum of `bytes` at `position`: the same bytes elsewhere have another.
    pub fn checksum(&self, position: u64, bytes: &[u8]) -> u64 {
        // Odd, so that each position gives another seed.
        xxh3_64_with_seed(bytes, self.low.wrapping_add(position.wrapping_mul(self.high | 1)))
    }

    /// The checksum of a body, which is known before the body has a position; its head binds it to one.
    pub fn body(&self, bytes: &[u8]) -> u64 {
        xxh3_64_with_seed(bytes, self.low)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

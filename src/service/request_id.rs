//! The id under which one call appears in its answer, in logs and in traces.

use std::{
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use data_encoding::HEXLOWER;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The header, and the metadata key on gRPC.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const MAX_BYTES: usize = 128;

/// 1 to 128 of `[A-Za-z0-9._:-]`: the caller's, or one of ours. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestId(Text);

#[derive(Clone, PartialEq, Eq)]
enum Text {
    Sent(HeaderValue),
    /// In place: most calls bring none, and each of them would allocate.
    Fresh([u8; 32]),
}

impl RequestId {
    /// The caller's id, if it sent a proper one.
    pub fn sent(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(&X_REQUEST_ID)?;
        let bytes = value.as_bytes();
        let proper = (1..=MAX_BYTES).contains(&bytes.len())
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(b));
        // Copied: as it came it is a piece of the whole head, which it would keep as long as the call lasts.
        proper.then(|| HeaderValue::from_bytes(bytes).ok()).flatten().map(|id| Self(Text::Sent(id)))
    }

    /// A fresh id of 32 hexadecimal digits: half of them random for the process, half a scrambled count.
    pub fn fresh() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        static SEED: OnceLock<[u64; 2]> = OnceLock::new();
        let [process, offset] = *SEED.get_or_init(|| uuid::Uuid::new_v4().as_u64_pair().into());
        let count = scramble(offset.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed)));
        let mut text = [0_u8; 32];
        let (head, tail) = text.split_at_mut(16);
        HEXLOWER.encode_mut(&process.to_be_bytes(), head);
        HEXLOWER.encode_mut(&count.to_be_bytes(), tail);
        Self(Text::Fresh(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Sent(value) => value.to_str().unwrap_or_default(),
            Text::Fresh(digits) => str::from_utf8(digits).unwrap_or_default(),
        }
    }

    /// For the header of an answer.
    pub fn to_header(&self) -> HeaderValue {
        match &self.0 {
            Text::Sent(value) => value.clone(),
            // Hexadecimal digits are a valid header value; the fallback is never reached.
            Text::Fresh(digits) => HeaderValue::from_bytes(digits).unwrap_or(HeaderValue::from_static("unknown")),
        }
    }
}

/// A bijection (the finaliser of SplitMix64): different counts give different ids that do not look like a count.
fn scramble(count: u64) -> u64 {
    let mut bits = count;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn fresh_ids_differ_and_are_proper_ids_themselves() {
        let ids: HashSet<_> = (0..1000).map(|_| RequestId::fresh().to_string()).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            let headers = HeaderMap::from_iter([(X_REQUEST_ID, id.parse().expect("header value"))]);
            assert_eq!(RequestId::sent(&headers).map(|id| id.to_string()), Some(id));
        }
    }

    #[test]
    fn only_1_to_128_plain_characters_are_taken_from_the_caller() {
        let taken = |value: &[u8]| {
            let headers = HeaderMap::from_iter([(X_REQUEST_ID, HeaderValue::from_bytes(value).expect("header value"))]);
            RequestId::sent(&headers).is_some()
        };
        assert!(taken(b"a") && taken(b"A-z_0.:9") && taken(&[b'x'; 128]));
        assert!(!taken(b"") && !taken(&[b'x'; 129]) && !taken(b"a b") && !taken(b"a/b") && !taken("ä".as_bytes()));
        assert_eq!(RequestId::sent(&HeaderMap::new()), None);
    }
}

//! Where a message stands in traces: the context of its submission, and a name that tells nothing else of it.

use std::{fmt, str::FromStr};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use sha2::{Digest, Sha256};

use super::MessageKey;

/// A W3C trace context: which trace, which span of it, and whether it is recorded. `tracestate` is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
}

const SAMPLED: u8 = 1;

impl TraceParent {
    /// The header of HTTP, the metadata key of gRPC.
    pub const HEADER: &'static str = "traceparent";
    /// Bytes of [`TraceParent::to_bytes`].
    pub const LENGTH: usize = 25;

    /// The span `span_id` of the trace `trace_id`; `None` where one of them is all zeros, which means "none".
    pub fn new(trace_id: [u8; 16], span_id: [u8; 8], is_sampled: bool) -> Option<Self> {
        let flags = if is_sampled { SAMPLED } else { 0 };
        (trace_id != [0; 16] && span_id != [0; 8]).then_some(Self { trace_id, span_id, flags })
    }

    /// Reads a header's value: version 00, or what a later version must begin with.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (head, rest) = text.split_at_checked(55)?;
        let (&[v1, v2, b'-', ref ids @ .., b'-', f1, f2], true) = (head, is_lower(head)) else { return None };
        let mut version = [0];
        HEXLOWER_PERMISSIVE.decode_mut(&[v1, v2], &mut version).ok()?;
        let is_whole = match version {
            [0xff] => false,
            [0] => rest.is_empty(),
            _ => rest.is_empty() || rest.starts_with(b"-"),
        };
        let (trace, span) = ids.split_at_checked(32)?;
        let span = span.strip_prefix(b"-")?;
        let (mut trace_id, mut span_id, mut flags) = ([0; 16], [0; 8], [0]);
        HEXLOWER.decode_mut(trace, &mut trace_id).ok()?;
        HEXLOWER.decode_mut(span, &mut span_id).ok()?;
        HEXLOWER.decode_mut(&[f1, f2], &mut flags).ok()?;
        let [flags] = flags;
        // Other flags mean nothing here and are not passed on.
        if is_whole { Self::new(trace_id, span_id, flags & SAMPLED != 0) } else { None }
    }

    /// The trace.
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace_id
    }

    /// The span.
    pub fn span_id(&self) -> [u8; 8] {
        self.span_id
    }

    /// Whether the trace is recorded.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The same, said not to be recorded.
    #[must_use]
    pub fn not_sampled(self) -> Self {
        Self { flags: 0, ..self }
    }

    /// For the store.
    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        let parts = self.trace_id.iter().chain(&self.span_id).chain(std::iter::once(&self.flags));
        bytes.iter_mut().zip(parts).for_each(|(byte, part)| *byte = *part);
        bytes
    }

    /// Reads what [`TraceParent::to_bytes`] gave.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (trace_id, rest) = bytes.split_first_chunk()?;
        let (span_id, flags) = rest.split_first_chunk()?;
        let &[flags] = flags else { return None };
        Self::new(*trace_id, *span_id, flags & SAMPLED != 0)
    }
}

fn is_lower(text: &[u8]) -> bool {
    !text.iter().any(u8::is_ascii_uppercase)
}

/// As a header's value, of version 00.
impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (HEXLOWER.encode(&self.trace_id), HEXLOWER.encode(&self.span_id));
        write!(f, "00-{trace}-{span}-{:02x}", self.flags)
    }
}

impl FromStr for TraceParent {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::parse(text.as_bytes()).ok_or(())
    }
}

impl MessageKey {
    /// A name of this key for logs and traces: the same for every retry on every replica, and nothing that the key could
    /// be read from. 16 hexadecimal digits of a SHA-256.
    pub fn fingerprint(&self) -> String {
        let mut hasher = Sha256::new_with_prefix(b"message-webhook message key\0");
        // Neither an organisation nor an environment has a zero byte, so nothing can be shifted from one to the next.
        for part in [self.org.as_str(), self.env.as_str(), self.sid.as_str()] {
            hasher.update(part);
            hasher.update([0]);
        }
        let digest = hasher.finalize();
        HEXLOWER.encode(digest.get(..8).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Environment, MessageSid, OrgId};

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_is_read_as_the_recommendation_has_it() {
        let good: TraceParent = GOOD.parse().expect("valid");
        assert_eq!((good.to_string().as_str(), good.is_sampled()), (GOOD, true));
        assert_eq!(TraceParent::from_bytes(&good.to_bytes()), Some(good));
        let unsampled = GOOD.replace("-01", "-00").parse::<TraceParent>().expect("valid");
        assert!(!unsampled.is_sampled());
        // Of a later version what is known is taken, and flags that are not known are left.
        let later = GOOD.replacen("00-", "cc-", 1) + "-what-comes-later";
        assert_eq!(later.parse(), Ok(good));
        assert_eq!(GOOD.replace("b7-01", "b7-ff").parse(), Ok(good));
        for bad in [
            String::new(),
            GOOD[..54].to_owned(),
            format!("{GOOD}-more"),
            format!("{GOOD} "),
            GOOD.to_uppercase(),
            GOOD.replacen("00-", "ff-", 1),
            GOOD.replacen("00-", "0x-", 1),
            GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            GOOD.replace("4bf9", "4bg9"),
            GOOD.replace('-', "_"),
            GOOD.replacen("00-", "cc-", 1) + "x",
            "ä".repeat(40),
        ] {
            assert_eq!(bad.parse::<TraceParent>(), Err(()), "{bad}");
        }
    }

    #[test]
    fn the_name_of_a_key_is_the_same_for_ever_and_differs_where_any_part_does() {
        let key = |org: &str, env, sid: &str| MessageKey {
            org: OrgId::new(org).expect("valid"),
            env,
            sid: MessageSid::new(sid).expect("valid"),
        };
        let name = key("acme", Environment::Dev, "msg_1").fingerprint();
        assert_eq!(name.len(), 16);
        assert_eq!(name, key("acme", Environment::Dev, "msg_1").fingerprint());
        assert_ne!(name, key("acme", Environment::Prod, "msg_1").fingerprint());
        assert_ne!(name, key("acme", Environment::Dev, "msg_2").fingerprint());
        assert_ne!(name, key("acm", Environment::Dev, "emsg_1").fingerprint());
    }

    #[test]
    fn a_context_comes_back_as_it_was_stored() {
        for is_sampled in [true, false] {
            let context = TraceParent::new([3; 16], [4; 8], is_sampled).expect("a context");
            assert_eq!((context.trace_id(), context.span_id(), context.is_sampled()), ([3; 16], [4; 8], is_sampled));
            assert_eq!(TraceParent::from_bytes(&context.to_bytes()), Some(context));
            assert_eq!(TraceParent::from_bytes(&context.to_bytes()[..24]), None);
            assert!(!context.not_sampled().is_sampled() && context.not_sampled().trace_id() == [3; 16]);
        }
        assert_eq!((TraceParent::new([0; 16], [4; 8], true), TraceParent::new([3; 16], [0; 8], true)), (None, None));
    }
}

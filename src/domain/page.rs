//! Pages: of a sender's messages, and how much any page may hold.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;

use super::{Message, Violation, ViolationCode};

/// Where a list goes on; opaque to everyone but the store that gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageToken(pub Box<[u8]>);

impl PageToken {
    /// Reads what `Display` wrote.
    ///
    /// # Errors
    /// A violation of field `page_token`.
    pub fn parse(text: &str) -> Result<Self, Violation> {
        decode("page_token", "This is no page token of this service; send one that it gave, or none", text).map(Self)
    }
}

/// One page of a sender's messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessagePage {
    /// The messages, the newest accepted first.
    pub messages: Vec<Message>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<PageToken>,
}

/// How much one page of a list or of the feed may hold. `messages` 0 is a page without messages, which goes on where it
/// began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit {
    /// At most this many messages.
    pub messages: usize,
    /// At most about this many bytes of stored messages.
    pub bytes: usize,
}

/// As callers get it: base64url without padding.
impl fmt::Display for PageToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

/// Reads what callers get of a token of bytes.
pub(super) fn decode(field: &'static str, problem: &'static str, text: &str) -> Result<Box<[u8]>, Violation> {
    match BASE64URL_NOPAD.decode(text.as_bytes()) {
        Ok(bytes) => Ok(bytes.into()),
        Err(_) => Err(Violation { field: field.into(), code: ViolationCode::InvalidValue, message: problem.into() }),
    }
}

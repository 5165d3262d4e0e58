//! The feed: where a reader stands in it, where it begins, and in which order it reads.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;

use super::{Message, Timestamp, Violation, page::decode};

/// A position in the feed; opaque to everyone but the store that gave it, at most 64
/// characters as callers get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub Box<[u8]>);

impl Cursor {
    /// Reads what `Display` wrote.
    ///
    /// # Errors
    /// A violation of field `cursor`.
    pub fn parse(text: &str) -> Result<Self, Violation> {
        decode("cursor", "This is no cursor of this service; send one that it gave, or begin elsewhere", text).map(Self)
    }
}

/// Where following the feed begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedFrom {
    /// At a position that is found when following begins.
    Start(FeedStart),
    /// Right after what the reader has seen.
    Cursor(Cursor),
}

/// In which order the feed is followed. A store on one machine has one order, which is both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedOrder {
    /// Each message as soon as it is accepted.
    Fast,
    /// The messages of one sender in the order of their acceptance; on a store of many replicas later by some seconds.
    Ordered,
}

/// A position in the feed that needs no cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedStart {
    /// Before the oldest message that is kept.
    Start,
    /// After the newest message that is accepted.
    Now,
    /// Before the first message accepted at or after this time.
    Time(Timestamp),
}

/// One page of the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedPage {
    /// The messages in the order of the feed.
    pub items: Vec<FeedItem>,
    /// Where the next page begins, also after an empty page.
    pub next: Cursor,
}

/// One message of the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedItem {
    /// The message.
    pub message: Message,
    /// A position to read on from after it. In [`FeedOrder::Fast`] on a store of many replicas that repeats some seconds.
    pub cursor: Cursor,
}

/// As callers get it: base64url without padding.
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

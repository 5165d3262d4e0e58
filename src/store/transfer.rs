//! What goes from one store to another, or into a backup and back.

use super::PageToken;
use crate::domain::Message;

/// One page of all that a store keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportPage {
    /// The messages.
    pub messages: Vec<Message>,
    /// Where the next page begins, now or later.
    pub next: PageToken,
    /// Stretches, or messages, that cannot be read; they are passed over.
    pub lost: u32,
    /// Whether there is nothing after it now.
    pub is_last: bool,
}

/// Who sees messages that are imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportInto {
    /// Whoever looks them up or lists them, and repetitions, which are known as duplicates. Readers of the feed do not.
    Messages,
    /// Readers of the feed, too.
    MessagesAndFeed,
}

/// What became of a message that was imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Imported {
    /// It is kept from now on.
    Taken,
    /// It was there already: the same acceptance of the same content.
    Present,
    /// Its key was accepted otherwise; what is there stays.
    Conflict,
    /// It is past its retention and was left out.
    Expired,
}

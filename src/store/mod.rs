//! What a store of messages promises, in the words of the domain; [`embedded`] keeps the promise on one machine.
//!
//! Every promise below has a named test in `tests/it/conformance/`, which runs against every store.

pub mod embedded;
mod observed;
mod record;
pub mod scylla;
mod transfer;

pub use observed::Observed;
#[cfg(any(test, fuzzing))]
pub(crate) use record::{Draft as RecordDraft, View as RecordView};
pub use transfer::{ExportPage, ImportInto, Imported};

pub use crate::domain::{
    Cursor, FeedFrom, FeedItem, FeedOrder, FeedPage, FeedStart, MessagePage, PageLimit, PageToken,
};

use async_trait::async_trait;

use crate::domain::{Error, Fingerprint, KeyId, KeyRecord, Message, MessageKey, NewMessage, OrgId, Sender, Timestamp};

/// All that a store does. Whoever needs only a part of it takes that part's trait.
///
/// Errors of every method of the parts: [`crate::domain::Kind::StoreUnavailable`] when the store cannot decide now (the
/// same call may be repeated), [`crate::domain::Kind::Internal`] for a bug or damage. "Missing" is never an error.
pub trait Store: MessageStore + FeedStore + KeyStore + TransferStore + Lifecycle {}

impl<T: MessageStore + FeedStore + KeyStore + TransferStore + Lifecycle> Store for T {}

/// Messages accepted exactly once, read back and listed.
#[async_trait]
pub trait MessageStore: Send + Sync + 'static {
    /// Accepts `message` unless one with its key was accepted within the retention time, or within a day after it: a
    /// database forgets by a clock of its own.
    ///
    /// Durability: both outcomes are answered only when the message they speak of is durable; from then on every
    /// reader sees it. Atomicity: of any number of concurrent or repeated calls with one key at most one is told
    /// [`Outcome::Accepted`]. Cancellation: dropping the future does not undo the call; the message may be accepted.
    /// After an error the message may or may not be accepted; a repeated call tells.
    async fn submit(&self, message: NewMessage) -> Result<Outcome, Error>;

    /// The message with `key`, or `None` when none was accepted within the retention time.
    async fn get(&self, key: &MessageKey) -> Result<Option<Message>, Error>;

    /// The messages of `sender`, the newest accepted first: within `limit`, after the place where `after` left off. A message
    /// larger than the byte limit comes alone.
    ///
    /// Messages accepted while a caller pages on do not shift the pages.
    ///
    /// # Errors
    /// [`crate::domain::Kind::InvalidArgument`] for a token that this store did not give.
    async fn list(&self, sender: &Sender, after: Option<&PageToken>, limit: PageLimit) -> Result<MessagePage, Error>;
}

/// The feed of all messages that are accepted.
#[async_trait]
pub trait FeedStore: Send + Sync + 'static {
    /// Follows the feed in `order`, beginning at `from`. All that was accepted before the call is there to be read.
    ///
    /// # Errors
    /// [`crate::domain::Kind::CursorExpired`] when messages after a cursor are past their retention,
    /// [`crate::domain::Kind::InvalidArgument`] for a cursor of another store.
    async fn follow(&self, from: FeedFrom, order: FeedOrder) -> Result<Box<dyn FeedFollower>, Error>;
}

/// One reader of the feed, and what the store remembers for it.
///
/// Every message that is accepted is delivered at least once, and a follower repeats none by itself. Each of its cursors
/// is good in either order: reading on from it, with another follower and on another replica too, misses no message.
#[async_trait]
pub trait FeedFollower: Send + 'static {
    /// The next messages within `limit`; an empty page when there are none yet. A message larger than the byte limit comes
    /// alone.
    ///
    /// Cancellation: dropping the future leaves the follower where it was, as an error does but for the one below.
    ///
    /// # Errors
    /// [`crate::domain::Kind::CursorExpired`] when retention has overtaken the follower;
    /// [`crate::domain::Kind::DataLoss`] at a message that cannot be read, with a cursor behind it in the text. Where that says whom
    /// it concerns ([`Error::concerns`]), the follower is behind it then, for all others. Those of every method.
    async fn next(&mut self, limit: PageLimit) -> Result<FeedPage, Error>;

    /// Returns when [`FeedFollower::next`] may have something, at once if it has already; returns too when the store
    /// closes.
    ///
    /// # Errors
    /// Those of every method.
    async fn grown(&mut self) -> Result<(), Error>;
}

/// The API keys.
#[async_trait]
pub trait KeyStore: Send + Sync + 'static {
    /// Stores a new key; it is durable when this returns.
    ///
    /// # Errors
    /// [`crate::domain::Kind::Internal`] when a key with this id exists, which random ids do not.
    async fn create_key(&self, key: KeyRecord) -> Result<(), Error>;

    /// The key with `id`, revoked or expired ones too.
    async fn key(&self, id: &KeyId) -> Result<Option<KeyRecord>, Error>;

    /// All keys, or those of `org`, in the order of their ids.
    async fn keys(&self, org: Option<&OrgId>) -> Result<Vec<ListedKey>, Error>;

    /// All keys as [`KeyStore::keys`] has them, in any order; when they were used is not looked up.
    async fn key_records(&self) -> Result<Vec<KeyRecord>, Error> {
        Ok(self.keys(None).await?.into_iter().map(|key| key.record).collect())
    }

    /// Revokes the key with `id` as of `at`; the first revocation's time stays. `None` when there is no such key.
    async fn revoke_key(&self, id: &KeyId, at: Timestamp) -> Result<Option<KeyRecord>, Error>;

    /// Notes when keys were last used. Best effort: a crash may lose the latest notes, and unknown ids are ignored.
    async fn touch_keys(&self, used: Vec<(KeyId, Timestamp)>) -> Result<(), Error>;
}

/// All messages out of a store, and into another.
#[async_trait]
pub trait TransferStore: Send + Sync + 'static {
    /// Everything that is kept, imported messages that are not in the feed too, in an order that stays the same: within
    /// `limit`, after the place where `after` left off. A message larger than the byte limit comes alone. What was removed
    /// since by its age is left out.
    ///
    /// # Errors
    /// [`crate::domain::Kind::InvalidArgument`] for a token that this method of this store did not give.
    async fn export(&self, after: Option<&PageToken>, limit: PageLimit) -> Result<ExportPage, Error>;

    /// Takes over messages that were accepted elsewhere or earlier, in the order given, and says of each what became of
    /// it. Each keeps the time of its acceptance, and is known as a duplicate for what is left of its retention. The feed
    /// has them only if `into` says so, and then after what it has already.
    ///
    /// Durable, atomic and cancelled as [`MessageStore::submit`] is; after an error any of them may have been taken, and
    /// the same call may be repeated.
    async fn import(&self, messages: Vec<Message>, into: ImportInto) -> Result<Vec<Imported>, Error>;
}

/// Whether a store can work, and its end.
#[async_trait]
pub trait Lifecycle: Send + Sync + 'static {
    /// Whether the store can accept and read now; the answer behind readiness.
    async fn check(&self) -> Result<(), Error>;

    /// Why this process can accept nothing any more, and must be restarted; `None` while it can. Asks no disk and no
    /// database.
    fn failure(&self) -> Option<String> {
        None
    }

    /// Follows the machine's clock from now on, where a step of it is not followed yet; says whether that was so. A store that goes
    /// by another clock has nothing to follow.
    ///
    /// # Errors
    /// [`crate::domain::Kind::StoreUnavailable`] after [`Lifecycle::close`].
    async fn trust_clock(&self) -> Result<bool, Error> {
        Ok(false)
    }

    /// Finishes what was submitted, makes it durable and releases the store. Later calls to other methods give
    /// [`crate::domain::Kind::StoreUnavailable`].
    async fn close(&self) -> Result<(), Error>;
}

/// What became of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// This call's message was accepted.
    Accepted(Acceptance),
    /// A message with this key was accepted before; it stays as it was.
    Duplicate {
        /// The first acceptance.
        first: Acceptance,
        /// The fingerprint of what was accepted first; `None` when its content was erased.
        fingerprint: Option<Fingerprint>,
    },
}

/// The times of an acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acceptance {
    /// When the message was accepted.
    pub accepted_at: Timestamp,
    /// Until when a repetition is known as a duplicate: `accepted_at` plus the retention time.
    pub duplicates_until: Timestamp,
}

/// A key as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedKey {
    /// The key.
    pub record: KeyRecord,
    /// When it was last used, to the minute or so; `None` for never.
    pub last_used_at: Option<Timestamp>,
}

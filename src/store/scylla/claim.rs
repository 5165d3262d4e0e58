//! The claim of a key: the one row that says which attempt was accepted.

use scylla::value::CqlTimeuuid;
use uuid::Uuid;

use super::{core::Core, error::Failed, lwt::Row, ticks};
use crate::{
    domain::{Environment, Fingerprint, FromId, Message, MessageKey, NewMessage, Timestamp},
    store::record::{Draft, View},
};

/// All that the claim of one attempt holds; the references hold the same.
pub struct Claim {
    /// What identifies the message.
    pub key: MessageKey,
    /// The attempt.
    pub attempt: Uuid,
    /// When the message was accepted, if this attempt is.
    pub accepted_at: Timestamp,
    /// The end user.
    pub from_id: FromId,
    /// The content's fingerprint.
    pub fingerprint: Fingerprint,
    /// The record of the message; whoever rolls it forward copies it and never reads it.
    pub message: Vec<u8>,
}

/// A claim as it was found.
pub struct ClaimHead {
    /// The attempt that was accepted.
    pub attempt: Uuid,
    /// When.
    pub accepted_at: Timestamp,
    /// The content's fingerprint; `None` where the content was erased.
    pub fingerprint: Option<Fingerprint>,
}

impl Claim {
    /// The claim of `attempt` for `message`.
    pub fn new(message: &NewMessage, attempt: Uuid) -> Self {
        Self::imported(message, attempt, ticks::time(ticks::of(attempt)))
    }

    /// The claim of `attempt` for `message`, which was accepted at another time.
    pub fn imported(message: &NewMessage, attempt: Uuid, accepted_at: Timestamp) -> Self {
        let ticks = ticks::of(attempt);
        Self {
            key: message.key().clone(),
            attempt,
            accepted_at,
            from_id: message.content().from_id.clone(),
            fingerprint: *message.fingerprint(),
            // Never negative.
            message: Draft::new(message).finish(ticks as u64, accepted_at),
        }
    }

    /// The values of [`super::cql::Statements::claim`].
    pub fn values(&self) -> (&str, &'static str, &str, CqlTimeuuid, i64, &str, &[u8], &[u8]) {
        (
            self.key.org.as_str(),
            self.key.env.as_str(),
            self.key.sid.as_str(),
            self.attempt.into(),
            self.accepted_at.as_micros(),
            self.from_id.as_str(),
            self.fingerprint.as_bytes().as_slice(),
            &self.message,
        )
    }
}

impl ClaimHead {
    /// Reads the row of a claim.
    ///
    /// # Errors
    /// A row without attempt or time, which nothing makes.
    pub fn read(row: &Row) -> Result<Self, Failed> {
        let attempt = row.timeuuid("attempt_id").ok_or_else(|| Failed::malformed("a claim has no attempt"))?;
        let accepted_at = row
            .bigint("accepted_at")
            .and_then(Timestamp::from_micros)
            .ok_or_else(|| Failed::malformed("a claim has no time"))?;
        let fingerprint = row.blob("fingerprint").and_then(|bytes| bytes.try_into().ok()).map(Fingerprint::from_bytes);
        Ok(Self { attempt, accepted_at, fingerprint })
    }
}

/// The values that name a claim.
pub fn primary_key(key: &MessageKey) -> (&str, &'static str, &str) {
    (key.org.as_str(), key.env.as_str(), key.sid.as_str())
}

/// The message of a claim's row; `None` where its content was erased.
///
/// # Errors
/// For bytes that are damaged, of a later version of this program, or of another message.
pub fn message(key: &MessageKey, row: &Row) -> Result<Option<Message>, Failed> {
    let found = ClaimHead::read(row)?;
    let Some(bytes) = row.blob("message") else { return Ok(None) };
    let malformed = |error: &dyn std::fmt::Display| Failed::malformed(error.to_string());
    // Never negative: 60 bits.
    let view = View::read(ticks::of(found.attempt) as u64, bytes).map_err(|error| malformed(&error))?;
    if !view.has_key(key) {
        return Err(Failed::malformed("a claim holds the record of another message"));
    }
    let mut message = view.to_message().map_err(|error| malformed(&error))?;
    // An import keeps the original time in its column.
    message.accepted_at = found.accepted_at;
    Ok(Some(message))
}

impl Core {
    /// The row of the claim of `key` with its contents, at quorum. A row is final; absence is inconclusive.
    ///
    /// # Errors
    /// As the driver's error is classified.
    pub async fn claim(&self, key: &MessageKey) -> Result<Option<Row>, Failed> {
        let rows = self.read(&self.cql.read_claim, primary_key(key)).await?;
        rows.maybe_first_row::<Row>().map_err(|error| Failed::malformed(error.to_string()))
    }

    /// Writes the reference by which readers of the feed find `claim`. At the time of the attempt, as the sender's: so a
    /// repetition, a stuck write or a roll-forward is the same write.
    ///
    /// # Errors
    /// As the driver's error is classified.
    pub async fn write_feed_row(&self, claim: &Claim) -> Result<(), Failed> {
        let ticks = ticks::of(claim.attempt);
        let (org, env, sid, attempt, accepted_at, from_id, fingerprint, message) = claim.values();
        let partition = (self.sharding.shard(org, claim.key.env, from_id), ticks::bucket(ticks));
        let written_at = ticks::micros(ticks);
        let values =
            (partition.0, partition.1, attempt, org, env, sid, accepted_at, from_id, fingerprint, message, written_at);
        self.write(&self.cql.insert_feed, values).await
    }

    /// Writes the reference by which the list of its sender finds `claim`.
    ///
    /// # Errors
    /// As the driver's error is classified.
    pub async fn write_sender_row(&self, claim: &Claim) -> Result<(), Failed> {
        let ticks = ticks::of(claim.attempt);
        let (org, env, sid, attempt, _, from_id, ..) = claim.values();
        let values = (org, env, from_id, ticks::period(ticks), attempt, sid, ticks::micros(ticks));
        self.write(&self.cql.insert_sender, values).await
    }

    /// The claim of `key` without its contents, at quorum. What is there is final; absence is inconclusive.
    ///
    /// # Errors
    /// As the driver's error is classified.
    pub async fn claim_head(&self, key: &MessageKey) -> Result<Option<ClaimHead>, Failed> {
        let rows = self.read(&self.cql.read_claim_head, primary_key(key)).await?;
        let row = rows.maybe_first_row::<Row>().map_err(|error| Failed::malformed(error.to_string()))?;
        row.as_ref().map(ClaimHead::read).transpose()
    }
}

/// The environment that is stored as `word`.
pub fn environment(word: &str) -> Option<Environment> {
    word.parse().ok()
}

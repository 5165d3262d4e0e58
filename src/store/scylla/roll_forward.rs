//! Finishing what a submission left half done: a reference without its claim is made good, and then claimed.
//!
//! The claim comes from the reference's own row, bytes and all, by the same conditional write as the submission's. So it
//! does not matter who comes first, or how often; and a process that was deposed meanwhile does no harm with it.

use scylla::value::CqlTimeuuid;
use tokio::time::Instant;

use super::{
    claim::Claim,
    core::Core,
    error::Failed,
    lwt::{Decision, Row},
    repeat,
    scan::Reference,
    ticks,
};
use crate::domain::{Fingerprint, FromId, Timestamp};

/// What became of a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollForward {
    /// Its message is accepted by it.
    Claimed,
    /// The message was accepted by another attempt.
    Orphan,
}

impl Core {
    /// The claim that a reference would have; `None` when its row is not there, so that nobody could ever deliver it.
    ///
    /// # Errors
    /// As the driver's errors are classified.
    pub async fn claim_of(&self, reference: &Reference) -> Result<Option<Claim>, Failed> {
        let bucket = ticks::bucket(reference.attempt.ticks);
        let id = CqlTimeuuid::from(reference.attempt.id);
        let rows = self.read(&self.cql.read_feed, (reference.shard, bucket, id)).await?;
        let row = rows.maybe_first_row::<Row>().map_err(|error| Failed::malformed(error.to_string()))?;
        row.map(|row| read(reference, &row).ok_or_else(|| Failed::malformed("a reference lacks a column"))).transpose()
    }

    /// Writes both references of a claim again, until a quorum has them or `until` has passed.
    ///
    /// # Errors
    /// As the driver's errors are classified.
    pub async fn write_references(&self, claim: &Claim, until: Instant) -> Result<(), Failed> {
        let feed = repeat::until(until, || self.write_feed_row(claim), |_| {});
        let sender = repeat::until(until, || self.write_sender_row(claim), |_| {});
        tokio::try_join!(feed, sender)?;
        Ok(())
    }

    /// Claims the message for the reference's attempt, again and again until it is clear whose it is or `until` has passed.
    ///
    /// # Errors
    /// When it is not clear by then, and for bugs.
    pub async fn roll_forward(&self, claim: &Claim, until: Instant, unclear: impl Fn()) -> Result<RollForward, Failed> {
        let values = claim.values();
        let claiming = repeat::until(until, || self.decide(&self.cql.claim, &values), |_| unclear());
        match claiming.await? {
            Decision::Applied => Ok(RollForward::Claimed),
            Decision::Refused(row) => {
                // An earlier try of ours, or of the submission itself.
                let is_mine = row.timeuuid("attempt_id") == Some(claim.attempt);
                Ok(if is_mine { RollForward::Claimed } else { RollForward::Orphan })
            }
        }
    }
}

fn read(reference: &Reference, row: &Row) -> Option<Claim> {
    Some(Claim {
        key: reference.key.clone(),
        attempt: reference.attempt.id,
        accepted_at: row.bigint("accepted_at").and_then(Timestamp::from_micros)?,
        from_id: row.text("from_id").and_then(|text| FromId::new(text).ok())?,
        fingerprint: row.blob("fingerprint").and_then(|bytes| bytes.try_into().ok()).map(Fingerprint::from_bytes)?,
        message: row.blob("message")?.to_vec(),
    })
}

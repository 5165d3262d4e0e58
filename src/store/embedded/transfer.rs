//! Out of the store and into it, with the times of acceptance.
//!
//! An imported message gets the next sequence, as any other does, and the time of its place never goes back. So in a store
//! that was empty an import in the order of acceptance makes the store that was exported; in one that was not, imported
//! messages stand, in lists and in the feed, where they were imported, and the space of each is given back with its
//! neighbours'. Until when it is known stays a matter of its acceptance alone.

use std::sync::atomic::Ordering;

use tokio::{runtime::Handle, sync::oneshot};

use super::{
    engine::Engine,
    feed::{decode, encode, is_contiguous, removed_or_damaged},
    index,
    queue::{Import, Opening, Submission},
    shared::Shared,
};
use crate::{
    domain::{Error, Fingerprint, Message, NewMessage, Timestamp, ViolationCode},
    store::{
        ExportPage, Imported, Outcome, PageLimit, PageToken,
        record::{Draft, View},
    },
    telemetry::trace,
};

const EXPORTED: u8 = b'e';

/// What a submission is told at once, or the place where the writer's answer is awaited.
pub enum Queued {
    Known(Outcome),
    Waits { opening: Option<Opening>, answer: oneshot::Receiver<Result<Outcome, Error>> },
}

impl Queued {
    /// The answer.
    pub async fn outcome(self) -> Result<Outcome, Error> {
        match self {
            Queued::Known(outcome) => Ok(outcome),
            Queued::Waits { opening, answer } => {
                if let Some(opening) = opening {
                    opening.open_after_others().await;
                }
                answer.await.map_err(|_| Error::store_unavailable("the writer ended before it answered"))?
            }
        }
    }
}

/// Looks a message up, and lets it wait for the writer if it is not known.
pub fn queue(shared: &Shared, message: NewMessage, import: Option<Import>, runtime: Handle) -> Result<Queued, Error> {
    shared.check_acceptance()?;
    // First: what is known from memory would outlive the engine.
    let engine = shared.engine()?;
    let hash = index::key_hash(message.key());
    // Read before both look-ups: what is accepted later than this, the writer knows.
    let durable = shared.durable();
    let checked = match shared.find_recent(&hash, || shared.clock.now())? {
        Some(known) if known.sequence <= durable => {
            return Ok(Queued::Known(shared.duplicate(known.accepted_at, known.fingerprint)));
        }
        // Of a group that is about to be durable: the writer answers with it.
        Some(_) => 0,
        None => {
            let duplicate = |view: View<'_>| Ok(shared.duplicate(view.accepted_at, view.fingerprint));
            if let Some(known) = shared.find_indexed(&engine, &hash, message.key(), durable, duplicate)? {
                return Ok(Queued::Known(known));
            }
            durable
        }
    };
    let (reply, answer) = oneshot::channel();
    let (key, from_id) = (message.key(), &message.content().from_id);
    let opening = shared.queue.submit(Submission {
        sender: index::sender_hash_of(key.org.as_str(), key.env, from_id.as_str()),
        fingerprint: *message.fingerprint(),
        draft: Draft::new(&message),
        key: message.into_key(),
        hash,
        import,
        checked,
        reply,
        runtime,
        span: trace::here(),
    })?;
    Ok(Queued::Waits { opening, answer })
}

/// An imported message on its way.
pub struct Arrival {
    accepted_at: Timestamp,
    fingerprint: Fingerprint,
    /// `None` for one that is past its retention.
    queued: Option<Queued>,
}

/// Lets `messages` wait for the writer, in their order.
pub fn arrive(shared: &Shared, messages: Vec<Message>, in_feed: bool, runtime: &Handle) -> Result<Vec<Arrival>, Error> {
    let now = shared.clock.now();
    let arrivals = messages.into_iter().map(|Message { key, content, accepted_at, traceparent }| {
        let message = NewMessage::new(key, content).traced(traceparent);
        let fingerprint = *message.fingerprint();
        let queued = if shared.is_expired(accepted_at, now) {
            None
        } else {
            Some(queue(shared, message, Some(Import { accepted_at, in_feed }), runtime.clone())?)
        };
        Ok(Arrival { accepted_at, fingerprint, queued })
    });
    arrivals.collect()
}

impl Arrival {
    /// What became of it.
    pub async fn imported(self) -> Result<Imported, Error> {
        let Some(queued) = self.queued else { return Ok(Imported::Expired) };
        Ok(match queued.outcome().await? {
            Outcome::Accepted(_) => Imported::Taken,
            Outcome::Duplicate { first, fingerprint } => {
                let is_same = first.accepted_at == self.accepted_at
                    && fingerprint.is_some_and(|fingerprint| fingerprint.matches(&self.fingerprint));
                if is_same { Imported::Present } else { Imported::Conflict }
            }
        })
    }
}

/// One page of all that is kept, in the order of the sequence.
pub fn export(
    shared: &Shared,
    engine: &Engine,
    after: Option<&PageToken>,
    limit: PageLimit,
) -> Result<ExportPage, Error> {
    let oldest = shared.oldest.load(Ordering::Acquire);
    let after = match after {
        None => 0,
        Some(token) => match decode(shared, &token.0) {
            Some((EXPORTED, sequence)) if sequence <= shared.durable() => sequence,
            _ => {
                return Err(Error::invalid_argument(
                    "after",
                    ViolationCode::InvalidValue,
                    "'after' is no place of an export of this store; begin a new export",
                ));
            }
        },
    };
    let (durable, now) = (shared.durable(), shared.clock.now());
    let first = (after + 1).max(oldest);
    let (mut messages, mut bytes, mut next, mut is_last) = (Vec::new(), 0, first, true);
    if first <= durable {
        for entry in engine.messages_between(first, durable) {
            let (sequence, record) = entry?;
            check_hole(shared, next, sequence)?;
            let view = View::read(sequence, &record).map_err(Error::internal)?;
            bytes += record.len();
            if messages.len() >= limit.messages || (bytes > limit.bytes && next > first) {
                is_last = false;
                break;
            }
            next = sequence + 1;
            if !shared.is_expired(view.accepted_at, now) {
                messages.push(view.to_message().map_err(Error::internal)?);
            }
        }
        if is_last {
            check_hole(shared, next, durable + 1)?;
            next = durable + 1;
        }
    }
    let next = PageToken(encode(shared, EXPORTED, next.saturating_sub(1).max(after)));
    Ok(ExportPage { messages, next, is_last })
}

/// What is missing from `next` to before `sequence` was lost with consent, or removed by its age since.
fn check_hole(shared: &Shared, next: u64, sequence: u64) -> Result<(), Error> {
    if is_contiguous(shared, next, sequence) {
        return Ok(());
    }
    removed_or_damaged(shared, next).map_or(Ok(()), Err)
}

//! Messages that were accepted elsewhere or earlier. Each stands where it was imported, in lists and in the feed, and expires
//! by what is left of its own retention.

use tokio::runtime::Handle;

use super::{
    shared::Shared,
    submit::{Import, Queued, Reply, Submission, queue},
};
use crate::{
    domain::{Error, Fingerprint, Message, NewMessage, Timestamp, ViolationCode},
    store::{ImportInto, Imported, Outcome},
};

/// A clock of another machine may be ahead by so much.
const AHEAD: std::time::Duration = std::time::Duration::from_secs(5);

/// An imported message on its way.
pub struct Arrival {
    accepted_at: Timestamp,
    fingerprint: Fingerprint,
    /// `None` for one that is past its retention.
    queued: Option<Queued>,
}

/// Lets `messages` wait for the writer, in their order.
///
/// # Errors
/// Invalid argument for a message from the future, before any is taken; those of a submission.
pub fn arrive(
    shared: &Shared,
    messages: Vec<Message>,
    into: ImportInto,
    runtime: Option<&Handle>,
) -> Result<Vec<Arrival>, Error> {
    shared.check_acceptance()?;
    let now = shared.clock.stamp().wall;
    if messages.iter().any(|message| message.accepted_at > now.saturating_add(AHEAD)) {
        let text = "A message was accepted later than it is now, by this machine's clock; set the clock right, \
                    or import it then";
        return Err(Error::invalid_argument("accepted_at", ViolationCode::TimestampOutOfRange, text));
    }
    let in_feed = into == ImportInto::MessagesAndFeed;
    let arrivals = messages.into_iter().map(|Message { key, content, accepted_at, traceparent }| {
        let message = NewMessage::new(key, content).traced(traceparent);
        let fingerprint = *message.fingerprint();
        let queued = if accepted_at.saturating_add(shared.retention()) <= now {
            None
        } else {
            let submission = Submission::new(shared, message, Some(Import { accepted_at, in_feed }));
            Some(queue(shared, submission, runtime.cloned())?)
        };
        Ok(Arrival { accepted_at, fingerprint, queued })
    });
    arrivals.collect()
}

impl Arrival {
    /// Where its answer is awaited, for the simulator, which awaits nothing.
    #[cfg(test)]
    pub fn into_queued(self) -> Option<Queued> {
        self.queued
    }

    /// What became of it.
    ///
    /// # Errors
    /// Those of a submission.
    pub async fn imported(self, shared: &Shared) -> Result<Imported, Error> {
        let Some(mut queued) = self.queued else { return Ok(Imported::Expired) };
        let outcome = loop {
            match queued {
                Queued::Known(outcome) => break outcome,
                Queued::Waits(answer) => match answer.await {
                    Ok(Reply::Decided(decided)) => break decided?,
                    Ok(Reply::Again(again)) => queued = queue(shared, again, Some(Handle::current()))?,
                    Err(_) => return Err(Error::store_unavailable("the writer ended before it answered")),
                },
            }
        };
        Ok(match outcome {
            Outcome::Accepted(_) => Imported::Taken,
            Outcome::Duplicate { first, fingerprint } => {
                let is_same = first.accepted_at == self.accepted_at
                    && fingerprint.is_some_and(|fingerprint| fingerprint.matches(&self.fingerprint));
                if is_same { Imported::Present } else { Imported::Conflict }
            }
        })
    }
}

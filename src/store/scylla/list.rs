//! The messages of one sender, the newest first: references by periods of a week, each of which counts when the claim of
//! its key has its attempt.

use std::time::Duration;

use scylla::value::CqlTimeuuid;
use uuid::Uuid;

use super::{
    core::Core,
    cursor,
    error::Failed,
    scan::{Standing, concurrently},
    ticks::{self, Ticks},
};
use crate::{
    domain::{Error, MessageKey, MessageSid, Sender},
    store::{MessagePage, PageLimit, PageToken},
};

/// References that are read at once, and their claims: a message may be as large as a request.
const STEP: usize = 16;
/// A process whose clock is ahead of ours by more has its messages listed when ours has come there.
const AHEAD: Duration = Duration::from_hours(1);

/// One page of a sender's messages. What cannot be read is passed over, logged and counted.
///
/// # Errors
/// [`crate::domain::Kind::InvalidArgument`] for a token that this store did not give; what the database cannot do now.
pub async fn page(
    core: &Core,
    sender: &Sender,
    after: Option<&PageToken>,
    limit: PageLimit,
) -> Result<MessagePage, Error> {
    let store = core.settings.created_at;
    let mut before = match after {
        Some(token) => cursor::read_token(token, store)?,
        None => ticks::first(ticks::after(ticks::at(core.now()), AHEAD)),
    };
    let oldest = core.oldest();
    let (mut messages, mut bytes) = (Vec::new(), 0);
    let mut period = ticks::period(ticks::of(before));
    while period >= ticks::period(oldest) {
        let references = core.sender_references(sender, period, before, oldest).await?;
        let standings = concurrently(references.iter().map(|(attempt, key)| async move {
            match key {
                Some(key) => core.standing(*attempt, key).await,
                None => Ok(Standing::Lost),
            }
        }))
        .await?;
        for ((attempt, _), standing) in references.iter().zip(standings) {
            match standing {
                Standing::Accepted { message, bytes: more } => {
                    bytes += more;
                    if messages.len() >= limit.messages || (bytes > limit.bytes && !messages.is_empty()) {
                        return Ok(MessagePage { messages, next: Some(cursor::token(before, store)) });
                    }
                    messages.push(message);
                }
                // One that is undecided may be accepted later: then it belongs to the pages that begin later.
                Standing::Undecided | Standing::Orphan | Standing::Erased | Standing::Lost => {}
            }
            before = *attempt;
        }
        if references.len() < STEP {
            period -= 1;
        }
    }
    Ok(MessagePage { messages, next: None })
}

impl Core {
    /// The next references of a sender's period before an attempt, down to `oldest`.
    async fn sender_references(
        &self,
        sender: &Sender,
        period: i32,
        before: Uuid,
        oldest: Ticks,
    ) -> Result<Vec<(Uuid, Option<MessageKey>)>, Failed> {
        let (org, env, from) = (sender.org.as_str(), sender.env.as_str(), sender.from_id.as_str());
        let bounds = (CqlTimeuuid::from(before), CqlTimeuuid::from(ticks::first(oldest)));
        let values = (org, env, from, period, bounds.0, bounds.1, STEP as i32);
        let malformed = |error: &dyn std::fmt::Display| Failed::malformed(error.to_string());
        let rows = self.read(&self.cql.list_sender, values).await?;
        let mut found = Vec::new();
        for row in rows.rows::<(CqlTimeuuid, Option<String>)>().map_err(|error| malformed(&error))? {
            let (attempt, sid) = row.map_err(|error| malformed(&error))?;
            let attempt = Uuid::from(attempt);
            let sid = sid.and_then(|sid| MessageSid::new(sid).ok());
            if sid.is_none() {
                self.found_unreadable("messages_by_sender", &attempt.to_string());
            }
            let key = sid.map(|sid| MessageKey { org: sender.org.clone(), env: sender.env, sid });
            found.push((attempt, key));
        }
        Ok(found)
    }
}

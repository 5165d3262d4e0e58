//! Messages that were accepted elsewhere: claims with the time of that acceptance, which live for what is left of it.
//!
//! For the feed a message is an attempt of now like any other. Without the feed its attempt lies at the time of its
//! acceptance, so that lists show it where it belongs; no resolver looks for it, for it has no reference there.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;
use uuid::{Builder, Uuid};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    claim::{Claim, ClaimHead},
    core::Core,
    error::Failed,
    lwt::Decision,
    repeat,
    schema::CLAIMS_LONGER,
    submit_pipeline::SubmitPipeline,
    ticks::{self, Ticks},
};
use crate::{
    domain::{Error, Message, NewMessage, Timestamp},
    store::{ImportInto, Imported},
};

/// So many shards are worked on at once.
const AT_ONCE: usize = 16;
/// An attempt that came too late is followed by one more.
const ATTEMPTS: usize = 2;

/// Imports `messages`, those of one shard in their order.
///
/// # Errors
/// When it is not clear what became of one of them.
pub async fn import(
    core: &Arc<Core>,
    pipeline: &SubmitPipeline,
    messages: Vec<Message>,
    into: ImportInto,
) -> Result<Vec<Imported>, Error> {
    let mut shards = BTreeMap::<i32, Vec<(usize, Message)>>::new();
    for (number, message) in messages.into_iter().enumerate() {
        shards.entry(core.sharding.shard_of(&message.sender())).or_default().push((number, message));
    }
    let importing = shards.into_iter().map(|(shard, messages)| async move {
        let mut imported = Vec::with_capacity(messages.len());
        let mut last = 0;
        for (number, message) in messages {
            let way = match into {
                ImportInto::MessagesAndFeed => Way::Feed,
                ImportInto::Messages => {
                    // Those of one instant, as an embedded store accepts them, stay in their order as far as there are ticks.
                    let at = ticks::at(message.accepted_at);
                    last = if (at..at + 9).contains(&last) { last + 1 } else { at };
                    Way::Silent(last)
                }
            };
            imported.push((number, import_one(core, pipeline, shard, message, way).await?));
        }
        Ok::<_, Failed>(imported)
    });
    let imported: Vec<_> = stream::iter(importing).buffer_unordered(AT_ONCE).try_collect().await?;
    let mut imported = imported.concat();
    imported.sort_by_key(|(number, _)| *number);
    Ok(imported.into_iter().map(|(_, imported)| imported).collect())
}

#[derive(Clone, Copy)]
enum Way {
    /// Delivered as if it were new.
    Feed,
    /// Known and listed, at these ticks.
    Silent(Ticks),
}

async fn import_one(
    core: &Core,
    pipeline: &SubmitPipeline,
    shard: i32,
    message: Message,
    way: Way,
) -> Result<Imported, Failed> {
    let Message { key, content, accepted_at, traceparent } = message;
    if core.is_past(accepted_at) {
        return Ok(Imported::Expired);
    }
    let message = NewMessage::new(key, content).traced(traceparent);
    let deadline = Instant::now() + core.options.deadline;
    // An import that is run again finds most of it.
    let found = repeat::until(deadline, || core.claim_head(message.key()), |_| {}).await?;
    if let Some(found) = found {
        return Ok(compare(&found, &message, accepted_at));
    }
    let mut mine = Vec::with_capacity(ATTEMPTS);
    match way {
        Way::Silent(ticks) => {
            let claim = Claim::imported(&message, attempt_of(&message, ticks), accepted_at);
            mine.push(claim.attempt);
            list(core, &claim, deadline).await?;
            decide(core, &claim, &mine, &message, deadline).await
        }
        Way::Feed => {
            for _ in 0..ATTEMPTS {
                let claim = Claim::imported(&message, core.attempt()?, accepted_at);
                mine.push(claim.attempt);
                pipeline.refer(&claim, shard, deadline).await?;
                if pipeline.resolving_upto(shard, deadline).await? < ticks::of(claim.attempt) {
                    return decide(core, &claim, &mine, &message, deadline).await;
                }
            }
            Err(Failed::unclear("the references came too late"))
        }
    }
}

/// Writes the one reference of a message that is not for the feed.
async fn list(core: &Core, claim: &Claim, deadline: Instant) -> Result<(), Failed> {
    let ticks = ticks::of(claim.attempt);
    let (org, env, sid, attempt, _, from_id, _, _) = claim.values();
    let period = ticks::period(ticks);
    let values = (
        org,
        env,
        from_id,
        period,
        attempt,
        sid,
        ticks::micros(ticks),
        seconds_left(core, claim.accepted_at, Duration::ZERO),
    );
    repeat::until(deadline, || core.write(&core.cql.import_sender, &values), |_| {}).await
}

async fn decide(
    core: &Core,
    claim: &Claim,
    mine: &[Uuid],
    message: &NewMessage,
    deadline: Instant,
) -> Result<Imported, Failed> {
    let (org, env, sid, attempt, accepted_at, from_id, fingerprint, record) = claim.values();
    let left = seconds_left(core, claim.accepted_at, CLAIMS_LONGER);
    let values = (org, env, sid, attempt, accepted_at, from_id, fingerprint, record, left);
    match repeat::until(deadline, || core.decide(&core.cql.import_claim, &values), |_| {}).await? {
        Decision::Applied => Ok(Imported::Taken),
        Decision::Refused(row) => {
            let found = ClaimHead::read(&row)?;
            // An earlier try that seemed lost, or the resolver, which found the references: ours all the same.
            let is_mine = mine.contains(&found.attempt);
            Ok(if is_mine { Imported::Taken } else { compare(&found, message, claim.accepted_at) })
        }
    }
}

fn compare(found: &ClaimHead, message: &NewMessage, accepted_at: Timestamp) -> Imported {
    let is_same = found.accepted_at == accepted_at
        && found.fingerprint.is_some_and(|fingerprint| fingerprint.matches(message.fingerprint()));
    if is_same { Imported::Present } else { Imported::Conflict }
}

/// For how long a row of what was accepted at `accepted_at` must live from now on, and `longer`.
fn seconds_left(core: &Core, accepted_at: Timestamp, longer: Duration) -> i32 {
    let until = accepted_at.saturating_add(core.options.retention).saturating_add(longer);
    let left = until.as_micros().saturating_sub(core.now().as_micros()) / 1_000_000;
    // 20 years are the most that the engines take.
    i32::try_from(left.clamp(1, 630_720_000)).unwrap_or(1)
}

/// An attempt at `ticks`, the same for the same message.
fn attempt_of(message: &NewMessage, ticks: Ticks) -> Uuid {
    let key = message.key();
    let text = [key.org.as_str(), key.env.as_str(), key.sid.as_str()].join("\0");
    let [first, node @ .., high, low] = xxh3_64(text.as_bytes()).to_be_bytes();
    let [a, b, c, d, e] = node;
    // The bit marks a node id that is no hardware address. Never negative: a time is after 1582.
    Builder::from_gregorian_timestamp(ticks as u64, u16::from_be_bytes([high, low]), &[first | 1, a, b, c, d, e])
        .into_uuid()
}

//! Forgets what is past its retention, and gives its space back.
//!
//! Nothing is deleted message by message. The oldest retained sequence moves on, durably and through the writer; from
//! then on everything below counts as absent. Then whole tables of messages below it are dropped, which costs nothing,
//! and compactions leave out index entries below it. Where too few compactions happen by themselves, the indexes are
//! compacted once a good part of them is dead: so each entry is written again a bounded number of times.

use std::sync::atomic::Ordering;

use fjall::{AbstractTree, PersistMode};

use super::{
    engine::{Engine, failed},
    index, meta,
    shared::Shared,
};
use crate::{
    domain::{Error, Timestamp},
    store::record::View,
};

/// Dead entries below which an index is left alone.
const WORTH_COMPACTING: u64 = 64 * 1024;

/// Moves the oldest retained sequence on to the first message that is not expired; called by the writer alone.
///
/// # Errors
/// Damage that stands in the way of finding it.
pub fn advance(shared: &Shared, engine: &Engine, last: u64) -> Result<u64, Error> {
    let oldest = shared.oldest.load(Ordering::Acquire);
    let next = first_live(shared, engine, oldest, last)?;
    if next == oldest {
        return Ok(oldest);
    }
    let mut batch = engine.db.batch().durability(Some(PersistMode::SyncData));
    batch.insert(&engine.meta, meta::OLDEST, meta::oldest_value(next));
    if let Err(error) = batch.commit() {
        let why = format!("the oldest retained sequence could not be made durable: {error}");
        shared.fail(why.clone());
        return Err(Error::store_unavailable(why));
    }
    shared.oldest.store(next, Ordering::Release);
    // The last message stays, past its retention too: it tells how far the sequence has come.
    shared.droppable.store(next.min(last), Ordering::Release);
    Ok(next)
}

/// The sequence of the first message from `oldest` on that is not expired, or the one after `last`.
pub fn first_live(shared: &Shared, engine: &Engine, oldest: u64, last: u64) -> Result<u64, Error> {
    let now = shared.clock.now();
    first_where(engine, oldest, last, |placed_at| !shared.is_expired(placed_at, now))
}

/// The first sequence from `oldest` to `last` from which on `holds` is true of the time of every place, or the one after
/// `last`. Times never go back along the sequence, so halving finds it.
pub fn first_where(engine: &Engine, oldest: u64, last: u64, holds: impl Fn(Timestamp) -> bool) -> Result<u64, Error> {
    let (mut low, mut high) = (oldest, last + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        // The next that exists: where messages were lost there are holes.
        match engine.messages_between(middle, high - 1).next().transpose()? {
            None => high = middle,
            Some((sequence, record)) => {
                let view = View::read(sequence, &record).map_err(Error::internal)?;
                if holds(view.placed_at) {
                    high = middle;
                } else {
                    low = sequence + 1;
                }
            }
        }
    }
    Ok(low)
}

/// Gives back the space of what is below the oldest retained sequence. `compacted` is that sequence as of the last time
/// that the indexes were compacted.
///
/// # Errors
/// What the engine cannot drop or compact.
pub fn reclaim(shared: &Shared, engine: &Engine, compacted: &mut u64) -> Result<(), Error> {
    let droppable = shared.droppable.load(Ordering::Acquire);
    // Only tables that lie below it as a whole: the one that it cuts through stays until it is passed.
    let keyspace = &engine.messages;
    let has_whole =
        keyspace.tree.current_version().iter_tables().any(|table| {
            index::read_message_key(table.metadata.key_range.max()).is_ok_and(|highest| highest < droppable)
        });
    if has_whole {
        keyspace.tree.drop_range(..droppable.to_be_bytes()).map_err(|error| failed(error.into()))?;
    }
    let dead = droppable.saturating_sub(*compacted);
    let live = shared.durable().saturating_sub(droppable);
    let is_worth_it = dead >= WORTH_COMPACTING && dead >= live;
    if is_worth_it {
        compact(engine)?;
        *compacted = droppable;
    }
    if has_whole || is_worth_it {
        engine.release_tables().map_err(failed)?;
    }
    Ok(())
}

/// Leaves out all dead index entries at once.
///
/// # Errors
/// What the engine cannot compact.
pub fn compact(engine: &Engine) -> Result<(), Error> {
    for keyspace in [&engine.sids, &engine.senders] {
        keyspace.major_compact().map_err(failed)?;
    }
    Ok(())
}

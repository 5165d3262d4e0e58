//! Writes index entries to tables, in bulk.
//!
//! Sorted, past memtables and past the journal: what is lost when the process ends before is made again from messages.
//! The tables of one index come into being with its [`LAST`](index::LAST), all or none. Between the two indexes, and
//! between them and the messages, a crash may come at any point; each index tells by its own last sequence what it has.

use fjall::Keyspace;

use super::{
    engine::{Engine, failed},
    index,
    unindexed::{Entry, Generation},
};
use crate::{domain::Error, store::record::View};

/// Messages whose entries an opening holds in memory at a time.
const CHUNK: usize = 64 * 1024;

/// Has both indexes know everything up to the last of `entries`. They must know everything before the first.
///
/// # Errors
/// What the engine cannot write; the indexes are what they were, or one is ahead.
pub fn write(engine: &Engine, entries: &Generation) -> fjall::Result<()> {
    let Some(last) = entries.last() else { return Ok(()) };
    let sids = entries.sids();
    ingest(&engine.sids, last, sids.iter().map(|(place, sequence)| (*place, index::sequence_value(place, *sequence))))?;
    let senders = entries.senders();
    ingest(&engine.senders, last, senders.iter().map(|key| (*key, index::sender_value(key))))
}

/// `entries` are sorted, and no key is there twice.
fn ingest<const K: usize, const V: usize>(
    keyspace: &Keyspace,
    last: u64,
    entries: impl Iterator<Item = ([u8; K], [u8; V])>,
) -> fjall::Result<()> {
    let mut ingestion = keyspace.start_ingestion()?;
    let mut last = Some(index::sequence_value(index::LAST, last));
    for (key, value) in entries {
        if key.as_slice() > index::LAST
            && let Some(last) = last.take()
        {
            ingestion.write(index::LAST, last)?;
        }
        ingestion.write(key, value)?;
    }
    if let Some(last) = last {
        ingestion.write(index::LAST, last)?;
    }
    ingestion.finish()
}

/// Makes the entries of the messages from `first` to `last`, which the process before had in memory only. Gives the
/// number of messages.
///
/// # Errors
/// What the engine cannot read or write, and damage.
pub fn catch_up(engine: &Engine, first: u64, last: u64) -> Result<u64, Error> {
    let mut count = 0;
    if first > last {
        return Ok(count);
    }
    let mut entries = engine.messages_between(first, last).map(|message| {
        let (sequence, record) = message?;
        let (place, sender) = index::hashes(&View::read(sequence, &record).map_err(Error::internal)?);
        count += 1;
        Ok(Entry { sequence, place, sender })
    });
    loop {
        let chunk = entries.by_ref().take(CHUNK).collect::<Result<Generation, Error>>()?;
        if chunk.last().is_none() {
            break;
        }
        write(engine, &chunk).map_err(failed)?;
    }
    drop(entries);
    Ok(count)
}

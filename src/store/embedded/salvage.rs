//! What is done for an operator who accepts a loss, and for nobody else.

use fjall::{AbstractTree, PersistMode};

use super::{
    engine::{Engine, failed},
    gaps::Gaps,
    index,
    keys::Digest,
    mark::Mark,
    meta::Meta,
    verify::DamagedTable,
};
use crate::{domain::Error, store::record::View};

/// Sequences that are left out after a loss. The mark may be a second old: readers may hold cursors of messages that
/// were lost and that it does not know; nothing new may stand before such a cursor.
const SKIPPED: u64 = 1 << 32;

/// Leaves out a range after `last`; gives its end.
pub fn skip_ahead(gaps: &mut Gaps, last: u64) -> u64 {
    gaps.add(last + 1, last + SKIPPED);
    last + SKIPPED
}

/// Makes what is there the truth: the keys' digest and the store's record of itself.
pub fn accept(engine: &Engine, counted: Digest, meta: &Meta, mark: &Mark) -> Result<Digest, Error> {
    let mut keys = counted;
    keys.mutations = keys.mutations.max(mark.key_mutations);
    keys.store(engine)?;
    meta.store(engine)?;
    Ok(keys)
}

/// Puts other tables in the place of damaged ones: of messages with those that can still be read, of indexes with
/// nothing, for they are made again from the messages.
pub fn replace_tables(engine: &mut Engine, damaged: &[DamagedTable]) -> Result<(), Error> {
    for table in damaged.iter().filter(|table| table.is_of(&engine.messages)) {
        let first = index::read_message_key(&table.first).map_err(Error::internal)?;
        let last = index::read_message_key(&table.last).map_err(Error::internal)?;
        // One by one: a scan would end at the first block that cannot be read.
        let readable: Vec<_> = (first..=last)
            .filter_map(|sequence| {
                let record = engine.message(sequence).ok()??;
                View::read(sequence, &record).ok()?;
                Some((sequence, record))
            })
            .collect();
        engine
            .messages
            .tree
            .drop_range(first.to_be_bytes()..=last.to_be_bytes())
            .map_err(|error| failed(error.into()))?;
        let mut batch = engine.db.batch().durability(Some(PersistMode::SyncAll));
        for (sequence, record) in readable {
            if engine.message(sequence)?.is_none() {
                batch.insert(&engine.messages, sequence.to_be_bytes(), record);
            }
        }
        batch.commit().map_err(failed)?;
    }
    if damaged.iter().any(|table| table.is_of(&engine.sids) || table.is_of(&engine.senders)) {
        engine.replace_indexes().map_err(failed)?;
    }
    Ok(())
}

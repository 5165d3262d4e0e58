//! The checks of [`super::recovery`], each a question to the engine.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::PathBuf,
};

use fjall::{AbstractTree, Keyspace, PersistMode};
use xxhash_rust::xxh3::Xxh3;

use super::{
    engine::{Engine, failed},
    gaps::Gaps,
    index,
    mark::Mark,
};
use crate::{domain::Error, store::record::View};

/// How far the sequence came.
pub struct Span {
    /// The last sequence that somebody knows of.
    pub expected: u64,
    /// The lower one of the last sequences that the indexes know.
    pub indexes: u64,
}

/// Asks the mark, the messages and the indexes for the last sequence.
pub fn span(engine: &Engine, mark: &Mark, oldest: u64) -> Result<Span, Error> {
    let mut expected = mark.last.max(oldest.saturating_sub(1));
    if let Some(guard) = engine.messages.last_key_value() {
        let key = guard.key().map_err(failed)?;
        expected = expected.max(index::read_message_key(&key).map_err(Error::internal)?);
    }
    let (sids, senders) = (engine.last_of(&engine.sids)?.unwrap_or(0), engine.last_of(&engine.senders)?.unwrap_or(0));
    Ok(Span { expected: expected.max(sids).max(senders), indexes: sids.min(senders) })
}

/// The ranges between `oldest` and `last` of which no message is there, except those that `gaps` knows.
pub fn missing(engine: &Engine, oldest: u64, last: u64, gaps: &Gaps) -> Result<Vec<(u64, u64)>, Error> {
    // Each sequence is written once: a table with as many entries as its range is wide has them all.
    let mut present: Vec<(u64, u64)> = gaps.iter().collect();
    for table in engine.messages.tree.current_version().iter_tables() {
        let range = &table.metadata.key_range;
        if let (Ok(first), Ok(last)) = (index::read_message_key(range.min()), index::read_message_key(range.max()))
            && table.metadata.item_count == last - first + 1
            && table.metadata.tombstone_count == 0
        {
            present.push((first, last));
        }
    }
    present.sort_unstable();
    let mut missing = Vec::new();
    let mut next = oldest;
    for (first, end) in present.into_iter().chain([(last + 1, last + 1)]) {
        let first = first.min(last + 1);
        if first > next {
            scan(engine, next, first - 1, &mut missing)?;
        }
        next = next.max(end + 1);
    }
    Ok(missing)
}

fn scan(engine: &Engine, first: u64, last: u64, missing: &mut Vec<(u64, u64)>) -> Result<(), Error> {
    let mut next = first;
    for guard in engine.messages.range(first.to_be_bytes()..=last.to_be_bytes()) {
        let sequence = index::read_message_key(&guard.key().map_err(failed)?).map_err(Error::internal)?;
        if sequence > next {
            missing.push((next, sequence - 1));
        }
        next = sequence + 1;
    }
    if next <= last {
        missing.push((next, last));
    }
    Ok(())
}

/// Sees that both indexes have the entries of all messages from `from` to `until`, and know `last` as the last sequence
/// if one is given; adds what is missing, and with `whole` also removes what names no message. Gives the number of changes.
pub fn indexes(engine: &Engine, from: u64, until: u64, last: Option<u64>, whole: bool) -> Result<u64, Error> {
    const BATCH: usize = 4096;
    let mut changes = 0;
    let mut batch = engine.db.batch();
    if whole {
        changes += prune(engine, from)?;
    }
    if from <= until {
        for entry in engine.messages_between(from, until) {
            let (sequence, record) = entry?;
            let (sid, sender) = index::hashes(&View::read(sequence, &record).map_err(Error::internal)?);
            if engine.sequence_of(&sid)?.is_none_or(|named| named < sequence) {
                batch.insert(&engine.sids, sid, index::sequence_value(&sid, sequence));
                changes += 1;
            }
            let key = index::sender_key(&sender, sequence);
            if !engine.senders.contains_key(key).map_err(failed)? {
                batch.insert(&engine.senders, key, index::sender_value(&key));
                changes += 1;
            }
            if batch.len() >= BATCH {
                std::mem::replace(&mut batch, engine.db.batch()).commit().map_err(failed)?;
            }
        }
    }
    for keyspace in [&engine.sids, &engine.senders] {
        if let Some(last) = last
            && engine.last_of(keyspace)?.unwrap_or(0) != last
        {
            batch.insert(keyspace, index::LAST, index::sequence_value(index::LAST, last));
        }
    }
    if !batch.is_empty() || changes > 0 {
        batch.commit().map_err(failed)?;
        engine.db.persist(PersistMode::SyncAll).map_err(failed)?;
    }
    Ok(changes)
}

/// Removes index entries that name no message.
fn prune(engine: &Engine, oldest: u64) -> Result<u64, Error> {
    let mut batch = engine.db.batch();
    let mut removed = 0;
    let is_gone = |sequence: u64| -> Result<bool, Error> {
        let there = engine.messages.contains_key(sequence.to_be_bytes()).map_err(failed)?;
        Ok(sequence >= oldest && !there)
    };
    for guard in engine.sids.iter() {
        let (key, value) = guard.into_inner().map_err(failed)?;
        if *key != *index::LAST && is_gone(index::read_sequence(&key, &value).map_err(Error::internal)?)? {
            batch.remove(&engine.sids, key);
            removed += 1;
        }
    }
    for guard in engine.senders.iter() {
        let key = guard.key().map_err(failed)?;
        if let Some(sequence) = index::sender_sequence(&key)
            && is_gone(sequence)?
        {
            batch.remove(&engine.senders, key);
            removed += 1;
        }
    }
    if removed > 0 {
        batch.commit().map_err(failed)?;
    }
    Ok(removed)
}

/// What the comparison of tables with their checksums came to.
pub struct Verified {
    pub bytes: u64,
    pub damaged: Vec<DamagedTable>,
}

/// A table whose bytes are not those that were written.
pub struct DamagedTable {
    /// The keyspace's name.
    pub keyspace: String,
    pub path: PathBuf,
    pub first: fjall::Slice,
    pub last: fjall::Slice,
}

impl DamagedTable {
    /// Whether the store can go on without what only this table has.
    pub fn is_replaceable(&self, engine: &Engine) -> bool {
        [&engine.messages, &engine.sids, &engine.senders].into_iter().any(|keyspace| self.is_of(keyspace))
    }

    /// Whether it is a table of `keyspace`.
    pub fn is_of(&self, keyspace: &Keyspace) -> bool {
        self.keyspace == **keyspace.name()
    }
}

impl fmt::Display for DamagedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {} of '{}' does not match its checksum", self.path.display(), self.keyspace)
    }
}

/// Compares tables with the checksums in their manifest, the newest first, up to `limit` bytes.
pub fn tables(engine: &Engine, limit: u64) -> io::Result<Verified> {
    let mut tables = Vec::new();
    for keyspace in engine.keyspaces() {
        for table in keyspace.tree.current_version().iter_tables() {
            tables.push((keyspace, table.clone()));
        }
    }
    tables.sort_by_key(|(_, table)| std::cmp::Reverse(table.get_highest_seqno()));
    let mut verified = Verified { bytes: 0, damaged: Vec::new() };
    for (keyspace, table) in tables {
        if verified.bytes >= limit {
            break;
        }
        let (sum, bytes) = digest(File::open(&*table.path)?)?;
        verified.bytes += bytes;
        if sum != table.checksum().into_u128() {
            verified.damaged.push(DamagedTable {
                keyspace: keyspace.name().to_string(),
                path: table.path.to_path_buf(),
                first: table.metadata.key_range.min().clone(),
                last: table.metadata.key_range.max().clone(),
            });
        }
    }
    Ok(verified)
}

fn digest(mut file: File) -> io::Result<(u128, u64)> {
    let mut hasher = Xxh3::new();
    let mut chunk = vec![0; 256 * 1024];
    let mut length = 0;
    loop {
        let count = file.read(&mut chunk)?;
        let Some(bytes) = chunk.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
        length += count as u64;
    }
    Ok((hasher.digest128(), length))
}

//! The engine's keyspaces, and the one way in which it is opened.
//!
//! What is particular about it, each point with its reason:
//! - Values in the journal are not compressed. The engine checks a journal by compressing again what it read, so another
//!   version of the compressor would make a good journal look damaged.
//! - Memtables are rotated by [`super::upkeep`], all at once, and not by the engine, keyspace by keyspace: then every
//!   journal is soon free to go, and one sequence says up to where everything lies in tables. The engine would also
//!   remember the size that a keyspace was created with for ever.
//! - Nothing is deleted key by key. Retention moves the oldest retained sequence on, and everything below counts as
//!   absent from then on; whole tables of messages are dropped, and compactions leave out index entries below it.
//!   An older version of an entry that this might uncover names an even lower sequence, so it is absent too.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use fjall::{
    AbstractTree, CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvPair,
    compaction::{
        Leveled,
        filter::{CompactionFilter, Context, Factory, ItemAccessor, Verdict},
    },
    config::{CompressionPolicy, FilterPolicy, PinningPolicy},
};

use super::{index, options::Options};
use crate::domain::Error;

const MESSAGES: &str = "messages";
const SIDS: &str = "sids";
const SENDERS: &str = "senders";
const META: &str = "meta";

/// The engine's own limit is only a last resort; see the module's text.
const MEMTABLE_LIMIT: u64 = 64 * 1024 * 1024;
/// The least that the engine takes is one journal of 64 MiB.
const JOURNAL_LIMIT: u64 = 128 * 1024 * 1024;
const CACHED_FILES: usize = 256;
const INDEX_TABLE_BYTES: u64 = 32 * 1024 * 1024;

/// The open engine.
pub struct Engine {
    pub db: Database,
    pub messages: Keyspace,
    pub sids: Keyspace,
    pub senders: Keyspace,
    pub meta: Keyspace,
}

/// What came of opening the engine.
pub enum Failure {
    /// It said so.
    Engine(fjall::Error),
    /// It gave up on files that it did not expect.
    Panic(String),
}

impl Engine {
    /// Opens or makes the engine in `dir`. Compactions leave out what is below `oldest`.
    ///
    /// # Errors
    /// [`Failure`]; the engine also panics on some damaged files, which is caught.
    pub fn open(dir: &Path, options: &Options, oldest: &Arc<AtomicU64>) -> Result<Self, Failure> {
        catch_unwind(AssertUnwindSafe(|| Self::open_unguarded(dir, options, oldest)))
            .map_err(|panic| {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                Failure::Panic(text.or_else(|| panic.downcast_ref().copied()).unwrap_or("no text").to_owned())
            })?
            .map_err(Failure::Engine)
    }

    fn open_unguarded(dir: &Path, options: &Options, oldest: &Arc<AtomicU64>) -> fjall::Result<Self> {
        let oldest = Arc::clone(oldest);
        let db = Database::builder(dir)
            .cache_size(options.cache_bytes)
            .journal_compression(CompressionType::None)
            .manual_journal_persist(true)
            .max_journaling_size(JOURNAL_LIMIT)
            .max_cached_files(Some(CACHED_FILES))
            // It compacts; memtables are written by [`super::upkeep`]. With two, one of them spins while the other compacts.
            .worker_threads(1)
            .with_compaction_filter_factories(Arc::new(move |keyspace| {
                let sequence = match keyspace {
                    MESSAGES => sequence_of_message,
                    SIDS => sequence_of_sid,
                    SENDERS => sequence_of_sender,
                    _ => return None,
                };
                Some(Arc::new(Expired { oldest: Arc::clone(&oldest), sequence }))
            }))
            .open()?;
        // Looked up by sequences that exist, or scanned: a filter of absent keys would be a waste.
        let messages = db.keyspace(MESSAGES, || base().expect_point_read_hits(true))?;
        let (sids, senders) = Self::indexes(&db)?;
        let meta = db.keyspace(META, base)?;
        Ok(Self { db, messages, sids, senders, meta })
    }

    fn indexes(db: &Database) -> fjall::Result<(Keyspace, Keyspace)> {
        // Hashes do not compress, and almost every look-up is for an absent one: it asks the filter of each young table.
        let sids = db.keyspace(SIDS, || {
            let options = base().data_block_compression_policy(CompressionPolicy::disabled());
            options.filter_block_pinning_policy(young_and_first_level()).compaction_strategy(merging(4))
        })?;
        // Scanned only.
        let senders =
            db.keyspace(SENDERS, || base().filter_policy(FilterPolicy::disabled()).compaction_strategy(merging(8)))?;
        Ok((sids, senders))
    }

    /// Puts empty indexes in the place of both.
    ///
    /// # Errors
    /// What the engine cannot do.
    pub fn replace_indexes(&mut self) -> fjall::Result<()> {
        self.db.delete_keyspace(self.sids.clone())?;
        self.db.delete_keyspace(self.senders.clone())?;
        (self.sids, self.senders) = Self::indexes(&self.db)?;
        Ok(())
    }

    /// Lets go of tables that compactions have replaced: files stay until the engine moves on by a few commits.
    ///
    /// # Errors
    /// What the engine cannot write.
    pub fn release_tables(&self) -> fjall::Result<()> {
        for _ in 0..2 {
            let mut batch = self.db.batch();
            batch.insert(&self.meta, super::meta::TICK, []);
            batch.commit()?;
        }
        self.meta.rotate_memtable()?;
        self.write_sealed(&self.meta)
    }

    /// Writes the memtables of `keyspace` that are rotated to tables.
    ///
    /// # Errors
    /// What the engine cannot write.
    pub fn write_sealed(&self, keyspace: &Keyspace) -> fjall::Result<()> {
        while keyspace.tree.sealed_memtable_count() > 0 {
            let lock = keyspace.tree.get_flush_lock();
            let unseen = self.db.supervisor.snapshot_tracker.get_seqno_safe_to_gc();
            keyspace.tree.flush(&lock, unseen)?;
        }
        Ok(())
    }

    /// All keyspaces.
    pub fn keyspaces(&self) -> [&Keyspace; 4] {
        [&self.messages, &self.sids, &self.senders, &self.meta]
    }

    /// Bytes that wait in memory and are not on their way into tables yet.
    pub fn memtable_bytes(&self) -> u64 {
        self.keyspaces().into_iter().map(|keyspace| keyspace.tree.active_memtable().size()).sum()
    }

    /// Whether no index entry is in memory and in the journal alone.
    pub fn has_indexes_in_tables(&self) -> bool {
        let is_in_tables =
            |index: &Keyspace| index.tree.active_memtable().is_empty() && index.tree.sealed_memtable_count() == 0;
        is_in_tables(&self.sids) && is_in_tables(&self.senders)
    }

    /// The record of the message `sequence`.
    pub fn message(&self, sequence: u64) -> Result<Option<fjall::Slice>, Error> {
        self.messages.get(sequence.to_be_bytes()).map_err(failed)
    }

    /// The messages from `first` to `last`, in their order.
    pub fn messages_between(
        &self,
        first: u64,
        last: u64,
    ) -> impl DoubleEndedIterator<Item = Result<(u64, fjall::Slice), Error>> {
        self.messages.range(first.to_be_bytes()..=last.max(first).to_be_bytes()).map(|guard| {
            let (key, value): KvPair = guard.into_inner().map_err(failed)?;
            Ok((index::read_message_key(&key).map_err(Error::internal)?, value))
        })
    }

    /// The sequence that `sids` names under `hash`.
    pub fn sequence_of(&self, hash: &index::Hash) -> Result<Option<u64>, Error> {
        self.sids
            .get(hash)
            .map_err(failed)?
            .map(|value| index::read_sequence(hash, &value).map_err(Error::internal))
            .transpose()
    }

    /// The last sequence that an index knows.
    pub fn last_of(&self, index: &Keyspace) -> Result<Option<u64>, Error> {
        index
            .get(index::LAST)
            .map_err(failed)?
            .map(|value| index::read_sequence(index::LAST, &value).map_err(Error::internal))
            .transpose()
    }
}

fn base() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_LIMIT).manual_journal_persist(true)
}

/// The levels whose filters stay in memory beside the cache: every look-up asks them, since keys are random. The first level
/// is bounded (see [`merging`]), and its filters with it; those below it grow with the store and go through the cache. So
/// do those of young tables that came in bulk, as all but a repair's do: the engine has no setting for them; and after a
/// start those of the first level until it is merged again, since an opening counts levels from the other end.
fn young_and_first_level() -> PinningPolicy {
    PinningPolicy::new([true, true, false])
}

/// Every flush leaves a small table in each index; `young` of them are merged, with all that the first level holds, whose
/// keys they share at random. So merging seldom is what keeps accepting cheap. Less than 20: from there on the engine slows
/// down what a repair inserts. A store keeps what it was made with.
fn merging(young: u8) -> Arc<Leveled> {
    // The first level holds `young` such tables' worth; the engine's 64 MiB would have it grow, and be rewritten, to GiBs.
    Arc::new(Leveled::default().with_l0_threshold(young).with_table_target_size(INDEX_TABLE_BYTES))
}

/// An engine's error while it reads: damage or a failing disk.
pub fn failed(error: fjall::Error) -> Error {
    Error::internal(error)
}

/// Leaves out of compactions what is below the oldest retained sequence.
struct Expired {
    oldest: Arc<AtomicU64>,
    sequence: fn(&ItemAccessor<'_>) -> Option<u64>,
}

struct ExpiredRun {
    oldest: u64,
    sequence: fn(&ItemAccessor<'_>) -> Option<u64>,
}

impl Factory for Expired {
    fn name(&self) -> &str {
        "expired"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(ExpiredRun { oldest: self.oldest.load(Ordering::Acquire), sequence: self.sequence })
    }
}

impl CompactionFilter for ExpiredRun {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> Result<Verdict, fjall::LsmError> {
        Ok(match (self.sequence)(&item) {
            Some(sequence) if sequence < self.oldest => Verdict::Destroy,
            Some(_) | None => Verdict::Keep,
        })
    }
}

fn sequence_of_message(item: &ItemAccessor<'_>) -> Option<u64> {
    index::read_message_key(item.key()).ok()
}

fn sequence_of_sid(item: &ItemAccessor<'_>) -> Option<u64> {
    let is_entry = item.key().len() == size_of::<index::Hash>();
    is_entry.then(|| index::read_sequence(item.key(), &item.value().ok()?).ok()).flatten()
}

fn sequence_of_sender(item: &ItemAccessor<'_>) -> Option<u64> {
    index::sender_sequence(item.key())
}

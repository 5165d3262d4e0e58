//! The store for one machine: the [`MessageStore`] contract on fjall, an LSM tree in pure Rust.
//!
//! A data directory holds:
//!
//! ```text
//! lock            held while a process has the store open
//! mark            what must be there, however the process ended; see `mark`
//! store/          the engine's own files
//! journals-<n>*/  the engine's journals as they were before the latest unclean starts; `.opened` when all was well
//! ```
//!
//! Where to read on: `transfer` (one message on its way), `queue` (how groups gather), `writer` (group commit, exactly
//! once), `recent` (duplicates from memory), `unindexed` and `indexing` (index entries, which lag behind), `shared` (what readers may see), `feed` (cursors, pages),
//! `follower` (one reader of the feed), `retention` (how old messages go), `recovery` (what is demanded of a store before
//! it is opened), `store::record`, `index`, `keys`, `meta` and `mark` (stored bytes; golden files in
//! `tests/golden/embedded/` hold them still), `engine` (what is particular about fjall), `upkeep` (threads in the
//! background).
//!
//! Invariants:
//! - Nothing is answered, listed or fed before its group is synced: readers go up to the durable sequence and no further.
//! - Sequences are given by one thread, one after the other, from 1 on; none is ever given twice.
//! - A message is known and listed from the moment it is published: by its index entries, or by those in memory. Memory
//!   lets go of an entry when the index has it in tables. A reader asks memory first and the index afterwards.
//! - A failed commit or sync ends acceptance for good. It is never tried again, for nobody knows what the disk holds.
//! - Absent, on purpose: deletion of single messages or entries; a second writer; a repair that is not asked for with
//!   `accept_loss`, except that index entries are made again from messages that are there.
//!
//! Reads run where they are called: of a point read most are answered from memory in microseconds, less than moving it
//! to another thread costs. Pages, which read up to 1 MiB, go to a thread that may block.

mod engine;
mod error;
mod feed;
mod follower;
mod gaps;
#[cfg(test)]
mod golden;
mod index;
mod indexing;
mod journal_format;
mod journals;
mod keys;
mod mark;
mod meta;
mod meters;
mod numbered;
mod options;
mod queue;
mod recent;
mod recovery;
mod report;
mod retention;
mod salvage;
mod shared;
mod transfer;
mod unindexed;
mod upkeep;
mod verify;
mod writer;

use std::{
    fs::File,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::oneshot, task::spawn_blocking};

pub use error::OpenError;
pub use options::Options;
pub use report::{Left, OpenReport};

use self::{
    engine::Engine,
    follower::Follower,
    mark::MarkFile,
    queue::{Order, closed},
    shared::Shared,
    writer::Writer,
};
use super::{
    ExportPage, FeedFollower, FeedFrom, FeedOrder, Imported, ListedKey, MessagePage, MessageStore, Outcome, PageLimit,
    PageToken,
};
use crate::domain::{Clock, Error, KeyId, KeyRecord, Message, MessageKey, NewMessage, OrgId, Sender, Timestamp};

/// A store in a directory that this process owns until [`MessageStore::close`]. Dropped without it, the store is left
/// as a crash would leave it: nothing is lost, but the next opening takes longer.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    mark: Arc<MarkFile>,
    threads: Mutex<Option<Threads>>,
}

/// What [`EmbeddedStore`] holds until it is closed.
struct Threads {
    writer: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
    /// Released last.
    lock: File,
}

impl EmbeddedStore {
    /// Opens the store in `options.dir`, or makes one there. Blocks, for up to seconds after an unclean stop.
    ///
    /// # Errors
    /// [`OpenError`]; its text is for the operator.
    pub fn open(options: Options, clock: Arc<dyn Clock>) -> Result<(Self, OpenReport), OpenError> {
        let opened = recovery::open(options, clock)?;
        let recovery::Opened { shared, mark, lock, keys, last_placed_at, report } = opened;
        // Nothing else has the engine yet, so it is there.
        let engine = shared.engine().map_err(|_| OpenError::Threads { error: std::io::Error::other("closed") })?;
        let writer = Writer::new(Arc::clone(&shared), Arc::clone(&engine), Arc::clone(&mark), keys, last_placed_at);
        let threads = start(&shared, &engine, &mark, writer, lock);
        drop(engine);
        match threads {
            Ok(threads) => Ok((Self { shared, mark, threads: Mutex::new(Some(threads)) }, report)),
            Err(error) => {
                shared.take_engine();
                Err(OpenError::Threads { error })
            }
        }
    }

    /// Forgets what is past its retention and gives its space back, now and completely. For tests and tools.
    ///
    /// # Errors
    /// What stands in the way.
    #[doc(hidden)]
    pub fn run_retention_now(&self) -> Result<(), Error> {
        let engine = self.shared.engine()?;
        upkeep::retain(&self.shared, || {})?;
        upkeep::flush(&self.shared, &engine).map_err(Error::internal)?;
        retention::reclaim(&self.shared, &engine, &mut 0)?;
        retention::compact(&engine)?;
        engine.messages.major_compact().and_then(|()| engine.release_tables()).map_err(engine::failed)
    }

    /// Writes all that is in memory to tables. For tests.
    ///
    /// # Errors
    /// What stands in the way.
    #[doc(hidden)]
    pub fn flush_now(&self) -> Result<(), Error> {
        let engine = self.shared.engine()?;
        upkeep::flush(&self.shared, &engine).map_err(Error::internal)
    }

    fn engine(&self) -> Result<Arc<Engine>, Error> {
        self.shared.engine()
    }

    async fn order<T>(&self, make: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Order) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.shared.queue.order(make(reply))?;
        answer.await.map_err(|_| closed())?
    }
}

fn start(
    shared: &Arc<Shared>,
    engine: &Arc<Engine>,
    mark: &Arc<MarkFile>,
    writer: Writer,
    lock: File,
) -> std::io::Result<Threads> {
    let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| thread::Builder::new().name(name.to_owned()).spawn(work);
    let mut others = Vec::new();
    let with = || (Arc::clone(shared), Arc::clone(engine));
    let started = (|| {
        let ((shared, engine), mark) = (with(), Arc::clone(mark));
        others.push(spawn("store-mark", Box::new(move || upkeep::keep_mark(&shared, &engine, &mark)))?);
        let (shared, engine) = with();
        others.push(spawn("store-house", Box::new(move || upkeep::keep_house(&shared, &engine)))?);
        let (shared, engine) = with();
        // Not waited for when the store closes: it may be compacting, which can be given up at any moment.
        spawn("store-space", Box::new(move || upkeep::keep_space(&shared, &engine)))?;
        let guard = FailOnPanic(with().0);
        spawn(
            "store-writer",
            Box::new(move || {
                let _guard = guard;
                writer.run();
            }),
        )
    })();
    match started {
        Ok(writer) => Ok(Threads { writer, others, lock }),
        Err(error) => {
            shared.ring_out();
            for thread in others {
                let _ = thread.join();
            }
            Err(error)
        }
    }
}

#[async_trait]
impl MessageStore for EmbeddedStore {
    async fn submit(&self, message: NewMessage) -> Result<Outcome, Error> {
        transfer::queue(&self.shared, message, None, Handle::current())?.outcome().await
    }

    async fn get(&self, key: &MessageKey) -> Result<Option<Message>, Error> {
        let engine = self.engine()?;
        self.shared.find(&engine, &index::key_hash(key), key, |view| view.to_message().map_err(Error::internal))
    }

    async fn list(&self, sender: &Sender, after: Option<&PageToken>, limit: PageLimit) -> Result<MessagePage, Error> {
        let (sender, after) = (sender.clone(), after.cloned());
        shared::blocking(&self.shared, move |shared, engine| feed::list(shared, engine, &sender, after.as_ref(), limit))
            .await
    }

    async fn follow(&self, from: FeedFrom, _order: FeedOrder) -> Result<Box<dyn FeedFollower>, Error> {
        Ok(Box::new(Follower::begin(&self.shared, from).await?))
    }

    async fn export(&self, after: Option<&PageToken>, limit: PageLimit) -> Result<ExportPage, Error> {
        let after = after.cloned();
        shared::blocking(&self.shared, move |shared, engine| transfer::export(shared, engine, after.as_ref(), limit))
            .await
    }

    async fn import(&self, messages: Vec<Message>, to_feed: bool) -> Result<Vec<Imported>, Error> {
        let runtime = Handle::current();
        let arrive = move |shared: &Shared, _: &Engine| transfer::arrive(shared, messages, to_feed, &runtime);
        let mut imported = Vec::new();
        for arrival in shared::blocking(&self.shared, arrive).await? {
            imported.push(arrival.imported().await?);
        }
        Ok(imported)
    }

    fn retention(&self) -> Duration {
        self.shared.retention()
    }

    async fn create_key(&self, key: KeyRecord) -> Result<(), Error> {
        self.order(|reply| Order::CreateKey(Box::new(key), reply)).await
    }

    async fn key(&self, id: &KeyId) -> Result<Option<KeyRecord>, Error> {
        keys::get(&*self.engine()?, id)
    }

    async fn keys(&self, org: Option<&OrgId>) -> Result<Vec<ListedKey>, Error> {
        let org = org.cloned();
        shared::blocking(&self.shared, move |_, engine| keys::list(engine, org.as_ref())).await
    }

    async fn revoke_key(&self, id: &KeyId, at: Timestamp) -> Result<Option<KeyRecord>, Error> {
        self.order(|reply| Order::RevokeKey(id.clone(), at, reply)).await
    }

    async fn touch_keys(&self, used: Vec<(KeyId, Timestamp)>) -> Result<(), Error> {
        self.order(|reply| Order::TouchKeys(used, reply)).await
    }

    async fn check(&self) -> Result<(), Error> {
        self.engine()?;
        self.shared.check_acceptance()?;
        self.shared.check_progress()
    }

    async fn close(&self) -> Result<(), Error> {
        let Some(threads) = self.threads.lock().take() else { return Ok(()) };
        let (shared, mark) = (Arc::clone(&self.shared), Arc::clone(&self.mark));
        spawn_blocking(move || close(&shared, &mark, threads)).await.map_err(Error::internal)?
    }
}

/// Finishes the queue, writes everything to tables and says so in the mark.
fn close(shared: &Shared, mark: &MarkFile, threads: Threads) -> Result<(), Error> {
    let engine = stop(shared, threads.writer, threads.others);
    let mut result = shared.check_failure();
    if let (Ok(()), Some(engine)) = (&result, &engine) {
        // Tables, so that the next start has no journal to replay; the sync is for the notes of when keys were used.
        result = upkeep::flush(shared, engine)
            .and_then(|()| engine.db.persist(fjall::PersistMode::SyncAll))
            .map_err(Error::store_unavailable)
            .and_then(|()| mark.write(shared, true).map_err(Error::store_unavailable));
    }
    release(engine);
    drop(threads.lock);
    result
}

/// Ends the threads, the writer after its last group; gives back the engine, which nobody can reach any more.
fn stop(shared: &Shared, writer: JoinHandle<()>, others: Vec<JoinHandle<()>>) -> Option<Arc<Engine>> {
    shared.queue.close();
    // A panic of the writer is a failure of the store by now.
    let _ = writer.join();
    let engine = shared.take_engine();
    shared.ring_out();
    for thread in others {
        let _ = thread.join();
    }
    engine
}

/// Closes the engine once the reads that are under way have ended.
fn release(engine: Option<Arc<Engine>>) {
    let Some(mut engine) = engine else { return };
    // Pages take milliseconds; a reader that hangs must not keep the process from ending.
    for _ in 0..5000 {
        match Arc::try_unwrap(engine) {
            Ok(engine) => return drop(engine),
            Err(shared) => engine = shared,
        }
        thread::sleep(Duration::from_millis(1));
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.lock().take() {
            release(stop(&self.shared, threads.writer, threads.others));
        }
    }
}

/// A writer that panicked accepts nothing more, and its callers are told.
struct FailOnPanic(Arc<Shared>);

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail("the writer panicked".to_owned());
            self.0.queue.abandon();
        }
    }
}

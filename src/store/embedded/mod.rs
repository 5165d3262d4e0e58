//! The store for one machine: the [`MessageStore`] contract on one log.
//!
//! A data directory holds:
//!
//! ```text
//! LOCK                            held while a process has the store open
//! log/<number>.log                segments; <number>.tmp while one is made
//! index/<kind>-<from>-<to>.run    sorted runs over whole segments; derived from the log
//! ```
//!
//! Where to read on: `submit` (one message on its way), `writer` (group commit, exactly once), `log` (what lies on the disk,
//! and what is demanded of it at a start), `view` and `index` (what is known by hash), `feed` and `cursor` (reading forward,
//! cursors), `background` (the next segment, runs, retention), `clock` (the time of acceptance, forgetting), `open` (how it
//! is put together), `disk` (the only place with input and output).
//!
//! Invariants:
//! - Nothing is answered, listed, fed or found before its frame is synced.
//! - One frame is in flight at a time, so any header that verifies vouches for all before it.
//! - A position is given once, by one thread, and a record never moves.
//! - A message is in memory or in a run from the moment it is published: both are one view, swapped at once.
//! - A failed write or sync of the log ends acceptance for good, for nobody knows what the disk holds. A disk without room
//!   does not: what it refused is undone before anything else is written.
//! - Absent, on purpose: deletion of single messages; a second writer; a repair that is not asked for with `accept_loss`,
//!   except of the index, which is made again from the log.
//!
//! Reads run where they are called: of a point read most are answered by the page cache in microseconds, less than moving
//! it to another thread costs. Pages, which read up to 1 MiB, go to a thread that may block.

mod background;
mod building;
mod checksum;
mod clock;
mod cursor;
mod disk;
mod error;
mod export;
mod feed;
mod get;
mod hash;
mod import;
mod index;
mod keys;
mod list;
mod log;
mod meters;
mod open;
mod options;
mod queue;
mod report;
mod sabotage;
mod shared;
#[cfg(test)]
mod sim;
mod state;
mod submit;
mod view;
mod writer;

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::{runtime::Handle, task::spawn_blocking};

pub use error::OpenError;
pub use options::{Mode, Options};
pub use report::{Left, OpenReport};

use self::{
    disk::{Directory, Disk, Lock},
    feed::Follower,
    open::Parts,
    queue::Command,
    shared::{Shared, blocking},
};
use super::{
    ExportPage, FeedFollower, FeedFrom, FeedOrder, FeedStore, ImportInto, Imported, KeyStore, Lifecycle, ListedKey,
    MessagePage, MessageStore, Outcome, PageLimit, PageToken, TransferStore,
};
use crate::{
    domain::{Clock, Error, KeyId, KeyRecord, Message, MessageKey, NewMessage, OrgId, Sender, Timestamp},
    telemetry::names,
};

/// A store in a directory that this process owns until [`Lifecycle::close`]. Dropped without it, the store is left
/// as a crash would leave it.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    threads: Mutex<Option<Threads>>,
}

/// What [`EmbeddedStore`] holds until it is closed.
struct Threads {
    writer: Option<JoinHandle<()>>,
    others: Vec<JoinHandle<()>>,
    /// Released last.
    lock: Lock,
}

impl EmbeddedStore {
    /// Opens the store in `options.dir`, or makes one there. Blocks, for up to seconds after an unclean stop.
    ///
    /// # Errors
    /// [`OpenError`]; its text is for the operator.
    pub fn open(options: Options, clock: Arc<dyn Clock>) -> Result<(Self, OpenReport), OpenError> {
        let dir = options.dir.clone();
        let make = options.mode != Mode::Read;
        let (disk, lock) = Directory::open(dir.clone(), make).map_err(|error| {
            if error.kind() == io::ErrorKind::WouldBlock {
                OpenError::Locked { dir }
            } else if error.kind() == io::ErrorKind::NotFound && !make {
                OpenError::Missing { dir }
            } else {
                OpenError::disk(&dir, error)
            }
        })?;
        if let Some(kind) = disk.doubtful_file_system().filter(|_| make) {
            tracing::warn!(kind, "the data directory is on a file system that may lose what was synced, or be shared");
        }
        for counter in [names::STORE_DAMAGED_TOTAL, names::STORE_FORGOTTEN_TOTAL, names::STORE_LOST_CURSORS_TOTAL] {
            // So that its first event is an increase.
            metrics::counter!(counter).increment(0);
        }
        for gauge in [names::STORE_DAMAGED, names::STORE_CLOCK_STEP_SECONDS] {
            metrics::gauge!(gauge).set(0.0);
        }
        let Parts { shared, writer, preparer, scrubber, report } =
            open::open(Arc::new(disk) as Arc<dyn Disk>, options, clock)?;
        if writer.is_none() {
            shared.queue.close();
        }
        let mut threads = Threads { writer: None, others: Vec::new(), lock };
        if let Some(writer) = writer {
            let (ahead, house) = (Arc::clone(&shared), Arc::clone(&shared));
            let started = [
                start(&shared, "store-ahead", move || background::keep_ahead(&ahead, preparer)),
                start(&shared, "store-house", move || background::maintain(&house, scrubber)),
                start(&shared, "store-writer", move || writer.run()),
            ];
            let mut failed = None;
            for thread in started {
                match thread {
                    Ok(thread) => threads.others.push(thread),
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed {
                stop(&shared, threads);
                return Err(OpenError::Threads { error });
            }
            threads.writer = threads.others.pop();
        }
        Ok((Self { shared, threads: Mutex::new(Some(threads)) }, report))
    }

    /// Forgets what is past its retention and gives its space back, as far as whole segments hold nothing else. For tests.
    ///
    /// # Errors
    /// What stands in the way.
    #[doc(hidden)]
    pub async fn run_retention_now(&self) -> Result<(), Error> {
        keys::command(&self.shared, |reply| Command::Age(Some(reply))).await
    }
}

/// Starts a thread whose panic is a failure of the store.
fn start(shared: &Arc<Shared>, name: &'static str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let guard = FailOnPanic(Arc::clone(shared), name);
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _guard = guard;
        work();
    })
}

#[async_trait]
impl MessageStore for EmbeddedStore {
    async fn submit(&self, message: NewMessage) -> Result<Outcome, Error> {
        submit::submit(&self.shared, message, None).await
    }

    async fn get(&self, key: &MessageKey) -> Result<Option<Message>, Error> {
        get::get(&self.shared, key)
    }

    async fn list(&self, sender: &Sender, after: Option<&PageToken>, limit: PageLimit) -> Result<MessagePage, Error> {
        let (sender, after) = (sender.clone(), after.cloned());
        blocking(&self.shared, move |shared| list::list(shared, &sender, after.as_ref(), limit)).await
    }
}

#[async_trait]
impl FeedStore for EmbeddedStore {
    async fn follow(&self, from: FeedFrom, _order: FeedOrder) -> Result<Box<dyn FeedFollower>, Error> {
        Ok(Box::new(Follower::begin(&self.shared, from).await?))
    }
}

#[async_trait]
impl KeyStore for EmbeddedStore {
    async fn create_key(&self, key: KeyRecord) -> Result<(), Error> {
        keys::command(&self.shared, |reply| Command::CreateKey(Box::new(key), reply)).await
    }

    async fn key(&self, id: &KeyId) -> Result<Option<KeyRecord>, Error> {
        keys::key(&self.shared, id)
    }

    async fn keys(&self, org: Option<&OrgId>) -> Result<Vec<ListedKey>, Error> {
        keys::keys(&self.shared, org)
    }

    async fn revoke_key(&self, id: &KeyId, at: Timestamp) -> Result<Option<KeyRecord>, Error> {
        keys::command(&self.shared, |reply| Command::RevokeKey(id.clone(), at, reply)).await
    }

    async fn touch_keys(&self, used: Vec<(KeyId, Timestamp)>) -> Result<(), Error> {
        keys::command(&self.shared, |reply| Command::TouchKeys(used, reply)).await
    }
}

#[async_trait]
impl TransferStore for EmbeddedStore {
    async fn export(&self, after: Option<&PageToken>, limit: PageLimit) -> Result<ExportPage, Error> {
        let after = after.cloned();
        blocking(&self.shared, move |shared| export::export(shared, after.as_ref(), limit)).await
    }

    async fn import(&self, messages: Vec<Message>, into: ImportInto) -> Result<Vec<Imported>, Error> {
        let runtime = Handle::current();
        let arrive = move |shared: &Shared| import::arrive(shared, messages, into, Some(&runtime));
        let mut imported = Vec::new();
        for arrival in blocking(&self.shared, arrive).await? {
            imported.push(arrival.imported(&self.shared).await?);
        }
        Ok(imported)
    }
}

#[async_trait]
impl Lifecycle for EmbeddedStore {
    async fn check(&self) -> Result<(), Error> {
        self.shared.check()
    }

    fn failure(&self) -> Option<String> {
        self.shared.failure()
    }

    async fn trust_clock(&self) -> Result<bool, Error> {
        self.shared.check_open()?;
        Ok(self.shared.clock.trust())
    }

    async fn close(&self) -> Result<(), Error> {
        let Some(threads) = self.threads.lock().take() else { return Ok(()) };
        let shared = Arc::clone(&self.shared);
        let closed = move || {
            stop(&shared, threads);
            shared.check_failure()
        };
        spawn_blocking(closed).await.map_err(Error::internal)?
    }
}

/// Ends the threads, the writer after its last group, and lets go of the directory.
fn stop(shared: &Shared, threads: Threads) {
    shared.queue.close();
    // A panic of a thread is a failure of the store by now.
    if let Some(writer) = threads.writer {
        let _ = writer.join();
    }
    shared.close();
    shared.preparation.note_change();
    for thread in threads.others {
        let _ = thread.join();
    }
    drop(threads.lock);
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.lock().take() {
            stop(&self.shared, threads);
        }
    }
}

/// A store one of whose threads panicked accepts nothing more, and its callers are told.
struct FailOnPanic(Arc<Shared>, &'static str);

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail(format!("the thread {} panicked", self.1));
            self.0.queue.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::SystemClock;

    #[tokio::test]
    async fn a_panic_in_any_thread_of_the_store_is_a_failure_that_says_so() {
        let dir = tempfile::tempdir().expect("a directory");
        let (store, _) = EmbeddedStore::open(Options::new(dir.path()), Arc::new(SystemClock)).expect("opened");
        assert!(store.check().await.is_ok() && store.failure().is_none());
        let thread = start(&store.shared, "store-doomed", || panic!("on purpose")).expect("started");
        assert!(thread.join().is_err());
        assert_eq!(store.failure().as_deref(), Some("the thread store-doomed panicked"));
        assert!(store.check().await.is_err());
        assert!(store.keys(None).await.is_ok(), "what is durable is still read");
    }
}

//! A real store that can be made to hang, fail, panic, wait and count, for tests of what stands above it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use message_webhook::{
    domain::{
        Clock, Error, KeyId, KeyRecord, Kind, Message, MessageKey, NewMessage, OrgId, Sender, SystemClock, Timestamp,
    },
    store::{
        ExportPage, FeedFollower, FeedFrom, FeedOrder, FeedPage, FeedStart, FeedStore, ImportInto, Imported, KeyStore,
        Lifecycle, ListedKey, MessagePage, MessageStore, Outcome, PageLimit, PageToken, Store, TransferStore,
        embedded::{EmbeddedStore, Options},
    },
};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::{Semaphore, watch};

/// How submissions, reads and checks of a [`FlakyStore`] go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// As they should.
    Fine,
    /// It does what it is asked, but does not answer until its mood changes.
    Silent,
    /// It cannot decide.
    Failing,
    /// It has a bug.
    Panicking,
}

/// A store with a few levers, an embedded one unless it is given another.
pub struct FlakyStore {
    inner: Arc<dyn Store>,
    _dir: Option<TempDir>,
    /// What is added to organisations, so that one store has room for many tests.
    world: Mutex<String>,
    mood: watch::Sender<Mood>,
    accepted: AtomicUsize,
    /// `check`, `key`, `key_records` and `touch_keys` fail while this is set.
    pub fails: AtomicBool,
    /// `check` says that the disk is full while this is set.
    pub is_full: AtomicBool,
    /// A submission waits for one permit.
    pub gate: Semaphore,
    /// Submissions that came to the gate.
    pub submissions: AtomicUsize,
    /// Calls of `get`, `list` and `follow`.
    pub reads: AtomicUsize,
    /// Pages of the feed that were read and are held back, as it is silent.
    pub held_pages: Arc<AtomicUsize>,
    /// Calls of `key`.
    pub key_reads: AtomicUsize,
    /// Calls of `key_records`.
    pub key_lists: AtomicUsize,
    /// What `touch_keys` was told.
    pub touched: Mutex<Vec<(KeyId, Timestamp)>>,
}

impl FlakyStore {
    /// A new store that works.
    pub fn new() -> Arc<Self> {
        Self::with_gate(Semaphore::MAX_PERMITS)
    }

    /// A new store where so many submissions pass the gate.
    pub fn with_gate(permits: usize) -> Arc<Self> {
        let dir = TempDir::new().expect("a directory");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (inner, _) = EmbeddedStore::open(Options::new(dir.path().join("data")), clock).expect("opened");
        Self::made_of(Arc::new(inner), Some(dir), permits)
    }

    /// `inner` with levers.
    pub fn over(inner: Arc<dyn Store>) -> Arc<Self> {
        Self::made_of(inner, None, Semaphore::MAX_PERMITS)
    }

    fn made_of(inner: Arc<dyn Store>, dir: Option<TempDir>, permits: usize) -> Arc<Self> {
        Arc::new(Self {
            inner,
            _dir: dir,
            world: Mutex::default(),
            mood: watch::Sender::new(Mood::Fine),
            accepted: AtomicUsize::new(0),
            fails: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
            gate: Semaphore::new(permits),
            submissions: AtomicUsize::new(0),
            reads: AtomicUsize::new(0),
            held_pages: Arc::default(),
            key_reads: AtomicUsize::new(0),
            key_lists: AtomicUsize::new(0),
            touched: Mutex::default(),
        })
    }

    /// From now on messages are kept and found where no other world has any.
    pub fn set_world(&self, name: &str) {
        name.clone_into(&mut self.world.lock());
    }

    fn in_this_world(&self, key: &MessageKey) -> MessageKey {
        let org = format!("{}{}", key.org.as_str(), self.world.lock());
        MessageKey { org: OrgId::new(&org).expect("valid"), ..key.clone() }
    }

    pub fn set_mood(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// Messages that were told as accepted, or would have been.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// The one message, where there is just one.
    pub async fn only_message(&self) -> Message {
        let start = FeedFrom::Start(FeedStart::Start);
        let mut follower = self.inner.follow(start, FeedOrder::Ordered).await.expect("a follower");
        let page = follower.next(PageLimit { messages: 2, bytes: usize::MAX }).await.expect("a page");
        assert_eq!(page.items.len(), 1);
        page.items.into_iter().next().expect("one").message
    }

    async fn in_the_mood<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let mood = *self.mood.borrow();
        match mood {
            Mood::Fine | Mood::Silent => {}
            Mood::Failing => return Err(Error::store_unavailable("a disk that is full, at /secret/place")),
            Mood::Panicking => panic!("the store panics, as the test wanted"),
        }
        let result = work.await;
        if mood == Mood::Silent {
            let _ = self.mood.subscribe().wait_for(|mood| *mood != Mood::Silent).await;
        }
        result
    }

    fn failing(&self) -> Result<(), Error> {
        if self.fails.load(Ordering::SeqCst) { Err(Error::store_unavailable("told to fail")) } else { Ok(()) }
    }
}

#[async_trait::async_trait]
impl MessageStore for FlakyStore {
    async fn submit(&self, message: NewMessage) -> Result<Outcome, Error> {
        self.submissions.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.expect("never closed").forget();
        let submitted = async {
            let message = NewMessage::new(self.in_this_world(message.key()), message.content().clone());
            let outcome = self.inner.submit(message).await;
            if matches!(outcome, Ok(Outcome::Accepted(_))) {
                self.accepted.fetch_add(1, Ordering::SeqCst);
            }
            outcome
        };
        self.in_the_mood(submitted).await
    }

    async fn get(&self, key: &MessageKey) -> Result<Option<Message>, Error> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.in_the_mood(self.inner.get(&self.in_this_world(key))).await
    }

    async fn list(&self, sender: &Sender, after: Option<&PageToken>, limit: PageLimit) -> Result<MessagePage, Error> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.in_the_mood(self.inner.list(sender, after, limit)).await
    }
}

#[async_trait::async_trait]
impl FeedStore for FlakyStore {
    async fn follow(&self, from: FeedFrom, order: FeedOrder) -> Result<Box<dyn FeedFollower>, Error> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let inner = self.in_the_mood(self.inner.follow(from, order)).await?;
        Ok(Box::new(Follower { inner, mood: self.mood.subscribe(), held_pages: Arc::clone(&self.held_pages) }))
    }
}

/// One that is silent when its store is.
struct Follower {
    inner: Box<dyn FeedFollower>,
    mood: watch::Receiver<Mood>,
    held_pages: Arc<AtomicUsize>,
}

#[async_trait::async_trait]
impl FeedFollower for Follower {
    async fn next(&mut self, limit: PageLimit) -> Result<FeedPage, Error> {
        let page = self.inner.next(limit).await;
        if *self.mood.borrow() == Mood::Silent {
            self.held_pages.fetch_add(1, Ordering::SeqCst);
        }
        let _ = self.mood.wait_for(|mood| *mood != Mood::Silent).await;
        page
    }

    async fn grown(&mut self) -> Result<(), Error> {
        self.inner.grown().await
    }
}

#[async_trait::async_trait]
impl KeyStore for FlakyStore {
    async fn create_key(&self, key: KeyRecord) -> Result<(), Error> {
        self.inner.create_key(key).await
    }

    async fn key(&self, id: &KeyId) -> Result<Option<KeyRecord>, Error> {
        self.key_reads.fetch_add(1, Ordering::SeqCst);
        self.failing()?;
        self.inner.key(id).await
    }

    async fn keys(&self, org: Option<&OrgId>) -> Result<Vec<ListedKey>, Error> {
        self.inner.keys(org).await
    }

    async fn key_records(&self) -> Result<Vec<KeyRecord>, Error> {
        self.key_lists.fetch_add(1, Ordering::SeqCst);
        self.failing()?;
        self.in_the_mood(self.inner.key_records()).await
    }

    async fn revoke_key(&self, id: &KeyId, at: Timestamp) -> Result<Option<KeyRecord>, Error> {
        self.inner.revoke_key(id, at).await
    }

    async fn touch_keys(&self, used: Vec<(KeyId, Timestamp)>) -> Result<(), Error> {
        self.failing()?;
        self.touched.lock().extend(used.iter().cloned());
        self.inner.touch_keys(used).await
    }
}

#[async_trait::async_trait]
impl TransferStore for FlakyStore {
    async fn export(&self, after: Option<&PageToken>, limit: PageLimit) -> Result<ExportPage, Error> {
        self.inner.export(after, limit).await
    }

    async fn import(&self, messages: Vec<Message>, into: ImportInto) -> Result<Vec<Imported>, Error> {
        self.inner.import(messages, into).await
    }
}

#[async_trait::async_trait]
impl Lifecycle for FlakyStore {
    async fn check(&self) -> Result<(), Error> {
        if self.is_full.load(Ordering::SeqCst) {
            return Err(Error::new(Kind::DiskFull, "The disk is full"));
        }
        self.failing()?;
        self.in_the_mood(self.inner.check()).await
    }

    async fn close(&self) -> Result<(), Error> {
        self.inner.close().await
    }
}

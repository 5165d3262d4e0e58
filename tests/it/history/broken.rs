//! A real store that breaks one promise, to see that the checker finds out through a server and its clients.

use std::{collections::HashMap, sync::Arc, time::Duration};

use message_webhook::{
    domain::{
        Clock, Content, Error, KeyId, KeyRecord, Message, MessageKey, NewMessage, OrgId, Sender, SystemClock, Timestamp,
    },
    store::{
        Acceptance, ExportPage, FeedFollower, FeedFrom, FeedOrder, FeedPage, FeedStore, ImportInto, Imported, KeyStore,
        Lifecycle, ListedKey, MessagePage, MessageStore, Outcome, PageLimit, PageToken, TransferStore,
        embedded::{EmbeddedStore, Options},
    },
};
use parking_lot::Mutex;
use tempfile::TempDir;

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breakage {
    /// It looks first and writes then, without a condition.
    NoCondition,
    /// A reference that comes late is claimed all the same: some messages are accepted and never delivered.
    NoCheck,
    /// It says "Already processed" of what is still being written, and may not be.
    SpeaksTooEarly,
    /// What comes last is what it shows.
    LastContentWins,
}

/// The store.
pub struct BrokenStore {
    inner: Arc<EmbeddedStore>,
    _dir: TempDir,
    breakage: Breakage,
    clock: SystemClock,
    /// What is being written, and since when.
    begun: Mutex<HashMap<MessageKey, Timestamp>>,
    latest: Mutex<HashMap<MessageKey, Content>>,
}

impl BrokenStore {
    pub fn new(breakage: Breakage) -> Arc<Self> {
        let dir = TempDir::new().expect("a directory");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (inner, _) = EmbeddedStore::open(Options::new(dir.path().join("data")), clock).expect("opened");
        Arc::new(Self {
            inner: Arc::new(inner),
            _dir: dir,
            breakage,
            clock: SystemClock,
            begun: Mutex::default(),
            latest: Mutex::default(),
        })
    }

    /// One message of three, whichever store it is in.
    fn unlucky(key: &MessageKey) -> bool {
        key.sid.as_str().bytes().map(u32::from).sum::<u32>() % 3 == 0
    }

    async fn without_condition(&self, message: NewMessage) -> Result<Outcome, Error> {
        let known = self.inner.get(message.key()).await?.is_some();
        // Others look too before this one has written.
        tokio::time::sleep(Duration::from_millis(5)).await;
        match self.inner.submit(message).await? {
            Outcome::Duplicate { first, .. } if !known => Ok(Outcome::Accepted(first)),
            outcome => Ok(outcome),
        }
    }

    async fn too_early(&self, message: NewMessage) -> Result<Outcome, Error> {
        let now = self.clock.now();
        let earlier = *self.begun.lock().entry(message.key().clone()).or_insert(now);
        if earlier != now && self.inner.get(message.key()).await?.is_none() {
            let first = Acceptance { accepted_at: earlier, duplicates_until: earlier };
            return Ok(Outcome::Duplicate { first, fingerprint: None });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        if Self::unlucky(message.key()) {
            return Err(Error::store_unavailable("the write did not come through"));
        }
        self.inner.submit(message).await
    }
}

#[async_trait::async_trait]
impl MessageStore for BrokenStore {
    async fn submit(&self, message: NewMessage) -> Result<Outcome, Error> {
        match self.breakage {
            Breakage::NoCondition => self.without_condition(message).await,
            Breakage::SpeaksTooEarly => self.too_early(message).await,
            Breakage::LastContentWins => {
                self.latest.lock().insert(message.key().clone(), message.content().clone());
                self.inner.submit(message).await
            }
            Breakage::NoCheck => self.inner.submit(message).await,
        }
    }

    async fn get(&self, key: &MessageKey) -> Result<Option<Message>, Error> {
        let found = self.inner.get(key).await?;
        let latest = self.latest.lock().get(key).cloned();
        Ok(match (found, latest) {
            (Some(found), Some(latest)) => Some(Message { content: latest, ..found }),
            (found, _) => found,
        })
    }

    async fn list(&self, sender: &Sender, after: Option<&PageToken>, limit: PageLimit) -> Result<MessagePage, Error> {
        self.inner.list(sender, after, limit).await
    }
}

#[async_trait::async_trait]
impl FeedStore for BrokenStore {
    async fn follow(&self, from: FeedFrom, order: FeedOrder) -> Result<Box<dyn FeedFollower>, Error> {
        let inner = self.inner.follow(from, order).await?;
        Ok(if self.breakage == Breakage::NoCheck { Box::new(Forgetful(inner)) } else { inner })
    }
}

#[async_trait::async_trait]
impl KeyStore for BrokenStore {
    async fn create_key(&self, key: KeyRecord) -> Result<(), Error> {
        self.inner.create_key(key).await
    }

    async fn key(&self, id: &KeyId) -> Result<Option<KeyRecord>, Error> {
        self.inner.key(id).await
    }

    async fn keys(&self, org: Option<&OrgId>) -> Result<Vec<ListedKey>, Error> {
        self.inner.keys(org).await
    }

    async fn revoke_key(&self, id: &KeyId, at: Timestamp) -> Result<Option<KeyRecord>, Error> {
        self.inner.revoke_key(id, at).await
    }

    async fn touch_keys(&self, used: Vec<(KeyId, Timestamp)>) -> Result<(), Error> {
        self.inner.touch_keys(used).await
    }
}

#[async_trait::async_trait]
impl TransferStore for BrokenStore {
    async fn export(&self, after: Option<&PageToken>, limit: PageLimit) -> Result<ExportPage, Error> {
        self.inner.export(after, limit).await
    }

    async fn import(&self, messages: Vec<Message>, into: ImportInto) -> Result<Vec<Imported>, Error> {
        self.inner.import(messages, into).await
    }
}

#[async_trait::async_trait]
impl Lifecycle for BrokenStore {
    async fn check(&self) -> Result<(), Error> {
        self.inner.check().await
    }

    async fn close(&self) -> Result<(), Error> {
        self.inner.close().await
    }
}

/// A reader to whom some messages never come.
struct Forgetful(Box<dyn FeedFollower>);

#[async_trait::async_trait]
impl FeedFollower for Forgetful {
    async fn next(&mut self, limit: PageLimit) -> Result<FeedPage, Error> {
        let mut page = self.0.next(limit).await?;
        page.items.retain(|item| !BrokenStore::unlucky(&item.message.key));
        Ok(page)
    }

    async fn grown(&mut self) -> Result<(), Error> {
        self.0.grown().await
    }
}

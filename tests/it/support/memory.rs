//! A store in memory that can be told to hang, fail or panic: for tests of what stands above the store.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use message_webhook::{
    domain::{
        Clock, Error, Fingerprint, KeyId, KeyRecord, Message, MessageKey, NewMessage, OrgId, Sender, SystemClock,
        Timestamp,
    },
    store::{
        Acceptance, Cursor, FeedPage, FeedStart, ListedKey, MessagePage, MessageStore, Outcome, PageLimit, PageToken,
    },
};
use tokio::sync::watch;

const RETENTION: Duration = Duration::from_secs(30 * 86_400);

/// How the store behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    Fine,
    /// It accepts, but does not answer until its mood changes.
    Silent,
    /// It cannot decide.
    Failing,
    /// It has a bug.
    Panicking,
}

pub struct MemoryStore {
    mood: watch::Sender<Mood>,
    messages: Mutex<HashMap<MessageKey, (Message, Fingerprint)>>,
    keys: Mutex<HashMap<KeyId, KeyRecord>>,
    accepted: AtomicUsize,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self {
            mood: watch::Sender::new(Mood::Fine),
            messages: Mutex::default(),
            keys: Mutex::default(),
            accepted: AtomicUsize::new(0),
        }
    }
}

impl MemoryStore {
    pub fn set_mood(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// Messages that were told as accepted, or would have been.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// The one message, where there is just one.
    pub fn only_message(&self) -> Message {
        let messages = self.messages.lock().expect("unpoisoned");
        assert_eq!(messages.len(), 1);
        messages.values().next().expect("one").0.clone()
    }

    async fn as_the_mood_is(&self) -> Result<(), Error> {
        match *self.mood.borrow() {
            Mood::Fine => return Ok(()),
            Mood::Silent => {}
            Mood::Failing => return Err(Error::store_unavailable("a disk that is full, at /secret/place")),
            Mood::Panicking => panic!("the store panics, as the test wanted"),
        }
        let _ = self.mood.subscribe().wait_for(|mood| *mood != Mood::Silent).await;
        Ok(())
    }
}

#[async_trait]
impl MessageStore for MemoryStore {
    async fn submit(&self, message: NewMessage) -> Result<Outcome, Error> {
        let outcome = if matches!(*self.mood.borrow(), Mood::Fine | Mood::Silent) {
            let mut messages = self.messages.lock().expect("unpoisoned");
            let accepted_at = SystemClock.now();
            let acceptance = |accepted_at: Timestamp| Acceptance {
                accepted_at,
                duplicates_until: accepted_at.saturating_add(RETENTION),
            };
            Some(match messages.get(message.key()) {
                Some((first, fingerprint)) => {
                    Outcome::Duplicate { first: acceptance(first.accepted_at), fingerprint: Some(*fingerprint) }
                }
                None => {
                    let (key, fingerprint) = (message.key().clone(), *message.fingerprint());
                    messages.insert(key, (message.into_message(accepted_at), fingerprint));
                    self.accepted.fetch_add(1, Ordering::SeqCst);
                    Outcome::Accepted(acceptance(accepted_at))
                }
            })
        } else {
            None
        };
        self.as_the_mood_is().await?;
        outcome.ok_or_else(|| Error::store_unavailable("the mood changed"))
    }

    async fn get(&self, key: &MessageKey) -> Result<Option<Message>, Error> {
        self.as_the_mood_is().await?;
        Ok(self.messages.lock().expect("unpoisoned").get(key).map(|(message, _)| message.clone()))
    }

    async fn list(&self, _: &Sender, _: Option<&PageToken>, _: PageLimit) -> Result<MessagePage, Error> {
        Err(Error::internal("this store has no lists"))
    }

    async fn feed(&self, _: &Cursor, _: PageLimit) -> Result<FeedPage, Error> {
        Err(Error::internal("this store has no feed"))
    }

    async fn feed_cursor(&self, _: FeedStart) -> Result<Cursor, Error> {
        Err(Error::internal("this store has no feed"))
    }

    async fn feed_grown(&self, _: &Cursor) -> Result<(), Error> {
        Err(Error::internal("this store has no feed"))
    }

    fn retention(&self) -> Duration {
        RETENTION
    }

    async fn create_key(&self, key: KeyRecord) -> Result<(), Error> {
        self.keys.lock().expect("unpoisoned").insert(key.id.clone(), key);
        Ok(())
    }

    async fn key(&self, id: &KeyId) -> Result<Option<KeyRecord>, Error> {
        Ok(self.keys.lock().expect("unpoisoned").get(id).cloned())
    }

    async fn keys(&self, org: Option<&OrgId>) -> Result<Vec<ListedKey>, Error> {
        assert!(org.is_none(), "this store lists all keys");
        let keys = self.keys.lock().expect("unpoisoned");
        Ok(keys.values().map(|record| ListedKey { record: record.clone(), last_used_at: None }).collect())
    }

    async fn revoke_key(&self, id: &KeyId, at: Timestamp) -> Result<Option<KeyRecord>, Error> {
        let mut keys = self.keys.lock().expect("unpoisoned");
        Ok(keys.get_mut(id).map(|key| {
            key.revoked_at.get_or_insert(at);
            key.clone()
        }))
    }

    async fn touch_keys(&self, _: Vec<(KeyId, Timestamp)>) -> Result<(), Error> {
        Ok(())
    }

    async fn check(&self) -> Result<(), Error> {
        self.as_the_mood_is().await
    }

    async fn close(&self) -> Result<(), Error> {
        Ok(())
    }
}

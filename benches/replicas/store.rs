//! The store, called in this process.

use std::sync::Arc;

use message_webhook::{
    domain::{
        Content, Environment, FromId, HostPolicy, Media, MessageKey, MessageSid, NewMessage, OrgId, SystemClock,
        Timestamp,
    },
    store::{
        MessageStore, Outcome,
        scylla::{Options, ScyllaStore},
    },
};

use super::{
    bare::sender_of,
    run::{Answer, Client},
};

pub type Store = ScyllaStore;

pub async fn open(options: Options) -> Arc<Store> {
    Arc::new(ScyllaStore::connect(options, Arc::new(SystemClock)).await.expect("a store"))
}

pub async fn fill(store: &Arc<Store>, prefix: &str, count: u64) {
    for number in 0..count {
        while store.submit(message(prefix, number)).await.is_err() {}
    }
}

fn message(prefix: &str, number: u64) -> NewMessage {
    let key = MessageKey {
        org: OrgId::new("bench").expect("valid"),
        env: Environment::Dev,
        sid: MessageSid::new(format!("msg-{prefix}-{number}")).expect("valid"),
    };
    let content = Content {
        from_id: FromId::new(sender_of(number)).expect("valid"),
        timestamp: Timestamp::from_seconds(1_672_531_200).expect("valid"),
        body: Some("Here is my meal, this is gruyere cheese btw.".to_owned()),
        media: Media::image("https://example.com/images/food.jpg".to_owned(), HostPolicy::PublicOnly).ok(),
    };
    NewMessage::new(key, content)
}

pub struct Submits {
    store: Arc<Store>,
    prefix: String,
    period: u64,
}

pub fn accepts(store: &Arc<Store>, prefix: &str) -> impl Fn(usize) -> Submits {
    duplicates(store, prefix, u64::MAX)
}

/// The first `known` of `prefix` again and again.
pub fn duplicates(store: &Arc<Store>, prefix: &str, known: u64) -> impl Fn(usize) -> Submits {
    move |_| Submits { store: Arc::clone(store), prefix: prefix.to_owned(), period: known }
}

impl Client for Submits {
    async fn send(&mut self, number: u64) -> Answer {
        match self.store.submit(message(&self.prefix, number % self.period)).await {
            Ok(Outcome::Accepted(_)) => Answer::Accepted,
            Ok(Outcome::Duplicate { .. }) => Answer::Duplicate,
            Err(_) => Answer::Failed,
        }
    }
}

//! Cursors, page tokens and places of an export, as callers hand them back: of both stores' forms, and of the embedded one also
//! what a real store makes of them.

use std::{path::PathBuf, sync::Arc, sync::OnceLock};

use tokio::runtime::Runtime;

use crate::{
    domain::{
        Content, Environment, Error, FromId, Kind, MessageKey, MessageSid, NewMessage, OrgId, Sender, SystemClock,
        Timestamp,
    },
    store::{
        Cursor, FeedFollower, FeedFrom, FeedOrder, FeedStart, FeedStore, MessageStore, PageLimit, PageToken,
        TransferStore,
        embedded::{EmbeddedStore, Options},
        scylla,
    },
};

const LIMIT: PageLimit = PageLimit { messages: 3, bytes: 1 << 20 };
const MESSAGES: usize = 12;

/// A store with some messages of two organisations, and places in it.
struct Scene {
    runtime: Runtime,
    store: EmbeddedStore,
    /// What a caller may hold: of the feed, of lists and of exports.
    places: Vec<Box<[u8]>>,
    dir: PathBuf,
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A place as a caller sends it; or one that the store gave, changed here and there.
pub fn place(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        as_text(text);
    }
    of_the_other_store(data);
    let scene = scene();
    let mut bytes = match data.split_first() {
        // As they are.
        None | Some((0xff, _)) => data.get(1..).unwrap_or_default().into(),
        Some((which, changes)) => {
            let mut bytes = scene.places[usize::from(*which) % scene.places.len()].clone();
            for change in changes.chunks_exact(2) {
                let at = usize::from(change[0]) % bytes.len();
                bytes[at] ^= change[1];
            }
            bytes
        }
    };
    scene.runtime.block_on(is_harmless(scene, &bytes));
    // Cut off, it is none.
    bytes = bytes.get(..bytes.len().saturating_sub(1)).unwrap_or_default().into();
    scene.runtime.block_on(is_harmless(scene, &bytes));
}

fn as_text(text: &str) {
    if let Ok(cursor) = Cursor::parse(text) {
        assert_eq!(cursor.to_string(), text);
    }
    if let Ok(token) = PageToken::parse(text) {
        assert_eq!(token.to_string(), text);
    }
}

/// The form of ScyllaDB's store: what is read is what would be written, and no cursor is a token.
fn of_the_other_store(data: &[u8]) {
    let Some((made, rest)) = data.split_first_chunk() else { return };
    let Some(store) = Timestamp::from_micros(i64::from_be_bytes(*made)) else { return };
    // So that something is of this store.
    let mut bytes = rest.to_vec();
    if let Some(at) = bytes.get_mut(2..10) {
        at.copy_from_slice(made);
    }
    let (cursor, token) = (Cursor(bytes.clone().into()), PageToken(bytes.into()));
    let as_cursor = scylla::CursorPosition::read(&cursor, store);
    let as_token = scylla::read_token(&token, store);
    if let Ok(place) = &as_cursor {
        assert_eq!(place.to_cursor(store), cursor);
        assert!(cursor.to_string().len() <= 64);
    }
    if let Ok(attempt) = &as_token {
        assert_eq!(scylla::token(*attempt, store), token);
    }
    assert!(as_cursor.is_err() || as_token.is_err());
}

/// Nobody's mistake is a fault of the store, and nobody sees a message that is not in the list asked for.
async fn is_harmless(scene: &Scene, bytes: &[u8]) {
    let store = &scene.store;
    let shown = || bytes.escape_ascii().to_string();
    let mut good = 0;
    match follow(store, Cursor(bytes.into())).await {
        Ok(seen) => {
            good += 1;
            assert!(seen <= MESSAGES, "{}", shown());
        }
        Err(error) => assert!(is_the_callers(&error), "{}: {error:?}", shown()),
    }
    let token = PageToken(bytes.into());
    match store.list(&sender("acme"), Some(&token), LIMIT).await {
        Ok(page) => {
            good += 1;
            assert!(page.messages.iter().all(|message| message.sender() == sender("acme")), "{}", shown());
        }
        Err(error) => assert!(is_the_callers(&error), "{}: {error:?}", shown()),
    }
    match store.export(Some(&token), LIMIT).await {
        Ok(page) => {
            good += 1;
            assert!(page.lost == 0, "{}", shown());
        }
        Err(error) => assert!(is_the_callers(&error), "{}: {error:?}", shown()),
    }
    assert!(good <= 1, "{} is a place of {good} kinds", shown());
}

async fn follow(store: &EmbeddedStore, cursor: Cursor) -> Result<usize, Error> {
    let mut follower = store.follow(FeedFrom::Cursor(cursor), FeedOrder::Ordered).await?;
    let mut seen = 0;
    loop {
        let page = follower.next(LIMIT).await?;
        if page.items.is_empty() {
            return Ok(seen);
        }
        seen += page.items.len();
    }
}

fn is_the_callers(error: &Error) -> bool {
    matches!(error.kind(), Kind::InvalidArgument | Kind::CursorExpired)
}

fn sender(org: &str) -> Sender {
    let (org, from_id) = (OrgId::new(org).unwrap(), FromId::new("user").unwrap());
    Sender { org, env: Environment::Dev, from_id }
}

fn scene() -> &'static Scene {
    static SCENE: OnceLock<Scene> = OnceLock::new();
    SCENE.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("message-webhook-fuzz-{}", std::process::id()));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let _ = std::fs::remove_dir_all(&dir);
        let (store, _) = EmbeddedStore::open(Options::new(&dir), Arc::new(SystemClock)).unwrap();
        let places = runtime.block_on(fill(&store)).unwrap();
        Scene { runtime, store, places, dir }
    })
}

/// Where a follower stands: a page without messages goes on where it began.
async fn stands_at(mut follower: Box<dyn FeedFollower>) -> Result<Cursor, Error> {
    Ok(follower.next(PageLimit { messages: 0, bytes: 0 }).await?.next)
}

async fn fill(store: &EmbeddedStore) -> Result<Vec<Box<[u8]>>, Error> {
    let start = store.follow(FeedFrom::Start(FeedStart::Start), FeedOrder::Ordered).await?;
    let mut places = vec![stands_at(start).await?.0];
    for number in 0..MESSAGES {
        let Sender { org, env, from_id } = sender(["acme", "other"][number % 2]);
        let sid = MessageSid::new(format!("msg_{number}")).unwrap();
        let content = Content { from_id, timestamp: Timestamp::EPOCH, body: Some("Hello".into()), media: None };
        store.submit(NewMessage::new(MessageKey { org, env, sid }, content)).await?;
    }
    let now = store.follow(FeedFrom::Start(FeedStart::Now), FeedOrder::Ordered).await?;
    places.push(stands_at(now).await?.0);
    let mut follower = store.follow(FeedFrom::Start(FeedStart::Start), FeedOrder::Ordered).await?;
    places.extend(follower.next(LIMIT).await?.items.into_iter().map(|item| item.cursor.0));
    places.push(stands_at(follower).await?.0);
    places.extend(store.list(&sender("acme"), None, LIMIT).await?.next.map(|token| token.0));
    places.extend(store.list(&sender("other"), None, LIMIT).await?.next.map(|token| token.0));
    let export = store.export(None, LIMIT).await?.next;
    places.push(store.export(Some(&export), LIMIT).await?.next.0);
    places.push(export.0);
    Ok(places)
}

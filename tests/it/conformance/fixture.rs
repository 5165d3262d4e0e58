//! What the suite needs of a store, and how it speaks to it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use message_webhook::{
    domain::{
        Clock, Content, Environment, Error, Fingerprint, FromId, HostPolicy, KeyOwner, KeyRecord, Media, Message,
        MessageKey, MessageSid, NewKey, NewMessage, OrgId, Scope, Scopes, Sender, SystemClock, Timestamp,
    },
    store::{
        Acceptance, Cursor, FeedFollower, FeedFrom, FeedItem, FeedOrder, FeedPage, FeedStart, Outcome, PageLimit, Store,
    },
};

/// What every message of the suite begins with in all its parts: it must never be found in what is logged.
pub const PLANTED: &str = "planted-";

/// The retention of every store in the suite.
pub const RETENTION: Duration = Duration::from_hours(30 * 24);

/// A store under test.
pub trait Fixture: Send + Sync + 'static {
    type Store: Store;

    /// Whether there is what the store needs; without it the suite does nothing.
    fn is_there() -> bool {
        true
    }

    /// A new, empty store with [`RETENTION`] and a clock that the suite moves.
    fn new() -> impl Future<Output = Self> + Send;

    /// The store.
    fn store(&self) -> &Arc<Self::Store>;

    /// Its clock.
    fn clock(&self) -> &TestClock;

    /// How precisely a test may aim at the end of the retention, by the store's clock.
    const AIM: Duration = Duration::from_micros(1);

    /// Whether a key may be taken for a duplicate for a while after its retention.
    const REMEMBERS_LONGER: bool = false;

    /// Whether a cursor is a point in time, which expires by its age, and not a place among the messages.
    const CURSORS_ARE_TIMES: bool = false;

    /// Gives the store the time to remove for good what is past its retention.
    fn forget_expired(&self) -> impl Future<Output = ()> + Send;

    /// Returns when everything that was accepted before can be read in order, too. At once, where both orders are one.
    fn settle(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Closes the store and opens it again.
    fn reopen(self) -> impl Future<Output = Self> + Send;
}

/// A directory for a store; in memory where there is room, for syncing to a disk is what most tests would wait for.
pub fn tempdir() -> tempfile::TempDir {
    const ROOM: u64 = 4 << 30;
    let memory = Path::new("/dev/shm");
    let free = rustix::fs::statvfs(memory).map_or(0, |disk| disk.f_bavail * disk.f_frsize);
    let dir = if free > ROOM { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    dir.or_else(|_| tempfile::tempdir()).unwrap()
}

/// A clock that the test moves.
#[derive(Clone, Debug)]
pub struct TestClock {
    micros: Arc<AtomicI64>,
    /// By how much the wall clock was set, which the time since boot does not know.
    set: Arc<AtomicI64>,
    /// Whether the machine's time is added.
    runs: bool,
}

impl TestClock {
    /// Noon of a day in 2027; it stands still unless it is moved.
    pub fn new() -> Self {
        Self { micros: Arc::new(AtomicI64::new(1_811_851_200_000_000)), set: Arc::default(), runs: false }
    }

    /// The machine's clock, for a store that has dealings with other clocks.
    pub fn running() -> Self {
        Self { micros: Arc::default(), set: Arc::default(), runs: true }
    }

    pub fn advance(&self, by: Duration) {
        self.micros.fetch_add(by.as_micros() as i64, Ordering::SeqCst);
    }

    pub fn turn_back(&self, by: Duration) {
        self.set.fetch_sub(by.as_micros() as i64, Ordering::SeqCst);
    }

    /// Sets the wall clock right again, however it was turned.
    pub fn set_right(&self) {
        self.set.store(0, Ordering::SeqCst);
    }

    /// Sets the wall clock forward, which the time since boot does not know.
    pub fn turn_forward(&self, by: Duration) {
        self.set.fetch_add(by.as_micros() as i64, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let begin = if self.runs { SystemClock.now().as_micros() } else { 0 };
        let moved = self.micros.load(Ordering::SeqCst) + self.set.load(Ordering::SeqCst);
        Timestamp::from_micros(begin + moved).unwrap()
    }

    fn since_boot(&self) -> Duration {
        let begin = if self.runs { SystemClock.since_boot() } else { Duration::ZERO };
        begin + Duration::from_micros(self.micros.load(Ordering::SeqCst).unsigned_abs())
    }
}

/// A message of org `acme` in `dev`, from `user`.
pub fn message(sid: &str) -> NewMessage {
    message_of("acme", Environment::Dev, "user", sid)
}

pub fn message_of(org: &str, env: Environment, from: &str, sid: &str) -> NewMessage {
    NewMessage::new(key_of(org, env, sid), content(from, Some("Hello")))
}

pub fn message_saying(sid: &str, body: &str) -> NewMessage {
    NewMessage::new(key(sid), content("user", Some(body)))
}

pub fn content(from: &str, body: Option<&str>) -> Content {
    Content {
        from_id: FromId::new(format!("{PLANTED}{from}")).unwrap(),
        timestamp: Timestamp::from_seconds(1_672_531_200).unwrap(),
        body: body.map(|body| format!("{PLANTED}{body}")),
        media: None,
    }
}

pub fn image() -> Media {
    Media::image("https://example.com/images/food.jpg?planted-signature=1".into(), HostPolicy::PublicOnly).unwrap()
}

pub fn audio() -> Media {
    Media::audio("https://example.com/voice.ogg".into(), HostPolicy::PublicOnly).unwrap()
}

pub fn key(sid: &str) -> MessageKey {
    key_of("acme", Environment::Dev, sid)
}

pub fn key_of(org: &str, env: Environment, sid: &str) -> MessageKey {
    MessageKey { org: OrgId::new(org).unwrap(), env, sid: MessageSid::new(format!("{PLANTED}{sid}")).unwrap() }
}

/// The sid of a message as a test named it.
pub fn sid(message: &Message) -> &str {
    message.key.sid.as_str().trim_start_matches(PLANTED)
}

pub fn sender(from: &str) -> Sender {
    sender_of("acme", Environment::Dev, from)
}

pub fn sender_of(org: &str, env: Environment, from: &str) -> Sender {
    Sender { org: OrgId::new(org).unwrap(), env, from_id: FromId::new(format!("{PLANTED}{from}")).unwrap() }
}

/// A new key of `org` in `dev`.
pub fn new_key(org: &str) -> KeyRecord {
    let owner = KeyOwner::Org { org: OrgId::new(org).unwrap(), env: Environment::Dev };
    let scopes: Scopes = [Scope::Submit, Scope::Read].into_iter().collect();
    NewKey::generate(owner, scopes, Timestamp::from_seconds(1).unwrap(), None).unwrap().record
}

/// The times in an outcome that must be an acceptance.
pub fn accepted(outcome: Outcome) -> Acceptance {
    match outcome {
        Outcome::Accepted(acceptance) => acceptance,
        Outcome::Duplicate { .. } => panic!("a duplicate, not accepted"),
    }
}

/// The first acceptance and its fingerprint in an outcome that must be a duplicate.
pub fn duplicate(outcome: Outcome) -> (Acceptance, Option<Fingerprint>) {
    match outcome {
        Outcome::Duplicate { first, fingerprint } => (first, fingerprint),
        Outcome::Accepted(_) => panic!("accepted, not a duplicate"),
    }
}

/// A limit of so many messages and of no bytes in practice.
pub fn up_to(messages: usize) -> PageLimit {
    PageLimit { messages, bytes: 1 << 30 }
}

/// Both orders of the feed.
pub const ORDERS: [FeedOrder; 2] = [FeedOrder::Fast, FeedOrder::Ordered];

/// Longer than anything takes that works.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A follower of the feed in order after `cursor`.
pub async fn follow_after(store: &impl Store, cursor: &Cursor) -> Result<Box<dyn FeedFollower>, Error> {
    store.follow(FeedFrom::Cursor(cursor.clone()), FeedOrder::Ordered).await
}

/// The cursor of a place in the feed.
pub async fn place_of(store: &impl Store, start: FeedStart) -> Cursor {
    stands_at(&mut *store.follow(FeedFrom::Start(start), FeedOrder::Ordered).await.unwrap()).await
}

/// Where `follower` stands: a page without messages goes on where it began.
pub async fn stands_at(follower: &mut dyn FeedFollower) -> Cursor {
    follower.next(PageLimit { messages: 0, bytes: 0 }).await.unwrap().next
}

/// The page after `cursor`, in order.
pub async fn page_after(store: &impl Store, cursor: &Cursor, limit: PageLimit) -> Result<FeedPage, Error> {
    follow_after(store, cursor).await?.next(limit).await
}

/// Everything in the feed after `cursor` in order, page by page, and a place after it.
pub async fn read_feed(store: &impl Store, cursor: Cursor, page: usize) -> (Vec<FeedItem>, Cursor) {
    read_on(&mut *follow_after(store, &cursor).await.unwrap(), page).await
}

/// Everything that `follower` has now, page by page, and where it stands then.
pub async fn read_on(follower: &mut dyn FeedFollower, page: usize) -> (Vec<FeedItem>, Cursor) {
    let mut items = Vec::new();
    loop {
        let page = follower.next(up_to(page)).await.unwrap();
        assert_eq!(page.next, stands_at(follower).await);
        if page.items.is_empty() {
            return (items, page.next);
        }
        items.extend(page.items);
    }
}

/// The next `count` messages, as soon as there are so many.
pub async fn take(follower: &mut dyn FeedFollower, count: usize) -> Vec<FeedItem> {
    let reading = async {
        let mut items = Vec::new();
        while items.len() < count {
            let page = follower.next(up_to(count - items.len())).await.unwrap();
            if page.items.is_empty() {
                follower.grown().await.unwrap();
            }
            items.extend(page.items);
        }
        items
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("messages")
}

pub fn sids(items: &[FeedItem]) -> Vec<&str> {
    items.iter().map(|item| sid(&item.message)).collect()
}

//! Checking keys: what is cached, for how long, and what is noted of their use.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use message_webhook::{
    domain::{Clock, Environment, KeyOwner, Kind, NewKey, OrgId, Scope, Scopes, Timestamp},
    service::{KeyRequest, Keys},
    store::{KeyStore, Store},
};

use super::support::{FlakyStore, eventually};

/// A clock that moves when it is told to.
struct TestClock(AtomicI64);

impl TestClock {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(1_800_000_000)))
    }

    fn pass(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(self.0.load(Ordering::SeqCst)).expect("in range")
    }
}

fn acme() -> KeyOwner {
    KeyOwner::Org { org: OrgId::new("acme").expect("valid"), env: Environment::Dev }
}

fn request(expires_at: Option<Timestamp>) -> KeyRequest {
    KeyRequest {
        owner: acme(),
        scopes: Scopes::from_iter([Scope::Submit]),
        rate: None,
        origins: Vec::new(),
        expires_at,
    }
}

fn keys() -> (Arc<FlakyStore>, Arc<TestClock>, Keys) {
    let (store, clock) = (FlakyStore::new(), TestClock::new());
    let keys = Keys::new(Arc::clone(&store) as Arc<dyn Store>, Arc::clone(&clock) as Arc<dyn Clock>);
    (store, clock, keys)
}

fn reads(store: &FlakyStore) -> usize {
    store.key_reads.load(Ordering::SeqCst)
}

async fn refused(keys: &Keys, text: &str) -> String {
    let error = keys.authenticate(text).await.expect_err("refused");
    assert_eq!(error.kind(), Kind::Unauthenticated);
    error.public_message().to_owned()
}

#[tokio::test]
async fn a_key_in_use_is_read_from_the_store_once_in_seconds_and_an_unknown_one_too() {
    let (store, _, keys) = keys();
    let known = keys.as_operator().create(request(None)).await.expect("created");
    let unknown = NewKey::generate(acme(), Scopes::default(), Timestamp::EPOCH, None).expect("randomness");
    for _ in 0..1000 {
        let caller = keys.authenticate(known.text.reveal()).await.expect("known");
        assert_eq!((caller.key_id(), caller.owner()), (&known.record.id, &acme()));
        refused(&keys, unknown.text.reveal()).await;
    }
    // Two keys; on a very slow machine the entries may have grown old once or twice.
    assert!((2..=8).contains(&reads(&store)), "{}", reads(&store));
}

#[tokio::test]
async fn all_bad_keys_are_refused_in_the_same_words() {
    let (_, clock, keys) = keys();
    let in_a_minute = Timestamp::from_seconds(1_800_000_060).expect("in range");
    let expiring = keys.as_operator().create(request(Some(in_a_minute))).await.expect("created");
    let revoked = keys.as_operator().create(request(None)).await.expect("created");
    // The same id with another secret.
    let other = NewKey::generate(acme(), Scopes::default(), Timestamp::EPOCH, None).expect("randomness");
    keys.authenticate(expiring.text.reveal()).await.expect("not yet expired");
    keys.authenticate(revoked.text.reveal()).await.expect("not yet revoked");
    clock.pass(60);
    keys.as_operator().revoke(&revoked.record.id).await.expect("revoked");
    let words = refused(&keys, "nonsense").await;
    for text in [expiring.text.reveal(), revoked.text.reveal(), other.text.reveal(), "", "mw_dev_aaaaaaaaaaaa_a"] {
        assert_eq!(refused(&keys, text).await, words);
    }
}

#[tokio::test]
async fn a_key_revoked_on_another_replica_ends_within_5_seconds_although_it_is_in_use() {
    let (store, clock, keys) = keys();
    let key = keys.as_operator().create(request(None)).await.expect("created");
    keys.authenticate(key.text.reveal()).await.expect("known");
    store.revoke_key(&key.record.id, clock.now()).await.expect("revoked");
    let revoked = Instant::now();
    eventually("the key's end", async || keys.authenticate(key.text.reveal()).await.err()).await;
    assert!(revoked.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_store_that_fails_for_a_moment_does_not_fail_callers_who_are_known() {
    let (store, _, keys) = keys();
    let key = keys.as_operator().create(request(None)).await.expect("created");
    keys.authenticate(key.text.reveal()).await.expect("known");
    store.fails.store(true, Ordering::SeqCst);
    let before = reads(&store);
    eventually("a look-up that fails", async || {
        keys.authenticate(key.text.reveal()).await.expect("known");
        (reads(&store) > before).then_some(())
    })
    .await;
    // But what is known is not known for ever.
    let error = eventually("an error", async || keys.authenticate(key.text.reveal()).await.err()).await;
    assert_eq!(error.kind(), Kind::StoreUnavailable);
}

#[tokio::test]
async fn the_last_use_is_noted_once_a_minute_and_is_not_lost_when_the_store_fails() {
    let (store, clock, keys) = keys();
    let key = keys.as_operator().create(request(None)).await.expect("created");
    let id = &key.record.id;
    for _ in 0..3 {
        keys.authenticate(key.text.reveal()).await.expect("known");
    }
    let first = clock.now();
    store.fails.store(true, Ordering::SeqCst);
    assert!(keys.save_uses().await.is_err());
    store.fails.store(false, Ordering::SeqCst);
    keys.save_uses().await.expect("saved");
    keys.save_uses().await.expect("nothing to save");
    assert_eq!(*store.touched.lock(), [(id.clone(), first)]);

    // A revocation of another key empties nothing; a new look-up within the minute notes nothing.
    clock.pass(59);
    keys.replace_filed(Vec::new());
    keys.authenticate(key.text.reveal()).await.expect("known");
    keys.save_uses().await.expect("nothing to save");
    assert_eq!(store.touched.lock().len(), 1);
    clock.pass(1);
    keys.replace_filed(Vec::new());
    keys.authenticate(key.text.reveal()).await.expect("known");
    keys.save_uses().await.expect("saved");
    assert_eq!(store.touched.lock().last(), Some(&(id.clone(), clock.now())));
    let listed = keys.as_operator().list(None, None).await.expect("listed");
    assert_eq!(listed[0].last_used_at, Some(clock.now()));
}

#[tokio::test]
async fn keys_of_a_file_stand_beside_created_ones_until_they_are_replaced() {
    let (store, clock, keys) = keys();
    let created = keys.as_operator().create(request(None)).await.expect("created");
    let filed = NewKey::generate(acme(), Scopes::from_iter([Scope::Read]), clock.now(), None).expect("randomness");
    refused(&keys, filed.text.reveal()).await;
    keys.replace_filed(vec![filed.record.clone()]);
    keys.authenticate(filed.text.reveal()).await.expect("of the file");
    keys.authenticate(created.text.reveal()).await.expect("of the store");
    let listed = keys.as_operator().list(None, None).await.expect("listed");
    assert_eq!(listed.len(), 2);
    assert!(listed.is_sorted_by_key(|key| key.record.id.clone()));
    keys.save_uses().await.expect("saved");
    assert!(store.touched.lock().iter().all(|(id, _)| *id == created.record.id));
    let error = keys.as_operator().revoke(&filed.record.id).await.expect_err("of the file");
    assert_eq!(error.kind(), Kind::InvalidArgument);
    keys.replace_filed(Vec::new());
    refused(&keys, filed.text.reveal()).await;
}

#[tokio::test]
async fn a_key_without_scope_or_with_a_past_expiry_is_not_made() {
    let (_, clock, keys) = keys();
    let none = KeyRequest { scopes: Scopes::default(), ..request(None) };
    for wrong in [none, request(Some(clock.now())), request(Some(Timestamp::EPOCH))] {
        let error = keys.as_operator().create(wrong).await.expect_err("refused");
        assert_eq!(error.kind(), Kind::InvalidArgument);
    }
    assert_eq!(keys.as_operator().list(None, None).await.expect("listed"), []);
}

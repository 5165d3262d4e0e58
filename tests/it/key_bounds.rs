//! An organisation's own `admin` keys make so many keys, of such rates; operators and the platform as many as they like.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use message_webhook::{
    domain::{Clock, Environment, Error, KeyOwner, Kind, NewKey, OrgId, Origin, Rate, Scope, Scopes, Timestamp},
    protocol::grpc::v1::{CreateKeyRequest, key_service_client::KeyServiceClient},
    service::{Caller, KeyRequest, Keys},
    store::KeyStore,
};
use tonic::Code;

use crate::support::{FlakyStore, TestServer, grpc::with_key};

const DAY: i64 = 24 * 60 * 60;

struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(self.0.load(Ordering::SeqCst)).expect("in range")
    }
}

fn org(org: &str, env: Environment) -> KeyOwner {
    KeyOwner::Org { org: OrgId::new(org).expect("valid"), env }
}

fn admin(owner: KeyOwner) -> Caller {
    let scopes = Scopes::from_iter([Scope::Admin, Scope::Submit]);
    Caller::of(&NewKey::generate(owner, scopes, Timestamp::EPOCH, None).expect("randomness").record)
}

/// A key of `owner` for so many pages; a browser key where that is not 0.
fn request(owner: KeyOwner, pages: usize) -> KeyRequest {
    let page = |number| Origin::parse(&format!("https://shop{number}.example")).expect("an origin");
    let origins = (0..pages).map(page).collect();
    KeyRequest { owner, scopes: Scopes::from_iter([Scope::Submit]), rate: None, origins, expires_at: None }
}

fn keys() -> (Arc<TestClock>, Keys) {
    let clock = Arc::new(TestClock(AtomicI64::new(1_800_000_000)));
    let store: Arc<dyn KeyStore> = FlakyStore::new();
    (clock.clone(), Keys::new(store, clock))
}

async fn make(keys: &Keys, by: &Caller, pages: usize) -> Result<NewKey, Error> {
    keys.as_caller(by).expect("an admin").create(request(by.owner().clone(), pages)).await
}

fn is_refused(result: Result<NewKey, Error>, with: &str) {
    let error = result.expect_err("one too many");
    assert!(error.kind() == Kind::PermissionDenied && error.to_string().contains(with), "{error}");
}

#[tokio::test]
async fn an_organisations_admin_makes_so_many_live_keys_and_others_as_many_as_they_like() {
    let (_, keys) = keys();
    let acme = org("acme", Environment::Dev);
    let by = admin(acme.clone());
    for _ in 0..12 {
        make(&keys, &by, 16).await.expect("room");
    }
    // Many at once do not pass the bound together.
    let made = futures_util::future::join_all((0..20).map(|_| make(&keys, &by, 0))).await;
    let (made, refused): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), refused.len()), (200 - 12 * 16, 12));
    refused.into_iter().for_each(|refused| is_refused(refused, "at most 200 live keys"));

    make(&keys, &admin(org("other", Environment::Dev)), 0).await.expect("another's are others");
    make(&keys, &admin(org("acme", Environment::Prod)), 0).await.expect("another environment's, too");
    let platform = admin(KeyOwner::Platform);
    keys.as_caller(&platform).expect("an admin").create(request(acme.clone(), 0)).await.expect("no bound");
    let last = keys.as_operator().create(request(acme, 0)).await.expect("no bound");

    is_refused(make(&keys, &by, 0).await, "at most 200 live keys");
    let first = made.into_iter().next().expect("one").expect("made");
    for id in [&first.record.id, &last.record.id] {
        keys.as_caller(&by).expect("an admin").revoke(id).await.expect("revoked");
    }
    is_refused(make(&keys, &by, 0).await, "at most 200 live keys");
}

#[tokio::test]
async fn keys_that_are_made_and_revoked_again_and_again_are_bounded_too() {
    let (clock, keys) = keys();
    let by = admin(org("acme", Environment::Dev));
    for _ in 0..31 {
        let key = make(&keys, &by, 16).await.expect("room");
        keys.as_caller(&by).expect("an admin").revoke(&key.record.id).await.expect("revoked");
    }
    is_refused(make(&keys, &by, 5).await, "at most 500 keys in 30 days");
    make(&keys, &by, 4).await.expect("room");
    clock.0.fetch_add(31 * DAY, Ordering::SeqCst);
    make(&keys, &by, 5).await.expect("room again");
}

#[tokio::test]
async fn an_organisations_admin_grants_no_rate_beyond_that_of_every_key() {
    let server = TestServer::builder().set("rate_limit_per_key", "10/s burst 20").start().await;
    let own = server.key("acme", Environment::Dev, &[Scope::Admin, Scope::Submit]).await;
    let platform = server.key_of(KeyOwner::Platform, &[Scope::Admin]).await;
    let mut keys = KeyServiceClient::connect(format!("http://{}", server.grpc)).await.expect("connected");
    let asked = |rate: &str| CreateKeyRequest { rate: rate.into(), ..CreateKeyRequest::default() };
    for rate in ["1000000/s", "10/s burst 21", "11/s burst 1"] {
        let refused = keys.create_key(with_key(&own, asked(rate))).await.err().expect("beyond");
        assert_eq!(refused.code(), Code::PermissionDenied, "{rate}");
        assert!(refused.message().contains("at most 10/s burst 20"), "{}", refused.message());
        let env = message_webhook::protocol::grpc::v1::Environment::Dev.into();
        let for_org = CreateKeyRequest { org_id: "acme".into(), env, ..asked(rate) };
        keys.create_key(with_key(&platform, for_org)).await.expect("the platform decides");
    }
    for rate in ["10/s burst 20", "5/min", ""] {
        keys.create_key(with_key(&own, asked(rate))).await.expect("within");
    }
    let rate = Rate::parse("1000000/s");
    let request = KeyRequest { rate, ..request(org("acme", Environment::Dev), 0) };
    server.keys.as_operator().create(request).await.expect("the operator decides");
}

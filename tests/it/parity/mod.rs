//! One table of cases, each run on the service itself, over HTTP and over gRPC: the same outcome, the same reason and
//! the same stored message.
//!
//! What only JSON can get wrong (syntax, types, repeated fields, two media) is in `http::json`; what only gRPC can say
//! (unset org and env, unknown enum values, a deadline) is in `grpc::submit` and `grpc::framework`.

mod cases;
mod ways;

use std::sync::Arc;

use message_webhook::{
    domain::{Content, Environment, MessageKey, MessageSid, OrgId, SystemClock},
    service::AdmissionLimits,
    store::{Lifecycle, MessageStore, scylla::ScyllaStore},
};

use crate::support::{
    edges::{Edges, Settings},
    flaky::{FlakyStore, Mood},
    ring::{self, Keyspace},
};
use cases::{CASES, Case, PLENTY};
use ways::{Keyring, Outcome, Way};

#[tokio::test]
async fn every_case_ends_alike_on_the_service_over_http_and_over_grpc() {
    let failed = every_case(Stage::New).await;
    assert!(failed.is_empty(), "\n{}\n", failed.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_ends_so_on_the_store_for_many_replicas_too() {
    let Some(nodes) = ring::nodes() else { return };
    let keyspace = Keyspace::new(nodes, |_| {}).await;
    let store = ScyllaStore::connect(keyspace.options(), Arc::new(SystemClock)).await.expect("a store");
    let store = FlakyStore::over(Arc::new(store));
    let shared = own(Settings::default().admission, Some(Arc::clone(&store))).await;
    let failed = every_case(Stage::Shared(Box::new(shared))).await;
    assert!(failed.is_empty(), "\n{}\n", failed.join("\n"));
    store.close().await.expect("closed");
}

/// What the cases are run on.
enum Stage {
    /// Each on a server and a store of its own.
    New,
    /// All on one server and one store, which is slow to make.
    Shared(Box<(Edges, Keyring)>),
}

/// The cases that end otherwise than the table says, each in words.
async fn every_case(stage: Stage) -> Vec<String> {
    assert!(CASES.len() >= 40, "only {} cases", CASES.len());
    let mut failed = Vec::new();
    for (number, case) in CASES.iter().enumerate() {
        for way in case.ways.iter().copied() {
            let (outcome, stored) = match &stage {
                Stage::New => run(case, way, &own(case.admission(), None).await).await,
                // Decided before the store is asked, and by how fast it was.
                Stage::Shared(_) if case.admission != PLENTY => continue,
                Stage::Shared(shared) => {
                    shared.0.store.set_world(&format!("-{number}-{way:?}"));
                    run(case, way, shared).await
                }
            };
            if outcome != case.outcome() {
                failed.push(format!("{} by {way:?}: {outcome:?}, not {:?}", case.name, case.outcome()));
            }
            let kept = case.stored();
            if stored != kept {
                failed.push(format!("{} by {way:?}: another message is stored", case.name));
            }
        }
    }
    failed
}

#[test]
fn each_case_has_a_name_of_its_own() {
    let mut names: Vec<_> = CASES.iter().map(|case| case.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), CASES.len());
}

/// A server, and a key for each role.
async fn own(admission: AdmissionLimits, store: Option<Arc<FlakyStore>>) -> (Edges, Keyring) {
    let edges = Edges::start_with(Settings { admission, store, ..Settings::default() }).await;
    let keyring = Keyring::new(&edges).await;
    (edges, keyring)
}

/// What the last submission of `case` was told, and what is stored then.
async fn run(case: &Case, way: Way, (edges, keyring): &(Edges, Keyring)) -> (Outcome, Option<Content>) {
    let first = if matches!(case.who, cases::Who::Limited) { case.who } else { cases::Who::Owner };
    for earlier in case.earlier {
        let outcome = way.submit(edges, keyring.get(first), earlier).await;
        assert!(matches!(outcome, Outcome::Accepted | Outcome::Duplicate { .. }), "{}: {outcome:?}", case.name);
    }
    edges.store.set_mood(case.mood);
    let outcome = way.submit(edges, keyring.get(case.who), &case.submission).await;
    edges.store.set_mood(Mood::Fine);
    (outcome, stored(edges, &case.submission).await)
}

async fn stored(edges: &Edges, submission: &cases::Submission) -> Option<Content> {
    let key = MessageKey {
        org: OrgId::new("acme").expect("valid"),
        env: Environment::Dev,
        sid: MessageSid::new(submission.sid.as_str()).ok()?,
    };
    edges.store.get(&key).await.expect("readable").map(|message| message.content)
}

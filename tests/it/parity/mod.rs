//! One table of cases, each run on the service itself, over HTTP and over gRPC: the same outcome, the same reason and
//! the same stored message.
//!
//! What only JSON can get wrong (syntax, types, repeated fields, two media) is in `http::json`; what only gRPC can say
//! (unset org and env, unknown enum values, a deadline) is in `grpc::submit` and `grpc::framework`.

mod cases;
mod ways;

use message_webhook::domain::{Content, Environment, MessageKey, MessageSid, OrgId};

use crate::support::{
    edges::{Edges, Settings},
    flaky::Mood,
};
use cases::{CASES, Case};
use ways::{Keyring, Outcome, Way};

#[tokio::test]
async fn every_case_ends_alike_on_the_service_over_http_and_over_grpc() {
    assert!(CASES.len() >= 40, "only {} cases", CASES.len());
    let mut failed = Vec::new();
    for case in CASES {
        for way in case.ways.iter().copied() {
            let (outcome, stored) = run(case, way).await;
            if outcome != case.outcome() {
                failed.push(format!("{} by {way:?}: {outcome:?}, not {:?}", case.name, case.outcome()));
            }
            let kept = case.stored();
            if stored != kept {
                failed.push(format!("{} by {way:?}: another message is stored", case.name));
            }
        }
    }
    assert!(failed.is_empty(), "\n{}\n", failed.join("\n"));
}

#[test]
fn each_case_has_a_name_of_its_own() {
    let mut names: Vec<_> = CASES.iter().map(|case| case.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), CASES.len());
}

/// What the last submission of `case` was told, and what is stored then. Each run has a server of its own.
async fn run(case: &Case, way: Way) -> (Outcome, Option<Content>) {
    let edges = Edges::start_with(Settings { admission: case.admission(), ..Settings::default() }).await;
    let keyring = Keyring::new(&edges).await;
    for earlier in case.earlier {
        let outcome = way.submit(&edges, keyring.get(cases::Who::Owner), earlier).await;
        assert!(matches!(outcome, Outcome::Accepted | Outcome::Duplicate { .. }), "{}: {outcome:?}", case.name);
    }
    edges.store.set_mood(case.mood);
    let outcome = way.submit(&edges, keyring.get(case.who), &case.submission).await;
    edges.store.set_mood(Mood::Fine);
    (outcome, stored(&edges, &case.submission).await)
}

async fn stored(edges: &Edges, submission: &cases::Submission) -> Option<Content> {
    use message_webhook::store::MessageStore;

    let key = MessageKey {
        org: OrgId::new("acme").expect("valid"),
        env: Environment::Dev,
        sid: MessageSid::new(submission.sid.as_str()).ok()?,
    };
    edges.store.get(&key).await.expect("readable").map(|message| message.content)
}

//! When places for work in the store run short, reads are refused before submissions, dev before prod, and whoever holds most
//! before the others.

use std::sync::atomic::Ordering;

use message_webhook::{
    domain::{Environment as Env, Scope},
    protocol::grpc::v1::{Environment, GetMessageRequest, StreamMessagesRequest, SubmitMessageRequest},
    service::{AdmissionLimits, RateLimits},
};
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::{
    grpc::client::Failure,
    support::{
        edges::{Edges, Settings},
        eventually,
        flaky::Mood,
        grpc::{client, submission, with_key},
        message,
        raw::{ask, post},
    },
};

/// What is under way, each until the store's mood is better.
struct Scene {
    edges: Edges,
    key: String,
    under_way: JoinSet<Result<(), Status>>,
}

impl Scene {
    async fn with_places(in_flight: usize) -> Self {
        let admission = AdmissionLimits { in_flight, rates: RateLimits::default() };
        let edges = Edges::start_with(Settings { admission, ..Settings::default() }).await;
        let key = edges.platform_key(&[Scope::Submit, Scope::Read]).await;
        edges.store.set_mood(Mood::Silent);
        Self { edges, key, under_way: JoinSet::new() }
    }

    fn waiting(&self) -> usize {
        self.edges.store.submissions.load(Ordering::SeqCst) + self.edges.store.reads.load(Ordering::SeqCst)
    }

    /// One more submission or look-up; it is refused as overload, or waits for the store.
    async fn takes(&mut self, org: &str, env: Environment, reads: bool) -> bool {
        let before = self.waiting();
        let (grpc, key, org) = (self.edges.grpc, self.key.clone(), org.to_owned());
        self.under_way.spawn(async move {
            let mut client = client(grpc).await;
            if reads {
                let request = GetMessageRequest { org_id: org, env: env.into(), message_sid: "none".into() };
                match client.get_message(with_key(&key, request)).await {
                    Err(status) if status.code() != Code::NotFound => Err(status),
                    Ok(_) | Err(_) => Ok(()),
                }
            } else {
                let sid = format!("s{before}");
                let request = SubmitMessageRequest { org_id: org, env: env.into(), ..submission("u", &sid) };
                client.submit_message(with_key(&key, request)).await.map(drop)
            }
        });
        let end = eventually("a place or a refusal", async || {
            if self.waiting() > before {
                return Some(Ok(()));
            }
            self.under_way.try_join_next().map(|ended| ended.expect("no panic"))
        });
        match end.await {
            Ok(()) => true,
            Err(status) => {
                let failure = Failure::of(&status);
                assert!(failure.is(Code::Unavailable, "OVERLOADED") && failure.retry_after.is_some(), "{failure:?}");
                false
            }
        }
    }

    async fn all_end_well(mut self) {
        self.edges.store.set_mood(Mood::Fine);
        while let Some(ended) = self.under_way.join_next().await {
            ended.expect("no panic").expect("it had a place");
        }
    }
}

#[tokio::test]
async fn reads_and_dev_are_refused_before_submissions_and_prod() {
    const READ: bool = true;
    let mut scene = Scene::with_places(10).await;
    // Each for another organisation, so that nobody has much.
    for org in 0..6 {
        assert!(scene.takes(&format!("o{org}"), Environment::Prod, !READ).await);
    }
    for (held, env, reads) in [
        (6, Environment::Dev, READ),
        (7, Environment::Prod, READ),
        (8, Environment::Dev, !READ),
        (9, Environment::Prod, !READ),
    ] {
        assert!(scene.takes(&format!("o{held}"), env, reads).await, "with {held} of 10 held");
        assert!(!scene.takes("late", env, reads).await, "with {} of 10 held", held + 1);
    }
    let request = post("/late/prod/v1/message-webhook", &scene.key, message("s"));
    let answer = ask(scene.edges.http, request).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (503, "overloaded"));
    assert!(answer.header("retry-after").is_some());
    scene.all_end_well().await;
}

#[tokio::test]
async fn a_tenant_that_takes_all_it_can_get_leaves_places_for_another() {
    let mut scene = Scene::with_places(20).await;
    let mut taken = 0;
    while scene.takes("greedy", Environment::Prod, false).await {
        taken += 1;
    }
    assert!((16..20).contains(&taken), "{taken}");
    let request = post("/greedy/prod/v1/message-webhook", &scene.key, message("http"));
    assert_eq!(ask(scene.edges.http, request).await.status, 503, "over HTTP too");
    assert!(scene.takes("modest", Environment::Prod, false).await);
    assert!(!scene.takes("greedy", Environment::Prod, false).await);
    scene.all_end_well().await;
}

#[tokio::test]
async fn readers_of_one_tenant_leave_room_for_those_of_others_and_of_the_platform() {
    let edges = Edges::start_with(Settings { streams: 20, ..Settings::default() }).await;
    let greedy = edges.org_key("greedy", Env::Prod, &[Scope::Stream]).await;
    let modest = edges.org_key("modest", Env::Prod, &[Scope::Stream]).await;
    let platform = edges.platform_key(&[Scope::Stream]).await;
    let mut client = client(edges.grpc).await;
    let mut open = Vec::new();
    loop {
        let opened = client.stream_messages(with_key(&greedy, StreamMessagesRequest::default())).await;
        match opened {
            Ok(stream) => open.push(stream),
            Err(status) => {
                let failure = Failure::of(&status);
                assert!(failure.is(Code::Unavailable, "OVERLOADED") && failure.retry_after.is_some(), "{failure:?}");
                break;
            }
        }
    }
    assert!((12..16).contains(&open.len()), "{}", open.len());
    for key in [&modest, &platform] {
        open.push(client.stream_messages(with_key(key, StreamMessagesRequest::default())).await.expect("room"));
    }
    drop(open);
    eventually("room again", async || {
        client.stream_messages(with_key(&greedy, StreamMessagesRequest::default())).await.ok().map(drop)
    })
    .await;
}

#[tokio::test]
async fn readers_with_platform_keys_leave_room_for_those_of_tenants_and_of_each_other() {
    let edges = Edges::start_with(Settings { streams: 20, ..Settings::default() }).await;
    let tenant = edges.org_key("tenant", Env::Prod, &[Scope::Stream]).await;
    let mut client = client(edges.grpc).await;
    let mut open = Vec::new();
    for number in 0..3 {
        let key = edges.platform_key(&[Scope::Stream]).await;
        let before = open.len();
        while let Ok(stream) = client.stream_messages(with_key(&key, StreamMessagesRequest::default())).await {
            open.push(stream);
        }
        assert!(number == 2 || open.len() > before, "internal service {number}");
    }
    assert!((12..=16).contains(&open.len()), "{}", open.len());
    for _ in 0..3 {
        open.push(client.stream_messages(with_key(&tenant, StreamMessagesRequest::default())).await.expect("room"));
    }
}

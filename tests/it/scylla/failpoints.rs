//! Processes that are killed or halted between each pair of steps of a submission: `cargo test --features failpoints`.

use std::collections::HashMap;

use message_webhook::protocol::grpc::v1::{Environment, GetMessageRequest, ListMessagesRequest};
use reqwest::StatusCode;
use tonic::Code;

use crate::support::{
    PATIENCE, ServerProcess, eventually,
    grpc::{self, with_key},
    process,
    ring::{self, Keyspace},
};

/// Before each of them a process may end; the last comes after the claim.
const STEPS: [&str; 6] =
    ["before-references", "before-feed-row", "before-sender-row", "after-references", "before-claim", "after-claim"];
/// From here on both references are written, and what the process does not finish, the resolver does.
const REFERRED: usize = 3;
const FROM: &str = "user_abc123";

/// A keyspace with a process that nothing happens to, and a key.
struct World {
    keyspace: Keyspace,
    key: String,
    sound: ServerProcess,
    client: reqwest::Client,
    /// How often "processed" was answered.
    processed: HashMap<String, usize>,
}

impl World {
    async fn new() -> Option<Self> {
        let keyspace = Keyspace::new(ring::nodes()?, |_| {}).await;
        let create = ["keys", "create", "--org", "acme", "--env", "dev", "--scope", "submit", "--scope", "read"];
        let create = create.map(str::to_owned).into_iter().chain(["--store=scylla".to_owned()]).chain(keyspace.flags());
        let made = process::cli(create);
        assert_eq!(made.code, Some(0), "{made:?}");
        let sound = ServerProcess::builder().on_scylla(&keyspace).start();
        let client = reqwest::Client::builder().timeout(PATIENCE).build().expect("a client");
        let key = made.stdout.trim().to_owned();
        Some(Self { keyspace, key, sound, client, processed: HashMap::new() })
    }

    /// A process in which `action` happens at `step` of its third submission.
    fn unsound(&self, step: &str, action: &str) -> ServerProcess {
        let failpoints = format!("{step}=2*off->1*return({action})->off");
        ServerProcess::builder().on_scylla(&self.keyspace).env("FAILPOINTS", failpoints).start()
    }

    fn posting(&self, server: &ServerProcess, sid: &str) -> reqwest::RequestBuilder {
        let body = format!(r#"{{"from_id":"{FROM}","message_sid":"{sid}","timestamp":"1672531200"}}"#);
        self.client
            .post(format!("http://{}/acme/dev/v1/message-webhook", server.http))
            .bearer_auth(&self.key)
            .header("content-type", "application/json")
            .body(body)
    }

    /// Takes an answer down; nothing where there was none.
    async fn note(&mut self, sid: &str, sent: reqwest::Result<reqwest::Response>) -> Option<StatusCode> {
        let answer = sent.ok()?;
        let status = answer.status();
        let body = answer.text().await.ok()?;
        assert!([200, 503].contains(&status.as_u16()), "{status}: {body}");
        *self.processed.entry(sid.to_owned()).or_default() += usize::from(body.contains("received and processed"));
        Some(status)
    }

    async fn post(&mut self, server: &ServerProcess, sid: &str) -> Option<StatusCode> {
        let sent = self.posting(server, sid).send().await;
        self.note(sid, sent).await
    }

    /// The retry of a sender that heard nothing: at the process that nothing happens to, until it hears 200.
    async fn retry(&mut self, sid: &str) {
        for _ in 0..10 {
            let sent = self.posting(&self.sound, sid).send().await;
            if self.note(sid, sent).await == Some(StatusCode::OK) {
                return;
            }
        }
        panic!("{sid} is not accepted");
    }

    /// Whether the message is there.
    async fn has(&self, sid: &str) -> bool {
        let request = GetMessageRequest {
            org_id: String::new(),
            env: Environment::Unspecified.into(),
            message_sid: sid.to_owned(),
        };
        let got = grpc::client(self.sound.grpc).await.get_message(with_key(&self.key, request)).await;
        match got {
            Ok(_) => true,
            Err(status) => {
                assert_eq!(status.code(), Code::NotFound, "{status:?}");
                false
            }
        }
    }

    /// Every sid was "processed" at most once, is known, and is in the sender's list once.
    async fn settle(mut self, sids: &[String]) {
        for sid in sids {
            let before = self.processed.get(sid).copied().unwrap_or_default();
            self.retry(sid).await;
            let after = self.processed.get(sid).copied().unwrap_or_default();
            assert!(after <= 1, "{sid} was processed {after} times");
            assert!(before == after, "{sid} was only accepted by its last retry");
        }
        let request = ListMessagesRequest { from_id: FROM.to_owned(), page_size: 1000, ..Default::default() };
        let list = grpc::client(self.sound.grpc).await.list_messages(with_key(&self.key, request)).await;
        let mut listed: Vec<_> =
            list.expect("a list").into_inner().messages.into_iter().map(|message| message.message_sid).collect();
        listed.sort_unstable();
        let mut sids = sids.to_vec();
        sids.sort_unstable();
        assert_eq!(listed, sids);
        self.sound.terminate();
        let ended = self.sound.wait();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_step_a_process_is_killed_at_nothing_is_lost_and_nothing_is_double() {
    let Some(mut world) = World::new().await else { return };
    let mut sids = Vec::new();
    for (number, step) in STEPS.iter().enumerate() {
        let mut server = world.unsound(step, "kill");
        for count in 0..3 {
            let sid = format!("{step}-{count}");
            let answer = world.post(&server, &sid).await;
            assert_eq!(answer.is_none(), count == 2, "{sid}: {answer:?}");
            sids.push(sid);
        }
        let last = sids.last().expect("some").clone();
        eventually("the end of the process", async || server.has_ended().then_some(())).await;
        if number >= REFERRED {
            // Nobody retries, and it is accepted all the same.
            eventually("the resolver", async || world.has(&last).await.then_some(())).await;
            world.retry(&last).await;
            assert_eq!(world.processed.get(&last), Some(&0), "{last}");
        } else {
            world.retry(&last).await;
        }
    }
    world.settle(&sids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_step_a_process_is_halted_at_one_answer_at_most_is_processed() {
    let Some(mut world) = World::new().await else { return };
    let mut sids = Vec::new();
    for (number, step) in STEPS.iter().enumerate() {
        let server = world.unsound(step, "stop");
        for count in 0..2 {
            let sid = format!("{step}-{count}");
            assert_eq!(world.post(&server, &sid).await, Some(StatusCode::OK), "{sid}");
            sids.push(sid);
        }
        let sid = format!("{step}-2");
        let waiting = tokio::spawn(world.posting(&server, &sid).send());
        server.wait_until_halted();
        if number >= REFERRED {
            // The resolver accepts it, and the process that goes on finds its own attempt accepted.
            eventually("the resolver", async || world.has(&sid).await.then_some(())).await;
        } else {
            // The sender gave up and asks elsewhere.
            world.retry(&sid).await;
        }
        server.signal("CONT");
        let sent = waiting.await.expect("no panic");
        world.note(&sid, sent).await;
        sids.push(sid);
    }
    world.settle(&sids).await;
}

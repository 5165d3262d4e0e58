//! Four tenants on one server, what each of them has, and what is looked for in every answer.

use std::collections::BTreeMap;

use message_webhook::{
    domain::{Environment, KeyOwner, OrgId, Scope},
    protocol::grpc::v1::{
        self, ListMessagesRequest, StartPosition, StreamMessagesRequest, key_service_client::KeyServiceClient,
        stream_messages_request::From as StreamFrom,
    },
};
use prost::Message as _;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::support::{
    PATIENCE, TestServer,
    dice::Dice,
    grpc::{self, Client, with_key},
};

/// The ids that all of them use.
pub const SIDS: u64 = 8;
pub const SENDERS: u64 = 3;

/// An organisation that never called.
pub const NOBODY: (&str, Environment) = ("nobody", Environment::Dev);

pub const TENANTS: [(&str, Environment); 4] = [
    ("acme", Environment::Dev),
    ("acme", Environment::Prod),
    ("other", Environment::Dev),
    // One's name is the beginning of another's.
    ("acme-dev", Environment::Dev),
];

pub struct Tenant {
    pub org: &'static str,
    pub env: Environment,
    /// With all scopes.
    pub key: String,
    /// By `message_sid`.
    pub messages: BTreeMap<String, Kept>,
}

/// What was accepted first.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    pub from_id: String,
    pub body: String,
    pub accepted_at: prost_types::Timestamp,
}

pub struct World {
    pub server: TestServer,
    pub messages: Client,
    pub keys: KeyServiceClient<Channel>,
    pub tenants: Vec<Tenant>,
    pub dice: Dice,
    pub seed: u64,
    /// Places that some tenant was given.
    pub cursors: Vec<String>,
    pub tokens: Vec<String>,
    /// Which call this is, for whoever reads a failure.
    pub at: String,
}

impl World {
    pub async fn new(server: TestServer, seed: u64) -> Self {
        let mut tenants = Vec::new();
        for (org, env) in TENANTS {
            let owner = KeyOwner::Org { org: OrgId::new(org).expect("valid"), env };
            let key = server.key_of(owner, &[Scope::Submit, Scope::Read, Scope::Stream, Scope::Admin]).await;
            tenants.push(Tenant { org, env, key, messages: BTreeMap::new() });
        }
        let messages = grpc::client(server.grpc).await;
        let keys = KeyServiceClient::connect(format!("http://{}", server.grpc)).await.expect("a connection");
        let dice = Dice(seed);
        let (cursors, tokens) = (Vec::new(), Vec::new());
        let mut world =
            Self { server, messages, keys, tenants, dice, seed, cursors, tokens, at: "the beginning".into() };
        // So that there is something of each to be found from the first call on.
        for tenant in 0..TENANTS.len() {
            for sid in 0..SIDS / 2 {
                world.submit_own(tenant, &format!("sid-{sid}"), "user-0").await;
            }
        }
        world
    }

    pub async fn end(self) {
        self.server.stop().await.expect("a good end");
    }

    /// A content of `tenant`'s that no other has.
    pub fn body(&mut self, tenant: usize) -> String {
        format!("{}{}", mark(tenant), self.dice.roll(2))
    }

    pub fn key(&self, tenant: usize) -> String {
        self.tenants[tenant].key.clone()
    }

    /// Nothing of another tenant's is in what `caller` was told.
    pub fn has_only_own(&self, caller: usize, told: &[u8]) {
        for (other, tenant) in self.tenants.iter().enumerate().filter(|(other, _)| *other != caller) {
            let id = tenant.key.split('_').nth(2).expect("an id");
            for word in [mark(other).as_bytes(), id.as_bytes()] {
                let is_there = told.windows(word.len()).any(|part| part == word);
                assert!(!is_there, "{}: {caller} is told of {other}: {}", self.at, told.escape_ascii());
            }
        }
    }

    /// The same for a failure, whose code and text it gives.
    pub fn refused(&self, caller: usize, status: &Status) -> (Code, String) {
        self.has_only_own(caller, status.message().as_bytes());
        self.has_only_own(caller, status.details());
        let details = status.get_error_details();
        let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
        let fields = details.bad_request().map(|bad| bad.field_violations.len()).unwrap_or_default();
        (status.code(), format!("{reason} {fields} {}", status.message()))
    }

    /// What `tenant` now has by the answer to its submission.
    pub fn submitted(&mut self, tenant: usize, sid: &str, from_id: &str, body: &str, told: &v1::SubmitMessageResponse) {
        let at = self.at.clone();
        let accepted_at = told.accepted_at.expect("a time");
        let is_new = told.outcome() == v1::SubmitOutcome::Accepted;
        let messages = &mut self.tenants[tenant].messages;
        match messages.get(sid) {
            None => {
                assert!(is_new && !told.payload_mismatch, "{at}: {tenant} never sent {sid}");
                let kept = Kept { from_id: from_id.into(), body: body.into(), accepted_at };
                messages.insert(sid.to_owned(), kept);
            }
            Some(kept) => {
                assert!(!is_new, "{at}: {sid} of {tenant} is there already");
                assert_eq!(kept.accepted_at, accepted_at, "{at}: {sid} of {tenant}");
                let differs = (kept.from_id.as_str(), kept.body.as_str()) != (from_id, body);
                assert_eq!(told.payload_mismatch, differs, "{at}: {sid} of {tenant}");
            }
        }
    }

    /// A message is the caller's own, as it was accepted.
    pub fn is_own(&self, caller: usize, message: &v1::Message) {
        let tenant = &self.tenants[caller];
        assert_eq!((message.org_id.as_str(), message.env), (tenant.org, env_of(tenant.env).into()), "{}", self.at);
        let kept = tenant.messages.get(&message.message_sid);
        let told = Kept {
            from_id: message.from_id.clone(),
            body: message.message_body.clone().unwrap_or_default(),
            accepted_at: message.accepted_at.expect("a time"),
        };
        assert_eq!(kept, Some(&told), "{}: {} of {caller}", self.at, message.message_sid);
        self.has_only_own(caller, &message.encode_to_vec());
    }

    pub async fn everything_is_as_its_owner_left_it(&mut self) {
        for caller in 0..TENANTS.len() {
            self.feed_is_own(caller).await;
            let mut listed = 0;
            for sender in 0..SENDERS {
                let request =
                    ListMessagesRequest { from_id: format!("user-{sender}"), page_size: 500, ..Default::default() };
                let page = self
                    .messages
                    .list_messages(with_key(&self.key(caller), request))
                    .await
                    .expect("a page")
                    .into_inner();
                assert_eq!(page.next_page_token, "", "{}", self.at);
                page.messages.iter().for_each(|message| self.is_own(caller, message));
                listed += page.messages.len();
            }
            assert_eq!(listed, self.tenants[caller].messages.len(), "{}: {caller}", self.at);
        }
    }

    /// The feed from its start has all of the caller's messages, and no other.
    pub async fn feed_is_own(&mut self, caller: usize) {
        let from = StreamFrom::Position(StartPosition::Start as i32);
        let request = StreamMessagesRequest { from: Some(from), ..Default::default() };
        let mut feed =
            self.messages.stream_messages(with_key(&self.key(caller), request)).await.expect("a stream").into_inner();
        let mut missing = self.tenants[caller].messages.clone();
        let reading = async {
            while !missing.is_empty() {
                let frame = feed.message().await.expect("no error").expect("no end");
                for item in &frame.messages {
                    let message = item.message.as_ref().expect("a message");
                    self.is_own(caller, message);
                    missing.remove(&message.message_sid);
                }
                self.cursors.push(frame.cursor);
                self.cursors.extend(frame.messages.into_iter().map(|item| item.cursor));
            }
        };
        tokio::time::timeout(PATIENCE, reading)
            .await
            .unwrap_or_else(|_| panic!("{}: {caller} misses messages", self.at));
    }
}

pub fn mark(tenant: usize) -> String {
    format!("content-of-{tenant}-")
}

pub fn env_of(env: Environment) -> v1::Environment {
    match env {
        Environment::Dev => v1::Environment::Dev,
        Environment::Prod => v1::Environment::Prod,
    }
}

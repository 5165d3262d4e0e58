//! The calls, each with what its caller must be told.

use message_webhook::{
    domain::{Environment, Timestamp},
    protocol::grpc::{
        control::v1::{ExportMessagesRequest, transfer_service_client::TransferServiceClient},
        v1::{
            self, CreateKeyRequest, FeedOrder, GetMessageRequest, KeyScope, ListKeysRequest, ListMessagesRequest,
            RevokeKeyRequest, StreamMessagesRequest, SubmitMessageRequest, SubmitMessagesRequest,
            stream_messages_request::From as StreamFrom, submit_messages_response::Result as Answer,
        },
    },
};
use prost::Message as _;
use serde_json::{Value, json};
use tonic::{Code, Response, Status};

use super::world::{NOBODY, SENDERS, SIDS, TENANTS, World, env_of};
use crate::support::{
    grpc::{submission, with_key},
    post,
};

/// An organisation and environment, as a caller names it.
type Target = (&'static str, Environment);

impl World {
    /// One call of somebody, to their own or to somebody else's.
    pub async fn random_call(&mut self) {
        let caller = self.roll(TENANTS.len() as u64);
        let other = self.roll(TENANTS.len() as u64);
        let sid = format!("sid-{}", self.dice.roll(SIDS));
        let from_id = format!("user-{}", self.dice.roll(SENDERS));
        match self.dice.roll(9) {
            0 if caller == other => self.submit_own(caller, &sid, &from_id).await,
            0 => self.submit_elsewhere(caller, other, &sid).await,
            1 => self.submit_over_http(caller, other, &sid, &from_id).await,
            2 => self.submit_many(caller, &sid, &from_id).await,
            3 => self.get(caller, other, &sid).await,
            4 => self.list(caller, other, &from_id).await,
            5 => self.follow(caller, other).await,
            6 => self.manage_keys(caller, other).await,
            7 => self.make_keys(caller, other).await,
            _ => self.export(caller).await,
        }
    }

    fn roll(&mut self, below: u64) -> usize {
        usize::try_from(self.dice.roll(below)).expect("small")
    }

    pub async fn submit_own(&mut self, caller: usize, sid: &str, from_id: &str) {
        let body = self.body(caller);
        let request = SubmitMessageRequest { message_body: Some(body.clone()), ..submission(from_id, sid) };
        let told =
            self.messages.submit_message(with_key(&self.key(caller), request)).await.expect("taken").into_inner();
        self.has_only_own(caller, &told.encode_to_vec());
        self.submitted(caller, sid, from_id, &body, &told);
    }

    async fn submit_elsewhere(&mut self, caller: usize, other: usize, sid: &str) {
        let body = self.body(caller);
        let (key, mut messages) = (self.key(caller), self.messages.clone());
        self.is_denied(caller, other, async |(org, env)| {
            let request = SubmitMessageRequest {
                org_id: org.into(),
                env: env_of(env).into(),
                message_body: Some(body.clone()),
                ..submission("user-0", sid)
            };
            messages.submit_message(with_key(&key, request)).await.map(Response::into_inner)
        })
        .await;
    }

    async fn submit_over_http(&mut self, caller: usize, other: usize, sid: &str, from_id: &str) {
        let text = self.body(caller);
        let body = json!({"from_id": from_id, "message_sid": sid, "timestamp": 1_672_531_200, "message_body": text})
            .to_string();
        let (http, key) = (self.server.http, self.key(caller));
        let ask = async |(org, env): Target| {
            post(http, &format!("/{org}/{env}/v1/message-webhook"), &key, body.clone()).await
        };
        let (status, told) = ask(TENANTS[other]).await;
        self.has_only_own(caller, told.to_string().as_bytes());
        if caller != other {
            assert_eq!(status, 403, "{}: {told}", self.at);
            if TENANTS[caller].0 != TENANTS[other].0 {
                let nobody = ask(NOBODY).await;
                assert_eq!((status, without_id(told)), (nobody.0, without_id(nobody.1)), "{}", self.at);
            }
            return;
        }
        assert_eq!(status, 200, "{}: {told}", self.at);
        let accepted_at = Timestamp::parse(told["accepted_at"].as_str().expect("a time")).expect("a time");
        let (seconds, nanos) = accepted_at.as_unix();
        let outcome = match told["duplicate"].as_bool().expect("told") {
            true => v1::SubmitOutcome::Duplicate,
            false => v1::SubmitOutcome::Accepted,
        };
        let told = v1::SubmitMessageResponse {
            outcome: outcome.into(),
            accepted_at: Some(prost_types::Timestamp { seconds, nanos }),
            payload_mismatch: told["payload_matches"] == false,
            ..Default::default()
        };
        self.submitted(caller, sid, from_id, &text, &told);
    }

    /// One stream with a message for each tenant, of which one is the caller's.
    async fn submit_many(&mut self, caller: usize, sid: &str, from_id: &str) {
        let body = self.body(caller);
        let requests: Vec<_> = (0_u64..)
            .zip(TENANTS)
            .map(|(correlation_id, (org, env))| {
                let message = SubmitMessageRequest {
                    org_id: org.into(),
                    env: env_of(env).into(),
                    message_body: Some(body.clone()),
                    ..submission(from_id, sid)
                };
                SubmitMessagesRequest { correlation_id, message: Some(message) }
            })
            .collect();
        let request = with_key(&self.key(caller), futures_util::stream::iter(requests));
        let mut answers = self.messages.submit_messages(request).await.expect("a stream").into_inner();
        let mut answered = 0;
        while let Some(answer) = answers.message().await.expect("no error") {
            answered += 1;
            self.has_only_own(caller, &answer.encode_to_vec());
            match (answer.result.expect("an answer"), answer.correlation_id == caller as u64) {
                (Answer::Receipt(told), true) => self.submitted(caller, sid, from_id, &body, &told),
                (Answer::Error(error), false) => assert_eq!(error.code, Code::PermissionDenied as i32, "{}", self.at),
                (Answer::Receipt(_), false) => panic!("{}: {caller} submitted for {}", self.at, answer.correlation_id),
                (Answer::Error(error), true) => panic!("{}: {}", self.at, error.message),
            }
        }
        assert_eq!(answered, TENANTS.len(), "{}", self.at);
    }

    async fn get(&mut self, caller: usize, other: usize, sid: &str) {
        let (key, mut messages) = (self.key(caller), self.messages.clone());
        let mut ask = async |(org, env): Target| {
            let request = GetMessageRequest { org_id: org.into(), env: env_of(env).into(), message_sid: sid.into() };
            messages.get_message(with_key(&key, request)).await.map(Response::into_inner)
        };
        if caller != other {
            return self.is_denied(caller, other, ask).await;
        }
        match ask(TENANTS[caller]).await {
            Ok(found) => self.is_own(caller, &found.message.expect("a message")),
            Err(status) => {
                assert_eq!(self.refused(caller, &status).0, Code::NotFound, "{}", self.at);
                assert!(!self.tenants[caller].messages.contains_key(sid), "{}: {sid} of {caller}", self.at);
            }
        }
    }

    /// Also after a place in somebody else's list.
    async fn list(&mut self, caller: usize, other: usize, from_id: &str) {
        let token = match self.dice.roll(2) {
            0 => String::new(),
            _ => self.one_of(&self.tokens.clone()),
        };
        let (key, mut messages) = (self.key(caller), self.messages.clone());
        let mut ask = async |(org, env): Target| {
            let request = ListMessagesRequest {
                org_id: org.into(),
                env: env_of(env).into(),
                from_id: from_id.into(),
                page_size: 2,
                page_token: token.clone(),
            };
            messages.list_messages(with_key(&key, request)).await.map(Response::into_inner)
        };
        if caller != other {
            return self.is_denied(caller, other, ask).await;
        }
        let page = ask(TENANTS[caller]).await.unwrap_or_else(|status| panic!("{}: {status:?}", self.at));
        for message in &page.messages {
            assert_eq!(message.from_id, from_id, "{}", self.at);
            self.is_own(caller, message);
        }
        if !page.next_page_token.is_empty() {
            self.tokens.push(page.next_page_token);
        }
    }

    /// Also from a place that somebody else was given.
    async fn follow(&mut self, caller: usize, other: usize) {
        if self.dice.roll(4) == 0 {
            return self.feed_is_own(caller).await;
        }
        let from = StreamFrom::Cursor(self.one_of(&self.cursors.clone()));
        let from = (!self.cursors.is_empty()).then_some(from);
        let order = [FeedOrder::Fast, FeedOrder::Ordered][self.roll(2)];
        let (key, mut messages) = (self.key(caller), self.messages.clone());
        let mut ask = async |(org, env): Target| {
            let request = StreamMessagesRequest {
                org_id: org.into(),
                env: env_of(env).into(),
                from: from.clone(),
                order: order.into(),
            };
            messages.stream_messages(with_key(&key, request)).await.map(Response::into_inner)
        };
        if caller != other {
            return self.is_denied(caller, other, ask).await;
        }
        let mut feed = ask(TENANTS[caller]).await.unwrap_or_else(|status| panic!("{}: {status:?}", self.at));
        // The first comes at once, with a cursor, whether it has messages or not.
        let frame = feed.message().await.expect("no error").expect("no end");
        for item in &frame.messages {
            self.is_own(caller, item.message.as_ref().expect("a message"));
        }
        self.cursors.push(frame.cursor);
    }

    async fn manage_keys(&mut self, caller: usize, other: usize) {
        let (key, mut keys) = (self.key(caller), self.keys.clone());
        if caller == other {
            let listed = keys.list_keys(with_key(&key, ListKeysRequest::default())).await.expect("a list").into_inner();
            let own = key.split('_').nth(2).expect("an id");
            let ids: Vec<_> = listed.keys.iter().map(|key| key.key_id.as_str()).collect();
            assert!(ids.contains(&own), "{}: {ids:?}", self.at);
            return self.has_only_own(caller, &listed.encode_to_vec());
        }
        self.is_denied(caller, other, async |(org, env)| {
            let request = ListKeysRequest { org_id: org.into(), env: env_of(env).into() };
            keys.list_keys(with_key(&key, request)).await.map(Response::into_inner)
        })
        .await;
        // Somebody else's key looks like none at all, and stays what it is.
        let theirs = self.key(other).split('_').nth(2).expect("an id").to_owned();
        let mut revoked = Vec::new();
        for key_id in [theirs, "aaaaaaaaaaaa".to_owned()] {
            let refused = self.keys.clone().revoke_key(with_key(&key, RevokeKeyRequest { key_id })).await;
            revoked.push(self.refused(caller, &refused.err().expect("refused")));
        }
        assert_eq!(revoked[0].0, Code::NotFound, "{}", self.at);
        assert_eq!(revoked[0], revoked[1], "{}", self.at);
        let request = GetMessageRequest { message_sid: "sid-0".into(), ..Default::default() };
        self.messages.get_message(with_key(&self.key(other), request)).await.expect("the key is good");
    }

    async fn make_keys(&mut self, caller: usize, other: usize) {
        let (key, mut keys) = (self.key(caller), self.keys.clone());
        let made = |(org, env): Target, platform| CreateKeyRequest {
            org_id: org.into(),
            env: env_of(env).into(),
            platform,
            scopes: vec![KeyScope::Admin.into()],
            expires_at: None,
            ..CreateKeyRequest::default()
        };
        if caller != other {
            self.is_denied(caller, other, async |target| {
                keys.create_key(with_key(&key, made(target, false))).await.map(Response::into_inner)
            })
            .await;
        }
        let platform = CreateKeyRequest { org_id: String::new(), env: 0, ..made(TENANTS[caller], true) };
        let status = self.keys.create_key(with_key(&key, platform)).await.err().expect("refused");
        assert_eq!(self.refused(caller, &status).0, Code::PermissionDenied, "{}", self.at);
    }

    /// What has everybody's messages is the operator's, on another door.
    async fn export(&mut self, caller: usize) {
        let mut transfer =
            TransferServiceClient::connect(format!("http://{}", self.server.grpc)).await.expect("a connection");
        let request = with_key(&self.key(caller), ExportMessagesRequest::default());
        let status = transfer.export_messages(request).await.expect_err("refused");
        assert_eq!(self.refused(caller, &status).0, Code::Unimplemented, "{}", self.at);
    }

    /// The caller is refused, in the same words as where there never was anything.
    async fn is_denied<T>(&self, caller: usize, other: usize, mut ask: impl AsyncFnMut(Target) -> Result<T, Status>) {
        let Err(status) = ask(TENANTS[other]).await else { panic!("{}: {caller} is let in to {other}", self.at) };
        let refused = self.refused(caller, &status);
        assert_eq!(refused.0, Code::PermissionDenied, "{}: {status:?}", self.at);
        // That there is another environment everybody knows.
        if TENANTS[caller].0 != TENANTS[other].0 {
            let Err(status) = ask(NOBODY).await else { panic!("{}: {caller} is let in to nobody's", self.at) };
            assert_eq!(refused, self.refused(caller, &status), "{}", self.at);
        }
    }

    fn one_of(&mut self, all: &[String]) -> String {
        let which = self.roll(all.len().max(1) as u64);
        all.get(which).cloned().unwrap_or_default()
    }
}

fn without_id(mut told: Value) -> Value {
    told.as_object_mut().expect("an object").remove("request_id");
    told
}

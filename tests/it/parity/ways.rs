//! The three ways to submit.

use http::HeaderMap;
use message_webhook::{
    domain::{Environment, Error, HostPolicy, MessageBuilder, OrgId, Scope, Timestamp},
    protocol::{
        grpc::v1::{self, SubmitMessageRequest, SubmitOutcome, submit_message_request::Media as Wire},
        status,
    },
    service::{self, Call, Protocol, Route, Submit},
};
use serde_json::{Map, Value, json};
use tonic::Code;
use tonic_types::StatusExt;

use super::cases::{Media, Submission, Who};
use crate::support::{
    edges::Edges,
    raw::{ask, post},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Service,
    Http,
    Grpc,
}

/// What a caller is told, in words that all ways share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Accepted,
    Duplicate {
        matches: bool,
    },
    Refused {
        /// As in JSON.
        code: String,
        /// Fields as in JSON, and their words.
        violations: Vec<(String, String)>,
        /// Whether a time to wait is told.
        retry: bool,
    },
}

/// A key for each role in the table.
pub struct Keyring([String; 9]);

impl Keyring {
    pub async fn new(edges: &Edges) -> Self {
        let (dev, prod) = (Environment::Dev, Environment::Prod);
        let revoked = edges.org_key("acme", dev, &[Scope::Submit]).await;
        let id = revoked.split('_').nth(2).expect("an id");
        let id = message_webhook::domain::KeyId::new(id).expect("well formed");
        edges.keys.as_operator().revoke(&id).await.expect("revoked");
        Self([
            edges.org_key("acme", dev, &[Scope::Submit]).await,
            edges.platform_key(&[Scope::Submit]).await,
            edges.org_key("other", dev, &[Scope::Submit]).await,
            edges.org_key("acme", prod, &[Scope::Submit]).await,
            edges.org_key("acme", dev, &[Scope::Read, Scope::Stream, Scope::Admin]).await,
            revoked,
            "mw_dev_abcdefghijkl_nonsense".to_owned(),
            edges.limited_key("1/h").await,
            edges.browser_key(&["https://shop.example"]).await,
        ])
    }

    pub fn get(&self, who: Who) -> &str {
        &self.0[who as usize]
    }
}

impl Way {
    pub const ALL: [Way; 3] = [Way::Service, Way::Http, Way::Grpc];

    /// Submits for the org `acme` and `dev`.
    pub async fn submit(self, edges: &Edges, key: &str, submission: &Submission) -> Outcome {
        match self {
            Way::Service => on_the_service(edges, key, submission).await,
            Way::Http => over_http(edges, key, submission).await,
            Way::Grpc => over_grpc(edges, key, submission).await,
        }
    }
}

async fn on_the_service(edges: &Edges, key: &str, submission: &Submission) -> Outcome {
    let submit = async {
        let mut call = Call::begin(Protocol::Control, Route::NONE, &HeaderMap::new());
        call.identify(edges.keys.authenticate(key).await?)?;
        let org = OrgId::new("acme").expect("valid");
        let permit = edges.service.authorize::<Submit>(&call, org, Environment::Dev)?;
        let mut builder = MessageBuilder::new(HostPolicy::PublicOnly);
        builder.from_id(submission.from_id.as_str());
        builder.message_sid(submission.sid.as_str());
        if let Some((seconds, nanos)) = submission.timestamp {
            builder.timestamp(Timestamp::from_unix(seconds, nanos));
        }
        if let Some(body) = submission.body {
            builder.body(body.as_str());
        }
        match submission.media {
            Media::None => {}
            Media::Image(url) => builder.image_url(url.as_str()),
            Media::Audio(url) => builder.audio_url(url.as_str()),
        }
        let held = permit.share();
        permit.submit(builder.build()?, held).await
    };
    match submit.await.map(|receipt| receipt.outcome) {
        Ok(service::Outcome::Duplicate { payload_matches: matches }) => Outcome::Duplicate { matches },
        Ok(service::Outcome::Accepted) => Outcome::Accepted,
        Err(error) => Outcome::of(&error),
    }
}

impl Outcome {
    fn of(error: &Error) -> Self {
        let pair = |violation: &message_webhook::domain::Violation| {
            (violation.field.to_string(), violation.code.as_str().to_owned())
        };
        Self::Refused {
            code: status::of(error.kind()).code.to_owned(),
            violations: error.violations().iter().map(pair).collect(),
            retry: error.retry_after().is_some(),
        }
    }
}

async fn over_http(edges: &Edges, key: &str, submission: &Submission) -> Outcome {
    let mut fields = Map::new();
    fields.insert("from_id".into(), json!(submission.from_id.as_str()));
    fields.insert("message_sid".into(), json!(submission.sid.as_str()));
    if let Some((seconds, nanos)) = submission.timestamp {
        // An integer where it can be one, so that what no text can say is said.
        let value = match Timestamp::from_unix(seconds, nanos) {
            Ok(at) if nanos != 0 => json!(at.to_string()),
            Ok(_) | Err(_) => json!(seconds),
        };
        fields.insert("timestamp".into(), value);
    }
    if let Some(body) = submission.body {
        fields.insert("message_body".into(), json!(body.as_str()));
    }
    match submission.media {
        Media::None => {}
        Media::Image(url) => drop(fields.insert("image_urls".into(), json!([url.as_str()]))),
        Media::Audio(url) => drop(fields.insert("audio_urls".into(), json!([url.as_str()]))),
    }
    let body = Value::Object(fields).to_string();
    let answer = ask(edges.http, post(crate::support::edges::PATH, key, body)).await;
    if answer.status == 200 {
        let body = answer.json();
        return match &body["duplicate"] {
            Value::Bool(true) => Outcome::Duplicate { matches: body.get("payload_matches").is_none() },
            _ => Outcome::Accepted,
        };
    }
    let code = answer.error_code();
    let face = status::all().find(|face| face.code == code);
    assert_eq!(face.map(|face| face.http.as_u16()), Some(answer.status), "{code}");
    Outcome::Refused { code, violations: answer.violations(), retry: answer.header("retry-after").is_some() }
}

async fn over_grpc(edges: &Edges, key: &str, submission: &Submission) -> Outcome {
    let message = SubmitMessageRequest {
        org_id: "acme".into(),
        env: v1::Environment::Dev.into(),
        from_id: submission.from_id.as_str(),
        message_sid: submission.sid.as_str(),
        timestamp: submission.timestamp.map(|(seconds, nanos)| prost_types::Timestamp { seconds, nanos }),
        message_body: submission.body.map(|body| body.as_str()),
        media: match submission.media {
            Media::None => None,
            Media::Image(url) => Some(Wire::ImageUrl(url.as_str())),
            Media::Audio(url) => Some(Wire::AudioUrl(url.as_str())),
        },
    };
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().expect("ASCII"));
    let status = match edges.grpc_client().await.submit_message(request).await {
        Ok(response) => {
            let receipt = response.into_inner();
            return match receipt.outcome() {
                SubmitOutcome::Accepted => Outcome::Accepted,
                SubmitOutcome::Duplicate => Outcome::Duplicate { matches: !receipt.payload_mismatch },
                SubmitOutcome::Unspecified => panic!("never sent"),
            };
        }
        Err(status) => status,
    };
    let details = status.get_error_details();
    let code = details.error_info().expect("always there").reason.to_ascii_lowercase();
    let face = status::all().find(|face| face.code == code);
    assert_eq!(face.map(|face| face.grpc), Some(status.code()), "{code}");
    assert_ne!(status.code(), Code::Ok);
    let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    let violations = violations.into_iter().map(|violation| {
        let word = violation.description.split_once(": ").expect("a word and a text").0.to_owned();
        let field = match violation.field.as_str() {
            "image_url" => "image_urls".to_owned(),
            "audio_url" => "audio_urls".to_owned(),
            other => other.to_owned(),
        };
        (field, word)
    });
    Outcome::Refused { code, violations: violations.collect(), retry: details.retry_info().is_some() }
}

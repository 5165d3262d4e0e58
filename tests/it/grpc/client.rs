//! Requests as callers make them, and errors as callers read them.

use std::time::Duration;

use message_webhook::protocol::grpc::v1::SubmitMessageRequest;
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt;

/// A message with the three required fields.
pub fn message(sid: &str) -> SubmitMessageRequest {
    SubmitMessageRequest {
        from_id: "u".into(),
        message_sid: sid.into(),
        timestamp: Some(prost_types::Timestamp { seconds: 1_672_531_200, nanos: 0 }),
        ..SubmitMessageRequest::default()
    }
}

pub fn with_key<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().expect("ASCII"));
    request
}

/// Like `expect_err`, for answers that show nothing in `Debug`.
pub trait Refused {
    fn refused(self, why: &str) -> Status;
}

impl<T> Refused for Result<Response<T>, Status> {
    fn refused(self, why: &str) -> Status {
        match self {
            Ok(_) => panic!("answered: {why}"),
            Err(status) => status,
        }
    }
}

/// What a caller learns of a failure, after what every failure has was checked.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: Code,
    pub reason: String,
    /// Field and stable word.
    pub violations: Vec<(String, String)>,
    pub retry_after: Option<Duration>,
}

impl Failure {
    pub fn of(status: &Status) -> Self {
        let details = status.check_error_details().expect("details that can be read");
        let info = details.error_info().expect("always there");
        assert_eq!(info.domain, "messagewebhook");
        assert!(!status.message().is_empty());
        let id = details.request_info().expect("always there").request_id.clone();
        assert_eq!(info.metadata.get("request_id"), Some(&id));
        let doc_url = format!("/docs/errors#{}", info.reason.to_ascii_lowercase());
        assert_eq!(info.metadata.get("doc_url"), Some(&doc_url));
        let answered = status.metadata().get("x-request-id").expect("always there");
        assert_eq!(answered.to_str().expect("ASCII"), id);
        let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
        let pair = |field: String, description: String| {
            let (word, text) = description.split_once(": ").expect("a word and a text");
            assert!(!text.is_empty());
            (field, word.to_owned())
        };
        Self {
            code: status.code(),
            reason: info.reason.clone(),
            violations: violations.into_iter().map(|each| pair(each.field, each.description)).collect(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        }
    }

    pub fn is(&self, code: Code, reason: &str) -> bool {
        self.code == code && self.reason == reason
    }
}

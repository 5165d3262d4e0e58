//! One message to send, and what became of it.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::super::{output::Failure, remote::Server};
use crate::{
    domain::Timestamp,
    protocol::grpc::v1::{SubmitMessageRequest, submit_message_request::Media},
};

/// The webhook's fields. The server checks them; here they only have to have their types.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Item {
    pub(super) from_id: String,
    pub(super) message_sid: String,
    /// An integer or a string.
    pub(super) timestamp: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) message_body: Option<String>,
    #[serde(default)]
    pub(super) image_urls: Vec<String>,
    #[serde(default)]
    pub(super) audio_urls: Vec<String>,
}

/// Where items come from.
pub(super) enum Source {
    One(Box<Item>),
    Lines { name: String, lines: Box<dyn BufRead + Send> },
}

/// What became of one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Accepted,
    Duplicate {
        payload_matches: bool,
    },
    /// For good: the same message would be refused again.
    Refused(String),
}

impl Source {
    pub(super) fn file(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Source::Lines { name: "stdin".into(), lines: Box::new(BufReader::new(std::io::stdin())) });
        }
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| Failure::Failed(format!("cannot open {name}: {error}")))?;
        Ok(Source::Lines { name, lines: Box::new(BufReader::new(file)) })
    }

    /// Hands every item over. A line that is no item ends the reading: what comes after it may be as wrong.
    pub(super) fn read_into(self, items: &mpsc::Sender<Item>) -> Result<(), Failure> {
        let (name, lines) = match self {
            Source::One(item) => {
                // Nobody takes it when sending has failed, and that is told there.
                let _ = items.blocking_send(*item);
                return Ok(());
            }
            Source::Lines { name, lines } => (name, lines),
        };
        for (index, line) in lines.lines().enumerate() {
            let wrong = |what: String| {
                Failure::Failed(format!("{name}, line {}: {what}; lines before it were sent", index + 1))
            };
            let line = line.map_err(|error| wrong(format!("cannot be read: {error}")))?;
            if line.trim().is_empty() {
                continue;
            }
            // The parser's own text may repeat contents; the place is enough.
            let item = serde_json::from_str(&line).map_err(|error| {
                wrong(format!("is no message of the webhook's fields (at column {})", error.column()))
            })?;
            if items.blocking_send(item).is_err() {
                break;
            }
        }
        Ok(())
    }
}

impl Item {
    /// For gRPC. What only JSON can say wrongly is refused here, in the server's words.
    pub(super) fn to_wire(&self, server: &Server) -> Result<SubmitMessageRequest, Outcome> {
        let refused = |text: &str| Outcome::Refused(text.to_owned());
        let timestamp = match &self.timestamp {
            Value::String(text) => Timestamp::parse(text),
            Value::Number(number) => Timestamp::parse(&number.to_string()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                return Err(refused("'timestamp' must be a string or an integer"));
            }
        };
        let (seconds, nanos) = timestamp.map_err(|violation| refused(&violation.message))?.as_unix();
        let media = match (self.image_urls.as_slice(), self.audio_urls.as_slice()) {
            ([], []) => None,
            ([url], []) => Some(Media::ImageUrl(url.clone())),
            ([], [url]) => Some(Media::AudioUrl(url.clone())),
            _ => return Err(refused("send one image or one audio a message")),
        };
        Ok(SubmitMessageRequest {
            org_id: server.org_id(),
            env: server.env().into(),
            from_id: self.from_id.clone(),
            message_sid: self.message_sid.clone(),
            timestamp: Some(prost_types::Timestamp { seconds, nanos }),
            message_body: self.message_body.clone(),
            media,
        })
    }
}

impl Outcome {
    pub(super) fn to_json(&self, sid: &str) -> Value {
        match self {
            Outcome::Refused(error) => json!({"message_sid": sid, "outcome": self.word(), "error": error}),
            Outcome::Accepted | Outcome::Duplicate { .. } => json!({"message_sid": sid, "outcome": self.word()}),
        }
    }

    pub(super) fn to_line(&self, sid: &str) -> String {
        let sid = sid.escape_debug();
        match self {
            Outcome::Refused(error) => format!("{sid}  {}  {error}", self.word()),
            Outcome::Accepted | Outcome::Duplicate { .. } => format!("{sid}  {}", self.word()),
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Outcome::Accepted => "accepted",
            Outcome::Duplicate { payload_matches: true } => "duplicate",
            Outcome::Duplicate { payload_matches: false } => "mismatch",
            Outcome::Refused(_) => "refused",
        }
    }
}

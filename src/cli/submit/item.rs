//! One message to send, and what became of it.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    super::{output::Failure, remote::Server},
    Told,
};
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) image_urls: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) audio_urls: Option<Vec<String>>,
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
        /// This run sent it before, and does not know whether that was accepted.
        may_be_own: bool,
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

    /// Hands every item over, and tells of every line that is none.
    pub(super) fn read_into(self, items: &mpsc::Sender<Item>, tell: &mpsc::WeakSender<Told>) -> Result<(), Failure> {
        let (name, mut lines) = match self {
            Source::One(item) => {
                // Nobody takes it when sending has failed, and that is told there.
                let _ = items.blocking_send(*item);
                return Ok(());
            }
            Source::Lines { name, lines } => (name, lines),
        };
        for number in 1.. {
            let mut line = Vec::new();
            let read = lines.read_until(b'\n', &mut line);
            let read = read.map_err(|error| {
                Failure::Failed(format!("{name}, line {number}: cannot be read: {error}; lines before it were sent"))
            })?;
            if read == 0 {
                break;
            }
            if number == 1 && (line.starts_with(&[0xff, 0xfe]) || line.starts_with(&[0xfe, 0xff])) {
                return Err(Failure::Failed(format!("{name} is UTF-16; save it as UTF-8")));
            }
            // The end of the other side is told there.
            let is_taken = match item_of(&line, number == 1) {
                Ok(None) => true,
                Ok(Some(item)) => items.blocking_send(item).is_ok(),
                Err(wrong) => {
                    let told = Told::Line(number, Outcome::Refused(wrong));
                    tell.upgrade().is_some_and(|tell| tell.blocking_send(told).is_ok())
                }
            };
            if !is_taken {
                break;
            }
        }
        Ok(())
    }
}

/// The item of a line; `None` for an empty one.
fn item_of(line: &[u8], is_first: bool) -> Result<Option<Item>, String> {
    let text =
        std::str::from_utf8(line).map_err(|error| format!("is not UTF-8 from byte {} on", error.valid_up_to()))?;
    let text = if is_first { text.strip_prefix('\u{feff}').unwrap_or(text) } else { text };
    if text.trim().is_empty() {
        return Ok(None);
    }
    // The parser's own text may repeat contents; the place is enough.
    let item = serde_json::from_str(text);
    item.map(Some).map_err(|error| format!("is no message of the webhook's fields (at column {})", error.column()))
}

impl Item {
    /// For gRPC. What only JSON can say wrongly is refused here, in the server's words.
    pub(super) fn to_wire(&self, server: &Server) -> Result<SubmitMessageRequest, Outcome> {
        let refused = |text: &str| Outcome::Refused(text.to_owned());
        let timestamp = match &self.timestamp {
            Value::String(text) => Timestamp::parse(text),
            Value::Number(number) => Timestamp::parse_number(&number.to_string()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                return Err(refused("'timestamp' must be a string or an integer"));
            }
        };
        let (seconds, nanos) = timestamp.map_err(|violation| refused(&violation.message))?.as_unix();
        let urls = |urls: &'_ Option<Vec<String>>| urls.clone().unwrap_or_default();
        let media = match (urls(&self.image_urls).as_slice(), urls(&self.audio_urls).as_slice()) {
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
    fn word(&self) -> &'static str {
        match self {
            Outcome::Accepted => "accepted",
            Outcome::Duplicate { payload_matches: true, .. } => "duplicate",
            Outcome::Duplicate { payload_matches: false, .. } => "mismatch",
            Outcome::Refused(_) => "refused",
        }
    }
}

impl Told {
    pub(super) fn to_json(&self) -> Value {
        let (mut fields, outcome) = match self {
            Told::Item(sid, outcome) => (json!({"message_sid": sid}), outcome),
            Told::Line(line, outcome) => (json!({"line": line}), outcome),
        };
        if let Some(fields) = fields.as_object_mut() {
            fields.insert("outcome".into(), outcome.word().into());
            if let Outcome::Refused(error) = outcome {
                fields.insert("error".into(), error.as_str().into());
            }
        }
        fields
    }

    pub(super) fn to_line(&self) -> String {
        let (name, outcome) = match self {
            Told::Item(sid, outcome) => (sid.escape_debug().to_string(), outcome),
            Told::Line(line, outcome) => (format!("line {line}"), outcome),
        };
        match outcome {
            Outcome::Refused(error) => format!("{name}  {}  {error}", outcome.word()),
            Outcome::Accepted | Outcome::Duplicate { .. } => format!("{name}  {}", outcome.word()),
        }
    }
}

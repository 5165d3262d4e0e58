//! The lines of an export, version 1; `docs/operations/export-format.md` describes them.

use data_encoding::HEXLOWER_PERMISSIVE;
use prost_types::Timestamp as WireTime;
use serde::{Deserialize, Serialize};

use crate::{
    cli::keys::{env_word, instant},
    domain::Timestamp,
    protocol::grpc::{
        control::v1::StoredKey,
        v1::{Environment, Message, message::Media},
    },
};

const FORMAT: &str = "message-webhook-export";
const VERSION: u32 = 1;

/// One line.
pub(super) enum Line {
    /// The first.
    Head,
    /// A key; keys come before messages.
    Key(StoredKey),
    /// A message.
    Message(Message),
    /// Everything before it is whole, and an interrupted export goes on from here.
    Place(String),
    /// The last of a whole export: so many messages came before.
    End { messages: u64 },
}

/// All fields of all lines: which of them are there says which line it is.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Fields {
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exported_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<KeyFields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    org_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    env: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_sid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_body: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    image_urls: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    audio_urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct KeyFields {
    key_id: String,
    secret_hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    org_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    env: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    platform: bool,
    scopes: Vec<String>,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    origins: Vec<String>,
}

impl Line {
    /// The line with its end; `now` stands in the head.
    pub(super) fn to_text(&self, now: Timestamp) -> Result<String, serde_json::Error> {
        let none = Fields::default();
        let fields = match self {
            Line::Head => Fields {
                format: Some(FORMAT.into()),
                version: Some(VERSION),
                exported_at: Some(now.to_string()),
                ..none
            },
            Line::Key(key) => Fields { key: Some(key_fields(key)), ..none },
            Line::Message(message) => message_fields(message),
            Line::Place(place) => Fields { place: Some(place.clone()), ..none },
            Line::End { messages } => Fields { end: Some(true), messages: Some(*messages), ..none },
        };
        serde_json::to_string(&fields).map(|text| text + "\n")
    }

    /// Reads a line. What is wrong with it is told without anything that stands in it.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let fields: Fields = serde_json::from_slice(text).map_err(|error| {
            let what =
                if error.is_data() { "is no line of an export: a field has another type" } else { "is no JSON object" };
            format!("{what} (column {})", error.column())
        })?;
        if let Some(format) = fields.format {
            return match (format.as_str(), fields.version) {
                (FORMAT, Some(VERSION)) => Ok(Line::Head),
                (FORMAT, _) => Err("says that the export has another version than 1: import it by the program that \
                                    wrote it, or a later one"
                    .into()),
                _ => Err("is not of an export of this program".into()),
            };
        }
        if let Some(key) = fields.key {
            return stored_key(key).map(Line::Key);
        }
        if let Some(place) = fields.place {
            return Ok(Line::Place(place));
        }
        if fields.end == Some(true) {
            return Ok(Line::End { messages: fields.messages.ok_or("lacks 'messages'")? });
        }
        message(fields).map(Line::Message)
    }
}

fn message_fields(message: &Message) -> Fields {
    let (mut image_urls, mut audio_urls) = (Vec::new(), Vec::new());
    match &message.media {
        Some(Media::ImageUrl(url)) => image_urls.push(url.clone()),
        Some(Media::AudioUrl(url)) => audio_urls.push(url.clone()),
        None => {}
    }
    Fields {
        org_id: Some(message.org_id.clone()),
        env: Some(env_word(message.env()).into()),
        message_sid: Some(message.message_sid.clone()),
        from_id: Some(message.from_id.clone()),
        timestamp: instant(&message.timestamp),
        message_body: message.message_body.clone(),
        image_urls,
        audio_urls,
        accepted_at: instant(&message.accepted_at),
        traceparent: (!message.traceparent.is_empty()).then(|| message.traceparent.clone()),
        ..Fields::default()
    }
}

fn message(fields: Fields) -> Result<Message, String> {
    let media = match (fields.image_urls.as_slice(), fields.audio_urls.as_slice()) {
        ([], []) => None,
        ([url], []) => Some(Media::ImageUrl(url.clone())),
        ([], [url]) => Some(Media::AudioUrl(url.clone())),
        _ => return Err("has more than one media item".into()),
    };
    let lacks = |field: &str| format!("lacks '{field}'");
    Ok(Message {
        org_id: fields.org_id.ok_or_else(|| lacks("org_id"))?,
        env: environment(&fields.env.ok_or_else(|| lacks("env"))?)?.into(),
        message_sid: fields.message_sid.ok_or_else(|| lacks("message_sid"))?,
        from_id: fields.from_id.ok_or_else(|| lacks("from_id"))?,
        timestamp: Some(time("timestamp", fields.timestamp.as_deref())?),
        message_body: fields.message_body,
        media,
        accepted_at: Some(time("accepted_at", fields.accepted_at.as_deref())?),
        traceparent: fields.traceparent.unwrap_or_default(),
    })
}

fn key_fields(key: &StoredKey) -> KeyFields {
    let env = Environment::try_from(key.env).unwrap_or_default();
    let platform = key.org_id.is_empty();
    KeyFields {
        key_id: key.key_id.clone(),
        secret_hash: HEXLOWER_PERMISSIVE.encode(&key.secret_hash),
        org_id: (!platform).then(|| key.org_id.clone()),
        env: (!platform).then(|| env_word(env).into()),
        platform,
        scopes: key.scopes.clone(),
        created_at: instant(&key.created_at).unwrap_or_default(),
        expires_at: instant(&key.expires_at),
        rate: (!key.rate.is_empty()).then(|| key.rate.clone()),
        origins: key.origins.clone(),
    }
}

fn stored_key(fields: KeyFields) -> Result<StoredKey, String> {
    let (org_id, env) = match (fields.platform, fields.org_id, fields.env) {
        (true, None, None) => (String::new(), Environment::Unspecified),
        (false, Some(org), Some(env)) if !org.is_empty() => (org, environment(&env)?),
        _ => return Err("has a key that belongs neither to an 'org_id' and 'env' nor to the platform".into()),
    };
    let secret_hash = HEXLOWER_PERMISSIVE.decode(fields.secret_hash.as_bytes());
    let expires_at = fields.expires_at.as_deref();
    Ok(StoredKey {
        key_id: fields.key_id,
        secret_hash: secret_hash.map_err(|_| "has a 'secret_hash' that is not hexadecimal")?,
        org_id,
        env: env.into(),
        scopes: fields.scopes,
        created_at: Some(time("created_at", Some(&fields.created_at))?),
        expires_at: expires_at.map(|at| time("expires_at", Some(at))).transpose()?,
        rate: fields.rate.unwrap_or_default(),
        origins: fields.origins,
    })
}

fn environment(word: &str) -> Result<Environment, String> {
    match word {
        "dev" => Ok(Environment::Dev),
        "prod" => Ok(Environment::Prod),
        _ => Err("has an 'env' that is neither dev nor prod".into()),
    }
}

fn time(field: &str, text: Option<&str>) -> Result<WireTime, String> {
    let text = text.ok_or_else(|| format!("lacks '{field}'"))?;
    let at = Timestamp::parse(text).map_err(|_| format!("has a '{field}' that is no time"))?;
    let (seconds, nanos) = at.as_unix();
    Ok(WireTime { seconds, nanos })
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    fn wire(text: &str) -> Option<WireTime> {
        Some(time("", Some(text)).expect("valid"))
    }

    fn lines() -> Vec<Line> {
        let message = |sid: &str, body: Option<&str>, media| Message {
            org_id: "acme".into(),
            env: Environment::Prod.into(),
            message_sid: sid.into(),
            from_id: "user_äöü".into(),
            timestamp: wire("2024-12-18T12:00:00.123456Z"),
            message_body: body.map(str::to_owned),
            media,
            accepted_at: wire("2025-01-02T03:04:05.000006Z"),
            traceparent: String::new(),
        };
        let key = |platform: bool| StoredKey {
            key_id: "abcdefgh2345".into(),
            secret_hash: (0..32).collect(),
            org_id: if platform { String::new() } else { "acme".into() },
            env: if platform { 0 } else { Environment::Dev.into() },
            scopes: vec!["submit".into(), "read".into()],
            created_at: wire("2025-01-01T00:00:00Z"),
            expires_at: (!platform).then(|| wire("2026-01-01T00:00:00Z")).flatten(),
            rate: String::new(),
            origins: Vec::new(),
        };
        vec![
            Line::Head,
            Line::Key(key(false)),
            Line::Key(key(true)),
            Line::Message(message("m1", None, None)),
            Line::Message(message("m2", Some("a\n\"b\" \u{1F600}"), None)),
            Line::Place("AWU".into()),
            Line::Message(message("m3", Some(""), Some(Media::ImageUrl("https://example.com/a.jpg?sig=1".into())))),
            Line::Message(message("m4", None, Some(Media::AudioUrl("https://example.com/b.ogg".into())))),
            Line::Place("AWV".into()),
            Line::End { messages: 4 },
        ]
    }

    fn written(lines: &[Line]) -> String {
        let now = Timestamp::parse("2025-02-03T04:05:06Z").expect("valid");
        lines.iter().map(|line| line.to_text(now).expect("written")).collect()
    }

    #[test]
    fn version_1_is_read_and_written_as_ever() {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/export-v1.ndjson");
        let today = written(&lines());
        if std::env::var_os("UPDATE_GOLDEN").is_some() && !path.exists() {
            fs::write(&path, &today).expect("writable");
        }
        let kept = fs::read_to_string(&path).expect("the golden file");
        assert!(kept == today, "an export is written differently");
        let read: Vec<Line> = kept.lines().map(|line| Line::parse(line.as_bytes()).expect("readable")).collect();
        assert!(written(&read) == kept, "an export is read differently");
    }

    #[test]
    fn the_trace_context_of_a_message_is_one_field_more() {
        const CONTEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let traced = lines().into_iter().find_map(|line| match line {
            Line::Message(message) => Some(Message { traceparent: CONTEXT.into(), ..message }),
            Line::Head | Line::Key(_) | Line::Place(_) | Line::End { .. } => None,
        });
        let text = written(&[Line::Message(traced.expect("a message"))]);
        assert!(text.ends_with(&format!(",\"traceparent\":\"{CONTEXT}\"}}\n")), "{text}");
        let read = Line::parse(text.as_bytes()).expect("readable");
        assert!(matches!(&read, Line::Message(message) if message.traceparent == CONTEXT));
        assert_eq!(written(&[read]), text);
    }

    #[test]
    fn what_a_key_has_of_its_own_are_fields_more() {
        let limited = lines().into_iter().find_map(|line| match line {
            Line::Key(key) => {
                let origins = vec!["https://a.example".to_owned()];
                Some(StoredKey { rate: "50/s burst 100".into(), origins, ..key })
            }
            Line::Head | Line::Message(_) | Line::Place(_) | Line::End { .. } => None,
        });
        let text = written(&[Line::Key(limited.expect("a key"))]);
        assert!(text.ends_with(",\"rate\":\"50/s burst 100\",\"origins\":[\"https://a.example\"]}}\n"), "{text}");
        assert_eq!(written(&[Line::parse(text.as_bytes()).expect("readable")]), text);
    }

    #[test]
    fn what_is_wrong_with_a_line_is_told_without_its_contents() {
        let refused = |text: &str| match Line::parse(text.as_bytes()) {
            Ok(_) => panic!("read"),
            Err(wrong) => wrong,
        };
        assert_eq!(refused("secret"), "is no JSON object (column 1)");
        assert!(refused(r#"{"message_sid":"secret","from_id":7}"#).contains("a field has another type"));
        assert_eq!(refused(r#"{"message_sid":"secret"}"#), "lacks 'org_id'");
        assert_eq!(refused(r#"{"org_id":"a","env":"secret"}"#), "has an 'env' that is neither dev nor prod");
        assert!(refused(r#"{"format":"message-webhook-export","version":2}"#).contains("another version than 1"));
        assert!(refused(r#"{"format":"secret","version":1}"#).contains("not of an export"));
        assert!(refused(r#"{"key":{"key_id":"a","platform":true,"org_id":"secret"}}"#).contains("belongs neither"));
        assert_eq!(refused(r#"{"end":true}"#), "lacks 'messages'");
    }

    #[test]
    fn fields_of_a_later_program_are_left_alone() {
        let text = r#"{"end":true,"messages":3,"checksum":"abc"}"#;
        assert!(matches!(Line::parse(text.as_bytes()), Ok(Line::End { messages: 3 })));
    }
}

//! A message as commands print it.

use serde_json::{Value, json};

use super::keys::{env_word, instant};
use crate::protocol::grpc::v1::{Message, message::Media};

/// The fields of the JSON webhook, and what the service added.
pub(super) fn to_json(message: &Message) -> Value {
    let mut fields = json!({
        "org_id": message.org_id,
        "env": env_word(message.env()),
        "from_id": message.from_id,
        "message_sid": message.message_sid,
        "timestamp": instant(&message.timestamp),
        "accepted_at": instant(&message.accepted_at),
    });
    if let Some(fields) = fields.as_object_mut() {
        if let Some(body) = &message.message_body {
            fields.insert("message_body".into(), json!(body));
        }
        match &message.media {
            Some(Media::ImageUrl(url)) => fields.insert("image_urls".into(), json!([url])),
            Some(Media::AudioUrl(url)) => fields.insert("audio_urls".into(), json!([url])),
            None => None,
        };
        if !message.traceparent.is_empty() {
            fields.insert("traceparent".into(), json!(message.traceparent));
        }
    }
    fields
}

/// One line for people. What a user wrote is escaped, so that it can neither move the cursor nor add a line.
pub(super) fn to_line(message: &Message) -> String {
    let mut line = format!(
        "{}  {}/{}  {}  {}",
        instant(&message.accepted_at).unwrap_or_default(),
        message.org_id,
        env_word(message.env()),
        message.from_id.escape_debug(),
        message.message_sid.escape_debug(),
    );
    if let Some(body) = &message.message_body {
        line.push_str(&format!("  \"{}\"", body.escape_debug()));
    }
    match &message.media {
        Some(Media::ImageUrl(url)) => line.push_str(&format!("  image {}", url.escape_debug())),
        Some(Media::AudioUrl(url)) => line.push_str(&format!("  audio {}", url.escape_debug())),
        None => {}
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_people_stays_one_line_and_moves_no_cursor() {
        let message = Message { message_body: Some("a\nb\u{1b}[2J\u{202e}".into()), ..Default::default() };
        let line = to_line(&message);
        assert!(line.ends_with(r#""a\nb\u{1b}[2J\u{202e}""#), "{line}");
    }
}

//! The protobuf form of a message, turned into a [`MessageBuilder`], and of an accepted one.

use super::{target, v1};
use crate::domain::{Media, MediaRules, Message, MessageBuilder, Timestamp};

/// What the wire says. That a field is missing is for the builder to find out.
pub(super) fn from_wire(wire: v1::SubmitMessageRequest, rules: MediaRules) -> MessageBuilder {
    use v1::submit_message_request::Media as Wire;

    let mut builder = MessageBuilder::new(rules);
    builder.from_id(wire.from_id);
    builder.message_sid(wire.message_sid);
    if let Some(at) = wire.timestamp {
        builder.timestamp(Timestamp::from_unix(at.seconds, at.nanos));
    }
    if let Some(body) = wire.message_body {
        builder.body(body);
    }
    match wire.media {
        None => {}
        Some(Wire::ImageUrl(url)) => builder.image_url(url),
        Some(Wire::AudioUrl(url)) => builder.audio_url(url),
    }
    builder
}

/// An accepted message for the wire.
pub(super) fn to_wire(message: Message) -> v1::Message {
    use v1::message::Media as Wire;

    let Message { key, content, accepted_at, traceparent } = message;
    v1::Message {
        org_id: key.org.as_str().to_owned(),
        env: target::env_to_wire(key.env).into(),
        message_sid: key.sid.as_str().to_owned(),
        from_id: content.from_id.as_str().to_owned(),
        timestamp: Some(time_to_wire(content.timestamp)),
        message_body: content.body,
        media: content.media.map(|media| match media {
            Media::Image(url) => Wire::ImageUrl(url.as_str().to_owned()),
            Media::Audio(url) => Wire::AudioUrl(url.as_str().to_owned()),
        }),
        accepted_at: Some(time_to_wire(accepted_at)),
        traceparent: traceparent.map(|context| context.to_string()).unwrap_or_default(),
    }
}

pub(super) fn time_to_wire(time: Timestamp) -> prost_types::Timestamp {
    let (seconds, nanos) = time.as_unix();
    prost_types::Timestamp { seconds, nanos }
}

//! The message, and the one place where a submission becomes one.

use std::{borrow::Cow, fmt};

use super::{
    Error, Field, Fingerprint, FromId, Kind, Media, MediaRules, MessageKey, MessageSid, OrgId, Sender, Timestamp,
    TraceParent, Violation, ViolationCode, Violations, ids::Environment,
};

/// A message that keeps every rule of the contract and is not accepted yet.
///
/// Boxed: each of the futures that hand it on would have room for it several times, in memory of every call under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage(Box<Submitted>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Submitted {
    key: MessageKey,
    content: Content,
    fingerprint: Fingerprint,
    traceparent: Option<TraceParent>,
}

/// What a caller submits, checked. Which organisation and environment it is for is not its own to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    sid: MessageSid,
    content: Content,
}

/// What a message says. Each part was checked when it was made, so any combination of parts is valid.
#[derive(Clone, PartialEq, Eq)]
pub struct Content {
    /// The end user.
    pub from_id: FromId,
    /// When the user sent it, by the caller's word.
    pub timestamp: Timestamp,
    /// The text; an empty text is not the same as none.
    pub body: Option<String>,
    /// One image or audio.
    pub media: Option<Media>,
}

/// A message that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What identifies it.
    pub key: MessageKey,
    /// What it says.
    pub content: Content,
    /// When the service accepted it.
    pub accepted_at: Timestamp,
    /// The trace context of the submission that was accepted, where one is known. No part of what the message says.
    pub traceparent: Option<TraceParent>,
}

impl Draft {
    /// The message for `org` and `env`.
    pub fn into_message(self, org: OrgId, env: Environment) -> NewMessage {
        NewMessage::new(MessageKey { org, env, sid: self.sid }, self.content)
    }
}

impl NewMessage {
    /// Joins parts that were checked one by one.
    pub fn new(key: MessageKey, content: Content) -> Self {
        let fingerprint = Fingerprint::of(&content);
        Self(Box::new(Submitted { key, content, fingerprint, traceparent: None }))
    }

    /// The same, submitted in the trace of `traceparent`.
    pub fn traced(mut self, traceparent: Option<TraceParent>) -> Self {
        self.0.traceparent = traceparent;
        self
    }

    /// The trace context of its submission.
    pub fn traceparent(&self) -> Option<TraceParent> {
        self.0.traceparent
    }

    /// What identifies it.
    pub fn key(&self) -> &MessageKey {
        &self.0.key
    }

    /// What it says.
    pub fn content(&self) -> &Content {
        &self.0.content
    }

    /// Tells a faithful retry from another content.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.0.fingerprint
    }

    /// What identifies it, without what it says.
    pub fn into_key(self) -> MessageKey {
        self.0.key
    }

    /// The message once it is accepted.
    pub fn into_message(self, accepted_at: Timestamp) -> Message {
        let Submitted { key, content, traceparent, .. } = *self.0;
        Message { key, content, accepted_at, traceparent }
    }
}

impl Message {
    /// Whose list it is in.
    pub fn sender(&self) -> Sender {
        Sender { org: self.key.org.clone(), env: self.key.env, from_id: self.content.from_id.clone() }
    }
}

/// Makes a [`Draft`] from wire fields and reports every broken rule at once.
///
/// Both edges call it: JSON first notes what only JSON can get wrong with [`MessageBuilder::reject`].
#[derive(Debug)]
pub struct MessageBuilder {
    rules: MediaRules,
    from_id: Option<FromId>,
    sid: Option<MessageSid>,
    timestamp: Option<Timestamp>,
    body: Option<String>,
    images: Vec<String>,
    audios: Vec<String>,
    rejected: Vec<Violation>,
}

impl MessageBuilder {
    /// Of each array this many URLs are checked. One is allowed, so more are refused already, and a body that is full
    /// of them must cost neither much time nor a long answer.
    const CHECKED_URLS: usize = 8;

    /// A builder without any field.
    pub fn new(rules: impl Into<MediaRules>) -> Self {
        Self {
            rules: rules.into(),
            from_id: None,
            sid: None,
            timestamp: None,
            body: None,
            images: Vec::new(),
            audios: Vec::new(),
            rejected: Vec::new(),
        }
    }

    /// Takes the end user; empty counts as missing.
    pub fn from_id(&mut self, text: impl Into<Box<str>>) {
        self.from_id = self.keep(FromId::new(text));
    }

    /// Takes the message's id; empty counts as missing.
    pub fn message_sid(&mut self, text: impl Into<Box<str>>) {
        self.sid = self.keep(MessageSid::new(text));
    }

    /// Takes the time of sending, parsed by one of [`Timestamp`]'s constructors.
    pub fn timestamp(&mut self, parsed: Result<Timestamp, Violation>) {
        self.timestamp = self.keep(parsed);
    }

    /// Takes the text.
    pub fn body(&mut self, text: String) {
        self.body = Some(text);
    }

    /// Takes one more image URL.
    pub fn image_url(&mut self, url: String) {
        self.images.push(url);
    }

    /// Takes one more audio URL.
    pub fn audio_url(&mut self, url: String) {
        self.audios.push(url);
    }

    /// Notes that the wire's form of `field` is wrong; it is then not reported as missing too.
    pub fn reject(&mut self, field: Field, code: ViolationCode, message: impl Into<Cow<'static, str>>) {
        self.rejected.push(Violation { field, code, message: message.into() });
    }

    /// What was taken.
    ///
    /// # Errors
    /// [`Kind::InvalidMessage`] with every violation.
    pub fn build(mut self) -> Result<Draft, Error> {
        let media = self.media();
        for (field, absent) in [
            (Field::FromId, self.from_id.is_none()),
            (Field::MessageSid, self.sid.is_none()),
            (Field::Timestamp, self.timestamp.is_none()),
        ] {
            if absent && !self.rejected.iter().any(|v| v.field == field) {
                let text = format!("Missing '{field}'");
                self.reject(field, ViolationCode::Missing, text);
            }
        }
        match (self.from_id, self.sid, self.timestamp) {
            (Some(from_id), Some(sid), Some(timestamp)) if self.rejected.is_empty() => {
                Ok(Draft { sid, content: Content { from_id, timestamp, body: self.body, media } })
            }
            _ => {
                self.rejected.sort_by(|a, b| a.field.cmp(&b.field));
                let mut violations = Violations::default();
                for violation in self.rejected {
                    violations.check::<()>(Err(violation));
                }
                Err(violations.into_error(Kind::InvalidMessage))
            }
        }
    }

    fn media(&mut self) -> Option<Media> {
        let (images, audios) = (std::mem::take(&mut self.images), std::mem::take(&mut self.audios));
        for (field, urls) in [(Field::ImageUrls, &images), (Field::AudioUrls, &audios)] {
            if urls.len() > 1 {
                let message = format!(
                    "'{field}' has {} items; send one, and the others as messages with their own 'message_sid'",
                    urls.len()
                );
                self.reject(field, ViolationCode::TooManyMedia, message);
            }
        }
        if !images.is_empty() && !audios.is_empty() {
            self.reject(
                Field::AudioUrls,
                ViolationCode::TooManyMedia,
                "Send either an image or an audio, and the other as a message with its own 'message_sid'",
            );
        }
        let rules = self.rules.clone();
        let images = images.into_iter().take(Self::CHECKED_URLS).map(|url| Media::image(url, rules.clone()));
        let audios = audios.into_iter().take(Self::CHECKED_URLS).map(|url| Media::audio(url, rules.clone()));
        // Each URL is checked though only one can be kept, so that all mistakes are told at once.
        images.chain(audios).fold(None, |media, result| self.keep(result).or(media))
    }

    fn keep<T>(&mut self, result: Result<T, Violation>) -> Option<T> {
        result.map_err(|violation| self.rejected.push(violation)).ok()
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content")
            .field("from_id", &self.from_id)
            .field("timestamp", &self.timestamp)
            .field("body_bytes", &self.body.as_ref().map(String::len))
            .field("media", &self.media)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::HostPolicy;

    fn builder() -> MessageBuilder {
        let mut builder = MessageBuilder::new(HostPolicy::PublicOnly);
        builder.from_id("user_abc123");
        builder.message_sid("msg_xyz789");
        builder.timestamp(Timestamp::from_seconds(1_672_531_200));
        builder
    }

    fn build(builder: MessageBuilder) -> Result<NewMessage, Error> {
        Ok(builder.build()?.into_message(OrgId::new("acme").expect("valid"), Environment::Dev))
    }

    #[test]
    fn the_three_required_fields_are_enough() {
        let message = build(builder()).expect("valid");
        assert_eq!(message.key().sid.as_str(), "msg_xyz789");
        assert_eq!((&message.content().body, &message.content().media), (&None, &None));
    }

    #[test]
    fn every_broken_rule_is_reported_at_once_in_the_order_of_the_page() {
        let mut builder = MessageBuilder::new(HostPolicy::PublicOnly);
        builder.audio_url("https://example.com/a.jpg".into());
        builder.image_url("nonsense".into());
        builder.image_url("https://10.0.0.1/a.jpg".into());
        builder.timestamp(Timestamp::parse("yesterday"));
        builder.from_id("a\u{7}b");
        let error = build(builder).expect_err("invalid");
        assert_eq!(error.kind(), Kind::InvalidMessage);
        let found: Vec<_> = error.violations().iter().map(|v| (v.field.as_str(), v.code)).collect();
        assert_eq!(
            found,
            [
                ("from_id", ViolationCode::ControlCharacter),
                ("message_sid", ViolationCode::Missing),
                ("timestamp", ViolationCode::InvalidTimestamp),
                ("image_urls", ViolationCode::TooManyMedia),
                ("image_urls", ViolationCode::InvalidUrl),
                ("image_urls", ViolationCode::PrivateHost),
                ("audio_urls", ViolationCode::TooManyMedia),
                ("audio_urls", ViolationCode::UnsupportedExtension),
            ]
        );
        assert!(error.public_message().contains("Missing 'message_sid'"));
    }

    #[test]
    fn a_field_of_the_wrong_type_is_not_reported_as_missing_too() {
        let mut builder = MessageBuilder::new(HostPolicy::PublicOnly);
        builder.reject(Field::FromId, ViolationCode::WrongType, "'from_id' must be a string");
        builder.message_sid("s");
        builder.timestamp(Timestamp::from_seconds(1));
        let error = build(builder).expect_err("invalid");
        assert_eq!(error.public_message(), "'from_id' must be a string");
    }

    #[test]
    fn a_link_signed_again_leaves_the_fingerprint_as_it_was() {
        let with = |url: &str, at: &str| {
            let mut builder = builder();
            builder.timestamp(Timestamp::parse(at));
            builder.image_url(url.into());
            *build(builder).expect("valid").fingerprint()
        };
        let first = with("https://example.com/a.jpg?sig=1", "1672531200");
        assert!(first.matches(&with("https://EXAMPLE.com:443/a.jpg?sig=2#x", "2023-01-01T01:00:00+01:00")));
        assert!(!first.matches(&with("https://example.com/b.jpg?sig=1", "1672531200")));
        assert!(!first.matches(&with("https://example.com/a.jpg?sig=1", "1672531201")));
    }

    #[test]
    fn an_empty_text_is_not_the_same_as_none() {
        let mut with_empty = builder();
        with_empty.body(String::new());
        let (empty, none) = (build(with_empty).expect("valid"), build(builder()).expect("valid"));
        assert!(!empty.fingerprint().matches(none.fingerprint()));
    }

    #[test]
    fn a_message_keeps_the_trace_that_it_was_submitted_in() {
        let context = TraceParent::new([1; 16], [2; 8], true);
        let message = build(builder()).expect("valid").traced(context);
        assert_eq!((message.traceparent(), context.is_some()), (context, true));
        let (key, at) = (message.key().clone(), Timestamp::from_seconds(5).expect("in range"));
        assert_eq!(message.clone().into_key(), key);
        let accepted = message.into_message(at);
        assert_eq!((accepted.traceparent, accepted.accepted_at, &accepted.key), (context, at, &key));
        assert_eq!(accepted.sender().from_id.as_str(), "user_abc123");
    }

    #[test]
    fn debug_shows_no_content() {
        let mut builder = builder();
        builder.body("very private".into());
        builder.image_url("https://example.com/secret.jpg".into());
        let shown = format!("{:?}", build(builder).expect("valid"));
        for content in ["private", "secret", "user_abc123", "msg_xyz789"] {
            assert!(!shown.contains(content), "{shown}");
        }
    }
}

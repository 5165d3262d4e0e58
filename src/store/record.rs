//! The stored bytes of a message, version 1; the same content in every store.
//!
//! ```text
//! version   u8    1
//! sent      i64   the message's own timestamp, microseconds since the UNIX epoch
//! env       u8    0 dev, 1 prod
//! fingerprint     33 bytes
//! org, sid, from  each a u8 length and the bytes
//! then any number of optional parts: tag u8, length u32, the bytes
//!   1 body   2 image URL   3 audio URL
//!   5 trace context of the submission: trace 16 bytes, span 8 bytes, flags u8 (1: sampled)
//! ```
//!
//! Numbers are little endian. A reader skips tags that it does not know, so a later version may add parts without another
//! version number, and reads what is missing as absent.
//!
//! The embedded store keeps these bytes as they are, with checksum and time in a head of its own. Where a record stands
//! alone, as in ScyllaDB, its version is followed by a checksum u64 (XXH3-64 over its position, u64, big endian, and everything
//! below) and the time of acceptance i64. The position is what the store keeps the record under, so that a record in another's
//! position counts as damaged: the ticks of the attempt.

use std::fmt;

use xxhash_rust::xxh3::Xxh3;

use crate::domain::{
    Content, Environment, Fingerprint, FromId, Media, MediaUrl, Message, MessageKey, MessageSid, NewMessage, OrgId,
    Sender, Timestamp, TraceParent,
};

const VERSION: u8 = 1;
const CONTENT: usize = 1 + 8 + 1 + Fingerprint::LENGTH;

const TAG_BODY: u8 = 1;
const TAG_IMAGE: u8 = 2;
const TAG_AUDIO: u8 = 3;
const TAG_TRACE: u8 = 5;

/// Stored bytes that are not what was written. Says what is wrong, never what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damaged(pub &'static str);

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a stored record is damaged: {}", self.0)
    }
}

impl std::error::Error for Damaged {}

/// The content of a record: all but its position and the time of acceptance, which the store decides.
pub struct Draft(Vec<u8>);

impl Draft {
    /// The record of `message`.
    pub fn new(message: &NewMessage) -> Self {
        let (key, content) = (message.key(), message.content());
        let media = content.media.as_ref();
        let optional = content.body.as_ref().map_or(0, |body| body.len() + 5)
            + media.map_or(0, |media| media.url().as_str().len() + 5)
            + message.traceparent().map_or(0, |_| TraceParent::LENGTH + 5);
        let ids = [key.org.as_str(), key.sid.as_str(), content.from_id.as_str()];
        let mut bytes = Vec::with_capacity(CONTENT + ids.iter().map(|id| id.len() + 1).sum::<usize>() + optional);
        bytes.push(VERSION);
        bytes.extend_from_slice(&content.timestamp.as_micros().to_le_bytes());
        bytes.push(match key.env {
            Environment::Dev => 0,
            Environment::Prod => 1,
        });
        bytes.extend_from_slice(message.fingerprint().as_bytes());
        for id in ids {
            // The domain's limits: 63 bytes of an org, 255 of the others.
            bytes.push(id.len() as u8);
            bytes.extend_from_slice(id.as_bytes());
        }
        if let Some(body) = &content.body {
            part(&mut bytes, TAG_BODY, body.as_bytes());
        }
        match media {
            None => {}
            Some(Media::Image(url)) => part(&mut bytes, TAG_IMAGE, url.as_str().as_bytes()),
            Some(Media::Audio(url)) => part(&mut bytes, TAG_AUDIO, url.as_str().as_bytes()),
        }
        if let Some(traceparent) = message.traceparent() {
            part(&mut bytes, TAG_TRACE, &traceparent.to_bytes());
        }
        Self(bytes)
    }

    /// The content alone.
    pub fn into_content(self) -> Vec<u8> {
        self.0
    }

    /// A record that stands alone.
    pub fn finish(self, position: u64, accepted_at: Timestamp) -> Vec<u8> {
        let content = self.0.get(1..).unwrap_or_default();
        let sealed = [&accepted_at.as_micros().to_le_bytes(), content].concat();
        [&[VERSION], checksum(position, &sealed).to_le_bytes().as_slice(), &sealed].concat()
    }
}

/// A record as it lies in the store, checked but not copied.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// When the message was accepted.
    pub accepted_at: Timestamp,
    /// The content's fingerprint.
    pub fingerprint: Fingerprint,
    sent_at: Timestamp,
    env: Environment,
    /// Organisation, message, end user.
    ids: (&'a str, &'a str, &'a str),
    body: Option<&'a str>,
    media: Option<(u8, &'a str)>,
    traceparent: Option<TraceParent>,
}

impl<'a> View<'a> {
    /// Reads a record that stands alone under `position`.
    ///
    /// # Errors
    /// [`Damaged`]; bytes of any kind give that and no panic.
    pub fn read(position: u64, bytes: &'a [u8]) -> Result<Self, Damaged> {
        let mut reader = Reader(bytes);
        check_version(&mut reader)?;
        if reader.u64()? != checksum(position, reader.0) {
            return Err(Damaged("its checksum does not match"));
        }
        let accepted_at = reader.timestamp()?;
        Self::rest(reader, accepted_at)
    }

    /// Reads a content whose checksum was right, of a message accepted at `accepted_at`.
    ///
    /// # Errors
    /// [`Damaged`]; bytes of any kind give that and no panic.
    pub fn of_content(accepted_at: Timestamp, bytes: &'a [u8]) -> Result<Self, Damaged> {
        let mut reader = Reader(bytes);
        check_version(&mut reader)?;
        Self::rest(reader, accepted_at)
    }

    fn rest(mut reader: Reader<'a>, accepted_at: Timestamp) -> Result<Self, Damaged> {
        let sent_at = reader.timestamp()?;
        let env = match reader.byte()? {
            0 => Environment::Dev,
            1 => Environment::Prod,
            _ => return Err(Damaged("its environment is unknown")),
        };
        let fingerprint = Fingerprint::from_bytes(reader.array()?);
        let ids = (reader.id()?, reader.id()?, reader.id()?);
        let (mut body, mut media, mut traceparent) = (None, None, None);
        while !reader.0.is_empty() {
            let tag = reader.byte()?;
            let length = u32::from_le_bytes(reader.array()?);
            let part = reader.bytes(length as usize)?;
            match tag {
                TAG_BODY => body = Some(text(part)?),
                TAG_IMAGE | TAG_AUDIO => media = Some((tag, text(part)?)),
                TAG_TRACE => {
                    let read = TraceParent::from_bytes(part).ok_or(Damaged("a trace context breaks its rule"))?;
                    traceparent = Some(read);
                }
                _ => {}
            }
        }
        Ok(Self { accepted_at, fingerprint, sent_at, env, ids, body, media, traceparent })
    }

    /// Whether this is the message with `key`.
    pub fn has_key(&self, key: &MessageKey) -> bool {
        let (org, sid, _) = self.ids;
        self.env == key.env && org == key.org.as_str() && sid == key.sid.as_str()
    }

    /// Whether this is a message of `sender`.
    pub fn has_sender(&self, sender: &Sender) -> bool {
        let (org, _, from_id) = self.ids;
        self.env == sender.env && org == sender.org.as_str() && from_id == sender.from_id.as_str()
    }

    /// The message.
    ///
    /// # Errors
    /// [`Damaged`] where a part breaks a rule that it kept when it was accepted.
    pub fn to_message(self) -> Result<Message, Damaged> {
        let id = |_| Damaged("an id breaks its rule");
        let (org, sid, from_id) = self.ids;
        Ok(Message {
            key: MessageKey {
                org: OrgId::new(org).map_err(id)?,
                env: self.env,
                sid: MessageSid::new(sid).map_err(id)?,
            },
            content: Content {
                from_id: FromId::new(from_id).map_err(id)?,
                timestamp: self.sent_at,
                body: self.body.map(str::to_owned),
                media: self.media.map(|(tag, url)| {
                    let url = MediaUrl::from_stored(url);
                    if tag == TAG_IMAGE { Media::Image(url) } else { Media::Audio(url) }
                }),
            },
            accepted_at: self.accepted_at,
            traceparent: self.traceparent,
        })
    }
}

fn check_version(reader: &mut Reader<'_>) -> Result<(), Damaged> {
    if reader.byte()? == VERSION { Ok(()) } else { Err(Damaged("its version is unknown")) }
}

fn part(bytes: &mut Vec<u8>, tag: u8, content: &[u8]) {
    bytes.push(tag);
    // Far below 4 GiB: the body limit is checked before a message is made.
    bytes.extend_from_slice(&(content.len() as u32).to_le_bytes());
    bytes.extend_from_slice(content);
}

fn checksum(position: u64, rest: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(&position.to_be_bytes());
    hasher.update(rest);
    hasher.digest()
}

pub fn text(bytes: &[u8]) -> Result<&str, Damaged> {
    std::str::from_utf8(bytes).map_err(|_| Damaged("a text is not UTF-8"))
}

/// Reads from the front; every reader gives [`Damaged`] where the bytes end too early.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Damaged> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(Damaged("it is too short"))?;
        self.0 = rest;
        Ok(head)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let (head, rest) = self.0.split_first_chunk().ok_or(Damaged("it is too short"))?;
        self.0 = rest;
        Ok(*head)
    }

    pub fn byte(&mut self) -> Result<u8, Damaged> {
        self.array().map(|[byte]| byte)
    }

    pub fn u32(&mut self) -> Result<u32, Damaged> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Damaged> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn timestamp(&mut self) -> Result<Timestamp, Damaged> {
        Timestamp::from_micros(i64::from_le_bytes(self.array()?)).ok_or(Damaged("a time is out of range"))
    }

    pub fn id(&mut self) -> Result<&'a str, Damaged> {
        let length = self.byte()?;
        text(self.bytes(length.into())?)
    }
}

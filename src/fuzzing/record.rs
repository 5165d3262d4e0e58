//! Stored bytes of a message, against a reader written from their description.

use crate::{
    domain::{Media, Message, NewMessage, Timestamp, TraceParent},
    store::{RecordDraft, RecordView},
};

/// The parts of a content as its description has them.
#[derive(Debug, PartialEq, Eq)]
struct Parts {
    sent: i64,
    env: &'static str,
    ids: [String; 3],
    body: Option<String>,
    image: Option<String>,
    audio: Option<String>,
    trace: Option<TraceParent>,
}

/// A content, and what may have become of its record on the disk.
pub fn record(data: &[u8]) {
    let at = Timestamp::from_micros(1_700_000_000_000_000).unwrap();
    // As a whole record: only what was written has its checksum.
    let _ = RecordView::read(0, data);
    let message = RecordView::of_content(at, data).ok().and_then(|view| view.to_message().ok());
    assert_eq!(message.as_ref().map(parts_of), read(data), "{}", data.escape_ascii());
    let Some(message) = message else { return };
    assert_eq!(message.accepted_at, at);

    let again = NewMessage::new(message.key.clone(), message.content.clone()).traced(message.traceparent);
    let content = RecordDraft::new(&again).into_content();
    assert_eq!(RecordView::of_content(at, &content).unwrap().to_message().as_ref(), Ok(&message));
    let place = u64::from(data[data.len() - 1]);
    let mut stored = RecordDraft::new(&again).finish(place, at);
    let view = RecordView::read(place, &stored).unwrap();
    assert!(view.has_key(&message.key) && view.has_sender(&message.sender()));
    assert_eq!(view.fingerprint.as_bytes(), again.fingerprint().as_bytes());
    assert_eq!(view.to_message().as_ref(), Ok(&message));

    assert!(RecordView::read(place + 1, &stored).is_err());
    assert!(RecordView::read(place, &stored[..stored.len() - 1]).is_err());
    let bit = content.iter().fold(0, |sum: usize, byte| sum.wrapping_mul(31) + usize::from(*byte)) % (stored.len() * 8);
    stored[bit / 8] ^= 1 << (bit % 8);
    assert!(RecordView::read(place, &stored).is_err(), "bit {bit} of {}", stored.escape_ascii());
}

fn parts_of(message: &Message) -> Parts {
    let (image, audio) = match &message.content.media {
        None => (None, None),
        Some(Media::Image(url)) => (Some(url.as_str().to_owned()), None),
        Some(Media::Audio(url)) => (None, Some(url.as_str().to_owned())),
    };
    let ids = [message.key.org.as_str(), message.key.sid.as_str(), message.content.from_id.as_str()];
    Parts {
        sent: message.content.timestamp.as_micros(),
        env: message.key.env.as_str(),
        ids: ids.map(str::to_owned),
        body: message.content.body.clone(),
        image,
        audio,
        trace: message.traceparent,
    }
}

fn read(bytes: &[u8]) -> Option<Parts> {
    let (head, mut rest) = bytes.split_at_checked(43)?;
    let sent = i64::from_le_bytes(head[1..9].try_into().ok()?);
    // From 1970 to the end of 9999.
    if head[0] != 1 || !(0..253_402_300_800_000_000).contains(&sent) {
        return None;
    }
    let env = *["dev", "prod"].get(usize::from(head[9]))?;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let (length, more) = rest.split_first()?;
        let (id, more) = more.split_at_checked(usize::from(*length))?;
        ids.push(std::str::from_utf8(id).ok()?.to_owned());
        rest = more;
    }
    let ids: [String; 3] = ids.try_into().ok()?;
    let is_org = |c: char| c.is_ascii_alphanumeric();
    let has_good_org =
        ids[0].len() <= 63 && ids[0].starts_with(is_org) && ids[0].chars().all(|c| is_org(c) || c == '-' || c == '_');
    if !has_good_org || ids[1..].iter().any(|id| id.is_empty() || id.chars().any(char::is_control)) {
        return None;
    }
    let mut parts = Parts { sent, env, ids, body: None, image: None, audio: None, trace: None };
    while let Some((tag, more)) = rest.split_first() {
        let (length, more) = more.split_first_chunk()?;
        let (part, more) = more.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let text = || std::str::from_utf8(part).ok().map(str::to_owned);
        match tag {
            1 => parts.body = Some(text()?),
            2 => (parts.image, parts.audio) = (Some(text()?), None),
            3 => (parts.image, parts.audio) = (None, Some(text()?)),
            5 => {
                let (trace, span) = (part.get(..16)?.try_into().ok()?, part.get(16..24)?.try_into().ok()?);
                let [flags] = part[24..] else { return None };
                parts.trace = Some(TraceParent::new(trace, span, flags & 1 == 1)?);
            }
            _ => {}
        }
        rest = more;
    }
    Some(parts)
}

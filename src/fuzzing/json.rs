//! The body of the webhook: serde_json's `Value` says what is JSON, and the published page, with what the contract adds, is
//! read in plain words over it.

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::{
    media_url::{AUDIOS, IMAGES, Verdict, judge},
    timestamp::{of_number, of_text},
};
use crate::{
    domain::{Draft, Environment, Media, OrgId, ViolationCode},
    protocol::{call::Failure, http, status::WireKind},
};

/// The page's fields, in its order.
const FIELDS: [&str; 6] = ["from_id", "message_sid", "timestamp", "message_body", "image_urls", "audio_urls"];

/// A body.
pub fn json(data: &[u8]) {
    let ours = http::read_body(data);
    let Some(plain) = read(data) else { return };
    match (&plain, &ours) {
        (Plain::NoObject, Err(failure)) if failure.is(WireKind::MalformedJson) => {}
        (Plain::Object(told), Err(failure)) if !failure.is(WireKind::MalformedJson) => refused(told, failure, data),
        (Plain::Object(told), Ok(draft)) => taken(told, draft.clone(), data),
        (plain, ours) => panic!("{}: {plain:?}, {ours:?}", data.escape_ascii()),
    }
    if let Err(failure) = &ours {
        says_no_content(failure, data);
    }
}

/// What a body is.
#[derive(Debug)]
enum Plain {
    NoObject,
    Object(Told),
}

/// What the contract says of an object.
#[derive(Debug, Default)]
struct Told {
    /// What must be reported.
    wrong: BTreeSet<(&'static str, &'static str)>,
    /// Fields of which anything may be reported beside it.
    loose: BTreeSet<&'static str>,
    /// What is kept where nothing is wrong.
    texts: [Option<String>; 3],
    micros: i64,
    urls: [Vec<String>; 2],
}

/// `None` where the second parser has a limit or a rule of its own.
fn read(data: &[u8]) -> Option<Plain> {
    let text = data.strip_prefix("\u{feff}".as_bytes()).unwrap_or(data);
    let members = match serde_json::from_slice::<Members>(text) {
        Ok(Members(members)) => members,
        Err(error) => {
            let why = error.to_string();
            // It wants whole characters, small numbers and shallow values also of what nobody asked for; ours asks that of the
            // fields it knows.
            let own = ["surrogate", "hex escape", "number out of range", "recursion limit"];
            return (!own.iter().any(|own| why.contains(own))).then_some(Plain::NoObject);
        }
    };
    let mut told = Told::default();
    for (at, field) in FIELDS.into_iter().enumerate() {
        let mut values = members.iter().filter(|(name, _)| name == field).map(|(_, value)| value);
        let value = values.next().filter(|value| !value.is_null());
        if values.next().is_some() {
            told.wrong.insert((field, "duplicate_field"));
            told.loose.insert(field);
        }
        match (at, value) {
            (0..=2, None) => told.report(field, ViolationCode::Missing),
            (_, None) => {}
            (0 | 1, Some(Value::String(id))) => match wrong_with_id(id) {
                Some(code) => told.report(field, code),
                None => told.texts[at] = Some(id.clone()),
            },
            (2, Some(value)) => match of_value(value) {
                Ok(micros) => told.micros = micros,
                Err(code) => told.report(field, code),
            },
            (3, Some(Value::String(text))) => told.texts[2] = Some(text.clone()),
            (4 | 5, Some(Value::Array(items))) => told.take_urls(at - 4, items),
            _ => told.report(field, ViolationCode::WrongType),
        }
    }
    if told.urls.iter().all(|urls| !urls.is_empty()) {
        told.report("audio_urls", ViolationCode::TooManyMedia);
    }
    Some(Plain::Object(told))
}

impl Told {
    fn report(&mut self, field: &'static str, code: ViolationCode) {
        // Of a field that is there twice the first counts, or none.
        if !self.loose.contains(field) {
            self.wrong.insert((field, code.as_str()));
        }
    }

    fn take_urls(&mut self, which: usize, items: &[Value]) {
        let (field, extensions) = [("image_urls", IMAGES), ("audio_urls", AUDIOS)][which];
        let urls: Vec<_> = items.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        if urls.len() < items.len() {
            self.report(field, ViolationCode::WrongType);
        }
        if urls.len() > 1 {
            self.report(field, ViolationCode::TooManyMedia);
        }
        // Of many no more than the first few are looked at, for all are refused.
        for url in urls.iter().take(8) {
            match judge(url, &extensions) {
                Verdict::Taken => {}
                Verdict::Refused(code) => self.report(field, code),
                Verdict::NotTaken | Verdict::Unclear => drop(self.loose.insert(field)),
            }
        }
        self.urls[which] = urls;
    }
}

pub(super) fn wrong_with_id(id: &str) -> Option<ViolationCode> {
    match id {
        "" => Some(ViolationCode::Missing),
        id if id.len() > 255 => Some(ViolationCode::TooLong),
        id => {
            id.chars().any(|c| matches!(c, '\0'..' ' | '\u{7f}'..'\u{a0}')).then_some(ViolationCode::ControlCharacter)
        }
    }
}

fn of_value(value: &Value) -> Result<i64, ViolationCode> {
    match value {
        Value::String(text) => of_text(text),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(seconds), _) => of_number(seconds.into()),
            (None, Some(seconds)) => of_number(seconds.into()),
            // No integer of 64 bits: a fraction, an exponent, or far too large or small.
            (None, None) => Err(ViolationCode::InvalidTimestamp),
        },
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(ViolationCode::WrongType),
    }
}

fn refused(told: &Told, failure: &Failure, data: &[u8]) {
    let shown = || format!("{}: {told:?}, {:?}", data.escape_ascii(), failure.violations());
    assert!(!failure.violations().is_empty() && !failure.public_message().is_empty(), "{}", shown());
    let found: HashSet<_> = failure.violations().iter().map(|v| (v.field.to_string(), v.code)).collect();
    for (field, code) in &told.wrong {
        assert!(found.iter().any(|(name, found)| name == field && same(found.as_str(), code, field)), "{}", shown());
    }
    for (field, code) in &found {
        let is_told = told.wrong.iter().any(|(name, told)| field == name && same(code.as_str(), told, name));
        assert!(is_told || told.loose.contains(field.as_str()), "{}", shown());
    }
    // In the order of the page.
    let order: Vec<_> =
        failure.violations().iter().map(|v| FIELDS.iter().position(|field| *field == v.field.as_str())).collect();
    assert!(order.is_sorted() && order.iter().all(Option::is_some), "{}", shown());
}

/// An integer that no 64 bits hold is too late for ours, and no integer at all for the second parser.
fn same(ours: &str, told: &str, field: &str) -> bool {
    ours == told || (field == "timestamp" && told == "invalid_timestamp" && ours == "timestamp_out_of_range")
}

fn taken(told: &Told, draft: Draft, data: &[u8]) {
    let shown = || format!("{}: {told:?}", data.escape_ascii());
    assert!(told.wrong.is_empty(), "{}", shown());
    let message = draft.into_message(OrgId::new("acme").unwrap(), Environment::Dev);
    let content = message.content();
    let texts = [Some(content.from_id.as_str()), Some(message.key().sid.as_str()), content.body.as_deref()];
    assert_eq!(texts, told.texts.each_ref().map(Option::as_deref), "{}", shown());
    assert_eq!(content.timestamp.as_micros(), told.micros, "{}", shown());
    let media = content.media.as_ref().map(|media| match media {
        Media::Image(url) => [vec![url.as_str().to_owned()], Vec::new()],
        Media::Audio(url) => [Vec::new(), vec![url.as_str().to_owned()]],
    });
    assert_eq!(media.unwrap_or_default(), told.urls, "{}", shown());
}

/// No text repeats what a caller sent: it may be anything, and goes to whoever reads the answer or the log.
fn says_no_content(failure: &Failure, data: &[u8]) {
    const PLANTED: &str = "planted-content";
    if String::from_utf8_lossy(data).contains(PLANTED) {
        assert!(!format!("{failure:?}").contains(PLANTED), "{failure:?}");
    }
}

/// The members of one object, all of them.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

//! The JSON form of a message, turned into a [`MessageBuilder`] with everything that only JSON can get wrong noted.
//!
//! Each field's value is first cut out as raw JSON, so that a value of a wrong type, however large or deep, is a note
//! about its field and does not end the reading.

use std::{collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{error::Category, value::RawValue};

use crate::{
    domain::{Field, MediaRules, MessageBuilder, Timestamp, ViolationCode},
    protocol::call::Failure,
};

/// Reads `body`: one JSON object in UTF-8. Unknown fields are ignored, `null` is absent.
///
/// # Errors
/// `MalformedJson`; what is wrong with a field is in the builder.
pub(super) fn parse(body: &[u8], rules: MediaRules) -> Result<MessageBuilder, Failure> {
    // The whole body, because the parser does not look at the bytes of texts that it skips.
    let text = std::str::from_utf8(body).map_err(|error| {
        Failure::malformed_json(format!("The body is not UTF-8 from byte {} on", error.valid_up_to()))
    })?;
    // PowerShell and .NET send one; a parser may ignore it (RFC 8259, section 8.1).
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match text.trim_start_matches([' ', '\t', '\r', '\n']).bytes().next() {
        None => return Err(Failure::malformed_json("The body is empty; send one JSON object")),
        Some(b'{') => {}
        Some(_) => return Err(Failure::malformed_json("The body must be one JSON object, and begin with '{'")),
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let builder = json.deserialize_map(Fields(MessageBuilder::new(rules))).and_then(|builder| {
        json.end()?;
        Ok(builder)
    });
    builder.map_err(|error| {
        // The parser's own text may repeat what it found.
        let (line, column) = (error.line(), error.column());
        Failure::malformed_json(match error.classify() {
            Category::Eof => "The body ends before its JSON object does".to_owned(),
            Category::Syntax | Category::Data | Category::Io => {
                format!("The body is not valid JSON at line {line}, column {column}")
            }
        })
    })
}

/// Puts the fields of an object into the builder.
struct Fields(MessageBuilder);

impl<'de> Visitor<'de> for Fields {
    type Value = MessageBuilder;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<MessageBuilder, A::Error> {
        let mut builder = self.0;
        // At most as many as there are fields: to look through them is quicker than to hash.
        let (mut seen, mut repeated) = (Vec::with_capacity(Field::OF_A_MESSAGE.len()), Vec::new());
        while let Some(Name(name)) = map.next_key()? {
            let Some(field) = name else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value = map.next_value::<&RawValue>()?;
            if !seen.contains(&field) {
                seen.push(field);
                take(&mut builder, field, value);
            } else if !repeated.contains(&field) {
                repeated.push(field);
                builder.reject(
                    field.clone(),
                    ViolationCode::DuplicateField,
                    format!("'{field}' is given more than once"),
                );
            }
        }
        Ok(builder)
    }
}

/// A field's published name, or `None` for one that the page does not know.
struct Name(Option<&'static Field>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Known;
        impl Visitor<'_> for Known {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field's name")
            }

            fn visit_str<E>(self, name: &str) -> Result<Name, E> {
                Ok(Name(Field::OF_A_MESSAGE.iter().find(|field| field.as_str() == name)))
            }
        }
        deserializer.deserialize_str(Known)
    }
}

fn take(builder: &mut MessageBuilder, field: &'static Field, value: &RawValue) {
    let value = value.get();
    if value == "null" {
        return;
    }
    match field {
        Field::Timestamp => timestamp(builder, field, value),
        Field::ImageUrls => urls(builder, field, value, MessageBuilder::image_url),
        Field::AudioUrls => urls(builder, field, value, MessageBuilder::audio_url),
        Field::FromId => text(builder, field, value, |builder, text| builder.from_id(text)),
        Field::MessageSid => text(builder, field, value, |builder, text| builder.message_sid(text)),
        Field::MessageBody => text(builder, field, value, MessageBuilder::body),
        // `Name` gives none of these.
        Field::Argument(_) => {}
    }
}

fn text(builder: &mut MessageBuilder, field: &'static Field, value: &str, put: fn(&mut MessageBuilder, String)) {
    match string(field, value) {
        Some(Ok(text)) => put(builder, text),
        Some(Err(broken)) => builder.reject(field.clone(), ViolationCode::WrongType, broken),
        None => builder.reject(field.clone(), ViolationCode::WrongType, format!("'{field}' must be a string")),
    }
}

/// `None` where `value` is no string.
fn string(field: &Field, value: &str) -> Option<Result<String, String>> {
    value.starts_with('"').then(|| {
        // The only fault that is left in a value which was cut out as a string.
        serde_json::from_str(value)
            .map_err(|_| format!("'{field}' has half of a surrogate pair as an escape; send whole characters"))
    })
}

fn timestamp(builder: &mut MessageBuilder, field: &'static Field, value: &str) {
    match string(field, value) {
        Some(Ok(text)) => builder.timestamp(Timestamp::parse(&text)),
        Some(Err(broken)) => builder.reject(field.clone(), ViolationCode::WrongType, broken),
        None if value.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => builder.timestamp(number(value)),
        None => builder.reject(
            field.clone(),
            ViolationCode::WrongType,
            "'timestamp' must be a string or an integer, such as \"2024-12-18T12:00:00Z\" or 1672531200",
        ),
    }
}

/// A JSON number in its own spelling. Fractions and exponents are told apart here as they are in strings, because a
/// number that was turned into floating point may have lost what was sent.
fn number(value: &str) -> Result<Timestamp, crate::domain::Violation> {
    match value.strip_prefix('-') {
        // Below what an integer can hold is before 1970 too.
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) && digits != "0" => {
            Timestamp::from_seconds(value.parse().unwrap_or(i64::MIN))
        }
        _ => Timestamp::parse_number(value),
    }
}

fn urls(builder: &mut MessageBuilder, field: &'static Field, value: &str, put: fn(&mut MessageBuilder, String)) {
    // Each value was cut out as valid JSON, so this fails for what is no array, and for nothing else.
    let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(value) else {
        builder.reject(
            field.clone(),
            ViolationCode::WrongType,
            format!("'{field}' must be an array with at most one URL"),
        );
        return;
    };
    let mut told = HashSet::new();
    for item in items {
        let wrong = match string(field, item.get()) {
            Some(Ok(url)) => {
                put(builder, url);
                continue;
            }
            Some(Err(broken)) => broken,
            None if item.get() == "null" => format!("'{field}' must not hold null; leave the array empty"),
            None => format!("'{field}' must hold strings only"),
        };
        // Once is enough, however many items there are.
        if told.insert(wrong.clone()) {
            builder.reject(field.clone(), ViolationCode::WrongType, wrong);
        }
    }
}

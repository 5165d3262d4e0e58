//! The settings as a JSON Schema, for what writes them: the Helm chart's is made of it.
//!
//! A schema takes the forms that the documents show, which are not all that [`Value::parse`] reads: humantime knows weeks, too. What it
//! takes and the program refuses is what no pattern says: an address within its network, as in 10.1.2.3/8, names that are too long, and
//! of origins the scheme `file`, the usual port, as in `https://a.example:443`, and IPv6 in another form than the shortest.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use bytesize::ByteSize;
use ipnet::IpNet;
use serde_json::{Map, Value as Json, json};

use super::{
    backend::{Consistency, Keyspace, Node, StoreKind},
    bounds::Check,
    table::{Config, Setting},
    value::{LogFilter, Value},
};
use crate::{
    domain::{Extension, Origin, Rate},
    telemetry::LogFormat,
};

/// The largest whole number that every reader of JSON keeps exactly.
const LARGEST: u64 = (1 << 53) - 1;

/// A type of settings that a schema can describe.
pub(super) trait Described {
    /// The members of the schema of a value as JSON has it.
    fn schema() -> Json;
}

/// The schema of all settings as one object, in JSON Schema's draft 7, pretty. `x-minimum` and `x-maximum` are bounds of what is written
/// with a unit.
pub fn schema() -> String {
    let settings: Map<_, _> =
        Config::schemas().into_iter().map(|(setting, schema)| (setting.name.to_owned(), schema)).collect();
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Settings of message-webhook",
        "type": "object",
        "additionalProperties": false,
        "properties": settings,
    });
    format!("{schema:#}\n")
}

/// The schema of one setting.
pub(super) fn of<T: Value + Described>(setting: &Setting, check: &impl Check<T>) -> Json {
    let mut members = match T::schema() {
        Json::Object(members) => members,
        // Not by any type here.
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => Map::new(),
    };
    check.describe(&mut members);
    members.insert("description".into(), setting.help.trim().into());
    let default = match members.get("type").and_then(Json::as_str) {
        Some("integer" | "boolean") => setting.default.parse().unwrap_or(Json::Null),
        _ => setting.default.into(),
    };
    members.insert("default".into(), default);
    Json::Object(members)
}

fn text(pattern: &str) -> Json {
    json!({"type": "string", "pattern": format!("^({pattern})$")})
}

/// Texts of `item`, parted by commas or as an array.
fn list(item: &str) -> Json {
    let parted = format!(" *(({item}) *(, *({item}) *)*)?");
    json!({"anyOf": [text(&parted), {"type": "array", "items": text(item)}]})
}

/// One of the words that help calls a value by.
fn words<T: Value>() -> Json {
    json!({"type": "string", "enum": T::NAME.split('|').collect::<Vec<_>>()})
}

const IPV4: &str = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(\\.(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){3}";
/// A port from 1 on.
const PORT: &str = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])";

fn ipv6() -> String {
    let group = "[0-9a-fA-F]{1,4}";
    let mut forms = vec![
        format!("({group}:){{7}}{group}"),
        format!("({group}:){{1,7}}:"),
        format!(":((:{group}){{1,7}}|:)"),
        // The last two groups as IPv4.
        format!("::([fF]{{4}}:)?{IPV4}"),
        format!("({group}:){{1,4}}:{IPV4}"),
    ];
    forms.extend((1..=6).map(|before| format!("({group}:){{1,{before}}}(:{group}){{1,{}}}", 7 - before)));
    format!("({})", forms.join("|"))
}

impl Described for SocketAddr {
    fn schema() -> Json {
        let ipv6 = ipv6();
        text(&format!("({IPV4}|\\[{ipv6}(%[0-9]{{1,9}})?\\]):(0|{PORT})"))
    }
}

impl Described for PathBuf {
    fn schema() -> Json {
        json!({"type": "string", "minLength": 1})
    }
}

impl Described for Option<PathBuf> {
    fn schema() -> Json {
        json!({"type": "string"})
    }
}

impl Described for Option<String> {
    fn schema() -> Json {
        json!({"type": "string"})
    }
}

impl Described for Duration {
    fn schema() -> Json {
        text("[0-9]{1,9}(ms|s|m|h|d)( ?[0-9]{1,9}(ms|s|m|h|d))*")
    }
}

impl Described for ByteSize {
    fn schema() -> Json {
        let text = text("[0-9]{1,12}|[0-9]{1,12}(\\.[0-9]{1,9})? ?(B|[kKMG]i?B?)");
        json!({"anyOf": [text, {"type": "integer", "minimum": 0, "maximum": LARGEST}]})
    }
}

impl Described for bool {
    fn schema() -> Json {
        json!({"type": "boolean"})
    }
}

impl Described for usize {
    fn schema() -> Json {
        json!({"type": "integer", "minimum": 0, "maximum": LARGEST})
    }
}

impl Described for u16 {
    fn schema() -> Json {
        json!({"type": "integer", "minimum": 0, "maximum": u16::MAX})
    }
}

impl Described for Option<Rate> {
    fn schema() -> Json {
        let number = format!("([1-9][0-9]{{0,5}}|{})", Rate::MOST);
        let text = text(&format!("0|{number}(/(s|min|h))?( burst {number})?"));
        json!({"anyOf": [{"type": "integer", "minimum": 0, "maximum": Rate::MOST}, text]})
    }
}

impl Described for Vec<Extension> {
    fn schema() -> Json {
        list(&format!("{}|\\.[A-Za-z0-9]{{1,10}}", Extension::WITHOUT))
    }
}

impl Described for Vec<IpNet> {
    fn schema() -> Json {
        // Not /0, which is everybody.
        let ipv6 = ipv6();
        list(&format!("{IPV4}(/([1-9]|[12][0-9]|3[0-2]))?|{ipv6}(/([1-9]|[1-9][0-9]|1[01][0-9]|12[0-8]))?"))
    }
}

impl Described for Vec<Origin> {
    fn schema() -> Json {
        // A name whose last part is a number is read as IPv4.
        let label = "[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?";
        let name = format!("({label}\\.){{0,7}}[a-z]([a-z0-9_-]*[a-z0-9_])?");
        let ipv6 = ipv6();
        list(&format!("[a-z][a-z0-9+.-]*://({name}|{IPV4}|\\[{ipv6}\\])(:{PORT})?"))
    }
}

impl Described for Vec<Node> {
    fn schema() -> Json {
        let ipv6 = ipv6();
        list(&format!("(\\[{ipv6}\\]|[A-Za-z0-9._-]+)(:{PORT})?"))
    }
}

impl Described for Keyspace {
    fn schema() -> Json {
        text("[a-z][a-z0-9_]{0,47}")
    }
}

impl Described for LogFormat {
    fn schema() -> Json {
        words::<Self>()
    }
}

impl Described for StoreKind {
    fn schema() -> Json {
        words::<Self>()
    }
}

impl Described for Consistency {
    fn schema() -> Json {
        words::<Self>()
    }
}

impl Described for LogFilter {
    fn schema() -> Json {
        let level = "([eE][rR][rR][oO][rR]|[wW][aA][rR][nN]|[iI][nN][fF][oO]|[dD][eE][bB][uU][gG]|[tT][rR][aA][cC][eE]|[oO][fF][fF])";
        // A target, a span's name, or both; a field in braces.
        let span = "\\[[A-Za-z_][A-Za-z0-9_]*\\]";
        let directive = format!("{level}|[A-Za-z_][A-Za-z0-9_:]*={level}|([A-Za-z_][A-Za-z0-9_:]*)?{span}(={level})?");
        text(&format!("({directive})(,({directive}))*"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, string::string_regex, test_runner::TestRunner};

    use super::*;

    /// Texts that the schema takes are taken by the program.
    fn keeps_its_word<T: Value + Described>() {
        let schema = T::schema();
        let forms = schema["anyOf"].as_array().cloned().unwrap_or_else(|| vec![schema.clone()]);
        let pattern = forms.iter().find_map(|form| form["pattern"].as_str()).expect("a form of text");
        // A strategy makes whole texts, and knows no ends.
        let inner = pattern.trim_start_matches('^').trim_end_matches('$');
        let texts = string_regex(inner).expect("a pattern");
        let taken = TestRunner::default().run(&texts, |text| {
            let parsed = T::parse(&text).map(|_| ());
            // What no pattern says.
            let known = ["has an address within the network", "is not what browsers send"];
            let is_known = parsed.as_ref().is_err_and(|why| known.iter().any(|known| why.contains(known)));
            prop_assert!(parsed.is_ok() || is_known, "{:?}", parsed);
            Ok(())
        });
        taken.unwrap_or_else(|wrong| panic!("{}: {wrong}", T::NAME));
    }

    #[test]
    fn what_the_schema_takes_the_program_takes() {
        keeps_its_word::<Duration>();
        keeps_its_word::<ByteSize>();
        keeps_its_word::<Option<Rate>>();
        keeps_its_word::<Vec<Extension>>();
        keeps_its_word::<SocketAddr>();
        keeps_its_word::<Vec<IpNet>>();
        keeps_its_word::<Vec<Origin>>();
        keeps_its_word::<Vec<Node>>();
        keeps_its_word::<Keyspace>();
        keeps_its_word::<LogFilter>();
    }

    #[test]
    fn a_text_about_a_setting_says_all_of_it_wherever_it_stands() {
        for setting in super::super::SETTINGS {
            let help = setting.help.trim();
            for word in ["The same", "that certificate", "such a ", "after that", "that for "] {
                assert!(!help.contains(word), "{}: {help}", setting.name);
            }
        }
    }

    #[test]
    fn each_setting_has_a_form_a_default_and_its_bounds() {
        let schema: Json = schema().parse().expect("JSON");
        let settings = schema["properties"].as_object().expect("settings");
        assert_eq!(settings.len(), super::super::SETTINGS.len());
        for (name, setting) in settings {
            assert!(
                setting.get("type").or(setting.get("anyOf")).is_some() && !setting["default"].is_null(),
                "{name}: {setting}"
            );
        }
        let bounds = |name: &str, words: [&str; 2]| words.map(|word| settings[name][word].clone());
        assert_eq!(bounds("idle_timeout", ["x-minimum", "x-maximum"]), ["1s", "1d"]);
        assert_eq!(bounds("body_limit", ["x-minimum", "x-maximum"]), ["1KiB", "16MiB"]);
        assert_eq!(bounds("scylla_shards", ["minimum", "maximum"]), [1, 1024]);
        assert_eq!(bounds("max_connections", ["minimum", "default"]), [1, 20_000]);
        assert_eq!(bounds("store", ["type", "default"]), ["string", "embedded"]);
    }
}

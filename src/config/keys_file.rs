//! The file of API keys that GitOps keeps: TOML, one `[[keys]]` entry a key, hashes only; and one `[[identities]]` entry for each name
//! in clients' certificates that stands for a key.

use std::collections::HashSet;

use data_encoding::HEXLOWER_PERMISSIVE;
use toml::{Table, Value};

use crate::domain::{
    Environment, IdentityName, IdentityRecord, KeyId, KeyOwner, KeyRecord, OrgId, Origin, Rate, Scope, Scopes,
    SecretHash, Timestamp,
};

const FIELDS: &[&str] =
    &["key_id", "secret_hash", "org", "env", "platform", "scopes", "origins", "rate", "created_at", "expires_at"];
const IDENTITY_FIELDS: &[&str] = &["name", "org", "env", "platform", "scopes"];

/// What a keys file holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct KeysFile {
    /// Its keys.
    pub keys: Vec<KeyRecord>,
    /// What names in clients' certificates are good for.
    pub identities: Vec<IdentityRecord>,
}

/// What the file with content `text` holds.
///
/// # Errors
/// Every mistake, each with its entry's number. No text of the file is repeated: somebody may have put a key there.
pub fn parse(text: &str) -> Result<KeysFile, String> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let line =
            error.span().map_or(1, |span| text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1);
        format!("line {line} is not TOML")
    })?;
    let mut mistakes: Vec<String> = Vec::new();
    if table.keys().any(|key| key != "keys" && key != "identities") {
        mistakes.push("only [[keys]] and [[identities]] entries may stand in a keys file".into());
    }
    let (mut ids, mut names) = (HashSet::new(), HashSet::new());
    let keys = entries(&table, "keys", &mut mistakes, |entry| match record(entry)? {
        record if ids.insert(record.id.clone()) => Ok(record),
        _ => Err(vec!["its key_id stands in an earlier entry too".into()]),
    });
    let identities = entries(&table, "identities", &mut mistakes, |entry| match identity(entry)? {
        identity if names.insert(identity.name.clone()) => Ok(identity),
        _ => Err(vec!["its name stands in an earlier entry too".into()]),
    });
    if mistakes.is_empty() { Ok(KeysFile { keys, identities }) } else { Err(mistakes.join("; ")) }
}

/// What `read` makes of each `[[name]]` entry.
fn entries<T>(
    table: &Table,
    name: &str,
    mistakes: &mut Vec<String>,
    mut read: impl FnMut(&Table) -> Result<T, Vec<String>>,
) -> Vec<T> {
    let entries = match table.get(name) {
        None => return Vec::new(),
        Some(Value::Array(entries)) => entries,
        Some(_) => {
            mistakes.push(format!("'{name}' must be [[{name}]] entries"));
            return Vec::new();
        }
    };
    // Keys are what most entries are; theirs go by the number alone.
    let of = if name == "keys" { String::new() } else { format!(" of [[{name}]]") };
    let mut found = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        match entry.as_table().ok_or_else(|| vec!["is not a table".to_owned()]).and_then(&mut read) {
            Ok(entry) => found.push(entry),
            Err(wrong) => {
                mistakes.extend(wrong.into_iter().map(|wrong| format!("entry {}{of}: {wrong}", index + 1)));
            }
        }
    }
    found
}

/// The entry of `record`, to be appended to a keys file.
pub fn entry(record: &KeyRecord) -> String {
    let mut lines = vec![
        "[[keys]]".to_owned(),
        format!("key_id = \"{}\"", record.id),
        format!("secret_hash = \"{}\"", HEXLOWER_PERMISSIVE.encode(record.secret_hash.as_bytes())),
    ];
    match &record.owner {
        KeyOwner::Org { org, env } => lines.extend([format!("org = \"{org}\""), format!("env = \"{env}\"")]),
        KeyOwner::Platform => lines.push("platform = true".into()),
    }
    let scopes: Vec<_> = record.scopes.iter().map(|scope| format!("\"{scope}\"")).collect();
    lines.push(format!("scopes = [{}]", scopes.join(", ")));
    if record.is_browser() {
        let origins: Vec<_> = record.origins.iter().map(|origin| format!("\"{origin}\"")).collect();
        lines.push(format!("origins = [{}]", origins.join(", ")));
    }
    lines.extend(record.rate.map(|rate| format!("rate = \"{rate}\"")));
    lines.push(format!("created_at = \"{}\"", record.created_at));
    lines.extend(record.expires_at.map(|at| format!("expires_at = \"{}\"", at)));
    lines.join("\n") + "\n"
}

/// A mistake for each field that is none of `known`.
fn strange(entry: &Table, known: &[&str]) -> Vec<String> {
    let strange = entry.keys().filter(|key| !known.contains(&key.as_str()));
    strange.map(|_| format!("has a field that is none of {}", known.join(", "))).collect()
}

fn identity(entry: &Table) -> Result<IdentityRecord, Vec<String>> {
    let mut mistakes = strange(entry, IDENTITY_FIELDS);
    let mut keep = |wrong: String| mistakes.push(wrong);
    let name = string(entry, "name").and_then(IdentityName::new);
    if name.is_none() {
        keep(
            "name must be a SPIFFE id such as spiffe://example.org/reader or a host's name such as reader.example.org"
                .into(),
        );
    }
    let owner = owner(entry).map_err(&mut keep).ok();
    let scopes = scopes(entry).map_err(&mut keep).ok();
    match (name, owner, scopes) {
        (Some(name), Some(owner), Some(scopes)) if mistakes.is_empty() => Ok(IdentityRecord { name, owner, scopes }),
        _ => Err(mistakes),
    }
}

fn record(entry: &Table) -> Result<KeyRecord, Vec<String>> {
    let mut mistakes = strange(entry, FIELDS);
    let mut keep = |wrong: String| mistakes.push(wrong);
    let id = string(entry, "key_id").and_then(KeyId::new);
    if id.is_none() {
        keep("key_id must be the 12 characters of a key's id".into());
    }
    let hash = string(entry, "secret_hash")
        .and_then(|hex| HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok())
        .and_then(|bytes| bytes.try_into().ok())
        .map(SecretHash::from_bytes);
    if hash.is_none() {
        keep("secret_hash must be 64 hexadecimal digits".into());
    }
    let owner = owner(entry).map_err(&mut keep).ok();
    let scopes = scopes(entry).map_err(&mut keep).ok();
    let rate = rate(entry).map_err(&mut keep).ok();
    let origins = origins(entry).map_err(&mut keep).ok();
    let created_at = instant(entry, "created_at").map_err(&mut keep).ok();
    let expires_at = instant(entry, "expires_at").map_err(&mut keep).ok();
    match (id, hash, owner, scopes, rate, origins, created_at, expires_at) {
        (
            Some(id),
            Some(secret_hash),
            Some(owner),
            Some(scopes),
            Some(rate),
            Some(origins),
            Some(created_at),
            Some(expires_at),
        ) if mistakes.is_empty() => {
            let record = KeyRecord {
                id,
                owner,
                scopes,
                rate,
                origins,
                secret_hash,
                created_at: created_at.unwrap_or(Timestamp::EPOCH),
                expires_at,
                revoked_at: None,
            };
            record.check().map_err(|wrong| vec![wrong.message.into_owned()])?;
            Ok(record)
        }
        _ => Err(mistakes),
    }
}

fn owner(entry: &Table) -> Result<KeyOwner, String> {
    match (entry.get("platform"), entry.get("org"), entry.get("env")) {
        (Some(Value::Boolean(true)), None, None) => Ok(KeyOwner::Platform),
        (None | Some(Value::Boolean(false)), Some(_), Some(_)) => {
            let org = string(entry, "org").and_then(|org| OrgId::new(org).ok());
            let env = string(entry, "env").and_then(|env| env.parse::<Environment>().ok());
            match (org, env) {
                (Some(org), Some(env)) => Ok(KeyOwner::Org { org, env }),
                (None, _) => {
                    Err("org must be 1 to 63 of A-Z, a-z, 0-9, '_' and '-', and begin with a letter or digit".into())
                }
                (_, None) => Err("env must be 'dev' or 'prod'".into()),
            }
        }
        _ => Err("needs org and env, or platform = true and neither".into()),
    }
}

fn scopes(entry: &Table) -> Result<Scopes, String> {
    let wrong = || "scopes must be an array of 'submit', 'read', 'stream' and 'admin', at least one".to_owned();
    let words = entry.get("scopes").and_then(Value::as_array).ok_or_else(wrong)?;
    let scopes: Option<Scopes> = words.iter().map(|word| word.as_str()?.parse::<Scope>().ok()).collect();
    scopes.filter(|scopes| !scopes.is_empty()).ok_or_else(wrong)
}

/// Those of a browser key, which has at least one; none where the field is not there.
fn origins(entry: &Table) -> Result<Vec<Origin>, String> {
    let Some(given) = entry.get("origins") else { return Ok(Vec::new()) };
    let wrong = || "origins must be an array of origins of web pages, at least one; leave it out for a key that is no browser key";
    let given = given.as_array().filter(|given| !given.is_empty()).ok_or_else(wrong)?;
    let origin = |(index, text): (usize, &Value)| {
        let text = text.as_str().ok_or_else(wrong)?;
        Origin::parse(text).map_err(|wrong| format!("number {} of origins {wrong}", index + 1))
    };
    given.iter().enumerate().map(origin).collect()
}

fn rate(entry: &Table) -> Result<Option<Rate>, String> {
    if !entry.contains_key("rate") {
        return Ok(None);
    }
    let rate = string(entry, "rate").and_then(Rate::parse);
    rate.map(Some).ok_or_else(|| format!("rate must be {}", Rate::NOTATION))
}

/// A TOML date-time, or a string that is one; without an offset it is UTC.
fn instant(entry: &Table, field: &'static str) -> Result<Option<Timestamp>, String> {
    let text = match entry.get(field) {
        None => return Ok(None),
        Some(Value::Datetime(at)) => at.to_string(),
        Some(Value::String(text)) => text.clone(),
        Some(_) => String::new(),
    };
    let parsed =
        Timestamp::parse(&text).map_err(|_| format!("{field} must be a date-time such as 2027-01-31T00:00:00Z"))?;
    Ok(Some(parsed))
}

fn string<'a>(entry: &'a Table, field: &str) -> Option<&'a str> {
    entry.get(field).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use crate::domain::NewKey;

    use super::*;

    fn acme(expires_at: Option<Timestamp>) -> NewKey {
        let owner = KeyOwner::Org { org: OrgId::new("acme").expect("valid"), env: Environment::Prod };
        let now = Timestamp::from_seconds(1_700_000_000).expect("in range");
        NewKey::generate(owner, Scopes::from_iter(Scope::ALL), now, expires_at).expect("randomness")
    }

    #[test]
    fn an_entry_is_read_to_the_record_it_was_made_of() {
        let platform = NewKey::generate(KeyOwner::Platform, Scopes::from_iter([Scope::Read]), Timestamp::EPOCH, None);
        let origins =
            ["https://shop.example", "capacitor://localhost"].map(|text| Origin::parse(text).expect("an origin"));
        let owner = acme(None).record.owner;
        let submit = Scopes::from_iter([Scope::Submit]);
        let browser =
            NewKey::generate_for(origins.to_vec(), owner, submit, Timestamp::EPOCH, None).expect("randomness");
        let keys = [
            browser,
            acme(None),
            acme(None).with_rate(Rate::parse("50/s burst 100")),
            acme(Timestamp::from_seconds(1_900_000_000).ok()),
            platform.expect("randomness"),
        ];
        let file: String = keys.iter().map(|key| entry(&key.record) + "\n").collect();
        let records: Vec<_> = keys.into_iter().map(|key| key.record).collect();
        assert_eq!(parse(&file).expect("good").keys, records);
    }

    #[test]
    fn every_mistake_is_told_with_its_entry_and_nothing_of_the_text_is_repeated() {
        let key = acme(None);
        let good = entry(&key.record);
        let secret = key.text.reveal();
        let file = format!(
            "{good}\n{good}\n[[keys]]\nkey_id = \"{secret}\"\nsecret_hash = \"{secret}\"\norg = \"acme\"\nscopes = [\"{secret}\"]\n\
             rate = \"{secret}\"\nexpires_at = \"{secret}\"\n{secret} = 1\n"
        );
        let error = parse(&file).expect_err("bad");
        for part in [
            "entry 2: its key_id",
            "entry 3: key_id",
            "secret_hash",
            "needs org and env",
            "scopes",
            "rate must be",
            "expires_at",
            "has a field",
        ] {
            assert!(error.contains(part), "{part} in {error}");
        }
        assert!(!error.contains(secret));
        let pasted = parse(&format!("{good}\n{secret}\n")).expect_err("not TOML");
        assert!(pasted.contains("is not TOML") && !pasted.contains(secret), "{pasted}");
    }

    #[test]
    fn a_browser_key_with_what_it_may_not_have_is_told_with_what_to_write_instead() {
        let good = entry(&acme(None).record).replace(", \"read\", \"stream\", \"admin\"", "");
        assert_eq!(
            parse(&format!("{good}origins = [\"https://a.example\"]\n")).expect("good").keys[0].origins.len(),
            1
        );
        for (origins, told) in [
            ("[\"https://a.example/\"]", "number 1 of origins is not what browsers send; write 'https://a.example'"),
            ("[\"https://a.example\", \"https://*.example\"]", "number 2 of origins is a pattern"),
            ("[\"a.example\"]", "number 1 of origins is no origin"),
            ("[]", "origins must be an array"),
            ("\"https://a.example\"", "origins must be an array"),
            ("[1]", "origins must be an array"),
        ] {
            let error = parse(&format!("{good}origins = {origins}\n")).expect_err(origins);
            assert!(error.contains(told), "{error}");
        }
        let error = parse(&format!("{}origins = [\"https://a.example\"]\n", entry(&acme(None).record)));
        assert!(error.expect_err("its scopes").contains("its only scope is 'submit'"));
    }

    #[test]
    fn an_empty_file_holds_no_key() {
        assert_eq!(parse("").expect("good"), KeysFile::default());
    }

    #[test]
    fn an_identity_says_what_a_name_is_good_for() {
        let file = "[[identities]]\nname = \"spiffe://example.org/reader\"\norg = \"acme\"\nenv = \"prod\"\nscopes = [\"read\", \"stream\"]\n\n\
                    [[identities]]\nname = \"ops.example.org\"\nplatform = true\nscopes = [\"admin\"]\n";
        let read = parse(file).expect("good").identities;
        let owner = KeyOwner::Org { org: OrgId::new("acme").expect("valid"), env: Environment::Prod };
        assert_eq!((read[0].name.as_str(), &read[0].owner), ("spiffe://example.org/reader", &owner));
        assert!(read[0].scopes.contains(Scope::Stream) && !read[0].scopes.contains(Scope::Submit));
        assert_eq!((read[1].name.as_str(), &read[1].owner), ("ops.example.org", &KeyOwner::Platform));
    }

    #[test]
    fn every_mistake_in_an_identity_is_told() {
        let twice = "[[identities]]\nname = \"a.example\"\nplatform = true\nscopes = [\"read\"]\n";
        let file = format!("{twice}{twice}[[identities]]\nname = \"*.example\"\norg = \"acme\"\nkey_id = 1\n");
        let error = parse(&file).expect_err("bad");
        for part in [
            "entry 2 of [[identities]]: its name",
            "entry 3 of [[identities]]: name must be",
            "needs org and env",
            "scopes must be",
            "none of name, org",
        ] {
            assert!(error.contains(part), "{part} in {error}");
        }
        assert!(parse("identities = 1").expect_err("bad").contains("must be [[identities]] entries"));
    }
}

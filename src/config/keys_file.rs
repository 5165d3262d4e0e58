//! The file of API keys that GitOps keeps: TOML, one `[[keys]]` entry a key, hashes only.

use std::collections::HashSet;

use data_encoding::HEXLOWER_PERMISSIVE;
use toml::{Table, Value};

use crate::domain::{Environment, KeyId, KeyOwner, KeyRecord, OrgId, Scope, Scopes, SecretHash, Timestamp};

const FIELDS: &[&str] = &["key_id", "secret_hash", "org", "env", "platform", "scopes", "created_at", "expires_at"];

/// The keys of the file with content `text`.
///
/// # Errors
/// Every mistake, each with its entry's number. No text of the file is repeated: somebody may have put a key there.
pub fn parse(text: &str) -> Result<Vec<KeyRecord>, String> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let line =
            error.span().map_or(1, |span| text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1);
        format!("line {line} is not TOML")
    })?;
    let mut mistakes: Vec<String> = Vec::new();
    let mut records = Vec::new();
    let mut ids = HashSet::new();
    if table.keys().any(|key| key != "keys") {
        mistakes.push("only [[keys]] entries may stand in a keys file".into());
    }
    let empty = Vec::new();
    let entries = match table.get("keys") {
        None => &empty,
        Some(Value::Array(entries)) => entries,
        Some(_) => return Err("'keys' must be [[keys]] entries".into()),
    };
    for (index, entry) in entries.iter().enumerate() {
        let number = index + 1;
        match entry.as_table().ok_or_else(|| vec!["is not a table".to_owned()]).and_then(record) {
            Ok(record) if !ids.insert(record.id.clone()) => {
                mistakes.push(format!("entry {number}: its key_id stands in an earlier entry too"));
            }
            Ok(record) => records.push(record),
            Err(wrong) => mistakes.extend(wrong.into_iter().map(|wrong| format!("entry {number}: {wrong}"))),
        }
    }
    if mistakes.is_empty() { Ok(records) } else { Err(mistakes.join("; ")) }
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
    lines.push(format!("created_at = \"{}\"", record.created_at));
    lines.extend(record.expires_at.map(|at| format!("expires_at = \"{}\"", at)));
    lines.join("\n") + "\n"
}

fn record(entry: &Table) -> Result<KeyRecord, Vec<String>> {
    let mut mistakes = Vec::new();
    mistakes.extend(
        entry
            .keys()
            .filter(|key| !FIELDS.contains(&key.as_str()))
            .map(|_| format!("has a field that is none of {}", FIELDS.join(", "))),
    );
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
    let created_at = instant(entry, "created_at").map_err(&mut keep).ok();
    let expires_at = instant(entry, "expires_at").map_err(&mut keep).ok();
    match (id, hash, owner, scopes, created_at, expires_at) {
        (Some(id), Some(secret_hash), Some(owner), Some(scopes), Some(created_at), Some(expires_at))
            if mistakes.is_empty() =>
        {
            Ok(KeyRecord {
                id,
                owner,
                scopes,
                secret_hash,
                created_at: created_at.unwrap_or(Timestamp::EPOCH),
                expires_at,
                revoked_at: None,
            })
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
        let keys = [acme(None), acme(Timestamp::from_seconds(1_900_000_000).ok()), platform.expect("randomness")];
        let file: String = keys.iter().map(|key| entry(&key.record) + "\n").collect();
        let records: Vec<_> = keys.into_iter().map(|key| key.record).collect();
        assert_eq!(parse(&file).expect("good"), records);
    }

    #[test]
    fn every_mistake_is_told_with_its_entry_and_nothing_of_the_text_is_repeated() {
        let key = acme(None);
        let good = entry(&key.record);
        let secret = key.text.reveal();
        let file = format!(
            "{good}\n{good}\n[[keys]]\nkey_id = \"{secret}\"\nsecret_hash = \"{secret}\"\norg = \"acme\"\nscopes = [\"{secret}\"]\n\
             expires_at = \"{secret}\"\n{secret} = 1\n"
        );
        let error = parse(&file).expect_err("bad");
        for part in [
            "entry 2: its key_id",
            "entry 3: key_id",
            "secret_hash",
            "needs org and env",
            "scopes",
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
    fn an_empty_file_holds_no_key() {
        assert_eq!(parse("").expect("good"), []);
    }
}

//! Every event of the log, as the sources have them.

use std::{fs, path::Path};

use super::root;

/// One place that logs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    /// In upper case, as the log has it.
    pub level: String,
    /// Its text: the event's name. Empty where the text is made at run time alone.
    pub message: String,
    pub fields: Vec<String>,
    /// The source file.
    pub file: String,
}

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// All of them, once each.
pub fn all() -> Vec<Event> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                of_file(&path, &mut found);
            }
        }
    }
    found.sort_by_key(|event| (LEVELS.iter().position(|level| event.level.eq_ignore_ascii_case(level)), event.clone()));
    found.dedup();
    assert!(found.len() > 30, "the events were not found");
    found
}

fn of_file(path: &Path, found: &mut Vec<Event>) {
    let source = fs::read_to_string(path).expect("UTF-8");
    // Tests log nothing of the program's.
    let source = source.split("#[cfg(test)]").next().expect("a part");
    let file = path.strip_prefix(root()).expect("a source").display().to_string();
    for level in LEVELS {
        for after in source.split(&format!("tracing::{level}!(")).skip(1) {
            let (message, fields) = read(after);
            found.push(Event { level: level.to_uppercase(), message, fields, file: file.clone() });
        }
    }
}

/// The text and the fields of an event, from behind its opening parenthesis.
fn read(text: &str) -> (String, Vec<String>) {
    let (mut parts, mut part, mut depth, mut quoted, mut escaped) = (Vec::new(), String::new(), 0, false, false);
    for c in text.chars() {
        if quoted {
            quoted = escaped || c != '"';
            escaped = c == '\\' && !escaped;
        } else {
            match c {
                '"' => quoted = true,
                '(' | '[' | '{' => depth += 1,
                ')' if depth == 0 => break,
                ')' | ']' | '}' => depth -= 1,
                ',' if depth == 0 => {
                    parts.push(std::mem::take(&mut part));
                    continue;
                }
                _ => {}
            }
        }
        part.push(c);
    }
    parts.push(part);
    let parts = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
    let (mut message, mut fields) = (String::new(), Vec::new());
    for part in parts {
        if !message.is_empty() {
            // An argument of the text.
            continue;
        }
        match part.strip_prefix('"') {
            Some(text) => message = text.trim_end_matches('"').to_owned(),
            None if part.starts_with("target:") || part.starts_with("parent:") => {}
            None => {
                let name = part.split_once(" = ").map_or(part, |(name, _)| name);
                fields.push(name.trim_start_matches(['%', '?']).to_owned());
            }
        }
    }
    (message, fields)
}

#[test]
fn an_event_is_read_with_its_text_and_its_fields() {
    let text = r#"slot, path = %path.display(), kind = f("a, b", 1), %error, "it is so: ) {}", more); "other""#;
    let fields = ["slot", "path", "kind", "error"].map(str::to_owned);
    assert_eq!(read(text), ("it is so: ) {}".to_owned(), fields.to_vec()));
}

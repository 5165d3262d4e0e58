//! The file of keys: what is read is what would be written again, and no mistake repeats a text of the file.

use crate::config::{KeysFile, keys_file_entry, parse_keys_file, text_of_file};

/// A file's bytes.
pub fn keys_file(data: &[u8]) {
    let text = match text_of_file(data.to_vec()) {
        Ok(text) => text,
        Err(wrong) => return repeats_nothing(&wrong, &String::from_utf8_lossy(data)),
    };
    let file = match parse_keys_file(&text) {
        Ok(file) => file,
        Err(wrong) => {
            assert!(!wrong.is_empty());
            return repeats_nothing(&wrong, &text);
        }
    };
    in_plain_words(&file);
    let again: String = file.keys.iter().map(keys_file_entry).collect();
    let again = parse_keys_file(&again).unwrap_or_else(|wrong| panic!("{wrong}\n{again}"));
    assert_eq!(again.keys, file.keys, "{text}");
    // What is no TOML for its own parser is no file of keys.
    assert!(text.parse::<toml::Table>().is_ok(), "{text}");
}

fn in_plain_words(file: &KeysFile) {
    for key in &file.keys {
        assert_eq!(key.id.as_str().len(), 12);
        assert!(!key.scopes.is_empty() && key.revoked_at.is_none());
        assert_eq!(file.keys.iter().filter(|other| other.id == key.id).count(), 1);
    }
    for identity in &file.identities {
        let name = identity.name.as_str();
        assert!(name.contains('.') || name.starts_with("spiffe://"), "{name}");
        assert!(!identity.scopes.is_empty());
        assert_eq!(file.identities.iter().filter(|other| other.name == identity.name).count(), 1);
    }
}

/// Somebody may have put a key into it.
fn repeats_nothing(wrong: &str, text: &str) {
    for word in text.split(|c: char| c.is_whitespace() || "\"'=,[]{}#".contains(c)) {
        // As long as half a secret. Our own examples are our own.
        if word.len() >= 28 && !"spiffe://example.org/reader".contains(word) {
            assert!(!wrong.contains(word), "{wrong:?} repeats {word:?}");
        }
    }
}

//! Stored bytes of today, held still: what was written once must be readable for ever, and today's code must write
//! the same. A change of these files is a new version of a format, with the old one still read.

use std::{fs, path::PathBuf};

use proptest::prelude::*;

use super::{index, keys, mark::Mark};
use crate::{
    domain::{
        Content, Environment, FromId, HostPolicy, KeyId, KeyOwner, KeyRecord, Media, MessageKey, MessageSid,
        NewMessage, OrgId, Scope, SecretHash, Timestamp, TraceParent,
    },
    store::record::{Draft, View},
};

/// Compares with the file; where there is none and `UPDATE_GOLDEN` is set, makes it.
fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/embedded").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !path.exists() {
        fs::write(&path, bytes).expect("writable");
    }
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).expect("valid")
}

fn message(env: Environment, body: Option<&str>, media: Option<Media>) -> NewMessage {
    NewMessage::new(
        MessageKey {
            org: OrgId::new("Acme_1").expect("valid"),
            env,
            sid: MessageSid::new("msg_xyz789").expect("valid"),
        },
        Content {
            from_id: FromId::new("user_äöü").expect("valid"),
            timestamp: at("2024-12-18T12:00:00.123456Z"),
            body: body.map(str::to_owned),
            media,
        },
    )
}

fn messages() -> [(&'static str, NewMessage); 6] {
    let image = Media::image("https://example.com/a.jpg?sig=1".into(), HostPolicy::PublicOnly).expect("valid");
    let audio = Media::audio("http://example.com/b.OGG".into(), HostPolicy::PublicOnly).expect("valid");
    [
        ("message-v1-bare", message(Environment::Dev, None, None)),
        ("message-v1-empty-body", message(Environment::Prod, Some(""), None)),
        ("message-v1-body", message(Environment::Dev, Some("Here is my meal, grüezi"), None)),
        ("message-v1-image", message(Environment::Prod, Some("Here is my meal"), Some(image))),
        ("message-v1-audio", message(Environment::Dev, None, Some(audio))),
        ("message-v1-traced", message(Environment::Prod, Some("Here is my meal"), None).traced(Some(traceparent()))),
    ]
}

fn traceparent() -> TraceParent {
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().expect("valid")
}

const SEQUENCE: u64 = 0x0102_0304_0506_0708;

#[test]
fn every_message_of_version_1_is_read_and_written_as_ever() {
    let accepted_at = at("2025-01-02T03:04:05.000006Z");
    for (name, message) in messages() {
        let written = Draft::new(&message).finish(SEQUENCE, accepted_at);
        let kept = golden(&format!("{name}.bin"), &written);
        let view = View::read(SEQUENCE, &kept).expect(name);
        assert!(view.has_key(message.key()), "{name}");
        assert_eq!(&view.fingerprint, message.fingerprint(), "{name}");
        assert_eq!(view.to_message().expect(name), message.into_message(accepted_at), "{name}");
        assert!(written == kept, "{name} is written differently");
    }
}

#[test]
fn an_imported_message_of_version_1_is_read_and_written_as_ever() {
    let (accepted_at, placed_at) = (at("2025-01-02T03:04:05.000006Z"), at("2025-02-02T03:04:05Z"));
    for (name, placed_at, in_feed) in [
        ("message-v1-imported", placed_at, false),
        ("message-v1-imported-in-feed", placed_at, true),
        ("message-v1-imported-in-place", accepted_at, false),
    ] {
        let [_, _, (_, message), ..] = messages();
        let written = Draft::new(&message).finish_import(SEQUENCE, placed_at, accepted_at, in_feed);
        let kept = golden(&format!("{name}.bin"), &written);
        let view = View::read(SEQUENCE, &kept).expect(name);
        assert_eq!((view.accepted_at, view.placed_at, view.in_feed), (accepted_at, placed_at, in_feed), "{name}");
        assert_eq!(view.to_message().expect(name), message.into_message(accepted_at), "{name}");
        assert!(written == kept, "{name} is written differently");
    }
    // Where nothing is special about it, an imported message is stored as any other.
    let [(_, message), ..] = messages();
    let imported = Draft::new(&message).finish_import(SEQUENCE, accepted_at, accepted_at, true);
    assert_eq!(imported, Draft::new(&message).finish(SEQUENCE, accepted_at));
}

fn key_record(number: u8) -> KeyRecord {
    let org = OrgId::new("Acme_1").expect("valid");
    KeyRecord {
        id: KeyId::new("abcdefgh2345").expect("valid"),
        owner: match number {
            0 => KeyOwner::Platform,
            1 => KeyOwner::Org { org, env: Environment::Dev },
            _ => KeyOwner::Org { org, env: Environment::Prod },
        },
        scopes: [Scope::Submit, Scope::Admin].into_iter().collect(),
        secret_hash: SecretHash::from_bytes(std::array::from_fn(|place| place as u8)),
        created_at: at("2025-01-02T03:04:05.000006Z"),
        expires_at: (number > 0).then(|| at("2026-01-02T03:04:05Z")),
        revoked_at: (number > 1).then(|| at("2025-06-02T03:04:05Z")),
    }
}

#[test]
fn every_key_of_version_1_is_read_and_written_as_ever() {
    for (number, name) in (0..).zip(["key-v1-platform", "key-v1-expiring", "key-v1-revoked"]) {
        let record = key_record(number);
        let written = keys::encode(&record);
        let kept = golden(&format!("{name}.bin"), &written);
        assert_eq!(keys::decode(&record.id, &kept).expect(name), record, "{name}");
        assert!(written == kept, "{name} is written differently");
    }
}

#[test]
fn a_mark_of_version_1_is_read_and_written_as_ever() {
    for (name, clean) in [("mark-v1-clean", true), ("mark-v1-running", false)] {
        let mark = Mark {
            store: std::array::from_fn(|place| place as u8),
            last: 1_000_000,
            oldest: 1000,
            flushed: 900_000,
            flushed_commit: 5_000_000,
            key_mutations: 7,
            clean,
        };
        let kept = golden(&format!("{name}.bin"), &mark.to_bytes());
        assert_eq!(Mark::read(&kept), Ok(mark), "{name}");
        assert!(mark.to_bytes() == kept, "{name} is written differently");
    }
}

#[test]
fn index_entries_are_written_as_ever() {
    let key = messages()[0].1.key().clone();
    let (sid, sender) = (index::key_hash(&key).place, index::sender_hash_of("Acme_1", Environment::Dev, "user_äöü"));
    let sender_key = index::sender_key(&sender, SEQUENCE);
    let written = [
        sid.as_slice(),
        &index::sequence_value(&sid, SEQUENCE),
        &sender_key,
        &index::sender_value(&sender_key),
        &index::sequence_value(index::LAST, SEQUENCE),
        &super::meta::oldest_value(SEQUENCE),
    ]
    .concat();
    assert!(written == golden("index-v1.bin", &written), "an index entry is written differently");
}

#[test]
fn a_record_with_a_part_of_a_later_version_is_read_without_it() {
    let [.., (_, message)] = messages();
    let accepted_at = at("2025-01-02T03:04:05Z");
    let mut bytes = Draft::new(&message).finish(SEQUENCE, accepted_at);
    bytes.extend_from_slice(&[200, 3, 0, 0, 0, 1, 2, 3]);
    let resealed = crate::store::record::reseal(SEQUENCE, bytes);
    let view = View::read(SEQUENCE, &resealed).expect("readable");
    assert_eq!(view.to_message(), Ok(message.into_message(accepted_at)));
}

#[test]
fn any_changed_bit_of_a_record_is_noticed_and_so_is_another_place() {
    let [.., (_, message), _] = messages();
    let bytes = Draft::new(&message).finish(SEQUENCE, Timestamp::EPOCH);
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(View::read(SEQUENCE, &changed).is_err(), "bit {bit}");
    }
    assert!(View::read(SEQUENCE + 1, &bytes).is_err());
    for length in 0..bytes.len() {
        assert!(View::read(SEQUENCE, &bytes[..length]).is_err(), "{length} bytes");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_called_damaged_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        sealed in any::<bool>(),
    ) {
        let mut record = bytes;
        if sealed && record.len() > 9 {
            // Behind a good checksum, so that the parser itself is tried.
            record[0] = 1;
            record = crate::store::record::reseal(SEQUENCE, record);
        }
        let _ = View::read(SEQUENCE, &record).map(View::to_message);
        let _ = keys::decode(&key_record(0).id, &record);
        let _ = Mark::read(&record);
        let _ = keys::Digest::read(&record);
        let _ = index::read_sequence(b"key", &record);
        let _ = index::read_sender(&record, &record);
    }

    #[test]
    fn any_message_is_read_as_it_was_written(
        sid in "[^\\p{Cc}]{1,60}", from in "[^\\p{Cc}]{1,60}", body in proptest::option::of("\\PC{0,200}"), sequence in 1_u64..,
    ) {
        let message = NewMessage::new(
            MessageKey {
                org: OrgId::new("acme").expect("valid"),
                env: Environment::Prod,
                sid: MessageSid::new(sid).expect("valid"),
            },
            Content { from_id: FromId::new(from).expect("valid"), timestamp: Timestamp::EPOCH, body, media: None },
        );
        let bytes = Draft::new(&message).finish(sequence, Timestamp::EPOCH);
        let read = View::read(sequence, &bytes).expect("sound").to_message();
        prop_assert_eq!(read, Ok(message.into_message(Timestamp::EPOCH)));
    }
}

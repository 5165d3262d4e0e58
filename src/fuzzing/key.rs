//! The text of a key, against a reader of base32 and a CRC of its own.

use sha2::{Digest, Sha256};

use crate::domain::{
    Environment, KeyId, KeyOwner, KeyRecord, OrgId, Origin, PresentedKey, Scopes, SecretHash, Timestamp,
};

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const REALMS: [&str; 3] = ["dev", "prod", "platform"];

/// A text as it is; or one that is a key, made of the bytes, and then changed here and there.
pub fn key(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        agree(text);
    }
    let Some((parts, changes)) = data.split_at_checked(45) else { return };
    let mut text = made(usize::from(parts[0] % 3), parts[0] & 0x80 != 0, &parts[1..13], &parts[13..]);
    assert!(read(&text).is_some(), "{text}");
    agree(&text);
    for change in changes.chunks_exact(2).take(4) {
        // Of ASCII it stays text.
        let mut bytes = text.into_bytes();
        let at = usize::from(change[0]) % bytes.len();
        bytes[at] = change[1] & 0x7f;
        text = String::from_utf8(bytes).unwrap();
        agree(&text);
    }
}

fn agree(text: &str) {
    let (ours, plain) = (PresentedKey::parse(text), read(text));
    match (ours, plain) {
        (None, None) => {}
        (Some(ours), Some((realm, is_browser, id, secret))) => {
            assert_eq!((ours.id.as_str(), ours.is_browser()), (id.as_str(), is_browser));
            for other in REALMS {
                assert_eq!(ours.proves(&record(other, is_browser, &id, &secret)), other == realm, "{text}");
                assert!(!ours.proves(&record(other, !is_browser, &id, &secret)), "{text}");
            }
            assert!(!ours.proves(&record(realm, is_browser, &id, &secret[..31])), "{text}");
            assert!(
                !ours.proves(&record(realm, is_browser, "aaaaaaaaaaab", &secret)) || id == "aaaaaaaaaaab",
                "{text}"
            );
        }
        (ours, plain) => panic!("{text:?} is a key: {} and {}", ours.is_some(), plain.is_some()),
    }
}

fn record(realm: &str, is_browser: bool, id: &str, secret: &[u8]) -> KeyRecord {
    let org = OrgId::new("acme").unwrap();
    let owner = match realm {
        "platform" => KeyOwner::Platform,
        env => KeyOwner::Org { org, env: env.parse::<Environment>().unwrap() },
    };
    KeyRecord {
        id: KeyId::new(id).unwrap(),
        owner,
        scopes: Scopes::default(),
        rate: None,
        origins: if is_browser { vec![Origin::parse("https://a.example").unwrap()] } else { Vec::new() },
        secret_hash: SecretHash::from_bytes(Sha256::digest(secret).into()),
        created_at: Timestamp::EPOCH,
        expires_at: None,
        revoked_at: None,
    }
}

fn made(realm: usize, is_browser: bool, id: &[u8], secret: &[u8]) -> String {
    let id: String = id.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect();
    let head = format!("mw_{}_{}{id}_", REALMS[realm], if is_browser { "b_" } else { "" });
    let sum = crc32(&[head.as_bytes(), secret].concat());
    let bits: Vec<u8> =
        [secret, &sum.to_be_bytes()].concat().iter().flat_map(|b| (0..8).rev().map(move |at| b >> at & 1)).collect();
    let groups = bits.chunks(5).map(|group| (0..5).fold(0, |n, at| n << 1 | group.get(at).copied().unwrap_or(0)));
    head + &groups.map(|five| char::from(ALPHABET[usize::from(five)])).collect::<String>()
}

/// Realm, whether it is a browser key, id and secret.
fn read(text: &str) -> Option<(&'static str, bool, String, Vec<u8>)> {
    let parts: Vec<_> = text.split('_').collect();
    let (prefix, realm, is_browser, id, tail) = match parts[..] {
        [prefix, realm, id, tail] => (prefix, realm, false, id, tail),
        [prefix, realm, "b", id, tail] => (prefix, realm, true, id, tail),
        _ => return None,
    };
    let realm = REALMS.into_iter().find(|word| *word == realm)?;
    let five = |byte: u8| ALPHABET.iter().position(|symbol| *symbol == byte);
    if prefix != "mw" || id.len() != 12 || !id.bytes().all(|byte| five(byte).is_some()) || tail.len() != 58 {
        return None;
    }
    let groups: Vec<usize> = tail.bytes().map(five).collect::<Option<_>>()?;
    let bits: Vec<usize> = groups.iter().flat_map(|group| (0..5).rev().map(move |at| group >> at & 1)).collect();
    // 36 bytes, and two bits that are nothing.
    if bits[288..] != [0, 0] {
        return None;
    }
    let byte = |bits: &[usize]| u8::try_from(bits.iter().fold(0, |n, bit| n << 1 | bit)).unwrap();
    let bytes: Vec<u8> = bits[..288].chunks(8).map(byte).collect();
    let (secret, sum) = bytes.split_at(32);
    let head = &text[..text.len() - 58];
    (crc32(&[head.as_bytes(), secret].concat()).to_be_bytes() == sum)
        .then(|| (realm, is_browser, id.to_owned(), secret.to_vec()))
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

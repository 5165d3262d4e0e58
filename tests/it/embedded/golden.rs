//! The bytes of version 1, held still by files: a store that an earlier program wrote is read.

use std::{fs, path::Path};

use message_webhook::{
    domain::Environment,
    store::{KeyStore, Lifecycle, MessageStore, TransferStore, embedded::Mode},
};

use super::tools::*;
use crate::conformance::fixture::{key_of, sid, up_to};

/// A small store that was closed in order: three messages and a key that was revoked. `UPDATE_GOLDEN=1` makes it anew, which
/// is only for a new version of the format.
const STORE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/embedded/store-v1");

#[tokio::test]
async fn a_store_of_version_1_is_read() {
    let golden = Path::new(STORE);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        make(golden).await;
    }
    let dir = tempdir();
    fs::create_dir_all(dir.path().join("log")).unwrap();
    for entry in fs::read_dir(golden).unwrap() {
        let path = entry.unwrap().path();
        let target = dir.path().join("log").join(path.file_name().unwrap());
        let bytes = fs::read(&path).unwrap();
        fs::write(&target, &bytes).unwrap();
        // The file is kept without the zeros at its end, which a segment is made with.
        let size = u32::from_le_bytes(bytes[48..52].try_into().unwrap());
        fs::File::options().write(true).open(target).unwrap().set_len(size.into()).unwrap();
    }
    for mode in [Mode::Read, Mode::Serve] {
        let (store, report) = open_for(dir.path(), mode).await;
        assert_eq!((report.messages, report.keys), (3, 1), "{report}");
        let page = store.export(None, up_to(10)).await.unwrap();
        let sids: Vec<_> = page.messages.iter().map(sid).collect();
        assert_eq!(sids, ["m0", "m1", "m2"]);
        for (number, message) in page.messages.iter().enumerate() {
            assert_eq!(message.content, *numbered(number, 40 + number).content());
        }
        let key = store.keys(None).await.unwrap().remove(0);
        assert!(key.record.revoked_at.is_some());
        if mode == Mode::Serve {
            for number in 0..3 {
                let key = key_of("acme", Environment::Dev, &format!("m{number}"));
                assert!(store.get(&key).await.unwrap().is_some(), "{number}");
            }
        }
        store.close().await.unwrap();
    }
}

async fn make(golden: &Path) {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    let key = crate::conformance::fixture::new_key("acme");
    store.create_key(key.clone()).await.unwrap();
    store.revoke_key(&key.id, key.created_at).await.unwrap();
    for number in 0..3 {
        store.submit(numbered(number, 40 + number)).await.unwrap();
    }
    store.close().await.unwrap();
    fs::create_dir_all(golden).unwrap();
    for entry in fs::read_dir(dir.path().join("log")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes.truncate(end);
        fs::write(golden.join(path.file_name().unwrap()), bytes).unwrap();
    }
}

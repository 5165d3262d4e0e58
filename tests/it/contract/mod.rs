//! What the service promises in writing: the OpenAPI document and the protos, each against a golden file, so that a
//! change of the public interface shows in review as one.

mod proto;

use std::{fs, path::Path};

use message_webhook::protocol::http::openapi_json;

use crate::support::cli;

/// Compares `now` with the golden file `name`, or writes it where `UPDATE_GOLDEN` is set.
fn compare(name: &str, now: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, now).expect("a writable golden file");
        return;
    }
    let golden = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    let differs = golden.lines().zip(now.lines()).position(|(old, new)| old != new);
    let line = differs.unwrap_or_else(|| golden.lines().count().min(now.lines().count()));
    assert!(
        golden == now,
        "tests/golden/{name} differs from line {} on:\n  golden: {:?}\n  now:    {:?}\nv1 only grows: nothing that callers \
         use may go or change. If this is so, run: UPDATE_GOLDEN=1 cargo test --test it contract::",
        line + 1,
        golden.lines().nth(line),
        now.lines().nth(line),
    );
}

#[test]
fn the_openapi_document_is_the_golden_one() {
    compare("openapi.json", &openapi_json());
}

#[test]
fn the_command_prints_the_document_that_is_served() {
    let printed = cli(["openapi"]);
    assert_eq!((printed.code, printed.stdout), (Some(0), openapi_json()));
}

#[test]
fn the_protos_are_the_golden_ones() {
    compare("proto.txt", &proto::described());
}

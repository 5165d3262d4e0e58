//! `export` and `import`, by the real program: a backup and its return, and what may go wrong on the way.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use message_webhook::protocol::grpc::v1::{
    GetMessageRequest, ListMessagesRequest, StartPosition, stream_messages_request::From as StreamFrom,
};
use serde_json::Value;

use crate::support::{
    ServerProcess, cli,
    grpc::{client, stream, submission, take, with_key},
    post,
};

const PATH: &str = "/acme/dev/v1/message-webhook";
const START: StreamFrom = StreamFrom::Position(StartPosition::Start as i32);

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A key that may do everything.
fn key_of(server: &ServerProcess) -> String {
    let scopes = ["submit", "read", "stream"].map(|scope| ["--scope", scope]).concat();
    let created = server.cli(&[["keys", "create", "--org", "acme", "--env", "dev"].as_slice(), &scopes].concat());
    assert_eq!(created.code, Some(0), "{created:?}");
    created.stdout.trim().to_owned()
}

/// Submits messages of one user, one after the other where `in_order`.
async fn fill(server: &ServerProcess, key: &str, numbers: std::ops::Range<usize>) {
    let grpc = client(server.grpc).await;
    let numbers: Vec<usize> = numbers.collect();
    for some in numbers.chunks(100) {
        let submitting = some.iter().map(|number| {
            let mut grpc = grpc.clone();
            async move { grpc.submit_message(with_key(key, submission("user", &format!("m{number}")))).await }
        });
        for answer in futures_util::future::join_all(submitting).await {
            answer.expect("accepted");
        }
    }
}

/// The lines of an export with messages.
fn messages(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("an export");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.filter(|line| line.get("message_sid").is_some()).collect()
}

fn sids(messages: &[Value]) -> Vec<String> {
    messages.iter().map(|message| message["message_sid"].as_str().expect("a sid").to_owned()).collect()
}

fn body(sid: &str) -> String {
    format!(r#"{{"from_id":"user","message_sid":"{sid}","timestamp":1672531200}}"#)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_of_a_running_server_brings_everything_into_another_one() {
    let server = ServerProcess::start();
    let key = key_of(&server);
    let revoked = key_of(&server);
    let revoked = revoked.split('_').nth(2).expect("an id");
    assert_eq!(server.cli(&["keys", "revoke", revoked]).code, Some(0));
    let browser = "keys create --org acme --env dev --browser --origin https://shop.example --rate 7/min --burst 3";
    let browser = server.cli(&browser.split(' ').collect::<Vec<_>>());
    let browser = browser.stdout.split('_').nth(3).expect("an id");
    fill(&server, &key, 0..1200).await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("backup.ndjson");
    let exported = server.cli(&["export", "--output", text(&file)]);
    assert_eq!(exported.code, Some(0), "{exported:?}");
    assert!(exported.stdout.is_empty() && exported.stderr.contains("1200 messages exported"), "{exported:?}");
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    assert_eq!(messages(&file).len(), 1200);
    assert!(!fs::read_to_string(&file).expect("an export").contains(revoked));
    // The same on stdout, and the server served meanwhile and serves on.
    let piped = server.cli(&["export"]);
    assert_eq!(piped.stdout.lines().count(), fs::read_to_string(&file).expect("an export").lines().count());
    assert_eq!(post(server.http, PATH, &key, body("after")).await.0, 200);

    // Into a running server that has a message of its own.
    let other = ServerProcess::start();
    let own = key_of(&other);
    assert_eq!(post(other.http, PATH, &own, body("own")).await.0, 200);
    let imported = other.cli(&["import", text(&file)]);
    assert_eq!(imported.code, Some(0), "{imported:?}");
    assert!(imported.stderr.contains("1200 messages taken, 0 were there, 0 conflicts"), "{imported:?}");
    assert!(imported.stderr.contains("2 keys taken"), "{imported:?}");
    let listed = other.cli(&["keys", "list"]).stdout;
    let row = listed.lines().find(|row| row.starts_with(browser)).expect("taken over");
    assert!(row.contains("7/min burst 3") && row.ends_with("https://shop.example"), "{row}");
    let again = other.cli(&["import", text(&file)]);
    assert!(again.stderr.contains("0 messages taken, 1200 were there, 0 conflicts"), "{again:?}");
    assert!(again.stderr.contains("0 keys taken"), "{again:?}");

    // The old key opens the new store, where every message is known with the time of its acceptance.
    let (status, first) = post(server.http, PATH, &key, body("m7")).await;
    assert_eq!((status, &first["duplicate"]), (200, &true.into()));
    assert_eq!(post(other.http, PATH, &key, body("m7")).await, (200, first));
    // The feed has what the server accepted itself, and nothing else.
    let mut grpc = client(other.grpc).await;
    assert_eq!(post(other.http, PATH, &key, body("new")).await.0, 200);
    let delivered = take(&mut stream(&mut grpc, &key, START).await, 2).await;
    let delivered: Vec<_> = delivered.iter().map(|(message, _)| message.message_sid.as_str()).collect();
    assert_eq!(delivered, ["own", "new"]);
    let request = with_key(&key, ListMessagesRequest { from_id: "user".into(), page_size: 500, ..Default::default() });
    let listed = grpc.list_messages(request).await.expect("a page").into_inner();
    assert_eq!(listed.messages.len(), 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_comes_back_into_an_empty_directory_and_the_feed_has_it_if_wanted() {
    let server = ServerProcess::start();
    let key = key_of(&server);
    fill(&server, &key, 0..150).await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("backup.ndjson");
    // Of a stopped store, too.
    let mut server = server;
    let _kept = server.keep_dir();
    server.terminate();
    let data_dir = server.data_dir.clone();
    server.wait();
    let exported = cli(["export", "--output", text(&file), "--data-dir", text(&data_dir)]);
    assert_eq!(exported.code, Some(0), "{exported:?}");
    let order = sids(&messages(&file));

    let restored = dir.path().join("restored");
    let imported = cli(["import", text(&file), "--to-feed", "--data-dir", text(&restored)]);
    assert_eq!(imported.code, Some(0), "{imported:?}");
    let server = ServerProcess::builder().data_dir(&restored).start();
    let mut grpc = client(server.grpc).await;
    let delivered = take(&mut stream(&mut grpc, &key, START).await, 150).await;
    let delivered: Vec<_> = delivered.iter().map(|(message, _)| message.message_sid.clone()).collect();
    assert_eq!(delivered, order, "in the order of acceptance");
    let request = with_key(&key, GetMessageRequest { message_sid: "m3".into(), ..Default::default() });
    let found = grpc.get_message(request).await.expect("found").into_inner().message.expect("a message");
    assert_eq!(found.from_id, "user");
    // What was restored can be exported again.
    let again = dir.path().join("again.ndjson");
    assert_eq!(server.cli(&["export", "--output", text(&again)]).code, Some(0));
    assert_eq!(messages(&again), messages(&file));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_was_torn_anywhere_goes_on_to_the_same_whole() {
    let server = ServerProcess::start();
    let key = key_of(&server);
    fill(&server, &key, 0..1100).await;
    let dir = tempfile::tempdir().expect("a directory");
    let whole = dir.path().join("whole.ndjson");
    assert_eq!(server.cli(&["export", "--output", text(&whole)]).code, Some(0));
    let bytes = fs::read(&whole).expect("an export");
    // In the head, in a key, in the first page, in a later one, in the end, and nowhere.
    let torn = dir.path().join("torn.ndjson");
    for cut in [0, 10, 150, bytes.len() / 4, bytes.len() * 3 / 4, bytes.len() - 5, bytes.len()] {
        fs::write(&torn, &bytes[..cut]).expect("written");
        if cut < bytes.len() {
            let refused = cli(["import", text(&torn), "--data-dir", text(&dir.path().join(format!("store{cut}")))]);
            assert_eq!(refused.code, Some(1), "cut at {cut}: {refused:?}");
            let known = ["is not whole", "is empty"].iter().any(|known| refused.stderr.contains(known));
            assert!(known, "cut at {cut}: {refused:?}");
        }
        let resumed = server.cli(&["export", "--output", text(&torn), "--resume"]);
        assert_eq!(resumed.code, Some(0), "cut at {cut}: {resumed:?}");
        assert_eq!(messages(&torn), messages(&whole), "cut at {cut}");
        let imported = cli(["import", text(&torn), "--data-dir", text(&dir.path().join(format!("whole{cut}")))]);
        assert_eq!(imported.code, Some(0), "cut at {cut}: {imported:?}");
        assert!(imported.stderr.contains("1100 messages taken"), "cut at {cut}: {imported:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_an_import_is_told_with_its_line_and_without_its_contents() {
    let dir = tempfile::tempdir().expect("a directory");
    let head = r#"{"format":"message-webhook-export","version":1}"#;
    let message = |sid: &str, from: &str| {
        format!(
            r#"{{"org_id":"acme","env":"dev","message_sid":"{sid}","from_id":"{from}","timestamp":"2024-12-18T12:00:00Z","accepted_at":"{}"}}"#,
            "2999-01-01T00:00:00Z"
        )
    };
    let long = "secret".repeat(50);
    let cases = [
        (vec!["secret".to_owned()], "line 1 is no JSON object"),
        (vec![message("secret", "u")], "line 1 is not the head of an export"),
        (vec![r#"{"format":"message-webhook-export","version":9}"#.into()], "line 1 says that the export has another"),
        (
            vec![head.into(), message("a", "u"), message("b", &long), message("c", "u")],
            "line 3 breaks a rule: too_long",
        ),
        (vec![head.into(), r#"{"message_sid":"secret"}"#.into()], "line 2 lacks 'org_id'"),
        (vec![head.into(), r#"{"end":true,"messages":3}"#.into()], "the end says 3 messages, and there are 0"),
        (
            vec![head.into(), r#"{"end":true,"messages":0}"#.into(), message("secret", "u")],
            "line 3 comes after the end",
        ),
    ];
    for (number, (lines, expected)) in cases.into_iter().enumerate() {
        let file = dir.path().join(format!("{number}.ndjson"));
        fs::write(&file, lines.join("\n") + "\n").expect("written");
        let refused = cli(["import", text(&file), "--data-dir", text(&dir.path().join("store"))]);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains(expected) && !refused.stderr.contains("secret"), "{refused:?}");
    }
    let missing = cli(["import", "nowhere.ndjson", "--data-dir", text(dir.path())]);
    assert!(missing.code == Some(1) && missing.stderr.contains("cannot open nowhere.ndjson"), "{missing:?}");

    let server = ServerProcess::start();
    let file = dir.path().join("0.ndjson");
    let exists = server.cli(&["export", "--output", text(&file)]);
    assert!(exists.code == Some(2) && exists.stderr.contains("exists; go on with it by --resume"), "{exists:?}");
    let no_export = server.cli(&["export", "--output", text(&file), "--resume"]);
    assert!(no_export.code == Some(1) && no_export.stderr.contains("line 1 is no JSON object"), "{no_export:?}");
    // The place of another store's export.
    fs::write(&file, format!("{head}\n{{\"place\":\"AWUAAAAA\"}}\n")).expect("written");
    let foreign = server.cli(&["export", "--output", text(&file), "--resume"]);
    assert!(foreign.code == Some(1) && foreign.stderr.contains("no place of an export of this store"), "{foreign:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_is_told_and_the_store_keeps_its_own() {
    let (server, other) = (ServerProcess::start(), ServerProcess::start());
    let (key, other_key) = (key_of(&server), key_of(&other));
    fill(&server, &key, 0..3).await;
    let (_, own) = post(other.http, PATH, &other_key, body("m1")).await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("export.ndjson");
    assert_eq!(server.cli(&["export", "--output", text(&file)]).code, Some(0));
    let imported = other.cli(&["import", text(&file)]);
    assert_eq!(imported.code, Some(0), "{imported:?}");
    assert!(imported.stderr.contains("2 messages taken, 0 were there, 1 conflicts"), "{imported:?}");
    let (_, still) = post(other.http, PATH, &other_key, body("m1")).await;
    assert_eq!(still["accepted_at"], own["accepted_at"]);
}

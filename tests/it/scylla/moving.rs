//! Moving from the embedded store, step by step as docs/operations/scylladb.md has it.

use std::path::Path;

use message_webhook::{
    protocol::grpc::v1::{ListMessagesRequest, StartPosition, stream_messages_request::From as StreamFrom},
    store::scylla::Options,
};
use serde_json::Value;

use crate::support::{
    ServerProcess,
    grpc::{client, stream, take, with_key},
    post,
    process::{self, Finished},
    ring::{self, Keyspace},
};

const STEPS: &str = include_str!("../../../docs/operations/scylladb.md");
const PATH: &str = "/acme/dev/v1/message-webhook";

/// The arguments of the one command in the document that begins with `words`.
fn documented(words: &str, keyspace: &Keyspace) -> Vec<String> {
    let found: Vec<_> = STEPS.split('`').filter(|text| text.starts_with(words)).collect();
    let [command] = found[..] else { panic!("'{words}' is there {} times", found.len()) };
    let options = keyspace.options();
    let command = command
        .replace("--scylla-nodes …", &format!("--scylla-nodes {}", options.nodes.join(",")))
        .replace("--scylla-keyspace …", &format!("--scylla-keyspace {}", options.keyspace));
    command.split_whitespace().skip(1).map(str::to_owned).collect()
}

fn run(dir: &Path, arguments: &[String]) -> Finished {
    let done = process::finish(process::command(arguments).current_dir(dir));
    assert_eq!(done.code, Some(0), "{arguments:?}: {done:?}");
    done
}

fn body(sid: usize) -> String {
    format!(r#"{{"from_id":"user","message_sid":"m{sid}","timestamp":1672531200,"message_body":"Hello"}}"#)
}

/// What each was answered.
async fn send(server: &ServerProcess, key: &str, sids: std::ops::Range<usize>) -> Vec<Value> {
    let mut answers = Vec::new();
    for sid in sids {
        let (status, answer) = post(server.http, PATH, key, body(sid)).await;
        assert_eq!(status, 200, "{answer}");
        answers.push(answer);
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_moves_from_the_embedded_store_as_documented_keeps_messages_duplicates_and_keys() {
    let Some(nodes) = ring::nodes() else { return };
    // As it is without flags, but for the copies, which the nodes of the test decide.
    let keyspace = Keyspace::unmade(nodes, |options| {
        let replication_factor = options.replication_factor;
        *options = Options { replication_factor, ..Options::new(options.nodes.clone(), options.keyspace.clone()) };
    });
    let dir = tempfile::tempdir().expect("a directory");
    let old = ServerProcess::builder().data_dir(&dir.path().join("data")).start();
    let scopes = ["submit", "read", "stream"].map(|scope| ["--scope", scope]).concat();
    let created = old.cli(&[&["keys", "create", "--org", "acme", "--env", "dev"], scopes.as_slice()].concat());
    assert_eq!(created.code, Some(0), "{created:?}");
    let key = created.stdout.trim().to_owned();
    let mut first = send(&old, &key, 0..60).await;

    // 1.
    let options = keyspace.options();
    let copies = format!("--scylla-replication-factor={}", options.replication_factor);
    let migrate =
        ["migrate", "--scylla-nodes", &options.nodes.join(","), "--scylla-keyspace", &options.keyspace, &copies];
    run(dir.path(), &migrate.map(str::to_owned));
    // 3 and 4 first, to be away for a shorter time.
    let export = documented("message-webhook export", &keyspace);
    let import = documented("message-webhook import", &keyspace);
    let early = |arguments: &[String]| -> Vec<String> {
        arguments.iter().map(|word| word.replace("move.ndjson", "early.ndjson")).collect()
    };
    run(dir.path(), &early(&export));
    let taken = run(dir.path(), &early(&import));
    assert!(taken.stderr.contains("60 messages taken, 0 were there, 0 conflicts"), "{taken:?}");
    first.extend(send(&old, &key, 60..80).await);
    // 2, 3 and 4.
    old.terminate();
    assert_eq!(old.wait().code, Some(0));
    run(dir.path(), &export);
    let taken = run(dir.path(), &import);
    assert!(taken.stderr.contains("20 messages taken, 60 were there, 0 conflicts"), "{taken:?}");
    let again = run(dir.path(), &import);
    assert!(again.stderr.contains("0 messages taken, 80 were there, 0 conflicts"), "{again:?}");
    // 5.
    let new = ServerProcess::builder().on_scylla(&keyspace).start();
    let retried = send(&new, &key, 0..80).await;
    for (first, again) in first.iter().zip(&retried) {
        assert_eq!((&again["duplicate"], &again["accepted_at"]), (&true.into(), &first["accepted_at"]));
    }
    let mut grpc = client(new.grpc).await;
    let request = with_key(&key, ListMessagesRequest { from_id: "user".into(), page_size: 500, ..Default::default() });
    let listed = grpc.list_messages(request).await.expect("a page").into_inner().messages;
    let newest_first: Vec<_> = (0..80).rev().map(|sid| format!("m{sid}")).collect();
    assert_eq!(listed.into_iter().map(|message| message.message_sid).collect::<Vec<_>>(), newest_first);
    // The feed has only what was accepted here.
    send(&new, &key, 80..81).await;
    let start = StreamFrom::Position(StartPosition::Start.into());
    let delivered = take(&mut stream(&mut grpc, &key, start).await, 1).await;
    assert_eq!(delivered[0].0.message_sid, "m80");
    drop(new);
}

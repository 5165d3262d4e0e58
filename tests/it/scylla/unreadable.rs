//! Rows that this program cannot read, damaged or of a later version: those they concern are told, and nobody stands still.

use std::sync::Arc;

use message_webhook::{
    domain::{Environment, Kind, SystemClock},
    protocol::grpc::v1::{StartPosition, stream_messages_request::From as StreamFrom},
    store::{Cursor, FeedFrom, FeedStart, FeedStore, MessageStore, TransferStore, scylla::ScyllaStore},
};
use scylla::{client::session::Session, client::session_builder::SessionBuilder, value::CqlTimeuuid};
use tonic::Code;

use crate::{
    conformance::fixture::{
        ORDERS, PATIENCE, accepted, follow_after, key, message, message_of, sender, sid, sids, take, up_to,
    },
    support::{
        ServerProcess, get,
        grpc::{client, end, stream, take as take_from},
        post, process,
        ring::{self, Keyspace},
    },
};

async fn session(keyspace: &Keyspace) -> Session {
    SessionBuilder::new().known_nodes(&keyspace.options().nodes).build().await.expect("a session")
}

/// Makes the record of a claim one of a later version.
async fn age(session: &Session, keyspace: &Keyspace, org: &str, sid: &str) {
    let table = format!("{}.messages", keyspace.options().keyspace);
    let place = format!("WHERE org_id = '{org}' AND env = 'dev' AND message_sid = '{sid}'");
    let newer = format!("UPDATE {table} SET message = 0xff00 {place} IF EXISTS");
    session.query_unpaged(newer, &[]).await.expect("changed");
}

async fn open(keyspace: &Keyspace) -> ScyllaStore {
    ScyllaStore::connect(keyspace.options(), Arc::new(SystemClock)).await.expect("a store")
}

/// The cursor that a text ends with.
fn cursor_in(text: &str) -> Cursor {
    Cursor::parse(text.split('\'').nth(1).expect("a cursor")).expect("a cursor")
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_claim_that_cannot_be_read_every_reader_is_told_and_goes_on_behind_it() {
    let Some(nodes) = ring::nodes() else { return };
    let keyspace = Keyspace::new(nodes, |_| {}).await;
    let (store, session) = (open(&keyspace).await, session(&keyspace).await);
    for sid in ["m1", "m2", "m3"] {
        accepted(store.submit(message(sid)).await.expect("decided"));
    }
    age(&session, &keyspace, "acme", key("m2").sid.as_str()).await;
    // From the database, and from what its tail finds out.
    let (other, mut number) = (open(&keyspace).await, 0);
    for store in [&store, &other] {
        for order in ORDERS {
            let mut reader = store.follow(FeedFrom::Start(FeedStart::Start), order).await.expect("a reader");
            let (mut read, mut told) = (Vec::new(), Vec::new());
            let reading = async {
                while read.len() < 2 || told.is_empty() {
                    match reader.next(up_to(10)).await {
                        Ok(page) if page.items.is_empty() => reader.grown().await.expect("the store is open"),
                        Ok(page) => read.extend(page.items),
                        Err(error) => told.push(error),
                    }
                }
            };
            tokio::time::timeout(PATIENCE, reading).await.expect("all that there is");
            read.retain(|item| sid(&item.message).starts_with('m'));
            assert_eq!(sids(&read), ["m1", "m3"], "{order:?}");
            let [error] = told.as_slice() else { panic!("{told:?}") };
            assert_eq!(error.kind(), Kind::DataLoss);
            assert_eq!(error.concerns().map(|(org, env)| (org.as_str(), env)), Some(("acme", Environment::Dev)));
            // Whoever begins again there is not told again.
            let mut behind = follow_after(store, &cursor_in(error.public_message())).await.expect("a reader");
            number += 1;
            let later = format!("later-{number}");
            accepted(store.submit(message(&later)).await.expect("decided"));
            let reading = async {
                loop {
                    if sids(&take(&mut *behind, 1).await) == [later.as_str()] {
                        break;
                    }
                }
            };
            tokio::time::timeout(PATIENCE, reading).await.expect("what was accepted later");
        }
    }
    let error = store.get(&key("m2")).await.expect_err("it cannot be read");
    assert_eq!(error.kind(), Kind::DataLoss);
    let listed = store.list(&sender("user"), None, up_to(10)).await.expect("a list").messages;
    assert!(listed.iter().map(sid).all(|sid| sid != "m2") && listed.len() >= 2, "{listed:?}");
    let exported = store.export(None, up_to(100)).await.expect("a page");
    assert_eq!(exported.lost, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_the_feed_that_cannot_be_read_stops_neither_readers_nor_the_resolver() {
    let Some(nodes) = ring::nodes() else { return };
    let keyspace = Keyspace::new(nodes, |options| (options.shards, options.slots) = (1, 1)).await;
    let (store, session) = (open(&keyspace).await, session(&keyspace).await);
    accepted(store.submit(message("m1")).await.expect("decided"));
    let name = keyspace.options().keyspace;
    let rows = session.query_unpaged(format!("SELECT shard, bucket, attempt_id FROM {name}.feed"), &[]).await;
    let rows = rows.expect("read").into_rows_result().expect("rows");
    let (shard, bucket, attempt) = rows.single_row::<(i32, i32, CqlTimeuuid)>().expect("a row");
    let broken = format!(
        "UPDATE {name}.feed SET message_sid = '' WHERE shard = {shard} AND bucket = {bucket} AND attempt_id = {attempt}"
    );
    session.query_unpaged(broken, &[]).await.expect("changed");
    let other = open(&keyspace).await;
    accepted(store.submit(message("m2")).await.expect("decided"));
    tokio::time::timeout(PATIENCE, other.settle()).await.expect("resolved").expect("a mark");
    for order in ORDERS {
        let mut reader = other.follow(FeedFrom::Start(FeedStart::Start), order).await.expect("a reader");
        assert_eq!(sids(&take(&mut *reader, 1).await), ["m2"], "{order:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_whom_a_message_concerns_that_cannot_be_read_is_told_of_it() {
    let Some(nodes) = ring::nodes() else { return };
    let keyspace = Keyspace::new(nodes, |_| {}).await;
    let key_of = |org: &str| {
        let create =
            ["keys", "create", "--org", org, "--env", "dev", "--scope", "submit", "--scope", "read", "--scope"];
        let create =
            create.iter().map(|word| (*word).to_owned()).chain(["stream".to_owned(), "--store=scylla".to_owned()]);
        let made = process::cli(create.chain(keyspace.flags()));
        assert_eq!(made.code, Some(0), "{made:?}");
        made.stdout.trim().to_owned()
    };
    let (acme, other) = (key_of("acme"), key_of("other"));
    let store = open(&keyspace).await;
    for (org, sid) in [("acme", "m1"), ("other", "o1"), ("acme", "m2"), ("other", "o2")] {
        accepted(store.submit(message_of(org, Environment::Dev, "user", sid)).await.expect("decided"));
    }
    age(&session(&keyspace).await, &keyspace, "acme", key("m1").sid.as_str()).await;
    let server = ServerProcess::builder().on_scylla(&keyspace).start();
    let mut grpc = client(server.grpc).await;
    let start = || StreamFrom::Position(StartPosition::Start.into());
    let told = end(&mut stream(&mut grpc, &acme, start()).await).await;
    assert_eq!(told.code(), Code::DataLoss, "{told:?}");
    let cursor = StreamFrom::Cursor(cursor_in(told.message()).to_string());
    // What else there is was given before, or comes after; what is accepted later comes in any case.
    accepted(store.submit(message_of("acme", Environment::Dev, "user", "m3")).await.expect("decided"));
    let mut behind = stream(&mut grpc, &acme, cursor).await;
    while !take_from(&mut behind, 1).await[0].0.message_sid.ends_with("m3") {}
    drop(behind);
    let read = take_from(&mut stream(&mut grpc, &other, start()).await, 2).await;
    let sids: Vec<_> = read.iter().map(|(message, _)| message.message_sid.as_str()).collect();
    assert!(sids[0].ends_with("o1") && sids[1].ends_with("o2"), "{sids:?}");
    // Over HTTP it is what it was: accepted, and a duplicate.
    let body = format!(r#"{{"from_id":"user","message_sid":"{}","timestamp":"1672531200"}}"#, key("m1").sid.as_str());
    let (status, answer) = post(server.http, "/acme/dev/v1/message-webhook", &acme, body).await;
    assert_eq!((status, &answer["duplicate"]), (200, &true.into()), "{answer}");
    let (_, metrics) = get(server.admin, "/metrics").await.expect("metrics");
    assert!(metrics.contains("message_webhook_store_unreadable_total{table=\"messages\"} 1"), "{metrics}");
}

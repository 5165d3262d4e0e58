//! Frames of CQL that are lost, late, or errors: however a statement ends, a message is accepted once and its sender is
//! told the truth.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};
use message_webhook::{
    domain::{Clock, Kind, SystemClock},
    store::{
        Lifecycle, MessageStore, Outcome,
        scylla::{Options, ScyllaStore},
    },
};
use scylla::{
    client::session_builder::SessionBuilder,
    errors::{DbError, WriteType},
    statement::Consistency,
    value::Row,
};
use scylla_proxy::{Condition, Reaction, RequestReaction, ResponseFrame};
use tokio::sync::mpsc::unbounded_channel;

use crate::{
    conformance::fixture::{accepted, duplicate, key, message},
    support::{
        eventually,
        ring::{self, Keyspace},
        wire::{Answer, Wire},
    },
};

pub(super) const CLAIM: &[&str] = &[".messages (", "IF NOT EXISTS"];
pub(super) const FEED: &[&str] = &["INSERT INTO", ".feed ("];
pub(super) const SENDER: &[&str] = &["INSERT INTO", ".messages_by_sender ("];
const BUCKET: &[&str] = &["INSERT INTO", ".feed_buckets ("];
const UPTO: &[&str] = &["SELECT resolving_upto FROM"];
pub(super) const HEAD: &[&str] = &["SELECT attempt_id, accepted_at, fingerprint FROM"];

pub(super) const DECISION: &[&[u8]] = &[b"[applied]", b"messages"];
/// A plain write's answer, void, is nothing but its kind.
const MARK: &[&[u8]] = &[b"resolving_upto"];

/// A store behind a proxy, in a keyspace of its own.
pub(super) struct Behind {
    pub(super) store: Arc<ScyllaStore>,
    pub(super) wire: Wire,
    pub(super) keyspace: Keyspace,
}

impl Behind {
    pub(super) async fn new(change: impl FnOnce(&mut Options)) -> Option<Self> {
        let nodes = ring::nodes()?;
        let mut wire = Wire::before(nodes.first()?).await;
        let keyspace = Keyspace::new(nodes, change).await;
        let store = behind(&wire, &keyspace).await;
        wire.learn().await;
        wire.heal();
        // The first row of a shard has a statement more.
        accepted(store.submit(message("first")).await.expect("decided"));
        Some(Self { store, wire, keyspace })
    }

    /// Another store behind the proxy.
    pub(super) async fn another(&self) -> Arc<ScyllaStore> {
        behind(&self.wire, &self.keyspace).await
    }

    /// Another store, which nothing happens to.
    pub(super) async fn beside(&self) -> ScyllaStore {
        ScyllaStore::connect(self.keyspace.options(), Arc::new(SystemClock)).await.expect("a store")
    }

    /// `sid` is submitted once, accepted in spite of what the wire does, and known from then on.
    async fn survives(&mut self, sid: &str) {
        let first = self.store.submit(message(sid)).await;
        let first = accepted(first.unwrap_or_else(|error| panic!("{sid}: {error:?}")));
        self.wire.heal();
        assert_eq!(duplicate(self.store.submit(message(sid)).await.expect("remembered")).0, first, "{sid}");
        // A store without a memory of it.
        let other = self.beside().await;
        assert_eq!(duplicate(other.submit(message(sid)).await.expect("decided")).0, first, "{sid}");
        let read = self.store.get(&key(sid)).await.expect("read").expect("there");
        assert_eq!(read, message(sid).into_message(first.accepted_at), "{sid}");
    }

    pub(super) async fn end(self) {
        self.store.close().await.expect("closed");
    }
}

async fn behind(wire: &Wire, keyspace: &Keyspace) -> Arc<ScyllaStore> {
    let options = Options { nodes: wire.nodes(), ..keyspace.options() };
    Arc::new(ScyllaStore::connect(options, Arc::new(SystemClock)).await.expect("a store"))
}

/// Answers of a server that do not tell whether a write was carried out, or that it was not.
pub(super) fn errors(write_type: WriteType) -> Vec<DbError> {
    let quorum = Consistency::Quorum;
    vec![
        DbError::WriteTimeout { consistency: Consistency::Serial, received: 1, required: 2, write_type },
        DbError::WriteTimeout { consistency: quorum, received: 1, required: 2, write_type: WriteType::Simple },
        DbError::WriteFailure {
            consistency: quorum,
            received: 1,
            required: 2,
            numfailures: 1,
            write_type: WriteType::Simple,
        },
        DbError::ReadTimeout { consistency: Consistency::Serial, received: 1, required: 2, data_present: false },
        DbError::Unavailable { consistency: quorum, required: 2, alive: 1 },
        DbError::Overloaded,
        DbError::ServerError,
        // Cassandra's "CAS write unknown".
        DbError::Other(0x1700),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_was_carried_out_and_not_acknowledged_is_found_to_be_ours() {
    let Some(mut behind) = Behind::new(|_| {}).await else { return };
    let mut answers = vec![Answer::Lost, Answer::Broken, Answer::Late(Duration::from_secs(4))];
    answers.extend(errors(WriteType::Cas).into_iter().map(Answer::Error));
    for (number, answer) in answers.iter().enumerate() {
        behind.wire.on_answers(DECISION, 1, answer);
        behind.survives(&format!("answer {number}")).await;
    }
    // Several in a row, on whatever node.
    behind.wire.on_answers(DECISION, 2, &Answer::Error(errors(WriteType::Cas).swap_remove(0)));
    behind.survives("twice").await;
    behind.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_was_not_carried_out_is_written_again() {
    let Some(mut behind) = Behind::new(|_| {}).await else { return };
    let mut reactions = vec![RequestReaction::drop_frame(), RequestReaction::drop_connection()];
    let mut refusals = errors(WriteType::Cas);
    refusals.push(DbError::Unavailable { consistency: Consistency::Serial, required: 2, alive: 1 });
    refusals.push(DbError::IsBootstrapping);
    reactions.extend(refusals.into_iter().map(RequestReaction::forge_with_error));
    for (number, reaction) in reactions.iter().enumerate() {
        let once = behind.wire.requests_of(CLAIM).and(Condition::TrueForLimitedTimes(1));
        behind.wire.on_requests(&once, reaction);
        behind.survives(&format!("request {number}")).await;
    }
    behind.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn references_and_the_check_are_repeated_until_they_are_acknowledged() {
    let Some(mut behind) = Behind::new(|options| {
        options.window = Duration::from_secs(10);
        options.reference_window = Duration::from_secs(5);
    })
    .await
    else {
        return;
    };
    for words in [FEED, SENDER, UPTO] {
        let mut reactions = vec![RequestReaction::drop_frame(), RequestReaction::drop_connection()];
        reactions.extend(errors(WriteType::Simple).into_iter().take(2).map(RequestReaction::forge_with_error));
        for (number, reaction) in reactions.iter().enumerate() {
            let once = behind.wire.requests_of(words).and(Condition::TrueForLimitedTimes(1));
            behind.wire.on_requests(&once, reaction);
            behind.survives(&format!("{words:?} {number}")).await;
        }
    }
    for answer in [Answer::Lost, Answer::Broken, Answer::Error(DbError::ServerError)] {
        behind.wire.on_answers(MARK, 1, &answer);
        behind.survives(&format!("{answer:?}")).await;
    }
    behind.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_reference_nothing_is_accepted() {
    for words in [BUCKET, FEED, SENDER] {
        let Some(mut behind) = Behind::new(|options| {
            options.deadline = Duration::from_secs(3);
            // Another shard than that of the first message is likely to have no bucket yet.
            (options.shards, options.slots) = (1, 1);
        })
        .await
        else {
            return;
        };
        if words == BUCKET {
            // A new process has said nothing yet.
            behind.store = behind.another().await;
        }
        let all = behind.wire.requests_of(words);
        behind.wire.on_requests(&all, &RequestReaction::drop_frame());
        let error = behind.store.submit(message("m")).await.expect_err("not decided");
        assert_eq!(error.kind(), Kind::StoreUnavailable, "{words:?}: {error:?}");
        assert!(error.retry_after().is_some());
        assert!(behind.store.get(&key("m")).await.expect("read").is_none(), "{words:?}");
        behind.wire.heal();
        behind.survives("m").await;
        behind.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_stays_unclear_is_a_503_and_the_retry_hears_the_truth() {
    let Some(mut behind) = Behind::new(|options| options.deadline = Duration::from_secs(2)).await else { return };
    behind.wire.on_answers(DECISION, usize::MAX, &Answer::Lost);
    let error = behind.store.submit(message("carried out")).await.expect_err("unclear");
    assert_eq!(error.kind(), Kind::StoreUnavailable, "{error:?}");
    behind.wire.heal();
    let (first, _) = duplicate(behind.store.submit(message("carried out")).await.expect("decided"));
    let read = behind.store.get(&key("carried out")).await.expect("read").expect("there");
    assert_eq!(read.accepted_at, first.accepted_at);

    let all = behind.wire.requests_of(CLAIM);
    behind.wire.on_requests(&all, &RequestReaction::drop_frame());
    let error = behind.store.submit(message("lost")).await.expect_err("unclear");
    assert_eq!(error.kind(), Kind::StoreUnavailable, "{error:?}");
    behind.wire.heal();
    // Accepted by this retry, or in the meantime by the resolver, which finds the references.
    let told = behind.store.submit(message("lost")).await.expect("decided");
    let (Outcome::Accepted(first) | Outcome::Duplicate { first, .. }) = told;
    let read = behind.store.get(&key("lost")).await.expect("read").expect("there");
    assert_eq!(read.accepted_at, first.accepted_at);
    behind.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_share_the_end_of_their_flight_a_503_too() {
    let Some(mut behind) = Behind::new(|options| options.deadline = Duration::from_secs(2)).await else { return };
    let all = behind.wire.requests_of(CLAIM);
    behind.wire.on_requests(&all, &RequestReaction::drop_frame());
    let submit = |sid: &'static str| {
        let store = Arc::clone(&behind.store);
        tokio::spawn(async move { store.submit(message(sid)).await })
    };
    let waiting: Vec<_> = (0..50).map(|_| submit("m")).collect();
    for each in waiting {
        assert_eq!(each.await.expect("no panic").expect_err("unclear").kind(), Kind::StoreUnavailable);
    }
    behind.wire.heal();
    // The failed flight holds nobody up, and of those after it one at most is told "accepted".
    let told: Vec<_> = (0..50).map(|_| submit("m")).collect();
    let mut accepted = 0;
    for each in told {
        accepted += usize::from(matches!(each.await.expect("no panic").expect("decided"), Outcome::Accepted(_)));
    }
    assert!(accepted <= 1, "{accepted}");
    behind.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_stops_neither_the_claim_nor_who_follows() {
    let Some(mut behind) = Behind::new(|_| {}).await else { return };
    let late = Duration::from_millis(700);
    behind.wire.on_answers(DECISION, 1, &Answer::Late(late));
    let left = tokio::time::timeout(late / 4, behind.store.submit(message("m"))).await;
    assert!(left.is_err(), "it was to be late");
    // Follows the flight of the caller who left, and was not the first.
    duplicate(behind.store.submit(message("m")).await.expect("decided"));
    behind.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_claim_is_written_after_a_check_that_began_after_both_references_were_acknowledged() {
    let Some(mut behind) = Behind::new(|_| {}).await else { return };
    let late = Duration::from_millis(300);
    let (saw, mut seen) = unbounded_channel();
    for (name, words) in [("feed", FEED), ("sender", SENDER), ("check", UPTO), ("claim", CLAIM)] {
        let (tell, mut told) = unbounded_channel();
        let condition = behind.wire.requests_of(words);
        // Held up on the way there, so that its acknowledgement is late too.
        let delay = if matches!(name, "sender" | "check") { late } else { Duration::ZERO };
        behind.wire.on_requests(&condition, &RequestReaction::delay(delay).with_feedback_when_performed(tell));
        let saw = saw.clone();
        tokio::spawn(async move {
            while told.recv().await.is_some() {
                let _ = saw.send((name, Instant::now()));
            }
        });
    }
    accepted(behind.store.submit(message("m")).await.expect("decided"));
    let mut order = Vec::new();
    while order.len() < 4 {
        order.push(seen.recv().await.expect("seen"));
    }
    order.sort_by_key(|(_, at)| *at);
    let at = |name| order.iter().find(|(seen, _)| *seen == name).expect("seen").1;
    assert!(at("check") - at("sender") >= late, "{order:?}");
    assert!(at("claim") - at("check") >= late, "{order:?}");
    behind.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_is_not_later_than_the_resolvers_mark_writes_no_claim() {
    let Some(behind) = Behind::new(|options| (options.shards, options.slots) = (1, 1)).await else { return };
    let options = behind.keyspace.options();
    let session = SessionBuilder::new().known_nodes(&options.nodes).build().await.expect("a session");
    // Ticks since 1582, an hour ahead.
    let ahead = 0x01B2_1DD2_1381_4000 + (SystemClock.now().as_micros() + 3_600_000_000) * 10;
    let lease = format!("{}.leases", options.keyspace);
    let place = "WHERE name = 'resolver' AND slot = 0";
    // As a resolver moves it: not if somebody else, perhaps the store's own, was faster.
    eventually("the mark", async || {
        let read = session.query_unpaged(format!("SELECT beat FROM {lease} {place}"), &[]).await.expect("read");
        let (beat,) = read.into_rows_result().expect("rows").single_row::<(i64,)>().expect("a lease");
        let next = beat + 1;
        let moving = format!("UPDATE {lease} SET beat = {next}, resolving_upto = {ahead} {place} IF beat = {beat}");
        let moved = session.query_unpaged(moving, &[]).await.expect("moved").into_rows_result().expect("rows");
        let applied = moved.single_row::<Row>().expect("a row").columns.first().cloned().flatten();
        applied.and_then(|applied| applied.as_boolean()).filter(|applied| *applied)
    })
    .await;
    let error = behind.store.submit(message("m")).await.expect_err("too late");
    assert_eq!(error.kind(), Kind::StoreUnavailable, "{error:?}");
    let text = format!(
        "SELECT attempt_id FROM {}.messages WHERE org_id = 'acme' AND env = 'dev' AND message_sid = '{}'",
        options.keyspace,
        key("m").sid.as_str()
    );
    let rows = session.query_unpaged(text, &[]).await.expect("read").into_rows_result().expect("rows");
    assert_eq!(rows.rows_num(), 0);
    behind.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_many_duplicates_the_claim_is_read_first_and_a_failed_read_harms_nobody() {
    let Some(mut behind) = Behind::new(|_| {}).await else { return };
    let other = behind.beside().await;
    let (tell, mut claims) = unbounded_channel();
    let condition = behind.wire.requests_of(CLAIM);
    behind.wire.on_requests(&condition, &RequestReaction::noop().with_feedback_when_performed(tell));
    let (mut written, mut last) = (0, 0);
    for number in 0..12 {
        let sid = format!("known {number}");
        let first = accepted(other.submit(message(&sid)).await.expect("decided"));
        assert_eq!(duplicate(behind.store.submit(message(&sid)).await.expect("decided")).0, first);
        last = written;
        written += std::iter::from_fn(|| claims.try_recv().ok()).count();
    }
    assert!(
        written > 0 && written == last,
        "the first ones are found out by a claim, the later ones are read: {written}"
    );
    let reads = behind.wire.requests_of(HEAD);
    behind.wire.on_requests(&reads, &RequestReaction::forge_with_error(DbError::ServerError));
    accepted(behind.store.submit(message("new")).await.expect("decided"));
    behind.end().await;
}

/// ScyllaDB answers a conditional write with `[applied]` and the row as it was, which is all nulls where there was none.
fn as_scylla_does(answer: ResponseFrame) -> ResponseFrame {
    let body = &answer.body;
    let text = |at: usize| {
        let length = usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
        (&body[at + 2..at + 2 + length], at + 2 + length)
    };
    let columns = i32::from_be_bytes(body[8..12].try_into().expect("four bytes"));
    let applied = *body.last().expect("a value") == 1;
    if columns != 1 || !applied {
        return answer;
    }
    let (keyspace, next) = text(12);
    let (table, _) = text(next);
    const TEXT: u16 = 0x000D;
    let row = [
        ("[applied]", 0x0004),
        ("org_id", TEXT),
        ("env", TEXT),
        ("message_sid", TEXT),
        ("accepted_at", 0x0002),
        ("attempt_id", 0x000F),
        ("fingerprint", 0x0003),
        ("from_id", TEXT),
        ("message", 0x0003),
    ];
    let mut new = BytesMut::new();
    let put_text = |new: &mut BytesMut, text: &[u8]| {
        new.put_u16(u16::try_from(text.len()).expect("short"));
        new.put_slice(text);
    };
    // Rows, with one table for all columns.
    new.put_i32(2);
    new.put_i32(1);
    new.put_i32(i32::try_from(row.len()).expect("few"));
    put_text(&mut new, keyspace);
    put_text(&mut new, table);
    for (name, kind) in row {
        put_text(&mut new, name.as_bytes());
        new.put_u16(kind);
    }
    new.put_i32(1);
    new.put_i32(1);
    new.put_u8(1);
    for _ in 1..row.len() {
        new.put_i32(-1);
    }
    ResponseFrame::new(answer.params, answer.opcode, Bytes::from(new))
}

#[tokio::test(flavor = "multi_thread")]
async fn scylladbs_answer_to_a_claim_is_read_as_cassandras() {
    let Some(mut behind) = Behind::new(|_| {}).await else { return };
    let changed = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&changed);
    behind.wire.change_answers(DECISION, move |answer| {
        let new = as_scylla_does(answer.clone());
        count.fetch_add(usize::from(new.body != answer.body), std::sync::atomic::Ordering::SeqCst);
        new
    });
    let first = accepted(behind.store.submit(message("m")).await.expect("decided"));
    assert_eq!(changed.load(std::sync::atomic::Ordering::SeqCst), 1, "the answer was as ScyllaDB gives it");
    let read = behind.store.get(&key("m")).await.expect("read").expect("there");
    assert_eq!(read.accepted_at, first.accepted_at);
    behind.survives("another").await;
    behind.end().await;
}

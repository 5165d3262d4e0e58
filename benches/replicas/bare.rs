//! The bare loop: the statements of one acceptance on the driver, and nothing else.

use std::{sync::Arc, time::Duration};

use message_webhook::{
    domain::{Clock, SystemClock},
    store::scylla::Options,
};
use scylla::{
    client::{execution_profile::ExecutionProfile, session::Session, session_builder::SessionBuilder},
    policies::retry::FallthroughRetryPolicy,
    statement::{Consistency, SerialConsistency, Statement, prepared::PreparedStatement},
    value::CqlTimeuuid,
};
use uuid::Uuid;

use super::run::{Answer, Client};

/// As large as the service's record of the same message.
const RECORD_BYTES: usize = 190;
const BUCKET_MICROS: i64 = 300_000_000;

pub struct Loop {
    session: Arc<Session>,
    shards: i32,
    slots: i32,
    feed: PreparedStatement,
    sender: PreparedStatement,
    upto: PreparedStatement,
    claim: PreparedStatement,
}

/// A session with the driver's usual settings, but for the store's consistencies and time-outs.
pub async fn connect(nodes: &[String]) -> Session {
    let profile = ExecutionProfile::builder()
        .consistency(Consistency::Quorum)
        .serial_consistency(Some(SerialConsistency::Serial))
        .request_timeout(Some(Duration::from_secs(60)))
        .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
        .build();
    let builder = SessionBuilder::new().known_nodes(nodes).default_execution_profile_handle(profile.into_handle());
    builder.build().await.expect("a cluster")
}

impl Loop {
    pub async fn new(session: Arc<Session>, options: &Options) -> Self {
        let prepare = async |text: &str| {
            let mut statement = Statement::new(text.replace("$ks", &options.keyspace));
            statement.set_request_timeout(Some(Duration::from_secs(3)));
            session.prepare(statement).await.expect("a statement of the store's tables")
        };
        Self {
            feed: prepare(
                "INSERT INTO $ks.feed (shard, bucket, attempt_id, org_id, env, message_sid, accepted_at, from_id, \
                 fingerprint, message) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
            )
            .await,
            sender: prepare(
                "INSERT INTO $ks.messages_by_sender (org_id, env, from_id, period, attempt_id, message_sid) \
                 VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
            )
            .await,
            upto: prepare("SELECT resolving_upto FROM $ks.leases WHERE name = ? AND slot = ?").await,
            claim: prepare(
                "INSERT INTO $ks.messages (org_id, env, message_sid, attempt_id, accepted_at, from_id, fingerprint, \
                 message) VALUES (?, ?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS",
            )
            .await,
            shards: options.shards.into(),
            slots: options.slots.into(),
            session,
        }
    }

    async fn accept(&self, prefix: &str, number: u64) -> Option<Answer> {
        let micros = SystemClock.now().as_micros();
        let bucket = i32::try_from(micros / BUCKET_MICROS).expect("for thousands of years");
        let attempt = CqlTimeuuid::from(Uuid::now_v1(&[1, 2, 3, 4, 5, 6]));
        let (from, sid) = (sender_of(number), format!("bare-{prefix}-{number}"));
        let shard = i32::try_from(number % self.shards as u64).expect("few shards");
        let (fingerprint, record) = ([7_u8; 33].as_slice(), [7_u8; RECORD_BYTES].as_slice());
        let feed = (shard, bucket, attempt, "bench", "dev", &sid, micros, &from, fingerprint, record, micros);
        let sender = ("bench", "dev", &from, bucket, attempt, &sid, micros);
        let (feed, sender) = tokio::join!(
            self.session.execute_unpaged(&self.feed, feed),
            self.session.execute_unpaged(&self.sender, sender),
        );
        feed.and(sender).ok()?;
        self.session.execute_unpaged(&self.upto, ("resolver", shard % self.slots)).await.ok()?;
        self.claim(&sid, attempt, micros, &from).await
    }

    async fn claim(&self, sid: &str, attempt: CqlTimeuuid, micros: i64, from: &str) -> Option<Answer> {
        let (fingerprint, record) = ([7_u8; 33].as_slice(), [7_u8; RECORD_BYTES].as_slice());
        let values = ("bench", "dev", sid, attempt, micros, from, fingerprint, record);
        let rows = self.session.execute_unpaged(&self.claim, values).await.ok()?.into_rows_result().ok()?;
        let row = rows.first_row::<scylla::value::Row>().ok()?;
        let applied = row.columns.first()?.as_ref()?.as_boolean()?;
        Some(if applied { Answer::Accepted } else { Answer::Duplicate })
    }

    /// Accepts the first `count` of `prefix`.
    pub async fn fill(&self, prefix: &str, count: u64) {
        for number in 0..count {
            while self.accept(prefix, number).await.is_none() {}
        }
    }
}

/// One of ten thousand end users.
pub fn sender_of(number: u64) -> String {
    format!("user_{:010}", number % 10_000)
}

pub struct Accepts(Arc<Loop>, String);

pub fn accepts(loops: &Arc<Loop>, prefix: &str) -> impl Fn(usize) -> Accepts {
    move |_| Accepts(Arc::clone(loops), prefix.to_owned())
}

impl Client for Accepts {
    async fn send(&mut self, number: u64) -> Answer {
        self.0.accept(&self.1, number).await.unwrap_or(Answer::Failed)
    }
}

pub struct Claims {
    loops: Arc<Loop>,
    prefix: String,
    known: u64,
}

/// Lightweight transactions alone, all refused: what a duplicate costs that nobody remembers.
pub fn claims(loops: &Arc<Loop>, prefix: &str, known: u64) -> impl Fn(usize) -> Claims {
    move |_| Claims { loops: Arc::clone(loops), prefix: prefix.to_owned(), known }
}

impl Client for Claims {
    async fn send(&mut self, number: u64) -> Answer {
        let sid = format!("bare-{}-{}", self.prefix, number % self.known);
        let attempt = CqlTimeuuid::from(Uuid::now_v1(&[1, 2, 3, 4, 5, 6]));
        self.loops.claim(&sid, attempt, 0, "user").await.unwrap_or(Answer::Failed)
    }
}

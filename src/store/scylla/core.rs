//! What every part of the store has at hand.

use std::sync::atomic::AtomicI32;

use quick_cache::sync::Cache;
use scylla::{
    client::session::Session,
    response::query_result::{QueryResult, QueryRowsResult},
    serialize::row::SerializeRow,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{
    attempt::Attempts, cql::Statements, error::Failed, lwt::Decision, marks::Marks, options::Options,
    prepared::Prepared, settings::Settings, sharding::Sharding, time::Time,
};
use crate::{domain::Timestamp, telemetry::names};

/// The connection, the statements and the constants.
pub struct Core {
    /// The driver's session.
    pub session: Session,
    /// The data centre whose nodes are asked.
    pub datacenter: String,
    /// All statements.
    pub cql: Statements,
    /// How the store was opened.
    pub options: Options,
    /// The constants of the keyspace.
    pub settings: Settings,
    /// Shards and slots.
    pub sharding: Sharding,
    /// The process's time, held against the database's.
    pub time: Time,
    /// Rows that were told as unreadable.
    pub unreadable: Cache<String, ()>,
    /// Ids of attempts.
    pub attempts: Attempts,
    /// Attempts whose claims were carried out for this process, lately.
    pub accepted: Cache<Uuid, ()>,
    /// How far slots are resolved, as this process knows.
    pub marks: Marks,
    /// A day in which so many buckets have rows that to ask for them is not worth it.
    pub crowded_day: AtomicI32,
    /// What must end before the store is closed.
    pub tasks: TaskTracker,
    /// Rung when the store closes: what runs in the background gives back what it holds, and ends.
    pub stop: CancellationToken,
}

impl Core {
    /// Sends a read.
    ///
    /// # Errors
    /// As the driver's error is classified.
    pub async fn read(&self, statement: &Prepared, values: impl SerializeRow) -> Result<QueryRowsResult, Failed> {
        let result = self.send(statement, values).await?;
        result.into_rows_result().map_err(|_| Failed::malformed("a read was not answered with rows"))
    }

    /// Sends a plain write.
    ///
    /// # Errors
    /// As the driver's error is classified.
    pub async fn write(&self, statement: &Prepared, values: impl SerializeRow) -> Result<(), Failed> {
        self.send(statement, values).await.map(drop)
    }

    /// Sends a conditional write, once.
    ///
    /// # Errors
    /// As the driver's error is classified; unclear ones are the caller's to repeat.
    pub async fn decide(&self, statement: &Prepared, values: impl SerializeRow) -> Result<Decision, Failed> {
        Decision::read(self.send(statement, values).await?)
    }

    async fn send(&self, statement: &Prepared, values: impl SerializeRow) -> Result<QueryResult, Failed> {
        statement.send(&self.session, &statement.statement, values).await
    }

    /// The next attempt to accept a message.
    ///
    /// # Errors
    /// While the process's clock cannot be trusted. Nothing was done then.
    pub fn attempt(&self) -> Result<Uuid, Failed> {
        self.attempts.next(self.time.for_attempts()?).map_err(|_| Failed::malformed("the machine gives no randomness"))
    }

    /// A row of `table` cannot be read: it is damaged, or of a later version of this program. It is passed over. Told once
    /// each, by what stands for it.
    pub fn found_unreadable(&self, table: &'static str, row: &str) {
        let is_known = self.unreadable.get(row).is_some();
        if is_known {
            return;
        }
        self.unreadable.insert(row.to_owned(), ());
        metrics::counter!(names::STORE_UNREADABLE_TOTAL, "table" => table).increment(1);
        tracing::error!(table, row, "a stored row cannot be read, and is passed over");
    }

    /// The time by which things are old or new.
    pub fn now(&self) -> Timestamp {
        self.time.now()
    }

    /// Whether what was accepted at `accepted_at` is past its retention.
    pub fn is_past(&self, accepted_at: Timestamp) -> bool {
        accepted_at.saturating_add(self.options.retention) <= self.now()
    }
}

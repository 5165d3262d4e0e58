//! A prepared statement, and what is measured of it.

use std::{
    fmt,
    time::{Duration, Instant},
};

use metrics::{Histogram, histogram};
use scylla::{
    client::session::Session, response::query_result::QueryResult, serialize::row::SerializeRow,
    statement::prepared::PreparedStatement,
};
use tracing::{Instrument as _, Span};

use super::error::Failed;
use crate::telemetry::{names, spans, trace};

/// See the module.
pub struct Prepared {
    /// The driver's.
    pub statement: PreparedStatement,
    keyspace: Box<str>,
    operation: &'static str,
    table: &'static str,
    ok: Histogram,
}

impl Prepared {
    /// `statement`, whose text is `text` with `keyspace` in it.
    pub fn new(statement: PreparedStatement, keyspace: &str, text: &'static str) -> Self {
        let operation = text.split(' ').next().unwrap_or_default();
        let table = table(text);
        Self { statement, keyspace: keyspace.into(), operation, table, ok: seconds(operation, table, "ok") }
    }

    /// The span of sending it, where what sends it is traced.
    fn span(&self) -> Span {
        if !trace::is_traced() {
            return Span::none();
        }
        let span = trace::child(&format!("{} {}", self.operation, self.table), "client");
        trace::note(&span, spans::DB_SYSTEM_NAME, "cassandra");
        trace::note(&span, spans::DB_NAMESPACE, self.keyspace.to_string());
        trace::note(&span, spans::DB_OPERATION_NAME, self.operation);
        trace::note(&span, spans::DB_COLLECTION_NAME, self.table);
        span
    }

    /// Sends it, as `statement` is set: this one's own, or a copy that goes elsewhere.
    ///
    /// # Errors
    /// As the driver's error is classified.
    pub async fn send(
        &self,
        session: &Session,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<QueryResult, Failed> {
        let span = self.span();
        let begun = Instant::now();
        let sending = session.execute_unpaged(statement, values);
        let result = sending.instrument(span.clone()).await.map_err(Failed::from);
        self.sent(&span, begun.elapsed(), result.as_ref().err());
        result
    }

    /// Notes how sending it ended.
    fn sent(&self, span: &Span, took: Duration, failed: Option<&Failed>) {
        match failed {
            None => self.ok.record(took),
            Some(failed) => {
                seconds(self.operation, self.table, failed.label).record(took);
                trace::fail(span, failed.label);
            }
        }
    }
}

fn seconds(operation: &'static str, table: &'static str, outcome: &'static str) -> Histogram {
    histogram!(names::CQL_DURATION_SECONDS, "operation" => operation, "table" => table, "outcome" => outcome)
}

/// The table that a statement is of: the name after the keyspace's.
fn table(text: &'static str) -> &'static str {
    let (_, name) = text.split_once("$ks.").or_else(|| text.split_once("system.")).unwrap_or_default();
    name.split([' ', '(']).next().unwrap_or_default()
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Prepared").field(&self.operation).field(&self.table).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_tells_its_table() {
        assert_eq!(table("INSERT INTO $ks.messages (org_id) VALUES (?)"), "messages");
        assert_eq!(table("SELECT a FROM $ks.feed_buckets WHERE day = ?"), "feed_buckets");
        assert_eq!(table("UPDATE $ks.leases SET owner = ?"), "leases");
        assert_eq!(table("SELECT now() AS now FROM system.local"), "local");
    }
}

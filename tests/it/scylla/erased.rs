//! What the erasing of contents will rest on, held still on the engine: a claim whose contents are gone stays a claim.

use std::sync::Arc;

use message_webhook::{
    domain::SystemClock,
    store::{Lifecycle, MessageStore, scylla::ScyllaStore},
};
use scylla::{client::session_builder::SessionBuilder, value::CqlTimeuuid};

use crate::{
    conformance::fixture::{accepted, duplicate, key, message},
    support::ring::{self, Keyspace},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_contents_are_gone_refuses_a_late_retry_and_brings_nothing_back() {
    let Some(nodes) = ring::nodes() else { return };
    let keyspace = Keyspace::new(nodes, |_| {}).await;
    let options = keyspace.options();
    let open = async || ScyllaStore::connect(options.clone(), Arc::new(SystemClock)).await.expect("a store");
    let store = open().await;
    let first = accepted(store.submit(message("m")).await.expect("decided"));

    let session = SessionBuilder::new().known_nodes(&options.nodes).build().await.expect("a session");
    let place = format!("WHERE org_id = 'acme' AND env = 'dev' AND message_sid = '{}'", key("m").sid.as_str());
    let table = format!("{}.messages", options.keyspace);
    let read = session.query_unpaged(format!("SELECT attempt_id FROM {table} {place}"), &[]).await.expect("read");
    let (attempt,) = read.into_rows_result().expect("rows").single_row::<(CqlTimeuuid,)>().expect("a claim");
    let erase = format!(
        "UPDATE {table} SET from_id = null, fingerprint = null, message = null {place} IF attempt_id = {attempt}"
    );
    session.query_unpaged(erase, &[]).await.expect("erased");

    // Another process, which remembers nothing.
    let other = open().await;
    let (known, fingerprint) = duplicate(other.submit(message("m")).await.expect("decided"));
    assert_eq!((known, fingerprint), (first, None));
    assert!(other.get(&key("m")).await.expect("read").is_none());
    for store in [store, other] {
        store.close().await.expect("closed");
    }
}

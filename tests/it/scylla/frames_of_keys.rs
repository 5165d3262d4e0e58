//! Frames of CQL about keys that are lost, late, or errors: a key is created once and revoked once, and whoever asked for it
//! is told the truth.

use std::time::Duration;

use message_webhook::{
    domain::{Kind, Timestamp},
    store::KeyStore,
};
use scylla::errors::WriteType;
use scylla_proxy::{Condition, Reaction, RequestReaction};

use super::frames::{Behind, errors};
use crate::{conformance::fixture::new_key, support::wire::Answer};

const KEY: &[&str] = &["INSERT INTO", ".api_keys ("];
const ENTRY: &[&str] = &["INSERT INTO", ".api_keys_by_org ("];
const REVOKE: &[&str] = &["SET revoked_at"];
const DECISION: &[&[u8]] = &[b"[applied]", b"api_keys"];

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_created_and_revoked_whatever_becomes_of_the_statements() {
    let Some(mut behind) = Behind::new(|_| {}).await else { return };
    let other = behind.beside().await;
    let late = Duration::from_secs(4);
    let mut lost =
        vec![RequestReaction::drop_frame(), RequestReaction::drop_connection(), RequestReaction::delay(late)];
    lost.extend(errors(WriteType::Cas).into_iter().take(2).map(RequestReaction::forge_with_error));
    let mut unheard = vec![Answer::Lost, Answer::Broken, Answer::Late(late)];
    unheard.extend(errors(WriteType::Cas).into_iter().take(2).map(Answer::Error));
    for case in 0..lost.len() + unheard.len() {
        let mut hurt = |words: &[&str]| match lost.get(case) {
            Some(reaction) => {
                let once = behind.wire.requests_of(words).and(Condition::TrueForLimitedTimes(1));
                behind.wire.on_requests(&once, reaction);
            }
            None => behind.wire.on_answers(DECISION, 1, &unheard[case - lost.len()]),
        };
        let key = new_key("acme");
        hurt(KEY);
        behind.store.create_key(key.clone()).await.unwrap_or_else(|error| panic!("case {case}: {error:?}"));
        assert_eq!(other.key(&key.id).await.expect("read"), Some(key.clone()), "case {case}");
        let at = [5, 6].map(|seconds| Timestamp::from_seconds(seconds).expect("valid"));
        hurt(REVOKE);
        let revoked =
            behind.store.revoke_key(&key.id, at[0]).await.unwrap_or_else(|error| panic!("case {case}: {error:?}"));
        assert_eq!(revoked.expect("a key").revoked_at, Some(at[0]), "case {case}");
        behind.wire.heal();
        // The first revocation stays.
        let again = other.revoke_key(&key.id, at[1]).await.expect("decided").expect("a key");
        assert_eq!(again.revoked_at, Some(at[0]), "case {case}");
    }
    behind.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_could_not_be_listed_is_not_created() {
    let Some(mut behind) = Behind::new(|_| {}).await else { return };
    let entries = behind.wire.requests_of(ENTRY);
    behind.wire.on_requests(&entries, &RequestReaction::drop_frame());
    let key = new_key("acme");
    let error = behind.store.create_key(key.clone()).await.expect_err("not listed");
    assert_eq!(error.kind(), Kind::StoreUnavailable, "{error:?}");
    assert_eq!(behind.store.key(&key.id).await.expect("read"), None);
    behind.wire.heal();
    behind.store.create_key(key.clone()).await.expect("created");
    let listed = behind.store.keys(None).await.expect("a list");
    assert_eq!(listed.iter().filter(|listed| listed.record.id == key.id).count(), 1);
    behind.end().await;
}

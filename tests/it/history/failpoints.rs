//! Replicas on one database that break a promise inside their store, and are found out: `cargo test --features failpoints`.
//!
//! The order of events that a broken store gives itself away by is forced, not hoped for; and a sound store goes through the
//! same without a fault.

use std::time::Duration;

use super::{
    checker::{Fault, Rule, check},
    clients,
    record::Answer,
    scene::{DELIVERY, Scene, at},
};
use crate::support::{eventually_within, ring};

/// Faults that nobody waits for are there soon after everything else is.
const SOON: Duration = Duration::from_secs(20);

fn shown(faults: &[Fault]) -> Vec<String> {
    faults.iter().map(ToString::to_string).collect()
}

/// One sid is submitted to one replica and then to another.
async fn one_after_the_other(breach: Option<&str>) -> Option<(Vec<Fault>, String)> {
    let mut scene = Scene::new(ring::nodes()?, |_| {}).await;
    let start = || match breach {
        Some(breach) => scene.process().env("FAILPOINTS", format!("{breach}=return")).start(),
        None => scene.process().start(),
    };
    let replicas = [start(), start()];
    replicas.iter().for_each(|replica| scene.admit(replica));
    scene.follow();
    for (replica, text) in replicas.iter().zip(["first", "second"]) {
        scene.submit(replica, "twice", text).await;
    }
    scene.under_load(10, async {}).await;
    let key = scene.key("twice").to_string();
    let patience = if breach.is_some() { Duration::from_secs(1) } else { DELIVERY };
    Some((check(&scene.end(patience).await), key))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_whose_claims_have_no_condition_are_found_out() {
    let Some((faults, key)) = one_after_the_other(Some("no-condition")).await else { return };
    let found = faults.iter().any(|fault| fault.rule == Rule::ProcessedTwice && fault.key.to_string() == key);
    assert!(found, "{:#?}", shown(&faults));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_whose_claims_have_their_condition_are_sound_one_after_the_other() {
    let Some((faults, _)) = one_after_the_other(None).await else { return };
    assert!(faults.is_empty(), "{:#?}", shown(&faults));
}

/// A submission is held up when it has its attempt and has written nothing, until readers in order have passed that time.
async fn held_up_before_its_references(breach: Option<&str>) -> Option<(Vec<Fault>, String)> {
    let mut scene = Scene::new(ring::nodes()?, |options| {
        // References that fail are followed by a second attempt, which would hide what is looked for.
        (options.window, options.reference_window) = (Duration::from_secs(6), Duration::from_secs(5));
    })
    .await;
    let sound = scene.process().start();
    scene.admit(&sound);
    scene.follow();
    scene.submit(&sound, "before", "text").await;
    let gate = tempfile::NamedTempFile::new().expect("a file");
    let mut failpoints = vec!["before-references=1*return(wait)->off".to_owned()];
    failpoints.extend(breach.map(|breach| format!("{breach}=return")));
    let slow = scene.process().env("FAILPOINTS", failpoints.join(";"));
    // The wait is no part of the time that the store has.
    let slow = slow.env("FAILPOINTS_GATE", gate.path().display()).arg("--store-deadline=120s");
    let mut slow = slow.start();
    let late = tokio::spawn({
        let (server, world, recorder) = (at(&slow), scene.worlds[0].clone(), scene.recorder.clone());
        async move { clients::submit(server, &world, "late", "text", DELIVERY, &recorder).await }
    });
    slow.wait_for_log("waits at a failpoint");
    // Accepted later than the time of the attempt that waits: who has this in order has passed that.
    scene.submit(&sound, "marker", "text").await;
    let marker = [scene.key("marker")];
    eventually_within(DELIVERY, "the reader in order", async || {
        scene.readers.last().is_some_and(|reader| reader.has(&marker)).then_some(())
    })
    .await;
    gate.close().expect("removed");
    let answer = late.await.expect("no panic");
    assert!(matches!(answer, Answer::Processed { .. }), "{answer:?}");
    scene.admit(&slow);
    scene.under_load(5, async {}).await;
    let key = scene.key("late").to_string();
    let patience = if breach.is_some() { SOON } else { DELIVERY };
    Some((check(&scene.end(patience).await), key))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_claims_without_looking_how_far_the_resolver_is_is_found_out() {
    let Some((faults, key)) = held_up_before_its_references(Some("no-check")).await else { return };
    let found: Vec<_> = faults.iter().map(|fault| (fault.rule, fault.key.to_string())).collect();
    assert_eq!(found, [(Rule::NotDelivered, key)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_looks_how_far_the_resolver_is_makes_another_attempt_which_is_delivered() {
    let Some((faults, _)) = held_up_before_its_references(None).await else { return };
    assert!(faults.is_empty(), "{:#?}", shown(&faults));
}

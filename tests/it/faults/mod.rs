//! Faults of what the service runs on, for real: nodes of the database, processes of the service and their clocks are
//! killed, paused and set wrong under load. The history of it is sound: whatever was told as accepted is there, once, and
//! is delivered; and no lease goes back.
//!
//! `scripts/fault-test` runs all of these, on a ring that nothing else uses; `FAULT_RING` names it by its `RING_FIRST`.
//! What hurts no node also runs on the database of the other tests. `HISTORY_REQUESTS` (of each client) makes a run longer,
//! `HISTORY_SEED` makes it the same.

#[cfg(feature = "failpoints")]
mod failpoints;
mod nodes;
mod owner;
mod ring;

use std::time::Duration;

use self::ring::FaultRing;
use crate::{
    history::{
        checker::check,
        scene::{DELIVERY, Scene},
    },
    support::{ServerProcess, leases::Watched, ring as database},
};

/// So many requests each client has where nobody wants more.
const REQUESTS: u64 = 60;

/// Two processes on a keyspace, with readers.
async fn two_replicas(nodes: Vec<String>) -> (Scene, [ServerProcess; 2]) {
    let mut scene = Scene::new(nodes, Scene::usual).await;
    let replicas = [scene.process().start(), scene.process().start()];
    replicas.iter().for_each(|replica| scene.admit(replica));
    scene.follow();
    (scene, replicas)
}

/// Where processes are to run: the ring that is hurt, or the database of the other tests.
async fn contact_points() -> Option<Vec<String>> {
    match FaultRing::named() {
        Some(ring) => Some(ring.nodes().await),
        None => database::nodes(),
    }
}

/// The history of `scene` is sound, and nobody was answered 500.
async fn assert_sound(scene: &mut Scene) {
    let faults: Vec<String> = check(&scene.end(DELIVERY).await).iter().map(ToString::to_string).collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

/// No lease went back, and they were taken at least so often.
#[track_caller]
fn assert_kept(watched: &Watched, takings: i64) {
    assert!(watched.faults.is_empty() && watched.takings >= takings, "{watched:#?}");
}

/// For as long as something is to last.
async fn last(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

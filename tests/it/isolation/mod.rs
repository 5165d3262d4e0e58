//! Two tenants never meet: whatever a key of one organisation and environment calls, by either protocol and on either store, it
//! neither sees nor changes anything of another, and cannot tell what there is from what there never was.

mod calls;
mod timings;
mod world;

use std::sync::Arc;

use message_webhook::{
    domain::SystemClock,
    store::{Store, scylla::ScyllaStore},
};

use self::world::World;
use crate::support::{
    TestServer,
    dice::setting,
    ring::{self, Keyspace},
};

/// Another one for each run, unless one is to be repeated.
fn seed() -> u64 {
    setting("ISOLATION_SEED", u64::from(std::process::id()))
}

async fn random_calls(world: &mut World, calls: u64) {
    for number in 0..calls {
        world.at = format!("ISOLATION_SEED={}, call {number}", world.seed);
        world.random_call().await;
    }
    world.at = format!("ISOLATION_SEED={}, at the end", world.seed);
    world.everything_is_as_its_owner_left_it().await;
}

async fn on_scylla(keyspace: &Keyspace) -> Arc<dyn Store> {
    Arc::new(ScyllaStore::connect(keyspace.options(), Arc::new(SystemClock)).await.expect("a store"))
}

#[tokio::test(flavor = "multi_thread")]
async fn random_calls_of_one_tenant_never_meet_another_on_the_embedded_store() {
    let mut world = World::new(TestServer::start().await, seed()).await;
    random_calls(&mut world, setting("ISOLATION_CALLS", 600)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_calls_of_one_tenant_never_meet_another_on_scylla() {
    let Some(nodes) = ring::nodes() else { return };
    let keyspace = Keyspace::new(nodes, |_| {}).await;
    let server = TestServer::builder().store(on_scylla(&keyspace).await).start().await;
    let mut world = World::new(server, seed()).await;
    random_calls(&mut world, setting("ISOLATION_CALLS", 150)).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_long_an_answer_takes_does_not_tell_what_others_have_on_the_embedded_store() {
    let mut world = World::new(TestServer::start().await, seed()).await;
    timings::tell_nothing(&mut world, 300).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_long_an_answer_takes_does_not_tell_what_others_have_on_scylla() {
    let Some(nodes) = ring::nodes() else { return };
    let keyspace = Keyspace::new(nodes, |_| {}).await;
    let server = TestServer::builder().store(on_scylla(&keyspace).await).start().await;
    let mut world = World::new(server, seed()).await;
    timings::tell_nothing(&mut world, 60).await;
    world.end().await;
}

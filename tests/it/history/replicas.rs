//! The history of two processes on one database.

use super::{
    assert_sound,
    scene::{DELIVERY, Scene},
};
use crate::support::ring;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_history_of_two_replicas_on_one_database_is_sound() {
    let Some(nodes) = ring::nodes() else { return };
    let mut scene = Scene::new(nodes, |options| {
        (options.window, options.reference_window) =
            (std::time::Duration::from_secs(4), std::time::Duration::from_secs(3));
    })
    .await;
    let replicas = [scene.process().start(), scene.process().start()];
    replicas.iter().for_each(|replica| scene.admit(replica));
    scene.follow();
    scene.under_load(40, async {}).await;
    assert_sound(&scene.end(DELIVERY).await);
}

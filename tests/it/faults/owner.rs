//! The process that resolves is killed.

use super::{REQUESTS, assert_kept, assert_sound, contact_points, two_replicas};
use crate::{
    history::scene::leases_held,
    support::{dice::setting, eventually, leases::LeaseWatch},
};

/// `FAULT_KILLS` of them, one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owner_of_the_leases_is_killed_and_another_process_resolves() {
    let Some(nodes) = contact_points().await else { return };
    let kills = setting("FAULT_KILLS", 1);
    let (mut scene, mut replicas) = two_replicas(nodes).await;
    let watch = LeaseWatch::start(&scene.keyspace).await;
    let takings = scene
        .under_load(REQUESTS, async {
            let mut takings = 0;
            for _ in 0..kills {
                scene.until_accepted(20).await;
                let (owner, held) = eventually("an owner of leases", async || {
                    let held = [leases_held(&replicas[0]).await?, leases_held(&replicas[1]).await?];
                    let owner = usize::from(held[1] > held[0]);
                    (held[0] + held[1] == scene.slots()).then_some((owner, held[owner]))
                })
                .await;
                scene.dismiss(&replicas[owner]);
                replicas[owner].signal("KILL");
                scene.until_owner(&replicas[1 - owner]).await;
                takings += i64::try_from(held).expect("few");
                replicas[owner] = scene.process().start();
                scene.admit(&replicas[owner]);
            }
            takings
        })
        .await;
    assert_sound(&mut scene).await;
    assert_kept(&watch.end().await, takings);
}

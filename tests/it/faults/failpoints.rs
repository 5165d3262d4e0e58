//! The clock of the process that resolves goes wrong: `cargo test --features failpoints`.

use std::{fs, time::Duration};

use super::{REQUESTS, assert_kept, assert_sound, contact_points};
use crate::{
    history::{
        record::Answer,
        scene::{Scene, leases_held},
    },
    support::{ServerProcess, eventually, get, leases::LeaseWatch},
};

/// The clock of the owner of all leases goes wrong by so many milliseconds, and right again, under load.
async fn a_wrong_clock(millis: i64) {
    let Some(nodes) = contact_points().await else { return };
    let mut scene = Scene::new(nodes, Scene::usual).await;
    let shift = tempfile::NamedTempFile::new().expect("a file");
    // Answers are clear on a slow machine, too: this is about clocks.
    let process = || scene.process().arg("--store-deadline=20s");
    let owner = process().env("CLOCK_SHIFT_FILE", shift.path().display()).start();
    scene.until_owner(&owner).await;
    let other = process().start();
    [&owner, &other].into_iter().for_each(|replica| scene.admit(replica));
    scene.follow();
    let watch = LeaseWatch::start(&scene.keyspace).await;
    let asked = scene
        .under_load(REQUESTS, async {
            scene.until_accepted(20).await;
            assert_eq!(ready(&owner).await, Some(200));
            fs::write(shift.path(), millis.to_string()).expect("written");
            let asked = until_handed_over(&scene, &owner, &other).await;
            fs::write(shift.path(), "0").expect("written");
            eventually("the right clock is noticed", async || (ready(&owner).await? == 200).then_some(())).await;
            asked
        })
        .await;
    println!("faults: {asked} answers of the other replica meanwhile, all of them 200");
    let slots = i64::try_from(scene.slots()).expect("few");
    assert_sound(&mut scene).await;
    assert_kept(&watch.end().await, slots);
}

/// Asks `other` again and again, until `owner` is not ready and `other` has all leases, and then some more; each answer
/// is 200. How many there were.
async fn until_handed_over(scene: &Scene, owner: &ServerProcess, other: &ServerProcess) -> usize {
    let (mut asked, mut more) = (0, 20);
    let begun = std::time::Instant::now();
    loop {
        let answer = scene.ask(other, &format!("meanwhile-{asked}")).await;
        assert!(matches!(answer, Answer::Processed { .. }), "{answer:?}");
        assert_eq!(ready(other).await, Some(200));
        asked += 1;
        let is_over = ready(owner).await == Some(503) && leases_held(other).await == Some(scene.slots());
        if is_over {
            more -= 1;
        }
        if more == 0 {
            return asked;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "nobody took over");
    }
}

async fn ready(process: &ServerProcess) -> Option<u16> {
    get(process.admin, "/readyz").await.map(|(status, _)| status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owners_clock_is_8_seconds_behind_and_the_others_answer_200() {
    a_wrong_clock(-8_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owners_clock_is_a_minute_ahead_and_the_others_answer_200() {
    a_wrong_clock(60_000).await;
}

//! Nodes are killed and paused.

use super::{REQUESTS, assert_sound, last, ring::FaultRing, two_replicas};
use crate::history::{
    clients,
    record::{Answer, Content},
    scene::{DELIVERY, at},
};

#[ignore = "hurts a ring of its own: run by scripts/fault-test"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_killed_and_comes_back() {
    let ring = FaultRing::mended().await;
    let (mut scene, _replicas) = two_replicas(ring.nodes().await).await;
    scene
        .under_load(REQUESTS, async {
            scene.until_accepted(20).await;
            ring.kill(3).await;
            last(10).await;
            // Two of three go on.
            scene.until_accepted(20).await;
            ring.start(3).await;
        })
        .await;
    assert_sound(&mut scene).await;
}

#[ignore = "hurts a ring of its own: run by scripts/fault-test"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_hangs_for_20_seconds() {
    let ring = FaultRing::mended().await;
    let (mut scene, _replicas) = two_replicas(ring.nodes().await).await;
    scene
        .under_load(REQUESTS, async {
            scene.until_accepted(20).await;
            ring.pause(2).await;
            last(20).await;
            ring.resume(2).await;
        })
        .await;
    assert_sound(&mut scene).await;
}

#[ignore = "hurts a ring of its own: run by scripts/fault-test"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_are_killed_callers_are_told_to_come_back_and_it_recovers() {
    let ring = FaultRing::mended().await;
    let (mut scene, replicas) = two_replicas(ring.nodes().await).await;
    scene.submit(&replicas[0], "before", "text").await;
    scene
        .under_load(REQUESTS, async {
            scene.until_accepted(20).await;
            ring.kill(2).await;
            ring.kill(3).await;
            for replica in &replicas {
                let began = scene.recorder.now();
                let answer = posting(&scene.worlds[0].key, replica.http, "without-quorum").await;
                assert_eq!(answer.status(), 503);
                assert!(answer.headers().contains_key("retry-after"), "{answer:?}");
                let content = Content { from_id: "user_1".into(), text: "text".into() };
                scene.recorder.submitted(scene.key("without-quorum"), content, began, Answer::Unclear);
            }
            ring.mend().await;
            // Whether it was accepted by then is open; that it is known from now on is not.
            scene.submit(&replicas[0], "without-quorum", "text").await;
        })
        .await;
    // Known to both, though the one was never told by a client.
    for replica in &replicas {
        let again = scene.submit(replica, "before", "text").await;
        assert!(matches!(again, Answer::Already { payload_matches: true, .. }), "{again:?}");
    }
    assert_sound(&mut scene).await;
}

/// What [`crate::history::scene::Scene::submit`] sends, and the answer as it is.
async fn posting(key: &str, http: std::net::SocketAddr, sid: &str) -> reqwest::Response {
    let url = format!("http://{http}/acme/dev/v1/message-webhook");
    let body = format!(r#"{{"from_id":"user_1","message_sid":"{sid}","timestamp":1672531200,"message_body":"text"}}"#);
    let request = reqwest::Client::new().post(url).bearer_auth(key).header("content-type", "application/json");
    request.body(body).send().await.expect("an answer")
}

#[ignore = "wants a ring that is idle: run by scripts/fault-test"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_200_posts_of_one_sid_to_two_replicas_one_is_processed() {
    let ring = FaultRing::mended().await;
    let (mut scene, replicas) = two_replicas(ring.nodes().await).await;
    let posts =
        (0..200).map(|number: usize| {
            let (server, world, recorder) = (at(&replicas[number % 2]), &scene.worlds[0], &scene.recorder);
            // Contended for, some are told 503; they send again, as they are told.
            async move {
                clients::submit_until_clear(server, world, "one", &format!("post {number}"), DELIVERY, recorder).await
            }
        });
    let answers = futures_util::future::join_all(posts).await;
    let processed = answers.iter().filter(|answer| matches!(answer, Answer::Processed { .. })).count();
    let already = answers.iter().filter(|answer| matches!(answer, Answer::Already { .. })).count();
    println!("faults: 200 posts of one sid: {processed} processed, {already} already processed");
    // A caller whose 503 was an acceptance is told "Already processed" by its next try.
    assert!(processed <= 1 && processed + already == 200, "{processed} + {already}");
    assert_sound(&mut scene).await;
}

//! Two processes of the service on a ring whose nodes are killed and paused, under load. The history of it is sound:
//! whatever was told as accepted is there, once, and is delivered.
//!
//! `scripts/fault-test` runs these, on a ring that nothing else uses; `FAULT_RING` names it by its `RING_FIRST`.
//! `HISTORY_REQUESTS` (of each client) makes a run longer, `HISTORY_SEED` makes it the same.

mod ring;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use message_webhook::domain::{Clock, SystemClock};
use parking_lot::RwLock;

use self::ring::{FaultRing, Replicas};
use crate::{
    history::{
        checker::check,
        clients::{self, Plan, Servers},
        record::{Answer, History, Recorder},
    },
    support::dice::setting,
};

/// How long a fresh reader may take to be given everything: the resolver's window, and a ring that has just been hurt.
const DELIVERY: Duration = Duration::from_secs(120);

fn plan(requests: u64) -> Plan {
    let seed = setting("HISTORY_SEED", SystemClock.now().as_micros().unsigned_abs());
    println!("faults: HISTORY_SEED={seed}");
    let requests = setting("HISTORY_REQUESTS", requests);
    Plan { seed, clients: 16, requests, sids: requests / 2, pause: 4 }
}

/// Runs the load, does `fault` to the ring in the middle of it, and checks the history.
async fn under_fault(fault: impl FnOnce(&FaultRing) + Send + 'static) {
    let ring = Arc::new(FaultRing::mended());
    let replicas = Replicas::start(&ring.nodes()).await;
    let servers: Servers = Arc::new(RwLock::new(replicas.servers()));
    let recorder = Arc::new(Recorder::new());
    let readers = clients::readers(&servers, &replicas.platform_key);
    let (plan, worlds) = (plan(60), replicas.worlds.clone());
    let begun = Instant::now();
    let load = tokio::spawn({
        let (servers, worlds, recorder) = (Arc::clone(&servers), worlds.clone(), Arc::clone(&recorder));
        async move { clients::load(plan, &servers, &worlds, &recorder).await }
    });
    let faulty = tokio::task::spawn_blocking({
        let (ring, recorder) = (Arc::clone(&ring), Arc::clone(&recorder));
        move || {
            // In the middle: some was accepted already.
            while recorder.accepted().len() < 20 {
                assert!(begun.elapsed() < DELIVERY, "nothing is accepted");
                std::thread::sleep(Duration::from_millis(20));
            }
            fault(&ring);
        }
    });
    faulty.await.expect("no panic");
    load.await.expect("no panic");
    ring.mend();
    let history = clients::finish(&servers, &worlds, readers, DELIVERY, &recorder).await;
    report(&history);
    let faults: Vec<String> = check(&history).iter().map(ToString::to_string).collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

/// The counts by which a run is known.
fn report(history: &History) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for submission in &history.submissions {
        *counts
            .entry(match submission.answer {
                Answer::Processed { .. } => "processed",
                Answer::Already { .. } => "already processed",
                Answer::Refused => "refused",
                Answer::Unclear => "unclear",
                Answer::Bug => "bugs",
            })
            .or_default() += 1;
    }
    let delivered: Vec<_> = history.feeds.iter().map(Vec::len).collect();
    println!("faults: {} sent, {counts:?}, {delivered:?} delivered", history.submissions.len());
}

#[ignore = "hurts a ring of its own: run by scripts/fault-test"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_killed_and_comes_back() {
    under_fault(|ring| {
        ring.kill(3);
        std::thread::sleep(Duration::from_secs(10));
        ring.start(3);
    })
    .await;
}

#[ignore = "hurts a ring of its own: run by scripts/fault-test"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_hangs_for_20_seconds() {
    under_fault(|ring| {
        ring.pause(2);
        std::thread::sleep(Duration::from_secs(20));
        ring.resume(2);
    })
    .await;
}

#[ignore = "hurts a ring of its own: run by scripts/fault-test"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_are_killed_callers_are_told_to_come_back_and_it_recovers() {
    let ring = FaultRing::mended();
    let replicas = Replicas::start(&ring.nodes()).await;
    let (world, [server, _]) = (&replicas.worlds[0], replicas.both());
    let client = reqwest::Client::new();
    let submit = |sid: &'static str| {
        let url = format!("http://{}/{}/dev/v1/message-webhook", server.http, world.org);
        let body = format!(r#"{{"from_id":"u","message_sid":"{sid}","timestamp":1672531200,"message_body":"hi"}}"#);
        let request = client.post(url).header("authorization", format!("Bearer {}", world.key));
        request.header("content-type", "application/json").body(body).send()
    };
    assert_eq!(submit("before").await.expect("an answer").status(), 200);
    ring.kill(2);
    ring.kill(3);
    let refused = submit("without-quorum").await.expect("an answer");
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"), "{refused:?}");
    ring.mend();
    let begun = Instant::now();
    let body = loop {
        let answer = submit("without-quorum").await.expect("an answer");
        if answer.status() == 200 {
            break answer.text().await.expect("a body");
        }
        assert_eq!(answer.status(), 503);
        assert!(begun.elapsed() < DELIVERY, "no recovery");
    };
    // Whether the first try was accepted after all is open; that the message is there now is not.
    assert!(body.contains("success"), "{body}");
    let again = submit("before").await.expect("an answer").text().await.expect("a body");
    assert!(again.contains("Already processed"), "{again}");
}

#[ignore = "hurts a ring of its own: run by scripts/fault-test"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_200_posts_of_one_sid_to_two_replicas_one_is_processed() {
    let ring = FaultRing::mended();
    let replicas = Replicas::start(&ring.nodes()).await;
    let (world, both) = (&replicas.worlds[0], replicas.both());
    let client = reqwest::Client::new();
    let posts = (0..200_usize).map(|number| {
        let url = format!("http://{}/{}/dev/v1/message-webhook", both[number % 2].http, world.org);
        let body = r#"{"from_id":"u","message_sid":"one","timestamp":1672531200,"message_body":"hi"}"#;
        let request = client.post(url).header("authorization", format!("Bearer {}", world.key));
        let request = request.header("content-type", "application/json").body(body);
        async move {
            loop {
                let answer = request.try_clone().expect("a text").send().await.expect("an answer");
                // Contended for: the caller sends again, as it is told.
                if answer.status() == 503 {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
                assert_eq!(answer.status(), 200);
                return answer.text().await.expect("a body");
            }
        }
    });
    let answers = futures_util::future::join_all(posts).await;
    let processed = answers.iter().filter(|answer| answer.contains("Message received and processed")).count();
    let already = answers.iter().filter(|answer| answer.contains("Already processed")).count();
    println!("faults: 200 posts of one sid: {processed} processed, {already} already processed");
    // A caller whose 503 was an acceptance is told "Already processed" by its next try.
    assert!(processed <= 1 && processed + already == 200, "{processed} + {already}");
}

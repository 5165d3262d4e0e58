//! The real server, killed with SIGKILL at random moments under load, again and again: nothing that was acknowledged is
//! lost, nothing is accepted twice.
//!
//! `scripts/kill-test [ROUNDS [SEED]]` runs it longer than the test suite does.

mod ledger;
mod process;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ledger::{Ledger, Said};
use message_webhook::domain::{Clock, SystemClock};
use process::ServerProcess;
use tokio::task::JoinSet;

use crate::support::dice::{Dice, setting};

const ROUNDS: u64 = 8;
const CLIENTS: u64 = 24;
const CHECKERS: u64 = 32;
const ORG: &str = "acme";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_any_number_of_kills_every_acknowledged_message_is_there_once() {
    let rounds = setting("KILL_TEST_ROUNDS", ROUNDS);
    let seed = setting("KILL_TEST_SEED", SystemClock.now().as_micros().unsigned_abs());
    println!("kill test: {rounds} rounds, KILL_TEST_SEED={seed}");

    let mut dice = Dice(seed);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let key = process::create_key(dir.path(), ORG);
    let ledger = Arc::new(Ledger::default());
    let next = Arc::new(AtomicU64::new(0));
    let mut killed_while_starting = 0;

    for round in 1..=rounds {
        let mut server = ServerProcess::start(dir.path());
        if dice.roll(4) == 0 {
            // A kill in the middle of recovery must not harm what the kill before left.
            tokio::time::sleep(Duration::from_millis(dice.roll(60))).await;
            server.kill();
            killed_while_starting += 1;
            server = ServerProcess::start(dir.path());
        }
        server.wait_until_ready().await;
        let first_of_round = next.load(Ordering::Relaxed);
        let down = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let (ledger, next, down) = (Arc::clone(&ledger), Arc::clone(&next), Arc::clone(&down));
            let (webhook, mut dice) = (server.webhook(ORG, &key), Dice(seed ^ (round << 32) ^ client));
            clients.spawn(async move {
                while !down.load(Ordering::Relaxed) {
                    // New messages, and earlier ones again: some of them are in flight on another connection.
                    let known = next.load(Ordering::Relaxed).max(1);
                    let number = match dice.roll(10) {
                        0 => dice.roll(known),
                        1 | 2 => known - 1 - dice.roll(known.min(50)),
                        _ => next.fetch_add(1, Ordering::Relaxed),
                    };
                    let said = webhook.submit(number).await;
                    ledger.note(number, said);
                }
            });
        }
        tokio::time::sleep(Duration::from_millis(5 + dice.roll(1_200))).await;
        server.kill();
        down.store(true, Ordering::Relaxed);
        clients.join_all().await;

        let server = ServerProcess::start(dir.path());
        server.wait_until_ready().await;
        let all = next.load(Ordering::Relaxed);
        // What this round sent, and something of what the rounds before sent.
        let mut numbers: Vec<u64> = (first_of_round..all).collect();
        numbers.extend((0..500).map(|_| dice.roll(all.max(1))));
        retry_all(&server, &key, &ledger, numbers).await;
        server.kill();
        ledger.assert_sound();
    }

    let server = ServerProcess::start(dir.path());
    server.wait_until_ready().await;
    let kept = ledger.acknowledged();
    read_all(&server, &key, &ledger, kept.clone()).await;
    server.stop().await;
    let in_feed = process::count_in_feed(dir.path()).await;
    for number in &kept {
        let times = in_feed.get(&ledger::sid(*number)).copied().unwrap_or_default();
        assert_eq!(times, 1, "{} is in the feed {times} times", ledger::sid(*number));
    }
    assert_eq!(in_feed.len(), kept.len(), "the feed has messages that nobody was told of");
    println!(
        "kill test: {rounds} kills under load and {killed_while_starting} while starting, {} messages, {}; \
         acknowledged and lost: 0, accepted twice: 0",
        kept.len(),
        ledger.summary(),
    );
}

/// Sends `numbers` again and notes what is said; a message that was acknowledged must be known, with its time.
async fn retry_all(server: &ServerProcess, key: &str, ledger: &Arc<Ledger>, numbers: Vec<u64>) {
    let numbers: Arc<Vec<u64>> = Arc::new(numbers);
    let mut checkers = JoinSet::new();
    for checker in 0..CHECKERS {
        let (webhook, ledger, numbers) = (server.webhook(ORG, key), Arc::clone(ledger), Arc::clone(&numbers));
        checkers.spawn(async move {
            for number in numbers.iter().skip(checker as usize).step_by(CHECKERS as usize) {
                let expected = ledger.accepted_at(*number);
                let said = webhook.submit(*number).await;
                if let Some(accepted_at) = expected {
                    let known = Said::Already { accepted_at, payload_matches: true };
                    assert_eq!(said, known, "{} was acknowledged before the kill", ledger::sid(*number));
                } else {
                    assert!(said.accepted_at().is_some(), "{}: {said:?}", ledger::sid(*number));
                }
                ledger.note(*number, said);
            }
        });
    }
    checkers.join_all().await;
}

/// Reads `numbers` back over gRPC: each is there, with the content that was sent.
async fn read_all(server: &ServerProcess, key: &str, ledger: &Arc<Ledger>, numbers: Vec<u64>) {
    let begun = Instant::now();
    let numbers = Arc::new(numbers);
    let mut readers = JoinSet::new();
    for reader in 0..CHECKERS {
        let (mut client, ledger, numbers) = (server.reader(key).await, Arc::clone(ledger), Arc::clone(&numbers));
        readers.spawn(async move {
            for number in numbers.iter().skip(reader as usize).step_by(CHECKERS as usize) {
                let found = client.get(*number).await;
                assert_eq!(Some(found), ledger.accepted_at(*number), "{}", ledger::sid(*number));
            }
        });
    }
    readers.join_all().await;
    println!("kill test: read {} messages back in {:.1} s", numbers.len(), begun.elapsed().as_secs_f64());
}

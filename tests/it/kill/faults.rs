//! What was once found to lose messages or to end acceptance, each by itself.

use std::time::Duration;

use message_webhook::domain::{Clock, SystemClock, Timestamp};

use super::{
    ledger::Said,
    life::Life,
    process::{LARGE, cli},
};
use crate::support::{
    dice::Dice,
    eventually,
    shim::{ALL, Counted, GROWS_NOT, Order, TAKES_NOTHING},
};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// A new store with three messages, stopped in good order.
async fn young_store() -> Life {
    let mut life = Life::new();
    life.up().await;
    for _ in 0..3 {
        assert!(matches!(life.submit().await, (_, Said::Processed { .. })));
    }
    life.stop().await;
    life
}

/// One message, answered, and SIGKILL at once; then it must be known.
async fn killed_after_one(life: &mut Life) {
    life.up().await;
    let (_, said) = life.submit().await;
    assert!(matches!(said, Said::Processed { .. }), "{said:?}");
    life.kill();
    life.check(&mut Dice(1)).await;
}

/// What happens to one store came to light in one of five, so it happens to many: some at a time, which varies the times.
async fn to_many_stores(happens: impl AsyncFn(Life, usize)) {
    let numbers: Vec<usize> = (0..18).collect();
    for some in numbers.chunks(6) {
        let lives = some.iter().map(async |number| happens(young_store().await, *number).await);
        futures_util::future::join_all(lives).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_restarts_and_a_kill_lose_nothing() {
    to_many_stores(async |mut life, number| {
        for _ in 0..=number % 3 {
            life.up().await;
            tokio::time::sleep(Duration::from_millis([0, 1_000, 0, 300][number % 4])).await;
            life.stop().await;
        }
        killed_after_one(&mut life).await;
        killed_after_one(&mut life).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_on_a_stopped_store_and_a_kill_lose_nothing() {
    to_many_stores(async |mut life, number| {
        let commands = [["keys", "list"].as_slice(), &["export"]];
        assert_eq!(cli(&life.shim, commands[number % 2]).code, Some(0));
        killed_after_one(&mut life).await;
        killed_after_one(&mut life).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_short_lives_and_kills_lose_nothing() {
    let mut life = young_store().await;
    for round in 0..10 {
        killed_after_one(&mut life).await;
        if round % 2 == 0 {
            life.stop().await;
        } else {
            life.kill();
        }
    }
    life.end(&mut Dice(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_a_month_ahead_for_a_while_forgets_nothing() {
    let mut life = young_store().await;
    life.up().await;
    life.shim.clock_ahead(31 * DAY);
    // All of it is known while the clock is wrong, and afterwards.
    life.check(&mut Dice(1)).await;
    life.submit().await;
    life.shim.clock_ahead(0);
    life.check(&mut Dice(2)).await;
    life.kill();
    life.end(&mut Dice(3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_hours_ahead_for_one_message_does_not_drag_the_times_of_later_ones() {
    let mut life = young_store().await;
    life.up().await;
    life.shim.clock_ahead(2 * HOUR);
    life.submit().await;
    life.shim.clock_ahead(0);
    for _ in 0..2 {
        let (number, said) = life.submit().await;
        let accepted_at = Timestamp::parse(said.accepted_at().expect("accepted")).expect("a time");
        let off = accepted_at.as_micros() - SystemClock.now().as_micros();
        assert!(off.abs() < 60_000_000, "message {number} was accepted {} s from now", off / 1_000_000);
        life.stop().await;
        life.up().await;
    }
    life.end(&mut Dice(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_of_the_clock_is_followed_at_once_when_the_operator_says_that_it_is_right() {
    let mut life = young_store().await;
    let stopped = cli(&life.shim, &["trust-clock"]);
    assert!(stopped.code == Some(1) && stopped.stderr.contains("serve --trust-clock"), "{}", stopped.stderr);
    life.up().await;
    let known = cli(&life.shim, &["trust-clock"]);
    assert!(known.code == Some(0) && known.stderr.contains("already"), "{}", known.stderr);
    // Forward, and back again, which lets the times of acceptance go back.
    for (before, ahead) in [(0, 2 * HOUR), (2 * HOUR, 0)] {
        life.shim.clock_ahead(ahead);
        assert_off(life.submit().await, before);
        let trusted = cli(&life.shim, &["trust-clock"]);
        assert!(trusted.code == Some(0) && trusted.stderr.contains("from now on"), "{}", trusted.stderr);
        assert_off(life.submit().await, ahead);
    }
    life.end(&mut Dice(1)).await;
}

/// A message was accepted at a time that is so many seconds off this process's clock.
fn assert_off((number, said): (u64, Said), seconds: i64) {
    let accepted_at = Timestamp::parse(said.accepted_at().expect("accepted")).expect("a time");
    let off = (accepted_at.as_micros() - SystemClock.now().as_micros()) / 1_000_000;
    assert!((off - seconds).abs() < 60, "message {number} was accepted {off} s from now, not {seconds}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_was_full_for_a_moment_takes_messages_again_without_a_restart() {
    for how in [GROWS_NOT, TAKES_NOTHING] {
        let mut life = young_store().await;
        life.up().await;
        let webhook = life.webhook();
        life.shim.order(Order::Full, how);
        let mut number = LARGE;
        // There may be room for some that was laid out before.
        let first = loop {
            let said = webhook.note(number, &life.ledger).await;
            if said.accepted_at().is_none() {
                break said;
            }
            number += 1;
            assert!(number < LARGE + 1_000, "a full disk takes all");
        };
        assert_eq!(first, Said::Refused { status: 503 });
        assert!(life.shim.counted(Counted::Refused) > 0);
        let server = life.server.as_mut().expect("up");
        assert!(!server.has_ended());
        let expected = life.ledger.accepted_at(0);
        assert_eq!(server.reader(&life.key).await.get(0).await, expected, "reads go on");

        life.shim.heal();
        life.until_accepted().await;
        // A large one may have to wait for a new file.
        eventually("the message that was refused", async || {
            webhook.note(number, &life.ledger).await.accepted_at().map(|_| ())
        })
        .await;
        life.running().wait_for_readiness(200).await;
        life.kill();
        life.end(&mut Dice(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_ends_in_its_middle_for_want_of_room_leaves_nothing_behind() {
    for part in [0, 1, 512, 700] {
        let mut life = young_store().await;
        life.up().await;
        life.shim.order(Order::WritePart, part);
        life.shim.order(Order::WriteFail, 1);
        life.submit().await;
        life.shim.heal();
        life.until_accepted().await;
        life.kill();
        life.shim.cut(None);
        life.end(&mut Dice(part)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_sync_nothing_is_accepted_and_reads_go_on() {
    let mut life = young_store().await;
    life.up().await;
    life.shim.order(Order::SyncFail, ALL);
    let (_, said) = life.submit().await;
    assert_eq!(said, Said::Refused { status: 503 });
    assert!(life.shim.counted(Counted::SyncsFailed) > 0);
    life.running().wait_for_readiness(503).await;
    // The disk is well again, and it is too late: nobody knows what it holds.
    life.shim.heal();
    let (_, said) = life.submit().await;
    assert_eq!(said, Said::Refused { status: 503 });
    let expected = life.ledger.accepted_at(0);
    assert_eq!(life.running().reader(&life.key).await.get(0).await, expected);
    life.kill();
    life.shim.cut(Some(&mut Dice(1)));
    life.end(&mut Dice(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_sync_the_process_is_not_alive_and_ends_by_itself() {
    let mut life = young_store().await;
    life.up().await;
    life.shim.order(Order::SyncFail, 1);
    let (_, said) = life.submit().await;
    assert_eq!(said, Said::Refused { status: 503 });
    let server = life.server.take().expect("up");
    server.wait_for_readiness(503).await;
    assert_eq!(server.page("/livez").await, Some(503));
    let (status, log) = server.end_within(Duration::from_secs(30)).await;
    assert!(!status.success(), "{log}");
    life.end(&mut Dice(1)).await;
}

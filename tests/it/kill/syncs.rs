//! An answer speaks only of what is durable: syncs are counted, slow, and all that they did not cover is cut off.

use std::time::{Duration, Instant};

use super::{ledger::Said, life::Life, process::ServerProcess};
use crate::support::{
    dice::Dice,
    shim::{Counted, Order, Shim},
};

const STALL: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_is_answered_before_its_sync() {
    let mut life = Life::new();
    life.up().await;
    for _ in 0..20 {
        let (writes, begun) = (life.shim.counted(Counted::Writes), life.shim.counted(Counted::SyncsBegun));
        let (_, said) = life.submit().await;
        assert!(matches!(said, Said::Processed { .. }), "{said:?}");
        // One that had begun before may end meanwhile, but none of all that had begun can be this message's.
        assert!(life.shim.counted(Counted::Writes) > writes, "answered without a write");
        assert!(life.shim.counted(Counted::SyncsDone) > begun, "answered without a sync");
    }
    life.shim.stall_syncs(STALL);
    let begun = Instant::now();
    let webhook = life.webhook();
    let said = futures_util::future::join_all((0..16).map(|number| webhook.note(100 + number, &life.ledger))).await;
    assert!(begun.elapsed() >= STALL, "answered {:?} after a request, and a sync takes {STALL:?}", begun.elapsed());
    for said in said {
        assert!(matches!(said, Said::Processed { .. }), "{said:?}");
    }
    life.shim.heal();
    life.end(&mut Dice(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_takes_nothing_that_was_acknowledged() {
    let mut life = Life::new();
    for round in 0..6 {
        life.up().await;
        // In half of the rounds syncs are slow, so that much waits for them.
        life.shim.stall_syncs(Duration::from_millis(round % 2 * 20));
        let load = life.load(round << 8);
        tokio::time::sleep(Duration::from_millis(100 + 50 * round)).await;
        life.kill();
        load.end().await;
        let mut dice = Dice(round);
        let undone = life.shim.cut((round > 1).then_some(&mut dice));
        println!("power cut {round}: {undone:?}");
        life.check(&mut dice).await;
    }
    life.end(&mut Dice(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_right_after_the_first_answer_of_a_new_store_takes_nothing() {
    for round in 0..4 {
        let mut life = if round % 2 == 0 { Life::made_by_the_server().await } else { Life::new() };
        life.up().await;
        let (_, said) = life.submit().await;
        assert!(matches!(said, Said::Processed { .. }), "{said:?}");
        life.kill();
        let mut dice = Dice(round);
        let undone = life.shim.cut((round > 1).then_some(&mut dice));
        println!("power cut {round}: {undone:?}");
        life.end(&mut dice).await;
    }
}

/// What the two tests above would find if a store left its syncs out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_syncs_a_power_cut_takes_what_was_acknowledged() {
    let mut life = Life::new();
    life.up().await;
    life.submit().await;
    life.shim.order(Order::SyncLies, 1);
    let (number, said) = life.submit().await;
    assert!(matches!(said, Said::Processed { .. }), "{said:?}");
    life.kill();
    life.shim.cut(None);
    life.up().await;
    let webhook = life.webhook();
    assert!(matches!(webhook.submit(0).await, Said::Already { .. }));
    assert!(matches!(webhook.submit(number).await, Said::Processed { .. }), "a cut takes nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_sync_hangs_it_is_not_ready_and_then_it_is_again() {
    let shim = Shim::make();
    let server = ServerProcess::start(&shim, &["--store-deadline", "1s"]).await;
    let key = super::process::create_key(&shim);
    let webhook = server.webhook(&key);
    assert!(matches!(webhook.submit(0).await, Said::Processed { .. }));
    shim.stall_syncs(Duration::from_secs(3_600));
    assert_eq!(webhook.submit(1).await, Said::Refused { status: 503 });
    server.wait_for_readiness(503).await;
    assert_eq!(server.page("/livez").await, Some(200));
    assert!(server.reader(&key).await.get(0).await.is_some());
    shim.heal();
    server.wait_for_readiness(200).await;
    let Said::Already { .. } = webhook.submit(1).await else { panic!("it was accepted while it hung") };
    server.stop().await;
}

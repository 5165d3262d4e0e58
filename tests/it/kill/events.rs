//! What happens to a store: all that an operator or bad luck does.

use std::{
    os::unix::process::ExitStatusExt,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tokio::time::sleep;

use super::{
    ledger::{Said, sid},
    life::{IMPORTED, KeyState, Life, exported},
    process::{ORG, ServerProcess, cli, key_id},
};
use crate::support::{
    dice::Dice,
    shim::{ALL, GROWS_NOT, Order, TAKES_NOTHING},
};

/// Messages of one import.
const IMPORTS: usize = 30;
/// Longer than a process lives after a failed sync, or after an order to die at a call.
const ENDS_WITHIN: Duration = Duration::from_secs(30);
const DAY: u64 = 86_400;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    KillUnderLoad,
    KillAfterOne,
    KillStarting,
    KillStopping,
    DieAtACall,
    StopIdle,
    StopBusy,
    StopTwice,
    IdleRestart,
    KeysList,
    KeysCreate,
    KeysRevoke,
    Export,
    Import,
    FullDisk,
    FailedSync,
    SlowSyncs,
    ClockJump,
    ClockAhead,
    ClockMonth,
}

/// What a store may need to notice that a month has passed, which must change nothing.
const MONTH_LASTS: Duration = Duration::from_secs(75);

/// Each event, the name that `KILL_TEST_EVENTS` has for it, and how often it comes among the others.
pub const EVENTS: &[(Event, &str, u64)] = &[
    (Event::KillUnderLoad, "kill-under-load", 4),
    (Event::KillAfterOne, "kill-after-one", 4),
    (Event::KillStarting, "kill-starting", 3),
    (Event::KillStopping, "kill-stopping", 3),
    (Event::DieAtACall, "die-at-a-call", 5),
    (Event::StopIdle, "stop-idle", 3),
    (Event::StopBusy, "stop-busy", 2),
    (Event::StopTwice, "stop-twice", 1),
    (Event::IdleRestart, "idle-restart", 3),
    (Event::KeysList, "keys-list", 2),
    (Event::KeysCreate, "keys-create", 2),
    (Event::KeysRevoke, "keys-revoke", 2),
    (Event::Export, "export", 2),
    (Event::Import, "import", 3),
    (Event::FullDisk, "full-disk", 3),
    (Event::FailedSync, "failed-sync", 3),
    (Event::SlowSyncs, "slow-syncs", 1),
    (Event::ClockJump, "clock-jump", 3),
    (Event::ClockAhead, "clock-ahead", 2),
];

/// What only long runs have time for.
pub const LONG_EVENTS: &[(Event, &str, u64)] = &[(Event::ClockMonth, "clock-month", 1)];

/// What was exported from another store, to be imported.
pub struct Donor(Vec<String>);

impl Donor {
    pub async fn new() -> Self {
        let mut life = Life::new();
        life.up().await;
        let webhook = life.webhook();
        for number in 0..10 * IMPORTS as u64 {
            let said = webhook.submit(IMPORTED + number).await;
            assert!(matches!(said, Said::Processed { .. }), "{said:?}");
        }
        life.stop().await;
        let lines = life.export();
        Self(lines.lines().filter(|line| line.contains("message_sid")).map(str::to_owned).collect())
    }
}

/// Lets it happen. What was acknowledged and what is known of keys is noted in `life`.
pub async fn happen(event: Event, life: &mut Life, donor: &Donor, dice: &mut Dice) {
    match event {
        Event::KillUnderLoad => {
            life.up().await;
            let load = life.load(dice.roll(u64::MAX));
            sleep(Duration::from_millis(5 + dice.roll(800))).await;
            life.kill();
            load.end().await;
        }
        Event::KillAfterOne => {
            life.up().await;
            for _ in 0..dice.roll(3) {
                life.submit().await;
            }
            let (_, said) = life.submit().await;
            life.kill();
            assert!(said.accepted_at().is_some(), "{said:?}");
        }
        Event::KillStarting => {
            life.kill();
            for _ in 0..=dice.roll(2) {
                let server = life.spawn();
                sleep(Duration::from_millis(dice.roll(120))).await;
                server.kill();
            }
        }
        Event::KillStopping => {
            life.up().await;
            let load = (dice.roll(2) == 0).then(|| life.load(dice.roll(u64::MAX)));
            sleep(Duration::from_millis(dice.roll(300))).await;
            let server = life.server.take().expect("up");
            server.signal(Signal::TERM);
            sleep(Duration::from_millis(dice.roll(60))).await;
            server.kill();
            if let Some(load) = load {
                load.end().await;
            }
        }
        Event::DieAtACall => die_at_a_call(life, dice).await,
        Event::StopIdle => {
            life.up().await;
            for _ in 0..dice.roll(4) {
                life.submit().await;
            }
            life.stop().await;
        }
        Event::StopBusy => {
            life.up().await;
            let load = life.load(dice.roll(u64::MAX));
            sleep(Duration::from_millis(dice.roll(500))).await;
            life.stop().await;
            load.end().await;
        }
        Event::StopTwice => {
            life.up().await;
            let load = life.load(dice.roll(u64::MAX));
            sleep(Duration::from_millis(dice.roll(300))).await;
            let server = life.server.take().expect("up");
            server.signal(Signal::TERM);
            sleep(Duration::from_millis(dice.roll(20))).await;
            server.signal(Signal::TERM);
            server.end_within(ENDS_WITHIN).await;
            load.end().await;
        }
        Event::IdleRestart => {
            life.stop().await;
            life.up().await;
            sleep(Duration::from_millis(dice.roll(1_500))).await;
            life.stop().await;
        }
        Event::KeysList => {
            down_or_up(life, dice).await;
            life.check_keys().await;
        }
        Event::KeysCreate => {
            down_or_up(life, dice).await;
            may_be_killed(life, dice);
            let created = cli(&life.shim, &["keys", "create", "--org", ORG, "--env", "dev"]);
            life.shim.heal();
            if !created.stdout.trim().is_empty() && created.code == Some(0) {
                life.keys.push((created.stdout.trim().to_owned(), KeyState::Live));
            }
        }
        Event::KeysRevoke => {
            down_or_up(life, dice).await;
            let live = life.keys.iter().position(|(_, state)| *state == KeyState::Live);
            if let Some(at) = live {
                may_be_killed(life, dice);
                let revoked = cli(&life.shim, &["keys", "revoke", key_id(&life.keys[at].0)]);
                life.shim.heal();
                life.keys[at].1 = if revoked.code == Some(0) { KeyState::Revoked } else { KeyState::Unknown };
                if revoked.code == Some(0) && life.server.is_some() {
                    // It may bite some seconds later; a store that is opened anew knows it at once.
                    life.stop().await;
                }
            }
        }
        Event::Export => {
            down_or_up(life, dice).await;
            life.check_export(false);
        }
        Event::Import => import(life, donor, dice).await,
        Event::FullDisk => full_disk(life, dice).await,
        Event::FailedSync => failed_sync(life, dice).await,
        Event::SlowSyncs => {
            life.up().await;
            life.shim.stall_syncs(Duration::from_millis(50 + dice.roll(250)));
            let load = life.load(dice.roll(u64::MAX));
            sleep(Duration::from_millis(dice.roll(1_000))).await;
            life.kill();
            load.end().await;
        }
        Event::ClockJump => {
            life.up().await;
            let load = life.load(dice.roll(u64::MAX));
            let most = [60, 3 * 3_600, 40 * DAY][dice.roll(3) as usize];
            let by = dice.roll(most).cast_signed();
            life.shim.clock_ahead(life.ahead + if dice.roll(3) == 0 { -by } else { by });
            sleep(Duration::from_millis(dice.roll(800))).await;
            if dice.roll(3) == 0 {
                // It does not take long enough to be believed.
                life.kill();
            }
            life.shim.clock_ahead(life.ahead);
            load.end().await;
        }
        Event::ClockMonth => {
            life.up().await;
            life.until_accepted().await;
            life.shim.clock_ahead(life.ahead + (31 * DAY).cast_signed());
            sleep(MONTH_LASTS).await;
            life.shim.clock_ahead(life.ahead);
        }
        Event::ClockAhead => {
            life.ahead += (1 + dice.roll(3 * 3_600)).cast_signed();
            life.shim.clock_ahead(life.ahead);
        }
    }
}

/// Commands are for stopped stores and running ones, and for those that were killed.
async fn down_or_up(life: &mut Life, dice: &mut Dice) {
    match dice.roll(4) {
        0 => life.kill(),
        1 | 2 => life.stop().await,
        _ => life.up().await,
    }
}

/// Of commands on a stopped store some are killed.
fn may_be_killed(life: &Life, dice: &mut Dice) {
    if life.server.is_none() && dice.roll(4) == 0 {
        life.shim.order(Order::DieIn, 1 + dice.roll(80));
    }
}

/// The process ends between two calls on files: in the start, in a roll, in a merge, in the stop.
async fn die_at_a_call(life: &mut Life, dice: &mut Dice) {
    // As many small numbers as large ones.
    let calls = 1_u64 << (2 + dice.roll(11));
    if dice.roll(3) == 0 {
        life.up().await;
        let load = life.load(dice.roll(u64::MAX));
        sleep(Duration::from_millis(dice.roll(200))).await;
        life.shim.order(Order::DieIn, 1 + dice.roll(60));
        let server = life.server.take().expect("up");
        server.signal(Signal::TERM);
        let (status, log) = server.end_within(ENDS_WITHIN).await;
        assert!(status.success() || status.signal() == Some(Signal::KILL.as_raw()), "{status}:\n{log}");
        load.end().await;
    } else {
        life.kill();
        life.shim.order(Order::DieIn, 1 + dice.roll(calls));
        let mut server = life.spawn();
        match server.ready().await {
            Err(ended) => {
                let killed = ended.status.signal() == Some(Signal::KILL.as_raw());
                assert!(killed, "refused to start ({}):\n{}", ended.status, ended.log);
            }
            Ok(()) => {
                life.server = Some(server);
                let load = life.load(dice.roll(u64::MAX));
                sleep(Duration::from_millis(200 + dice.roll(800))).await;
                life.kill();
                load.end().await;
            }
        }
    }
    life.shim.heal();
}

async fn import(life: &mut Life, donor: &Donor, dice: &mut Dice) {
    if life.forgets() {
        // What was accepted long ago is refused.
        return;
    }
    down_or_up(life, dice).await;
    let from = IMPORTS * dice.roll((donor.0.len() / IMPORTS) as u64) as usize;
    let lines = &donor.0[from..from + IMPORTS];
    let file = life.part_of(lines);
    // The feed has them or not by the first import.
    let to_feed = from.is_multiple_of(2 * IMPORTS);
    let mut arguments = vec!["import", file.to_str().expect("UTF-8")];
    arguments.extend(to_feed.then_some("--to-feed"));
    may_be_killed(life, dice);
    let first = cli(&life.shim, &arguments);
    life.shim.heal();
    // What was interrupted is run again.
    if first.code != Some(0) {
        let again = cli(&life.shim, &arguments);
        assert_eq!(again.code, Some(0), "{}", again.stderr);
    }
    let now = Instant::now();
    for (number, (sid, accepted_at)) in (IMPORTED + from as u64..).zip(exported(&lines.join("\n"))) {
        assert_eq!(sid, super::ledger::sid(number));
        life.imported.insert(number, to_feed);
        life.ledger.note(number, now, Said::Already { accepted_at, payload_matches: true });
    }
}

/// No room for a while, of one kind or the other; when there is room, messages are accepted again by the same process.
async fn full_disk(life: &mut Life, dice: &mut Dice) {
    let how = [GROWS_NOT, TAKES_NOTHING][dice.roll(2) as usize];
    life.up().await;
    if dice.roll(4) == 0 {
        // Some writes fail, the first of them in its middle.
        life.shim.order(Order::WritePart, dice.roll(2_000));
        life.shim.order(Order::WriteFail, 1 + dice.roll(5));
    } else {
        life.shim.order(Order::Full, how);
    }
    let load = life.load(dice.roll(u64::MAX));
    sleep(Duration::from_millis(dice.roll(700))).await;
    if dice.roll(3) == 0 {
        life.server.take().expect("up").kill();
        life.server = Some(life.spawn());
        sleep(Duration::from_millis(dice.roll(500))).await;
        life.shim.heal();
        let ended = life.server.as_mut().expect("started above").ready().await;
        if let Err(ended) = ended {
            panic!("refused to start ({}):\n{}", ended.status, ended.log);
        }
    }
    life.shim.heal();
    load.end().await;
    life.until_accepted().await;
}

/// After a failed sync nothing new is accepted, what is durable can be read, and the process ends, by itself or killed.
async fn failed_sync(life: &mut Life, dice: &mut Dice) {
    life.up().await;
    life.until_accepted().await;
    let kept = life.ledger.acknowledged();
    let load = life.load(dice.roll(u64::MAX));
    sleep(Duration::from_millis(dice.roll(200))).await;
    life.shim.order(Order::SyncPass, dice.roll(20));
    life.shim.order(Order::SyncFail, ALL);
    life.running().wait_for_readiness(503).await;
    let (_, said) = life.submit().await;
    assert!(!matches!(said, Said::Processed { .. }), "accepted after a failed sync: {said:?}");
    let some = kept[dice.roll(kept.len() as u64) as usize];
    let mut server = life.server.take().expect("up");
    if !server.has_ended() {
        read_after_failure(life, &server, some).await;
    }
    if dice.roll(2) == 0 {
        let (status, log) = server.end_within(ENDS_WITHIN).await;
        assert!(!status.success(), "{status}:\n{log}");
    } else {
        server.kill();
    }
    load.end().await;
    life.shim.heal();
}

async fn read_after_failure(life: &Life, server: &ServerProcess, number: u64) {
    let found = server.reader(&life.key).await.get(number).await;
    let expected = life.ledger.accepted_at(number);
    assert!(found == expected || !life.ledger.must_keep(number), "{} after a failed sync: {found:?}", sid(number));
}

/// A power cut, of all that was not synced or of any part of it.
pub fn cut_power(life: &Life, dice: &mut Dice) -> String {
    assert!(life.server.is_none(), "the server must not run");
    let all = dice.roll(3) == 0;
    format!("{:?}", life.shim.cut((!all).then_some(dice)))
}

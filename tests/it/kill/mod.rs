//! The real server on a real disk, and all that an operator or bad luck does to it: nothing that was acknowledged is lost,
//! nothing is accepted twice, no store is refused.
//!
//! `scripts/kill-test [ROUNDS [SEED]]` runs the dice longer than the test suite does.

mod disk;
mod events;
mod faults;
mod ledger;
mod life;
mod process;
mod syncs;
mod tmpfs;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use events::{Donor, EVENTS, Event, LONG_EVENTS};
use life::Life;
use message_webhook::domain::{Clock, SystemClock};

use crate::support::dice::{Dice, setting};

const ROUNDS: u64 = 12;
/// From so many rounds on a run is a long one.
const LONG: u64 = 100;

/// The events that `KILL_TEST_EVENTS` names, or all, as often as each is to come.
fn chosen(rounds: u64) -> Vec<(Event, &'static str)> {
    let wanted = std::env::var("KILL_TEST_EVENTS").ok();
    let is_wanted = |name: &str| wanted.as_ref().is_none_or(|wanted| wanted.split(',').any(|each| each == name));
    let long = if rounds >= LONG { LONG_EVENTS } else { &[] };
    let chosen = EVENTS.iter().chain(long).filter(|(_, name, _)| is_wanted(name));
    let chosen: Vec<_> = chosen.flat_map(|(event, name, times)| (0..*times).map(move |_| (*event, *name))).collect();
    assert!(!chosen.is_empty(), "KILL_TEST_EVENTS names no event");
    chosen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_whatever_happens_every_acknowledged_message_is_there_once() {
    let rounds = setting("KILL_TEST_ROUNDS", ROUNDS);
    let seed = setting("KILL_TEST_SEED", SystemClock.now().as_micros().unsigned_abs());
    println!("kill test: {rounds} rounds, KILL_TEST_SEED={seed}");
    let begun = Instant::now();
    let events = chosen(rounds);
    let mut dice = Dice(seed);
    let donor = Donor::new().await;
    let mut tally: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut round, mut stores, mut messages) = (0, 0, 0);
    while round < rounds {
        // Many stores have a short life: what goes wrong in the first starts would not be met again.
        let steps = if dice.roll(3) == 0 { 10 + dice.roll(30) } else { 1 + dice.roll(6) };
        // Some forget soon, and so begin, merge and remove files all the time.
        let mut life = match dice.roll(6) {
            0 | 1 => Life::with_retention(Duration::from_secs(2 + dice.roll(20))),
            2 => Life::made_by_the_server().await,
            _ => Life::new(),
        };
        stores += 1;
        for _ in 0..steps.min(rounds - round) {
            round += 1;
            let (event, name) = events[dice.roll(events.len() as u64) as usize];
            println!("round {round}, store {stores}: {name}");
            events::happen(event, &mut life, &donor, &mut dice).await;
            *tally.entry(name).or_default() += 1;
            if life.server.is_none() && dice.roll(3) == 0 {
                println!("    power cut: {}", events::cut_power(&life, &mut dice));
                *tally.entry("power-cut").or_default() += 1;
            }
            if dice.roll(2) == 0 {
                life.check(&mut dice).await;
            }
        }
        life.end(&mut dice).await;
        messages += life.ledger.acknowledged().len();
        println!("    store {stores} is whole: {}", life.ledger.summary());
    }
    let tally: Vec<_> = tally.iter().map(|(name, times)| format!("{name} {times}")).collect();
    println!(
        "kill test: {rounds} rounds on {stores} stores in {:.0} s ({}), {messages} messages; lost 0, double 0, refused 0",
        begun.elapsed().as_secs_f64(),
        tally.join(", "),
    );
}

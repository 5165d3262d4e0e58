use std::{
    env,
    time::{Duration, Instant},
};

use super::{lines, run_story, story::Tally};
use crate::store::embedded::sabotage::{Sabotage, plant};

const STEPS: u64 = 300;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

fn steps() -> u64 {
    number("SIM_STEPS").unwrap_or(STEPS)
}

/// Tells stories from `seed` on until one fails or `time` is over.
fn stories(seed: u64, time: Duration) -> (Tally, Option<(u64, String)>) {
    let (begun, mut tally, mut at) = (Instant::now(), Tally::default(), seed);
    while begun.elapsed() < time {
        let (told, result) = run_story(at, steps());
        tally.add(&told);
        if let Err(why) = result {
            return (tally, Some((at, why)));
        }
        at = at.wrapping_add(1);
    }
    (tally, None)
}

#[test]
fn random_lives_lose_nothing_and_accept_nothing_twice() {
    let fresh = u64::from(std::process::id()) << 32 ^ u64::from(Instant::now().elapsed().subsec_nanos());
    let random = std::collections::hash_map::RandomState::new();
    let seed = number("SIM_SEED").unwrap_or_else(|| std::hash::BuildHasher::hash_one(&random, fresh) >> 16);
    println!("SIM_SEED={seed}");
    let (tally, failed) = stories(seed, Duration::from_secs(number("SIM_SECONDS").unwrap_or(20)));
    println!("{tally:?}");
    if let Some((seed, why)) = failed {
        println!("{}", lines(seed, steps()));
        panic!("SIM_SEED={seed} SIM_STEPS={}: {why}", steps());
    }
}

#[test]
#[ignore = "a tool: scripts/sim story SEED tells the story of a seed, also of one that ends well"]
fn one_story() {
    println!("{}", lines(number("SIM_SEED").expect("SIM_SEED"), steps()));
}

/// Plants a mistake; it must be found within 100,000 steps.
fn is_found(sabotage: Sabotage) {
    plant(Some(sabotage));
    let (mut taken, mut seed) = (0, number("SIM_SEED").unwrap_or(1));
    let mut found = None;
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    while taken < 100_000 && found.is_none() {
        let (tally, result) = run_story(seed, STEPS);
        taken += tally.steps;
        found = result.err();
        seed += 1;
    }
    std::panic::set_hook(hook);
    plant(None);
    println!("{sabotage:?}: after {taken} steps, seed {}: {found:?}", seed - 1);
    assert!(found.is_some(), "{sabotage:?} was not found in {taken} steps");
}

macro_rules! sabotages {
    ($($test:ident: $sabotage:ident,)*) => {
        $(#[test]
        fn $test() {
            is_found(Sabotage::$sabotage);
        })*
    };
}

sabotages! {
    a_sync_left_out_is_found: NoSync,
    an_answer_before_the_sync_is_found: AnswerBeforeSync,
    a_missing_directory_sync_is_found: NoDirectorySync,
    no_second_writing_is_found: NoSecondWriting,
    a_second_frame_in_flight_is_found: SecondFrameInFlight,
    a_voucher_on_a_shared_page_is_found: VoucherOnSharedPage,
    a_torn_body_served_is_found: TornBodyServed,
    a_leftover_of_a_full_disk_is_found: LeftoverStays,
    a_zeroing_without_a_sync_is_found: ZeroingNotSynced,
    a_seal_and_a_header_in_one_sync_are_found: SealAndHeaderInOneSync,
    memory_let_go_between_the_looks_is_found: MemoryLetGo,
    a_damaged_page_taken_for_absence_is_found: DamagedPageIsAbsent,
    a_run_after_its_memory_is_found: RunAfterMemory,
    a_frame_found_only_from_its_predecessor_is_found: OnlyFromPredecessor,
    an_idle_restart_that_moves_the_end_is_found: IdleRestartMovesEnd,
}

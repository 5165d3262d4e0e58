//! The simulator: the whole store over a disk and a clock in memory, stepped by a seed.
//!
//! `disk` has the faults, `story` what happens in which order, `oracle` what must be true, `checks` when it is looked at.
//! A story that fails is printed, and told again by `SIM_SEED=… SIM_STEPS=… cargo test --lib sim::one_story`.

#![allow(clippy::wildcard_enum_match_arm, reason = "a story that goes another way fails, whatever the way")]

mod checks;
mod clock;
mod damage;
mod disk;
mod image;
mod life;
mod oracle;
mod rest;
mod rng;
mod story;
mod talk;
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::story::{Story, Tally};

/// Tells the story of a seed; what went wrong in it.
pub fn run_story(seed: u64, steps: u64) -> (Tally, Result<(), String>) {
    let mut story = Story::new(seed, false);
    let told = catch_unwind(AssertUnwindSafe(|| story.run(steps)));
    (story.tally, told.unwrap_or_else(|_| Err("a panic".to_owned())))
}

/// The same, line by line.
pub fn lines(seed: u64, steps: u64) -> String {
    let mut story = Story::new(seed, true);
    let told = catch_unwind(AssertUnwindSafe(|| story.run(steps)));
    let mut lines = story.lines.take().unwrap_or_default();
    lines.push(format!("{told:?}"));
    lines.join("\n")
}

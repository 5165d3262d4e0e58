//! The store's two clocks.
//!
//! The **answer's clock** says when a message was accepted: the wall clock when both last agreed, and the time since boot from
//! then on. A step of the wall clock of more than [`STEP`] is followed once it has stood for [`STANDS`]; until then
//! acceptance goes on by the old time. Smaller steps forward and slewing are followed at once; at smaller steps back the
//! clock stands still.
//!
//! The **age clock** alone forgets. It runs with the time since boot, whatever the wall clock does, and is in every frame.
//! The time that the store was stopped, by the wall clock, becomes a debt that is paid later and slowly. So a wrong wall
//! clock forgets nothing; a store that was stopped for long remembers somewhat longer than promised, never shorter.

use std::{sync::Arc, time::Duration};

use metrics::gauge;
use parking_lot::Mutex;

use super::log::Stamp;
use crate::{
    domain::{Clock, Timestamp},
    telemetry::names,
};

/// A larger difference between the two clocks is a step.
const STEP: i64 = 5 * SECOND;
/// For how long a step must stand before it is believed.
const STANDS: Duration = Duration::from_mins(10);
/// At a start the wall clock may be so far behind the last frame: a reboot without a good clock, a zone's mistake.
const BEHIND: i64 = 3600 * SECOND;
/// From this time of running on, debt is paid.
const PAYS_AFTER: Duration = Duration::from_hours(1);
/// Debt is paid so many times as fast as time goes by.
const PAYS: u64 = 24;
const SECOND: i64 = 1_000_000;

/// No clock of a machine that runs this program is right before this time, 2026-11-01.
const NOT_BEFORE: i64 = 1_793_491_200 * SECOND;

/// See the module.
pub struct StoreClock {
    source: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    /// The wall clock and the time since boot when both last agreed.
    wall: i64,
    boot: Duration,
    /// The latest time that was given.
    last: i64,
    /// A step that is not believed yet: by how much, and since when.
    step: Option<(i64, Duration)>,
    /// Since when nothing is accepted because the wall clock cannot be right.
    distrusted: Option<Duration>,
    /// The answer's clock has gone back, and no frame tells so yet.
    went_back: bool,
    age: u64,
    aged: Duration,
    debt: u64,
    began: Duration,
}

impl StoreClock {
    /// Goes on from `last`, the stamp of the last frame; `None` for a new store. `trusted` believes the wall clock at once.
    pub fn new(source: Arc<dyn Clock>, last: Option<Stamp>, trusted: bool) -> Self {
        let (wall, boot) = (source.now().as_micros(), source.since_boot());
        let before = last.unwrap_or(Stamp::ZERO);
        let frame = before.wall.as_micros();
        let mut state = State {
            wall,
            boot,
            last: wall,
            step: None,
            distrusted: None,
            went_back: false,
            age: before.age,
            aged: boot,
            debt: before.debt,
            began: boot,
        };
        if wall < frame && trusted {
            state.went_back = true;
            state.debt = 0;
        } else if wall < frame {
            // Goes on from the frame's time; the difference is a step that may come to be believed.
            (state.wall, state.last) = (frame, frame);
        } else if frame >= NOT_BEFORE {
            state.debt = state.debt.saturating_add(wall.abs_diff(frame));
        }
        if !trusted && (wall < frame.saturating_sub(BEHIND) || wall < NOT_BEFORE) {
            state.distrusted = Some(boot);
        }
        Self { source, state: Mutex::new(state) }
    }

    /// What both clocks say now.
    pub fn stamp(&self) -> Stamp {
        let mut state = self.state.lock();
        let wall = state.answer(self.source.now().as_micros(), self.source.since_boot());
        // The domain's times reach to the end of 9999.
        let wall = Timestamp::from_micros(wall).unwrap_or(Timestamp::EPOCH);
        Stamp { wall, age: state.age, debt: state.debt }
    }

    /// The age clock, in microseconds.
    pub fn age(&self) -> u64 {
        let mut state = self.state.lock();
        state.grow_older(self.source.since_boot());
        state.age
    }

    /// Whether the wall clock can be right; otherwise why nothing is accepted.
    ///
    /// # Errors
    /// The reason, for the operator.
    pub fn check(&self) -> Result<(), String> {
        let mut state = self.state.lock();
        if state.distrusted.is_none() {
            return Ok(());
        }
        // It may have been set right since.
        state.answer(self.source.now().as_micros(), self.source.since_boot());
        match state.distrusted {
            None => Ok(()),
            Some(_) => Err("the clock is far behind the last message that was accepted, or before this program was \
                            made; set it right, or start with --trust-clock, or wait until it has stood for 10 minutes"
                .to_owned()),
        }
    }

    /// Believes the wall clock at once; whether there was anything to believe.
    pub fn trust(&self) -> bool {
        let mut state = self.state.lock();
        let (wall, boot) = (self.source.now().as_micros(), self.source.since_boot());
        state.grow_older(boot);
        let (_, difference) = state.difference(wall, boot);
        let changes = difference.abs() > STEP || state.distrusted.is_some();
        if changes {
            state.follow(wall, boot, difference);
            state.last = state.last.max(wall);
        }
        changes
    }

    /// That it went back could not be told in the log; the next who asks is to tell it.
    pub fn note_went_back(&self) {
        self.state.lock().went_back = true;
    }

    /// Whether the answer's clock went back since this was last asked.
    pub fn take_went_back(&self) -> bool {
        std::mem::take(&mut self.state.lock().went_back)
    }
}

impl State {
    fn grow_older(&mut self, boot: Duration) {
        let passed = boot.saturating_sub(self.aged);
        self.aged = self.aged.max(boot);
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let paying = passed.min(boot.saturating_sub(self.began.saturating_add(PAYS_AFTER)));
        let paid = self.debt.min(micros(paying).saturating_mul(PAYS));
        self.debt -= paid;
        self.age = self.age.saturating_add(micros(passed)).saturating_add(paid);
    }

    fn answer(&mut self, wall: i64, boot: Duration) -> i64 {
        self.grow_older(boot);
        let (expected, difference) = self.difference(wall, boot);
        let mut answer = expected;
        if self.distrusted.is_some() && difference >= -STEP && wall >= NOT_BEFORE {
            // It was set right: as at a start with a good clock.
            self.follow(wall, boot, difference.max(0));
            answer = wall;
        } else if difference.abs() <= STEP {
            self.agree(wall, boot);
            answer = wall;
            if self.distrusted.is_some_and(|since| boot.saturating_sub(since) >= STANDS) {
                self.distrusted = None;
            }
        } else {
            match self.step {
                Some((by, since)) if difference.abs_diff(by) <= STEP.unsigned_abs() => {
                    if boot.saturating_sub(since) >= STANDS {
                        tracing::warn!(
                            seconds = difference / SECOND,
                            "the clock's step has stood for 10 minutes and is followed"
                        );
                        self.follow(wall, boot, difference);
                        answer = wall;
                    }
                }
                Some(_) | None => {
                    tracing::warn!(
                        seconds = difference / SECOND,
                        "the clock was set; messages are accepted by the time before until that has stood for 10 minutes"
                    );
                    gauge!(names::STORE_CLOCK_STEP_SECONDS).set(difference as f64 / SECOND as f64);
                    self.step = Some((difference, boot));
                }
            }
        }
        self.last = self.last.max(answer);
        self.last
    }

    /// Believes a step of `difference`. Time that the store was stopped for shows only now, where the clock was behind until then.
    fn follow(&mut self, wall: i64, boot: Duration, difference: i64) {
        self.agree(wall, boot);
        if difference < 0 {
            self.went_back = true;
            self.last = wall;
            self.debt = 0;
        } else if self.distrusted.is_some() {
            self.debt = self.debt.saturating_add(difference.unsigned_abs());
        }
        self.distrusted = None;
    }

    /// By how much the wall clock is ahead of what it should say.
    fn difference(&self, wall: i64, boot: Duration) -> (i64, i64) {
        let passed = i64::try_from(boot.saturating_sub(self.boot).as_micros()).unwrap_or(i64::MAX);
        let expected = self.wall.saturating_add(passed);
        (expected, wall.saturating_sub(expected))
    }

    fn agree(&mut self, wall: i64, boot: Duration) {
        (self.wall, self.boot) = (wall, boot);
        if self.step.take().is_some() {
            gauge!(names::STORE_CLOCK_STEP_SECONDS).set(0.0);
        }
    }
}

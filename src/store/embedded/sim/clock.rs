//! A clock that is set, stops, and starts its count again with the machine.

use std::{sync::Mutex, time::Duration};

use crate::domain::{Clock, Timestamp};

/// 2026-11-25, in microseconds.
const BEGINS: i64 = 1_795_600_000 * 1_000_000;

#[derive(Debug)]
pub struct SimClock(Mutex<State>);

#[derive(Debug, Clone, Copy)]
struct State {
    wall: i64,
    boot: u64,
    /// What really passed.
    real: u64,
    /// By how much the wall clock was ever set wrong, in all.
    wrong: u64,
}

impl SimClock {
    pub fn new() -> Self {
        Self(Mutex::new(State { wall: BEGINS, boot: 1_000_000, real: 0, wrong: 0 }))
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    /// Time goes by, for both clocks.
    pub fn pass(&self, micros: u64) {
        self.with(|state| {
            state.wall += micros as i64;
            state.boot += micros;
            state.real += micros;
        });
    }

    /// Time goes by, and the wall clock stands.
    pub fn stand(&self, micros: u64) {
        self.with(|state| {
            state.boot += micros;
            state.real += micros;
            state.wrong += micros;
        });
    }

    /// The wall clock is set.
    pub fn step(&self, micros: i64) {
        self.with(|state| {
            state.wall += micros;
            state.wrong += micros.unsigned_abs();
        });
    }

    /// The machine is started again.
    pub fn reboot(&self) {
        self.with(|state| state.boot = 5_000_000);
    }

    /// Microseconds that really passed.
    pub fn real(&self) -> u64 {
        self.with(|state| state.real)
    }

    /// By how much the wall clock was ever wrong, in microseconds.
    pub fn wrong(&self) -> u64 {
        self.with(|state| state.wrong)
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.with(|state| state.wall)).expect("a time")
    }

    fn since_boot(&self) -> Duration {
        Duration::from_micros(self.with(|state| state.boot))
    }
}

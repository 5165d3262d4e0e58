//! The next segment, made while the present one fills: zeroed and synced piece by piece, so that no message waits for it,
//! and so that the syncs of its frames change no file's length.

use std::{io, sync::Arc, time::Duration};

use parking_lot::{Condvar, Mutex};

use super::{
    file_name,
    segment::sizes,
    writer::{AppendError, is_no_space},
};
use crate::store::embedded::{
    disk::{Disk, DiskFile},
    sabotage::{Sabotage, is_planted},
};

/// The next segment is begun when so much of the present one is used.
pub const BEGINS: f64 = 0.4;

/// A segment without a header.
pub struct Prepared {
    /// Its number.
    pub number: u32,
    /// Its file.
    pub file: Arc<dyn DiskFile>,
    /// Bytes of the file.
    pub size: u32,
}

/// What the writer wants next, and what there is of it.
#[derive(Default)]
pub struct Preparation {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    wanted: Option<Wanted>,
    ready: Option<Prepared>,
    /// Why there is none, for now.
    problem: Option<Problem>,
    is_urgent: bool,
}

struct Problem {
    why: String,
    is_full: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Wanted {
    number: u32,
    size: u32,
    least: u32,
}

impl Preparation {
    /// Says which segment comes next. One that is ready stays if it is large enough.
    pub fn want(&self, number: u32, size: u32, least: u32) {
        let mut state = self.state.lock();
        state.wanted = Some(Wanted { number, size, least });
        if state.ready.as_ref().is_some_and(|ready| ready.number != number || ready.size < least) {
            state.ready = None;
        }
    }

    /// Takes the segment that is ready; `None` while it is being made, which is urgent from now on.
    ///
    /// # Errors
    /// [`AppendError::NoSpace`] or [`AppendError::NoSegment`] when it cannot be made for now.
    pub fn take_ready(&self, number: u32) -> Result<Option<Prepared>, AppendError> {
        let mut state = self.state.lock();
        if state.ready.as_ref().is_some_and(|ready| ready.number == number) {
            state.is_urgent = false;
            // Nothing else is to be made under its name: from now on it is the writer's.
            state.wanted = None;
            return Ok(state.ready.take());
        }
        state.is_urgent = true;
        self.changed.notify_all();
        match &state.problem {
            None => Ok(None),
            Some(Problem { why, is_full: true }) => Err(AppendError::NoSpace(why.clone())),
            Some(Problem { why, is_full: false }) => Err(AppendError::NoSegment(why.clone())),
        }
    }

    /// Puts back what [`Preparation::take_ready`] gave.
    pub fn give_back(&self, prepared: Prepared) {
        self.state.lock().ready = Some(prepared);
    }

    /// Takes over a segment of zeros that was there at the start.
    pub fn adopt(&self, prepared: Prepared) {
        self.give_back(prepared);
    }

    /// Whether the next segment cannot be made, for now.
    pub fn has_problem(&self) -> bool {
        self.state.lock().problem.is_some()
    }

    /// Waits until something has changed, for `patience` at most.
    pub fn wait(&self, patience: Duration) {
        self.changed.wait_for(&mut self.state.lock(), patience);
    }

    /// Wakes whoever waits, for something else has changed that they look at.
    pub fn note_change(&self) {
        self.changed.notify_all();
    }

    fn note(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }
}

/// The background's side: a segment that is being made.
pub struct Preparer {
    disk: Arc<dyn Disk>,
    preparation: Arc<Preparation>,
    making: Option<Making>,
    min_free: u64,
}

struct Making {
    wanted: Wanted,
    file: Arc<dyn DiskFile>,
    zeroed: u32,
}

impl Preparer {
    /// Makes what `preparation` wants, as long as `min_free` bytes stay free.
    pub fn new(disk: Arc<dyn Disk>, preparation: Arc<Preparation>, min_free: u64) -> Self {
        Self { disk, preparation, making: None, min_free }
    }

    /// Does one piece if it is due, at `used` of the present segment; whether it did.
    pub fn step(&mut self, used: f64) -> bool {
        let (wanted, is_urgent) = {
            let state = self.preparation.state.lock();
            let missing = if state.ready.is_some() { None } else { state.wanted };
            (missing, state.is_urgent)
        };
        let Some(wanted) = wanted else { return false };
        // Somewhat ahead of the messages, and no faster; a segment that hardly fills needs no successor of its size.
        let done = self.making.as_ref().map_or(0.0, |making| f64::from(making.zeroed) / f64::from(wanted.size));
        if !is_urgent && (used < BEGINS || done > (used - BEGINS) / (1.0 - BEGINS) * 1.25 + 0.1) {
            return false;
        }
        match self.piece(wanted) {
            Ok(None) => self.preparation.note(|state| state.problem = None),
            Ok(Some(ready)) => self.preparation.note(|state| {
                state.problem = None;
                state.ready = Some(ready);
            }),
            Err(error) => {
                let is_full = is_no_space(&error);
                let problem = Problem { why: format!("the next segment cannot be made: {error}"), is_full };
                self.give_up(wanted.number);
                self.preparation.note(|state| state.problem = Some(problem));
                return false;
            }
        }
        true
    }

    fn piece(&mut self, wanted: Wanted) -> io::Result<Option<Prepared>> {
        let is_same = |making: &Making| making.wanted.number == wanted.number && making.wanted.size >= wanted.least;
        let mut making = match self.making.take().filter(is_same) {
            Some(making) => making,
            None => {
                if self.disk.free_bytes()? < self.min_free.saturating_add(u64::from(wanted.size)) {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                Making { wanted, file: self.disk.create(&unfinished_name(wanted.number))?, zeroed: 0 }
            }
        };
        let size = making.wanted.size;
        let piece = sizes().piece.min(size.saturating_sub(making.zeroed));
        making.file.write_at(&vec![0; piece as usize], u64::from(making.zeroed))?;
        making.file.sync()?;
        making.zeroed += piece;
        if making.zeroed < size {
            self.making = Some(making);
            return Ok(None);
        }
        let number = making.wanted.number;
        self.disk.rename(&unfinished_name(number), &file_name(number))?;
        if !is_planted(Sabotage::NoDirectorySync)
            && let Err(error) = self.disk.sync_dir("log")
        {
            // Nobody has it yet; if it stays, the next start finds it and needs no other.
            let _ = self.disk.remove(&file_name(number));
            return Err(error);
        }
        Ok(Some(Prepared { number, file: making.file, size }))
    }

    fn give_up(&mut self, number: u32) {
        self.making = None;
        // It is not there, or the next start removes it.
        let _ = self.disk.remove(&unfinished_name(number));
    }
}

/// The name of a segment that is being made.
pub fn unfinished_name(number: u32) -> String {
    format!("log/{number:010}.tmp")
}

//! What waits for the writer.
//!
//! How long a group gathers is the writer's own decision, by its own clock: no caller can hold it up, and a lone submission
//! waits for nobody. What waits is bounded by count and bytes, and is counted until it is decided, though its caller may
//! have gone.

use std::{
    mem,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::submit::Waiting;
use crate::domain::{Error, KeyId, KeyRecord, Timestamp};

/// The place where the answer to an order is awaited.
pub type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// Bytes of bodies that may wait: several groups of full bodies; a queue in front of a slow disk must not eat the memory.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// Anything but a message that only the writer may do.
pub enum Order {
    /// Keep a new key.
    CreateKey(Box<KeyRecord>, Answer<()>),
    /// Revoke a key.
    RevokeKey(KeyId, Timestamp, Answer<Option<KeyRecord>>),
    /// Note when keys were used.
    TouchKeys(Vec<(KeyId, Timestamp)>, Answer<()>),
    /// Forget segments that are past their retention, and seal the present one if it is old.
    Age(Option<Answer<()>>),
}

/// All that waited when the writer looked.
#[derive(Default)]
pub struct Work {
    /// Messages, in the order in which they came.
    pub submissions: Vec<Waiting>,
    /// Everything else.
    pub orders: Vec<Order>,
    /// Nothing will follow.
    pub closed: bool,
}

/// How the writer waits for work.
#[derive(Debug, Clone, Copy)]
pub struct Gathering {
    /// When so many submissions wait, it waits no longer.
    pub enough: usize,
    /// For how long it waits for them once there is one.
    pub patience: Duration,
    /// For how long it waits for the first.
    pub idle: Duration,
}

/// See the module.
pub struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    capacity: usize,
}

#[derive(Default)]
struct State {
    work: Work,
    /// What was taken and is not decided counts, too.
    count: usize,
    bytes: usize,
    /// With so many submissions the sleeping writer is to be woken: only then does it cost a system call.
    wake_at: Option<usize>,
}

impl Queue {
    /// An empty queue for `capacity` submissions.
    pub fn new(capacity: usize) -> Self {
        Self { state: Mutex::default(), wake: Condvar::new(), capacity }
    }

    /// Lets a submission wait.
    ///
    /// # Errors
    /// When the store is closed, or too many wait.
    pub fn submit(&self, waiting: Waiting) -> Result<(), Error> {
        let mut state = self.state.lock();
        if state.work.closed {
            return Err(closed());
        }
        if state.count >= self.capacity || state.bytes > MAX_BYTES {
            return Err(Error::store_unavailable("too many submissions wait for the disk"));
        }
        state.count += 1;
        state.bytes += waiting.submission.bytes();
        state.work.submissions.push(waiting);
        let is_enough = state.wake_at.is_some_and(|enough| state.work.submissions.len() >= enough);
        if is_enough {
            self.wake(state);
        }
        Ok(())
    }

    /// Lets an order wait.
    ///
    /// # Errors
    /// When the store is closed.
    pub fn order(&self, order: Order) -> Result<(), Error> {
        let mut state = self.state.lock();
        if state.work.closed {
            return Err(closed());
        }
        state.work.orders.push(order);
        self.wake(state);
        Ok(())
    }

    /// Takes nothing more; what waits is still worked on.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.work.closed = true;
        self.wake(state);
    }

    /// Takes nothing more, and lets go of what waits: whoever awaits an answer learns that there will be none.
    pub fn abandon(&self) {
        let mut state = self.state.lock();
        let waiting = mem::take(&mut state.work);
        state.work.closed = true;
        drop(state);
        drop(waiting);
    }

    /// Counts what is decided no more.
    pub fn decided(&self, count: usize, bytes: usize) {
        let mut state = self.state.lock();
        state.count = state.count.saturating_sub(count);
        state.bytes = state.bytes.saturating_sub(bytes);
    }

    /// What waits now, without waiting for it.
    pub fn take(&self, work: &mut Work) {
        Self::swap(&mut self.state.lock(), work);
    }

    /// Waits for work as `gathering` says, and takes it. Orders and the end are waited for no longer.
    pub fn gather(&self, work: &mut Work, gathering: Gathering) {
        let mut state = self.state.lock();
        let begun = Instant::now();
        let mut first: Option<Instant> = None;
        loop {
            let waiting = state.work.submissions.len();
            if !state.work.orders.is_empty() || state.work.closed || waiting >= gathering.enough.max(1) {
                break;
            }
            let deadline = match waiting {
                0 => begun + gathering.idle,
                _ => *first.get_or_insert_with(Instant::now) + gathering.patience,
            };
            state.wake_at = Some(if waiting == 0 { 1 } else { gathering.enough });
            if self.wake.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        state.wake_at = None;
        Self::swap(&mut state, work);
    }

    fn swap(state: &mut State, work: &mut Work) {
        work.submissions.clear();
        work.orders.clear();
        let closed = state.work.closed;
        mem::swap(&mut state.work, work);
        state.work.closed = closed;
    }

    fn wake(&self, mut state: parking_lot::MutexGuard<'_, State>) {
        let sleeps = state.wake_at.take().is_some();
        drop(state);
        if sleeps {
            self.wake.notify_one();
        }
    }
}

/// The error of every call after the close.
pub fn closed() -> Error {
    Error::store_unavailable("the store is closed")
}

/// A flag that a thread sleeps on.
#[derive(Default)]
pub struct Bell {
    state: Mutex<(bool, bool)>,
    wake: Condvar,
}

impl Bell {
    /// Wakes the sleeper, now or when it next goes to sleep.
    pub fn ring(&self) {
        self.state.lock().0 = true;
        self.wake.notify_all();
    }

    /// Wakes the sleeper for the last time.
    pub fn close(&self) {
        self.state.lock().1 = true;
        self.wake.notify_all();
    }

    /// Whether nobody will sleep any more.
    pub fn is_closed(&self) -> bool {
        self.state.lock().1
    }

    /// Sleeps until rung or for `duration`; `false` when closed.
    pub fn sleep(&self, duration: Duration) -> bool {
        let mut state = self.state.lock();
        self.wake.wait_while_for(&mut state, |(rung, closed)| !*rung && !*closed, duration);
        state.0 = false;
        !state.1
    }
}

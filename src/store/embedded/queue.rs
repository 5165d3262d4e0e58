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

/// The place where the answer to a command is awaited.
pub type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// Bytes of bodies that may wait: several groups of full bodies; a queue in front of a slow disk must not eat the memory.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// Anything but a message that only the writer may do.
pub enum Command {
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
    pub commands: Vec<Command>,
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
    /// It waits no longer either when none came for so long.
    pub pause: Duration,
    /// For how long it waits for the first.
    pub idle: Duration,
}

/// How many submissions the next group waits for: as many as the last had, for whoever was answered is likely to submit again
/// at once. Now and then it tries to gather more, because what a frame costs by itself, a sync and its wake-ups, is then shared
/// by more; less often each time that no more came.
#[derive(Debug)]
pub struct Expectation {
    last: usize,
    is_trying: bool,
    groups_until_try: u32,
    groups_between_tries: u32,
}

impl Default for Expectation {
    fn default() -> Self {
        Self { last: 0, is_trying: false, groups_until_try: Self::SOON, groups_between_tries: Self::SOON }
    }
}

impl Expectation {
    const SOON: u32 = 4;
    const SELDOM: u32 = 256;
    /// Fewer than this are not worth a try: they are answered sooner without.
    const FEW: usize = 8;

    /// What the next group waits for.
    pub fn enough(&self) -> usize {
        if self.is_trying { self.last + self.last / 4 + 1 } else { self.last.max(1) }
    }

    /// Whether more than the last group had are waited for.
    pub fn is_trying(&self) -> bool {
        self.is_trying
    }

    /// A group of `count` was gathered; 0 for a time in which none came.
    pub fn gathered(&mut self, count: usize) {
        let is_reached = count >= self.enough();
        self.last = count;
        if count < Self::FEW {
            *self = Self { last: count, ..Self::default() };
        } else if self.is_trying && !is_reached {
            self.is_trying = false;
            self.groups_between_tries = (self.groups_between_tries * 2).min(Self::SELDOM);
            self.groups_until_try = self.groups_between_tries;
        } else if self.is_trying {
            self.groups_between_tries = Self::SOON;
        } else {
            self.groups_until_try = self.groups_until_try.saturating_sub(1);
            self.is_trying = self.groups_until_try == 0;
        }
    }
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

    /// Lets a command wait.
    ///
    /// # Errors
    /// When the store is closed.
    pub fn command(&self, command: Command) -> Result<(), Error> {
        let mut state = self.state.lock();
        if state.work.closed {
            return Err(closed());
        }
        state.work.commands.push(command);
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
        // Since when there is a submission, and how many there were when the last pause began.
        let mut first: Option<(Instant, usize)> = None;
        loop {
            let waiting = state.work.submissions.len();
            if !state.work.commands.is_empty() || state.work.closed || waiting >= gathering.enough.max(1) {
                break;
            }
            if waiting == 0 {
                state.wake_at = Some(1);
                if self.wake.wait_until(&mut state, begun + gathering.idle).timed_out() {
                    break;
                }
                continue;
            }
            let now = Instant::now();
            let (since, before) = first.unwrap_or((now, 0));
            if waiting == before || now >= since + gathering.patience {
                break;
            }
            first = Some((since, waiting));
            state.wake_at = Some(gathering.enough);
            self.wake.wait_until(&mut state, (now + gathering.pause).min(since + gathering.patience));
        }
        state.wake_at = None;
        Self::swap(&mut state, work);
    }

    fn swap(state: &mut State, work: &mut Work) {
        work.submissions.clear();
        work.commands.clear();
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
pub struct Signal {
    state: Mutex<(bool, bool)>,
    wake: Condvar,
}

impl Signal {
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

#[cfg(test)]
mod tests {
    use super::Expectation;

    fn after(counts: &[usize]) -> Expectation {
        let mut expectation = Expectation::default();
        counts.iter().for_each(|count| expectation.gathered(*count));
        expectation
    }

    #[test]
    fn a_lone_submission_waits_for_nobody() {
        assert_eq!(after(&[]).enough(), 1);
        assert_eq!(after(&[1; 100]).enough(), 1);
        assert_eq!(after(&[40, 0]).enough(), 1);
    }

    #[test]
    fn a_group_waits_for_as_many_as_the_last_had_and_now_and_then_for_more() {
        assert_eq!(after(&[40]).enough(), 40);
        let mut expectation = after(&[40; Expectation::SOON as usize]);
        assert!(expectation.is_trying() && expectation.enough() == 51);
        expectation.gathered(51);
        assert!(expectation.is_trying() && expectation.enough() == 64, "it goes on while more come");
        expectation.gathered(51);
        assert!(!expectation.is_trying() && expectation.enough() == 51, "and stops when no more come");
    }

    #[test]
    fn it_tries_less_often_each_time_that_no_more_came_and_never_stops_trying() {
        let mut expectation = after(&[40]);
        let mut between = Vec::new();
        for _ in 0..8 {
            let mut groups = 0;
            while !expectation.is_trying() {
                expectation.gathered(40);
                groups += 1;
                assert!(groups <= Expectation::SELDOM, "it tries again");
            }
            expectation.gathered(40);
            between.push(groups);
        }
        assert!(between.is_sorted() && between.last() == Some(&Expectation::SELDOM), "{between:?}");
    }
}

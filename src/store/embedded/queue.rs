//! What waits for the writer.
//!
//! Submissions wait behind a gate until whoever else is about to submit has done so: a writer that took each as it came
//! would sync a handful at a time, and the syncs and the switching between threads would cost more than the messages.
//! The gate is opened from inside the runtime, by the first to submit to an idle writer or by the task that answers a
//! group, once all tasks that could run have run and none of them submitted. That takes microseconds where nobody else
//! has anything to do, so a lone submission waits for nobody, and five milliseconds at most.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tokio::{runtime::Handle, sync::oneshot, task::yield_now};
use tracing::Span;

use super::index::{Hash, KeyHash};
use crate::{
    domain::{Error, Fingerprint, KeyId, KeyRecord, MessageKey, Timestamp},
    store::{Outcome, record::Draft},
};

/// The place where an answer is awaited.
pub type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// A group that the gate keeps waiting no longer, whoever else may come: the share of each message in what a sync costs
/// is small by then.
const ENOUGH: usize = 192;
/// For how long the gate waits for others at most: on a machine that is busy with something else they may come one by one.
const PATIENCE: Duration = Duration::from_millis(5);

/// A message that was not found among the durable ones.
pub struct Submission {
    pub key: MessageKey,
    pub hash: KeyHash,
    pub sender: Hash,
    pub fingerprint: Fingerprint,
    pub draft: Draft,
    /// `None` for a message that is accepted now.
    pub import: Option<Import>,
    /// All messages up to this sequence were looked through in vain.
    pub checked: u64,
    pub reply: Reply<Outcome>,
    /// Where the caller waits.
    pub runtime: Handle,
    /// The span that it waits in, if it is traced.
    pub span: Span,
}

/// What an imported message brings with it.
#[derive(Debug, Clone, Copy)]
pub struct Import {
    pub accepted_at: Timestamp,
    pub in_feed: bool,
}

/// Anything else that only the writer may do.
pub enum Order {
    CreateKey(Box<KeyRecord>, Reply<()>),
    RevokeKey(KeyId, Timestamp, Reply<Option<KeyRecord>>),
    TouchKeys(Vec<(KeyId, Timestamp)>, Reply<()>),
    /// Forgets what is past its retention; answers the oldest retained sequence.
    Retain(std::sync::mpsc::Sender<Result<u64, Error>>),
}

/// All that waited when the writer looked.
#[derive(Default)]
pub struct Work {
    pub submissions: Vec<Submission>,
    pub orders: Vec<Order>,
    /// Nothing will follow.
    pub closed: bool,
}

/// Bounded by count and by bytes; the writer takes everything at once.
pub struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    capacity: usize,
    capacity_bytes: usize,
}

#[derive(Default)]
struct State {
    work: Work,
    bytes: usize,
    /// Whether the writer sleeps: only then does it cost a system call to wake it.
    idle: bool,
    /// Whether somebody is about to open the gate: an [`Opening`] exists.
    opening: bool,
}

/// The duty to open the gate; done when it is dropped, so that it is done however a task ends.
#[must_use = "dropped at once it lets the writer take a submission before the others have come"]
pub struct Opening(Arc<Queue>);

impl Opening {
    /// Lets every other task that can run do so, again for as long as that brings more submissions, then opens the gate.
    pub async fn open_after_others(self) {
        self.0.gather(PATIENCE).await;
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.opening = false;
        if !state.work.submissions.is_empty() {
            self.0.wake(state);
        }
    }
}

impl Queue {
    pub fn new(capacity: usize, capacity_bytes: usize) -> Self {
        Self { state: Mutex::default(), wake: Condvar::new(), capacity, capacity_bytes }
    }

    /// Lets a submission wait, or says why it cannot. The first that waits for an idle writer has to open the gate.
    pub fn submit(self: &Arc<Self>, submission: Submission) -> Result<Option<Opening>, Error> {
        let bytes = submission.draft.len();
        let mut state = self.state.lock();
        if state.work.closed {
            return Err(closed());
        }
        if state.work.submissions.len() >= self.capacity || state.bytes > self.capacity_bytes {
            return Err(Error::store_unavailable("too many submissions wait for the disk"));
        }
        state.bytes += bytes;
        state.work.submissions.push(submission);
        let is_first = state.idle && !state.opening;
        drop(state);
        Ok(is_first.then(|| self.opening()))
    }

    /// Returns when a round of all tasks that can run brought no submission, when enough wait, or out of patience.
    async fn gather(&self, patience: Duration) {
        let began = Instant::now();
        let mut before = self.waiting();
        loop {
            yield_now().await;
            let waiting = self.waiting();
            if waiting == before || waiting >= ENOUGH || began.elapsed() >= patience {
                return;
            }
            before = waiting;
        }
    }

    /// Submissions that wait.
    fn waiting(&self) -> usize {
        self.state.lock().work.submissions.len()
    }

    /// Shuts the gate until what is returned opens it.
    pub fn opening(self: &Arc<Self>) -> Opening {
        self.state.lock().opening = true;
        Opening(Arc::clone(self))
    }

    /// Lets an order wait.
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
        let waiting = std::mem::take(&mut state.work);
        state.work.closed = true;
        drop(state);
        drop(waiting);
    }

    /// Waits for work and swaps it for `work`, whose vectors are used again. Orders and the end wait for no gate.
    pub fn take(&self, work: &mut Work) {
        work.submissions.clear();
        work.orders.clear();
        let mut state = self.state.lock();
        let nothing = |state: &State| state.work.submissions.is_empty() || state.opening;
        while nothing(&state) && state.work.orders.is_empty() && !state.work.closed {
            state.idle = true;
            self.wake.wait(&mut state);
            state.idle = false;
        }
        state.bytes = 0;
        work.closed = state.work.closed;
        std::mem::swap(&mut state.work, work);
        state.work.closed = work.closed;
    }

    fn wake(&self, mut state: parking_lot::MutexGuard<'_, State>) {
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        if idle {
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
    state: Mutex<BellState>,
    wake: Condvar,
}

#[derive(Default, Clone, Copy)]
struct BellState {
    rung: bool,
    closed: bool,
}

impl Bell {
    /// Wakes the sleeper, now or when it next goes to sleep.
    pub fn ring(&self) {
        self.state.lock().rung = true;
        self.wake.notify_all();
    }

    /// Wakes the sleeper for the last time.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_all();
    }

    /// Sleeps until rung or for `duration`; `false` when closed.
    pub fn sleep(&self, duration: Duration) -> bool {
        let deadline = Instant::now() + duration;
        let mut state = self.state.lock();
        while !state.rung && !state.closed {
            if self.wake.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        state.rung = false;
        !state.closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{Content, Environment, FromId, MessageSid, NewMessage, OrgId},
        store::embedded::index,
    };

    fn submission(number: usize) -> Submission {
        let key = MessageKey {
            org: OrgId::new("acme").expect("valid"),
            env: Environment::Dev,
            sid: MessageSid::new(format!("msg_{number}")).expect("valid"),
        };
        let content = Content {
            from_id: FromId::new("user").expect("valid"),
            timestamp: Timestamp::from_micros(1).expect("a time"),
            body: None,
            media: None,
        };
        let message = NewMessage::new(key, content);
        Submission {
            hash: index::key_hash(message.key()),
            sender: Hash::default(),
            fingerprint: *message.fingerprint(),
            draft: Draft::new(&message),
            key: message.into_key(),
            import: None,
            checked: 0,
            reply: oneshot::channel().0,
            runtime: Handle::current(),
            span: Span::none(),
        }
    }

    const FOR_EVER: Duration = Duration::from_hours(1);

    #[tokio::test]
    async fn submissions_that_follow_one_another_are_let_in_together() {
        let queue = Arc::new(Queue::new(1000, usize::MAX));
        for rounds in 0..20 {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move {
                for _ in 0..rounds {
                    yield_now().await;
                }
                queue.submit(submission(rounds)).map(drop)
            });
        }
        queue.gather(FOR_EVER).await;
        assert_eq!(queue.waiting(), 20);
    }

    /// Submits until `queue` is full, once in each round of the scheduler; a round takes `busy` of other work.
    async fn submit_without_end(queue: Arc<Queue>, busy: Duration) {
        for number in 0.. {
            let began = Instant::now();
            while began.elapsed() < busy {
                std::hint::spin_loop();
            }
            if queue.submit(submission(number)).is_err() {
                return;
            }
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_gate_opens_though_there_is_no_end_of_submissions() {
        let queue = Arc::new(Queue::new(10 * ENOUGH, usize::MAX));
        tokio::spawn(submit_without_end(Arc::clone(&queue), Duration::ZERO));
        queue.gather(FOR_EVER).await;
        assert_eq!(queue.waiting(), ENOUGH);
    }

    #[tokio::test]
    async fn a_gate_opens_in_time_on_a_machine_that_is_busy_with_something_else() {
        let queue = Arc::new(Queue::new(ENOUGH, usize::MAX));
        let opening = queue.opening();
        tokio::spawn(submit_without_end(Arc::clone(&queue), PATIENCE / 4));
        opening.open_after_others().await;
        assert!((1..=5).contains(&queue.waiting()), "{}", queue.waiting());
        assert!(!queue.state.lock().opening);
    }
}

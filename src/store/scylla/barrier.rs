//! How far the resolver of a slot has begun, read after both references of an attempt are acknowledged.
//!
//! The read must begin after the acknowledgements, or the resolver could begin a scan in between that does not see them.
//! Whoever comes while a read is under way therefore waits for the next one, and all who wait share it.

use std::{mem, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::{Instrument as _, Span};

use super::{error::Failed, ticks::Ticks};
use crate::telemetry::trace;

type Answer = Result<Ticks, Failed>;

/// The shared reads of one slot.
#[derive(Default)]
pub struct Barrier {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Somebody reads, and will look at `waiting` when that read is done.
    reading: bool,
    waiting: Vec<oneshot::Sender<Answer>>,
}

impl Barrier {
    /// What a read gives that begins after this call. `read` may be called for others too, or not at all.
    ///
    /// # Errors
    /// As the read's; the caller asks again, or gives up.
    pub async fn after_now<F, R>(self: &Arc<Self>, read: R) -> Answer
    where
        F: Future<Output = Answer> + Send,
        R: Fn() -> F + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let begin = {
            let mut state = self.state.lock();
            state.waiting.push(reply);
            !mem::replace(&mut state.reading, true)
        };
        if begin {
            let turn = Turn(Arc::clone(self));
            // The read is in the trace of who waits first; those that follow are of nobody in particular, and to hold on to
            // this span for them would keep it from ending.
            let mut span = trace::here();
            tokio::spawn(async move {
                while let Some(waiting) = turn.next() {
                    let answer = read().instrument(mem::replace(&mut span, Span::none())).await;
                    for reply in waiting {
                        // Whoever has gone needs no answer.
                        let _ = reply.send(answer.clone());
                    }
                }
            });
        }
        answer.await.unwrap_or_else(|_| Err(Failed::unclear("the read of the resolver's mark ended")))
    }
}

/// The right to read for a slot. Given back however the reading ends.
struct Turn(Arc<Barrier>);

impl Turn {
    /// Those who wait for the next read; `None` gives the turn back.
    fn next(&self) -> Option<Vec<oneshot::Sender<Answer>>> {
        let mut state = self.0.state.lock();
        if state.waiting.is_empty() {
            state.reading = false;
            return None;
        }
        Some(mem::take(&mut state.waiting))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        // After a panic: they ask again.
        if state.reading && std::thread::panicking() {
            state.reading = false;
            state.waiting.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    struct Slow {
        barrier: Arc<Barrier>,
        /// One permit a read.
        gate: Arc<Semaphore>,
        begun: Arc<AtomicI64>,
    }

    impl Slow {
        fn new() -> Self {
            Self { barrier: Arc::default(), gate: Arc::new(Semaphore::new(0)), begun: Arc::default() }
        }

        /// A caller; it is told the number of the read that it shared.
        fn call(&self) -> tokio::task::JoinHandle<Answer> {
            let (barrier, gate, begun) = (Arc::clone(&self.barrier), Arc::clone(&self.gate), Arc::clone(&self.begun));
            tokio::spawn(async move {
                let read = move || {
                    let (gate, begun) = (Arc::clone(&gate), Arc::clone(&begun));
                    async move {
                        let number = begun.fetch_add(1, Ordering::SeqCst) + 1;
                        gate.acquire().await.expect("open").forget();
                        if number == 13 {
                            panic!("a bug");
                        }
                        Ok(number)
                    }
                };
                barrier.after_now(read).await
            })
        }

        async fn until_begun(&self, number: i64) {
            while self.begun.load(Ordering::SeqCst) < number {
                tokio::task::yield_now().await;
            }
        }

        async fn until_waiting(&self, count: usize) {
            while self.barrier.state.lock().waiting.len() < count {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn who_comes_during_a_read_is_given_the_next_one_and_shares_it() {
        let slow = Slow::new();
        let first = slow.call();
        slow.until_begun(1).await;
        let others = [slow.call(), slow.call(), slow.call()];
        slow.until_waiting(3).await;
        slow.gate.add_permits(1);
        assert_eq!(first.await.expect("no panic"), Ok(1));
        slow.gate.add_permits(1);
        for other in others {
            assert_eq!(other.await.expect("no panic"), Ok(2));
        }
        slow.gate.add_permits(1);
        assert_eq!(slow.call().await.expect("no panic"), Ok(3));
    }

    #[tokio::test]
    async fn a_panic_fails_those_who_waited_and_nobody_after_them() {
        let slow = Slow::new();
        slow.begun.store(12, Ordering::SeqCst);
        slow.gate.add_permits(2);
        assert!(slow.call().await.expect("no panic of the caller").is_err());
        assert_eq!(slow.call().await.expect("no panic"), Ok(14));
    }

    #[tokio::test]
    async fn a_caller_that_leaves_does_not_stop_the_read_of_the_others() {
        let slow = Slow::new();
        let first = slow.call();
        slow.until_begun(1).await;
        let second = slow.call();
        slow.until_waiting(1).await;
        first.abort();
        slow.gate.add_permits(2);
        assert_eq!(second.await.expect("no panic"), Ok(2));
    }
}

//! The socket of a connection that may not cost more than its limits: reads and writes that make no progress end it.

use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
    task::coop,
    time::{Instant, Sleep},
};

use super::{ConnectionLimits, activity::Activity};

/// Of what is read for each unit of a task's budget, which has 128: some 16 KiB are worked at in one turn, or what one read gave.
const BYTES_A_UNIT: usize = 128;

/// What happens when no request was in flight for too long.
pub(super) enum WhenIdle {
    /// HTTP/1.1: reading fails, which closes the connection.
    Fail,
    /// HTTP/2: the sender is dropped, and the connection says GOAWAY. The frames of an idle connection (PING) do not
    /// begin a request.
    Tell { _until_dropped: oneshot::Sender<Infallible> },
    /// It was told.
    Told,
}

/// For what a read waits while no request is in flight.
#[derive(Clone, Copy)]
enum Waiting {
    /// For a first byte, since then.
    Request(Instant),
    /// For the rest of a head whose first bytes came then.
    Head(Instant),
}

pub(super) struct Guarded<IO> {
    io: IO,
    /// What was read to find out the protocol.
    read: Bytes,
    limits: Arc<ConnectionLimits>,
    activity: Arc<Activity>,
    when_idle: WhenIdle,
    waiting: Option<Waiting>,
    /// [`Activity::started`] when `waiting` was set.
    started: usize,
    read_timer: Timer,
    write_since: Option<Instant>,
    write_timer: Timer,
    linger_since: Option<Instant>,
}

impl<IO> Guarded<IO> {
    pub(super) fn new(
        io: IO,
        read: Bytes,
        limits: Arc<ConnectionLimits>,
        activity: Arc<Activity>,
        when_idle: WhenIdle,
    ) -> Self {
        Self {
            io,
            read,
            limits,
            activity,
            when_idle,
            waiting: None,
            started: 0,
            read_timer: Timer(None),
            write_since: None,
            write_timer: Timer(None),
            linger_since: None,
        }
    }

    /// Called after each read that gave bytes.
    fn progressed(&mut self) {
        self.forget_what_began();
        let begins_a_head = !matches!(self.waiting, Some(Waiting::Head(_))) && self.activity.in_flight() == 0;
        if begins_a_head && matches!(self.when_idle, WhenIdle::Fail) {
            self.waiting = Some(Waiting::Head(Instant::now()));
        }
    }

    /// Called when a read must wait; an error when it has waited long enough.
    fn stalled(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.forget_what_began();
        if self.activity.in_flight() > 0 {
            // Whoever reads the body has its own deadline.
            self.waiting = None;
            return Ok(());
        }
        let waiting = *self.waiting.get_or_insert_with(|| Waiting::Request(Instant::now()));
        let deadline = match waiting {
            Waiting::Request(since) => since + self.limits.idle_timeout,
            Waiting::Head(since) => since + self.limits.header_timeout,
        };
        match self.when_idle {
            WhenIdle::Told => {}
            WhenIdle::Fail => {
                if self.read_timer.poll(deadline, cx).is_ready() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            WhenIdle::Tell { .. } => {
                if self.read_timer.poll(deadline, cx).is_ready() {
                    self.when_idle = WhenIdle::Told;
                }
            }
        }
        Ok(())
    }

    /// A request that began since the last look ended the wait for it, even when it is answered by now.
    fn forget_what_began(&mut self) {
        let started = self.activity.started();
        if self.started != started {
            self.started = started;
            self.waiting = None;
        }
    }

    /// Passes a write's result on; one that must wait too long is an error.
    fn watch_write<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.write_since = None;
            return result;
        }
        let since = *self.write_since.get_or_insert_with(Instant::now);
        ready!(self.write_timer.poll(since + self.limits.write_timeout, cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guarded<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.read.has_remaining() {
            let amount = this.read.len().min(buffer.remaining());
            buffer.put_slice(&this.read.split_to(amount));
            this.progressed();
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        match Pin::new(&mut this.io).poll_read(cx, buffer) {
            Poll::Ready(result) => {
                this.progressed();
                let read = buffer.filled().len().saturating_sub(before);
                pay(read, cx);
                Poll::Ready(result)
            }
            Poll::Pending => match this.stalled(cx) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            },
        }
    }
}

/// Takes what `read` bytes cost from what the task may do before others have their turn. Tokio counts reads, however much
/// they give: a flood of small frames would keep a thread for a hundred thousand of them.
fn pay(read: usize, cx: &mut Context<'_>) {
    for _ in 0..read / BYTES_A_UNIT {
        match coop::poll_proceed(cx) {
            Poll::Ready(unit) => unit.made_progress(),
            // The next read finds nothing left, and the task is woken for it.
            Poll::Pending => return,
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.watch_write(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.watch_write(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_flush(cx);
        self.watch_write(cx, result)
    }

    /// Ends the sending side, then reads what still comes and drops it: closing a socket with unread bytes would reset
    /// the connection, and the client might lose the answer (413, 401) that it was given before it had sent all.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let since = match this.linger_since {
            Some(since) => since,
            None => {
                let result = Pin::new(&mut this.io).poll_shutdown(cx);
                ready!(this.watch_write(cx, result))?;
                *this.linger_since.insert(Instant::now())
            }
        };
        let mut scratch = [0_u8; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut this.io).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    if since.elapsed() >= this.limits.linger {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending if this.activity.is_draining() => return Poll::Ready(Ok(())),
                Poll::Pending => {
                    ready!(this.write_timer.poll(since + this.limits.linger, cx));
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

/// A timer that is armed as rarely as possible: a deadline that moves away costs nothing until the old one passes.
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            // One more millisecond than asked for: the timer's grain, which would make this loop spin.
            if Instant::now() + Duration::from_millis(1) >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_that_always_has_more_to_read_lets_others_have_their_turn() {
        let limits = Arc::new(ConnectionLimits::default());
        let endless = tokio::io::repeat(0);
        let mut guarded = Guarded::new(endless, Bytes::new(), limits, Arc::default(), WhenIdle::Fail);
        let mut scratch = vec![0; 8192];
        // A turn of its own, with all that a task may do in one.
        let read = tokio::spawn(std::future::poll_fn(move |cx| {
            let mut read = 0;
            while coop::has_budget_remaining() && read < 1 << 30 {
                let mut buffer = ReadBuf::new(&mut scratch);
                assert!(Pin::new(&mut guarded).poll_read(cx, &mut buffer).is_ready());
                read += buffer.filled().len();
            }
            Poll::Ready(read)
        }));
        let read = read.await.expect("no panic");
        assert!((8 << 10..=32 << 10).contains(&read), "{read} bytes in one turn");
    }
}

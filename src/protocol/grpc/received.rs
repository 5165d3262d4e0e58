//! The bytes of a call that are on their way: counted for whoever sends them, and waited for no longer than a body of HTTP.

use std::{
    error::Error as StdError,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use super::{Parts, refuse};
use crate::{
    domain::Error,
    protocol::call::{Failure, Report},
    service::{Call, Flow, Held},
};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};

type BoxError = Box<dyn StdError + Send + Sync>;

pin_project! {
    /// A request's body. What it fails with is a status of ours, logged and counted.
    pub struct Received<B> {
        #[pin]
        body: B,
        // `None` at the end.
        watch: Option<Watch>,
    }
}

/// What is known of the message that is on its way.
struct Watch {
    held: Held,
    /// For how long one message is waited for.
    timeout: Duration,
    call: Call,
    report: Arc<Report>,
    at: At,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// Where in the framing: a flag and four bytes of length before each message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Prefix { seen: usize, length: usize },
    Message { left: usize },
}

impl At {
    const BEGIN: At = At::Prefix { seen: 0, length: 0 };

    /// Where it is after `data`.
    fn after(mut self, mut data: &[u8]) -> Self {
        while let Some((first, rest)) = data.split_first() {
            match self {
                At::Prefix { seen: 0, .. } => (self, data) = (At::Prefix { seen: 1, length: 0 }, rest),
                At::Prefix { seen, length } => {
                    let length = (length << 8) | usize::from(*first);
                    (self, data) = (At::Prefix { seen: seen + 1, length }, rest);
                    if seen == 4 {
                        self = if length == 0 { At::BEGIN } else { At::Message { left: length } };
                    }
                }
                At::Message { left } => match data.split_at_checked(left) {
                    Some((_, rest)) => (self, data) = (At::BEGIN, rest),
                    None => return At::Message { left: left - data.len() },
                },
            }
        }
        self
    }
}

impl<B> Received<B> {
    pub(super) fn new(body: B, parts: &Parts, call: &Call) -> Self {
        let watch = Watch {
            held: parts.service.bodies().share(call.caller().ok().cloned()),
            timeout: parts.body_timeout,
            call: call.clone(),
            report: Arc::clone(&parts.report),
            at: At::BEGIN,
            sleep: None,
        };
        Self { body, watch: Some(watch) }
    }
}

impl Watch {
    /// Messages may come at any time, as in streams; else the whole request is one.
    fn may_pause(&self) -> bool {
        self.call.route.flow == Flow::Both
    }

    fn came(&mut self, data: &[u8]) -> Result<(), Error> {
        self.held.grow(data.len())?;
        self.at = self.at.after(data);
        if self.at == At::BEGIN {
            // What is decoded now is counted where it goes on.
            self.held.arrived()?;
            self.held.clear();
            if self.may_pause() {
                self.sleep = None;
            }
        }
        Ok(())
    }

    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        if self.may_pause() && self.at == At::BEGIN {
            return Poll::Pending;
        }
        if let Poll::Ready(error) = self.held.poll_waiting(cx) {
            return Poll::Ready(error.into());
        }
        let timeout = self.timeout;
        ready!(self.sleep.get_or_insert_with(|| Box::pin(sleep(timeout))).as_mut().poll(cx));
        Poll::Ready(Failure::too_slow(timeout))
    }

    fn fail(&self, failure: Failure) -> BoxError {
        Box::new(refuse(&self.report, failure, &self.call))
    }
}

impl<B> HttpBody for Received<B>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        let Some(watch) = this.watch else { return Poll::Ready(None) };
        let failure: Failure = match this.body.poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => match frame.data_ref().map_or(Ok(()), |data| watch.came(data)) {
                Ok(()) => return Poll::Ready(Some(Ok(frame))),
                Err(error) => error.into(),
            },
            Poll::Ready(Some(Err(error))) => {
                *this.watch = None;
                return Poll::Ready(Some(Err(error.into())));
            }
            // The framework takes the end right behind a prefix for a good one.
            Poll::Ready(None) if watch.at != At::BEGIN => Failure::not_protobuf(),
            Poll::Ready(None) => {
                *this.watch = None;
                return Poll::Ready(None);
            }
            Poll::Pending => ready!(watch.poll_waiting(cx)),
        };
        let failed = watch.fail(failure);
        *this.watch = None;
        Poll::Ready(Some(Err(failed)))
    }

    fn is_end_stream(&self) -> bool {
        self.watch.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_message_ends_is_known_however_the_bytes_come() {
        let two = [[0, 0, 0, 0, 3, 7, 7, 7].as_slice(), &[1, 0, 0, 1, 0], &[9; 256]].concat();
        for size in 1..two.len() {
            let ends = two.chunks(size).fold((At::BEGIN, 0), |(at, came), chunk| {
                let (at, came) = (at.after(chunk), came + chunk.len());
                assert_eq!(at == At::BEGIN, came == 8 || came == two.len(), "{came} in pieces of {size}");
                (at, came)
            });
            assert_eq!(ends, (At::BEGIN, two.len()));
        }
        assert_eq!(At::BEGIN.after(&[0; 5]), At::BEGIN);
        assert_eq!(At::BEGIN.after(&[0, 0xff, 0xff, 0xff, 0xff]), At::Message { left: 0xffff_ffff });
    }
}

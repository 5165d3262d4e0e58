//! What is left of a request's body when it is answered. Closing over it would break the connection under whatever comes
//! next on it, such as other callers' requests behind a proxy; and on HTTP/2 each stream that is reset under its sender
//! counts against the connection. So the rest is read away, where it is little, and the answer says so where it is not.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::{runtime::Handle, time::timeout};

/// Of a request on HTTP/1.1: what is worth reading to keep its connection.
const H1_BYTES: u64 = 64 * 1024;
/// Of a request on HTTP/2: what its sender can have on its way before it hears of the answer, which is hyper's window.
const H2_BYTES: u64 = 1024 * 1024;

/// The body of a request, as a listener's service is given it. Where it is dropped before its end, the connection has the
/// rest.
#[derive(Debug)]
pub struct RequestBody {
    body: Option<Incoming>,
    was_asked_for: bool,
    /// `None` where there is nothing to read.
    rest: Option<Rest>,
}

/// Where a body is left that was dropped before its end.
#[derive(Debug, Clone, Default)]
pub(super) struct Rest(Arc<Mutex<Option<Unread>>>);

/// The rest of a body.
#[derive(Debug)]
pub(super) struct Unread {
    body: Incoming,
    was_asked_for: bool,
}

impl RequestBody {
    /// `body`, and where its rest will be.
    pub(super) fn new(body: Incoming) -> (Self, Option<Rest>) {
        let rest = (!body.is_end_stream()).then(Rest::default);
        (Self { body: Some(body), was_asked_for: false, rest: rest.clone() }, rest)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.was_asked_for = true;
        let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let (Some(body), Some(rest)) = (self.body.take(), &self.rest)
            && !body.is_end_stream()
        {
            *rest.0.lock() = Some(Unread { body, was_asked_for: self.was_asked_for });
        }
    }
}

impl Rest {
    /// The rest, once the body was dropped.
    pub(super) fn take(&self) -> Option<Unread> {
        self.0.lock().take()
    }
}

impl Unread {
    /// Whether there may be so little that HTTP/1.1 should wait for it. Who waits for `100 Continue` sends nothing before,
    /// and perhaps nothing after the answer: then nobody knows where the next request begins.
    pub(super) fn may_be_little(&self, expects_continue: bool) -> bool {
        self.body.size_hint().lower() <= H1_BYTES && (self.was_asked_for || !expects_continue)
    }

    /// Reads the rest away; whether that was all of it.
    pub(super) async fn read_away(self, time: Duration) -> bool {
        self.read_up_to(H1_BYTES, time).await
    }

    /// Reads the rest away without anybody waiting for it, on HTTP/2. What then is left is reset with NO_ERROR.
    pub(super) fn read_away_behind(self, time: Duration) {
        // Without a runtime there is no connection any more.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(self.read_up_to(H2_BYTES, time));
        }
    }

    async fn read_up_to(mut self, most: u64, time: Duration) -> bool {
        let reading = async {
            let mut left = most;
            while let Some(frame) = self.body.frame().await {
                let Ok(frame) = frame else { return false };
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                match left.checked_sub(bytes) {
                    Some(fewer) => left = fewer,
                    None => return false,
                }
            }
            true
        };
        timeout(time, reading).await.unwrap_or(false)
    }
}

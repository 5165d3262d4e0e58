//! How a connection knows whether a request is in flight on it, and what becomes of a body that was not read.

use std::{
    convert::Infallible,
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{
    HeaderValue, Request, Response, Version,
    header::{CONNECTION, EXPECT},
};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower::Service;

use super::{
    client::TrustedProxies,
    unread::{RequestBody, Rest},
};
use crate::domain::{ClientCertificate, OverTls};

/// Shared by a connection's socket and its requests.
#[derive(Debug, Default)]
pub(super) struct Activity {
    in_flight: AtomicUsize,
    started: AtomicUsize,
    draining: AtomicBool,
}

impl Activity {
    /// Requests whose answer is not fully handed to the connection yet.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Requests so far; wraps.
    pub(super) fn started(&self) -> usize {
        self.started.load(Ordering::Relaxed)
    }

    /// Returns when no request was in flight for `period`.
    pub(super) async fn idle_for(&self, period: Duration) {
        let mut ticks = tokio::time::interval(period / 4);
        let (mut seen, mut idle_since) = (self.started(), Instant::now());
        loop {
            let now = ticks.tick().await;
            if self.in_flight() > 0 || self.started() != seen {
                (seen, idle_since) = (self.started(), now);
            } else if now.duration_since(idle_since) >= period {
                return;
            }
        }
    }

    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// One request in flight, until it is dropped.
struct InFlight(Arc<Activity>);

impl InFlight {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.in_flight.fetch_add(1, Ordering::Relaxed);
        activity.started.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A service whose requests count as activity of their connection.
pub(super) struct Counted<S> {
    pub(super) service: S,
    pub(super) activity: Arc<Activity>,
    /// For how long the rest of a body is read after its request was answered.
    pub(super) linger: Duration,
    /// For whoever asks who calls.
    pub(super) client: Client,
}

/// What is known of a connection's client.
pub(super) struct Client {
    pub(super) peer: IpAddr,
    pub(super) proxies: TrustedProxies,
    pub(super) is_tls: bool,
    pub(super) certificate: Option<Arc<ClientCertificate>>,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Counted<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Clone,
{
    type Response = Response<CountedBody<B>>;
    type Error = Infallible;
    type Future = CountedFuture<S::Future, B>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let in_flight = InFlight::begin(&self.activity);
        let is_h2 = request.version() == Version::HTTP_2;
        let expects_continue = request.headers().contains_key(EXPECT);
        let address = self.client.proxies.client_of(self.client.peer, &request);
        let (mut head, body) = request.into_parts();
        head.extensions.insert(address);
        if self.client.is_tls {
            head.extensions.insert(OverTls);
        }
        if let Some(certificate) = &self.client.certificate {
            head.extensions.insert(Arc::clone(certificate));
        }
        let (body, rest) = RequestBody::new(body);
        let inner = Some(self.service.clone().call(Request::from_parts(head, body)));
        let rest = rest.map(|rest| Left { rest, linger: self.linger, is_h2, expects_continue });
        CountedFuture { inner, reading: None, in_flight: Some(in_flight), rest }
    }
}

/// What may be left of a request's body, and what is known for dealing with it.
struct Left {
    rest: Rest,
    linger: Duration,
    is_h2: bool,
    expects_continue: bool,
}

/// On HTTP/2 an answer need not wait: the rest is read behind it, after the service is done with the body.
struct ReadBehind(Left);

impl Drop for ReadBehind {
    fn drop(&mut self) {
        if let Some(unread) = self.0.rest.take() {
            unread.read_away_behind(self.0.linger);
        }
    }
}

type Reading = Pin<Box<dyn Future<Output = bool> + Send>>;

pin_project! {
    pub(super) struct CountedFuture<F, B> {
        #[pin]
        inner: Option<F>,
        // On HTTP/1.1, while the answer waits for the rest of the body: whether the connection is in step comes first. Apart,
        // because it is rare and what waits for the disk is to be small.
        reading: Option<Box<(Reading, Response<B>)>>,
        in_flight: Option<InFlight>,
        rest: Option<Left>,
    }
}

impl<F, B> Future for CountedFuture<F, B>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<CountedBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let mut response = match this.inner.as_mut().as_pin_mut() {
            Some(inner) => {
                let Ok(response) = ready!(inner.poll(cx));
                // With all that it may still hold of the body.
                this.inner.set(None);
                response
            }
            None => match this.reading.take() {
                Some(mut waiting) => {
                    let Poll::Ready(is_all) = waiting.0.as_mut().poll(cx) else {
                        *this.reading = Some(waiting);
                        return Poll::Pending;
                    };
                    let (_, mut response) = *waiting;
                    if !is_all {
                        response.headers_mut().insert(CONNECTION, CLOSE);
                    }
                    response
                }
                // Polled after its end.
                None => return Poll::Pending,
            },
        };
        if let Some(left) = this.rest.take_if(|left| !left.is_h2)
            && response.headers().get(CONNECTION) != Some(&CLOSE)
            && let Some(unread) = left.rest.take()
        {
            if unread.may_be_little(left.expects_continue) {
                let mut reading: Reading = Box::pin(unread.read_away(left.linger));
                match reading.as_mut().poll(cx) {
                    Poll::Pending => {
                        *this.reading = Some(Box::new((reading, response)));
                        return Poll::Pending;
                    }
                    Poll::Ready(true) => {}
                    Poll::Ready(false) => drop(response.headers_mut().insert(CONNECTION, CLOSE)),
                }
            } else {
                response.headers_mut().insert(CONNECTION, CLOSE);
            }
        }
        let in_flight = this.in_flight.take();
        let behind = this.rest.take().map(ReadBehind);
        Poll::Ready(Ok(response.map(|inner| CountedBody { inner, _behind: behind, _in_flight: in_flight })))
    }
}

const CLOSE: HeaderValue = HeaderValue::from_static("close");

pin_project! {
    /// A response body; the request is in flight until it is dropped.
    pub(super) struct CountedBody<B> {
        #[pin]
        inner: B,
        // Dropped after `inner`, which may hold the request's body.
        _behind: Option<ReadBehind>,
        _in_flight: Option<InFlight>,
    }
}

impl<B: Body> Body for CountedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.project().inner.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

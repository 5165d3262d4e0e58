//! What the framework refuses before a method is called (a message that is no protobuf or too large to hold, an
//! unknown method) is told like everything else: with the codes of the table and with details.

use std::{
    convert::Infallible,
    error::Error as StdError,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tonic::{Code, Status, body::Body};
use tower::Service;

use super::{
    REFLECTION, SUBMIT_STREAM,
    received::{At, Received, Watch},
};
use crate::{
    domain::{Error, Kind},
    protocol::call::{Edge, RequestId, Route},
    service::{Bodies, Caller},
};

/// See the module.
#[derive(Clone)]
pub struct Framed<S> {
    inner: S,
    edge: Arc<Edge<Body>>,
    bodies: Arc<Bodies>,
    body_timeout: Duration,
}

impl<S> Framed<S> {
    pub(super) fn new(inner: S, edge: Arc<Edge<Body>>, bodies: Arc<Bodies>, body_timeout: Duration) -> Self {
        Self { inner, edge, bodies, body_timeout }
    }
}

impl<S, R> Service<Request<R>> for Framed<S>
where
    S: Service<Request<Received<R>>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Framing<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let id = RequestId::of(request.headers());
        let route = (self.edge.route_of)(request.uri().path());
        let edge = Arc::clone(&self.edge);
        let watch = Watch {
            held: self.bodies.share(request.extensions().get::<Caller>().cloned()),
            timeout: self.body_timeout,
            // Reflection's one call is a stream of requests.
            may_pause: route == SUBMIT_STREAM || route == REFLECTION,
            edge: Arc::clone(&edge),
            route,
            id: id.clone(),
            at: At::BEGIN,
            sleep: None,
        };
        let request = request.map(|body| Received::new(body, watch));
        Framing { inner: self.inner.call(request), id, route, edge }
    }
}

pin_project! {
    /// The answer, once there is one.
    pub struct Framing<F> {
        #[pin]
        inner: F,
        id: RequestId,
        route: Route,
        edge: Arc<Edge<Body>>,
    }
}

impl<F> Future for Framing<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(response) = ready!(this.inner.poll(cx));
        let error = refusal(&response, *this.route);
        Poll::Ready(Ok(match error {
            Some(error) => this.edge.reject(&error, *this.route, this.id),
            None => response,
        }))
    }
}

/// The error behind an answer that is the framework's own. Those of our methods carry details.
fn refusal(response: &Response<Body>, route: Route) -> Option<Error> {
    let headers = response.headers();
    let code = Code::from_bytes(headers.get(Status::GRPC_STATUS)?.as_bytes());
    let is_ours = headers.contains_key(Status::GRPC_STATUS_DETAILS);
    // Health and reflection are others' protocols, with their own words.
    let is_foreign = route.scope.is_none() && route != Route::NONE;
    if is_ours || is_foreign {
        return None;
    }
    if code == Code::Unimplemented && route == Route::NONE {
        return Some(Error::new(
            Kind::NotFound,
            "There is no such method; server reflection lists those that there are",
        ));
    }
    of_code(code)
}

/// What to say of what was read of a stream of messages where a message should be: an error that is not told yet, or a status
/// of ours that is. `None` where the connection broke: that is nobody's mistake, and nobody hears the answer.
pub(super) fn unreadable(status: Status) -> Option<Result<Error, Status>> {
    if !status.details().is_empty() {
        Some(Err(status))
    } else if StdError::source(&status).is_some() {
        None
    } else {
        of_code(status.code()).map(Ok)
    }
}

fn of_code(code: Code) -> Option<Error> {
    match code {
        Code::Ok | Code::Cancelled => None,
        Code::Unimplemented => {
            Some(Error::new(Kind::UnsupportedContentEncoding, "Send the message without compression"))
        }
        Code::OutOfRange | Code::ResourceExhausted => {
            Some(Error::new(Kind::BodyTooLarge, "The message is too large; send a shorter one"))
        }
        // Where a stream of bytes does not decode, tonic says INTERNAL, or UNKNOWN where it breaks off.
        Code::Internal | Code::Unknown => {
            Some(Error::new(Kind::InvalidArgument, "The request is not one valid protobuf message of this method"))
        }
        other @ (Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated) => Some(Error::internal(format!("the framework answered {other:?}"))),
    }
}

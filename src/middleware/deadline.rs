//! The caller's deadline (`grpc-timeout`): when it passes, the call is answered DEADLINE_EXCEEDED. What was handed to
//! the store goes on, and the caller learns its outcome by repeating the call.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, Request, Response};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tower::{Layer, Service};

use crate::protocol::call::{Deadline, Edge, RequestId, Route};

/// See the module.
pub(super) struct DeadlineLayer<B>(Arc<Edge<B>>);

impl<B> DeadlineLayer<B> {
    pub(super) fn new(edge: &Arc<Edge<B>>) -> Self {
        Self(Arc::clone(edge))
    }
}

pub(super) struct Bounded<S, B> {
    inner: S,
    edge: Arc<Edge<B>>,
}

// Derived, it would ask for a body that can be cloned.
impl<S: Clone, B> Clone for Bounded<S, B> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), edge: Arc::clone(&self.edge) }
    }
}

impl<S, B> Layer<S> for DeadlineLayer<B> {
    type Service = Bounded<S, B>;

    fn layer(&self, inner: S) -> Self::Service {
        Bounded { inner, edge: Arc::clone(&self.0) }
    }
}

impl<S, R, B> Service<Request<R>> for Bounded<S, B>
where
    S: Service<Request<R>, Response = Response<B>, Error = Infallible>,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = Bounding<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<R>) -> Self::Future {
        let end = timeout_of(request.headers()).map(|timeout| {
            // For methods whose answer is a stream: that has to end, too.
            let at = Instant::now() + timeout;
            request.extensions_mut().insert(Deadline(at));
            let id = RequestId::of(request.headers());
            let route = (self.edge.route_of)(request.uri().path());
            End { edge: Arc::clone(&self.edge), id, route, sleep: Box::pin(tokio::time::sleep_until(at)) }
        });
        Bounding { inner: self.inner.call(request), end }
    }
}

struct End<B> {
    edge: Arc<Edge<B>>,
    id: RequestId,
    route: Route,
    sleep: Pin<Box<Sleep>>,
}

pin_project! {
    pub(super) struct Bounding<F, B> {
        #[pin]
        inner: F,
        end: Option<End<B>>,
    }
}

impl<F, B> Future for Bounding<F, B>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(answer) = this.inner.poll(cx) {
            return Poll::Ready(answer);
        }
        let Some(end) = this.end else { return Poll::Pending };
        if end.sleep.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(Ok(end.edge.reject(&Deadline::error(), end.route, &end.id)))
    }
}

/// `grpc-timeout`: at most eight digits and a unit. Anything else is no deadline, as in gRPC's own libraries.
fn timeout_of(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_timeout_is_at_most_eight_digits_and_a_unit() {
        let of = |value: &'static str| {
            timeout_of(&HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-timeout"),
                HeaderValue::from_static(value),
            )]))
        };
        assert_eq!(of("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(of("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(of("3M"), Some(Duration::from_secs(180)));
        assert_eq!(of("4S"), Some(Duration::from_secs(4)));
        assert_eq!(of("5m"), Some(Duration::from_millis(5)));
        assert_eq!(of("6u"), Some(Duration::from_micros(6)));
        assert_eq!(of("7n"), Some(Duration::from_nanos(7)));
        for bad in ["", "S", "5", "-5S", "+5S", "100000000S", "5s", "5.5S"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}

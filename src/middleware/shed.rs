//! Refuses calls beyond a number that bounds what all of them together may cost.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{
    domain::{Error, Kind},
    protocol::call::{Edge, RequestId},
};

/// See the module.
pub(super) struct ShedLayer<B> {
    edge: Arc<Edge<B>>,
    gauge: Arc<Gauge>,
}

struct Gauge {
    in_flight: AtomicUsize,
    max: usize,
}

/// One call under way, until it is dropped.
struct Place(Arc<Gauge>);

impl<B> ShedLayer<B> {
    pub(super) fn new(edge: &Arc<Edge<B>>, max: usize) -> Self {
        Self { edge: Arc::clone(edge), gauge: Arc::new(Gauge { in_flight: AtomicUsize::new(0), max }) }
    }
}

impl Place {
    fn take(gauge: &Arc<Gauge>) -> Option<Self> {
        let place = Self(Arc::clone(gauge));
        // Counted before it is known to fit; if not, dropping the place takes it back.
        let before = gauge.in_flight.fetch_add(1, Ordering::Relaxed);
        (before < gauge.max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) struct Shed<S, B> {
    inner: S,
    edge: Arc<Edge<B>>,
    gauge: Arc<Gauge>,
}

// Derived, it would ask for a body that can be cloned.
impl<S: Clone, B> Clone for Shed<S, B> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), edge: Arc::clone(&self.edge), gauge: Arc::clone(&self.gauge) }
    }
}

impl<S, B> Layer<S> for ShedLayer<B> {
    type Service = Shed<S, B>;

    fn layer(&self, inner: S) -> Self::Service {
        Shed { inner, edge: Arc::clone(&self.edge), gauge: Arc::clone(&self.gauge) }
    }
}

impl<S, R, B> Service<Request<R>> for Shed<S, B>
where
    S: Service<Request<R>, Response = Response<B>, Error = Infallible>,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = Shedding<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let Some(place) = Place::take(&self.gauge) else {
            let error = Error::new(
                Kind::Overloaded,
                "The service has more requests under way than it can take; send again in a moment",
            )
            .with_retry_after(Duration::from_secs(1));
            let route = (self.edge.route_of)(request.uri().path());
            let refusal = self.edge.reject(&error, route, &RequestId::of(request.headers()));
            return Shedding { inner: None, refusal: Some(refusal), _place: None };
        };
        Shedding { inner: Some(self.inner.call(request)), refusal: None, _place: Some(place) }
    }
}

pin_project! {
    pub(super) struct Shedding<F, B> {
        #[pin]
        inner: Option<F>,
        refusal: Option<Response<B>>,
        _place: Option<Place>,
    }
}

impl<F, B> Future for Shedding<F, B>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(inner) = this.inner.as_pin_mut() {
            return Poll::Ready(ready!(inner.poll(cx)));
        }
        match this.refusal.take() {
            Some(refusal) => Poll::Ready(Ok(refusal)),
            // Polled after its end.
            None => Poll::Pending,
        }
    }
}

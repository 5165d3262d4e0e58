//! A panic is a bug that costs one answer, 500 or INTERNAL, and not the process or the connection.

use std::{
    any::Any,
    convert::Infallible,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{
    domain::Error,
    protocol::call::{Edge, RequestId, Route},
};

/// See the module.
pub(super) struct PanicLayer<B>(Arc<Edge<B>>);

impl<B> PanicLayer<B> {
    pub(super) fn new(edge: &Arc<Edge<B>>) -> Self {
        Self(Arc::clone(edge))
    }
}

pub(super) struct Caught<S, B> {
    inner: S,
    edge: Arc<Edge<B>>,
}

// Derived, it would ask for a body that can be cloned.
impl<S: Clone, B> Clone for Caught<S, B> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), edge: Arc::clone(&self.edge) }
    }
}

impl<S, B> Layer<S> for PanicLayer<B> {
    type Service = Caught<S, B>;

    fn layer(&self, inner: S) -> Self::Service {
        Caught { inner, edge: Arc::clone(&self.0) }
    }
}

impl<S, R, B> Service<Request<R>> for Caught<S, B>
where
    S: Service<Request<R>, Response = Response<B>, Error = Infallible>,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = Catching<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let id = RequestId::of(request.headers());
        let route = (self.edge.route_of)(request.uri().path());
        let edge = Arc::clone(&self.edge);
        // Nothing that was half changed is looked at again: the inner service is a clone for this call alone.
        match catch_unwind(AssertUnwindSafe(|| self.inner.call(request))) {
            Ok(inner) => Catching { inner: Some(inner), panic: None, id, route, edge },
            Err(panic) => Catching { inner: None, panic: Some(describe(&*panic)), id, route, edge },
        }
    }
}

pin_project! {
    pub(super) struct Catching<F, B> {
        #[pin]
        inner: Option<F>,
        panic: Option<String>,
        id: RequestId,
        route: Route,
        edge: Arc<Edge<B>>,
    }
}

impl<F, B> Future for Catching<F, B>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let panic = match this.inner.as_mut().as_pin_mut() {
            None => this.panic.take(),
            // The future is dropped below and never polled again.
            Some(inner) => match catch_unwind(AssertUnwindSafe(|| inner.poll(cx))) {
                Ok(polled) => return polled,
                Err(panic) => Some(describe(&*panic)),
            },
        };
        this.inner.set(None);
        let error = Error::internal(format!("a panic: {}", panic.unwrap_or_default()));
        Poll::Ready(Ok(this.edge.reject(&error, *this.route, this.id)))
    }
}

/// A panic's text, which the standard hook has told already with its place.
fn describe(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a text".to_owned())
}

//! Turns away what is not a request of the edge's protocol at all, before anything is done for it and in a shape that
//! clients of any protocol take for a refusal.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::protocol::call::{Edge, Head, RequestId, Route};

/// See the module.
pub(super) struct ForeignLayer<B>(Arc<Edge<B>>);

impl<B> ForeignLayer<B> {
    pub(super) fn new(edge: &Arc<Edge<B>>) -> Self {
        Self(Arc::clone(edge))
    }
}

pub(super) struct Sorted<S, B> {
    inner: S,
    edge: Arc<Edge<B>>,
}

// Derived, it would ask for a body that can be cloned.
impl<S: Clone, B> Clone for Sorted<S, B> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), edge: Arc::clone(&self.edge) }
    }
}

impl<S, B> Layer<S> for ForeignLayer<B> {
    type Service = Sorted<S, B>;

    fn layer(&self, inner: S) -> Self::Service {
        Sorted { inner, edge: Arc::clone(&self.0) }
    }
}

impl<S, R, B> Service<Request<R>> for Sorted<S, B>
where
    S: Service<Request<R>, Response = Response<B>, Error = Infallible>,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = Sorting<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let head = Head::of(&request);
        let Some(error) = (self.edge.foreign)(&head) else {
            return Sorting { inner: Some(self.inner.call(request)), refusal: None };
        };
        let id = RequestId::of(request.headers());
        self.edge.report.failure(&error, Route::NONE, &id);
        Sorting { inner: None, refusal: Some((self.edge.render_foreign)(&error, &id)) }
    }
}

pin_project! {
    pub(super) struct Sorting<F, B> {
        #[pin]
        inner: Option<F>,
        refusal: Option<Response<B>>,
    }
}

impl<F, B> Future for Sorting<F, B>
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

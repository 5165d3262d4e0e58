//! Every call has an id: the caller's, or a fresh one. It stands in the request's header for whoever is below, and in
//! the answer's for the caller.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::protocol::call::{RequestId, X_REQUEST_ID};

/// See the module.
#[derive(Clone, Copy)]
pub(super) struct RequestIdLayer;

#[derive(Clone)]
pub(super) struct WithRequestId<S>(S);

impl<S> Layer<S> for RequestIdLayer {
    type Service = WithRequestId<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WithRequestId(inner)
    }
}

impl<S, R, B> Service<Request<R>> for WithRequestId<S>
where
    S: Service<Request<R>, Response = Response<B>>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Answered<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<R>) -> Self::Future {
        let headers = request.headers_mut();
        let id = RequestId::sent(headers).unwrap_or_else(RequestId::fresh).to_header();
        // Also where the caller's stands already: of several headers only the one that counts is left.
        headers.insert(X_REQUEST_ID, id.clone());
        Answered { inner: self.0.call(request), id: Some(id) }
    }
}

pin_project! {
    pub(super) struct Answered<F> {
        #[pin]
        inner: F,
        id: Option<HeaderValue>,
    }
}

impl<F, B, E> Future for Answered<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        if let Some(id) = this.id.take() {
            response.headers_mut().insert(X_REQUEST_ID, id);
        }
        Poll::Ready(Ok(response))
    }
}

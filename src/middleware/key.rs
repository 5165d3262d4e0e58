//! Finds out who calls, before the message is read, for the routes of gRPC that need a key. The [`Caller`] is then
//! among the request's extensions, and only there: a method that needs one and finds none has a bug, not a guest.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use tower::{Layer, Service};

use crate::{
    protocol::call::{Edge, RequestId, authenticate},
    service::Keys,
};

/// See the module.
pub(super) struct KeyLayer<B> {
    edge: Arc<Edge<B>>,
    keys: Arc<Keys>,
    deadline: Duration,
}

impl<B> KeyLayer<B> {
    pub(super) fn new(edge: &Arc<Edge<B>>, keys: Arc<Keys>, deadline: Duration) -> Self {
        Self { edge: Arc::clone(edge), keys, deadline }
    }
}

pub(super) struct Keyed<S, B> {
    inner: S,
    edge: Arc<Edge<B>>,
    keys: Arc<Keys>,
    deadline: Duration,
}

// Derived, it would ask for a body that can be cloned.
impl<S: Clone, B> Clone for Keyed<S, B> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            edge: Arc::clone(&self.edge),
            keys: Arc::clone(&self.keys),
            deadline: self.deadline,
        }
    }
}

impl<S, B> Layer<S> for KeyLayer<B> {
    type Service = Keyed<S, B>;

    fn layer(&self, inner: S) -> Self::Service {
        Keyed { inner, edge: Arc::clone(&self.edge), keys: Arc::clone(&self.keys), deadline: self.deadline }
    }
}

impl<S, R, B> Service<Request<R>> for Keyed<S, B>
where
    S: Service<Request<R>, Response = Response<B>, Error = Infallible, Future: Send + 'static> + Clone + Send + 'static,
    R: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<R>) -> Self::Future {
        let route = (self.edge.route_of)(request.uri().path());
        if !route.needs_key {
            return Box::pin(self.inner.call(request));
        }
        let mut this = self.clone();
        Box::pin(async move {
            match authenticate(&this.keys, request.headers(), this.deadline).await {
                Ok(caller) => {
                    request.extensions_mut().insert(caller);
                    this.inner.call(request).await
                }
                Err(error) => Ok(this.edge.reject(&error, route, &RequestId::of(request.headers()))),
            }
        })
    }
}

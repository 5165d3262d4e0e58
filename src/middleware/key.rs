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
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{
    domain::{Error, Scope},
    protocol::call::{Edge, RequestId, Route, authenticate, authenticate_known},
    service::{Caller, Keys},
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
    type Future = Keying<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<R>) -> Self::Future {
        let route = (self.edge.route_of)(request.uri().path());
        let Some(scope) = route.scope else { return Keying::Called { inner: self.inner.call(request) } };
        let known = authenticate_known(&self.keys, request.headers());
        match known.map(|caller| with_scope(caller?, scope)) {
            Some(Ok(caller)) => {
                request.extensions_mut().insert(caller);
                Keying::Called { inner: self.inner.call(request) }
            }
            Some(Err(error)) => {
                let refusal = self.edge.reject(&error, route, &RequestId::of(request.headers()));
                Keying::Refused { refusal: Some(refusal) }
            }
            None => Keying::Asking { answer: Box::pin(self.clone().ask(request, route, scope)) },
        }
    }
}

/// Before anything is read, so that only who may call can make us do it.
fn with_scope(caller: Caller, scope: Scope) -> Result<Caller, Error> {
    caller.require(scope).map(|()| caller)
}

impl<S, B> Keyed<S, B> {
    /// Asks the store for the key, then calls or refuses.
    async fn ask<R>(mut self, mut request: Request<R>, route: Route, scope: Scope) -> Result<Response<B>, Infallible>
    where
        S: Service<Request<R>, Response = Response<B>, Error = Infallible>,
    {
        let caller = authenticate(&self.keys, request.headers(), self.deadline).await;
        match caller.and_then(|caller| with_scope(caller, scope)) {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                self.inner.call(request).await
            }
            Err(error) => Ok(self.edge.reject(&error, route, &RequestId::of(request.headers()))),
        }
    }
}

pin_project! {
    /// The call, or what stands in its way.
    #[project = KeyingProjected]
    pub(super) enum Keying<F, B> {
        Called { #[pin] inner: F },
        Refused { refusal: Option<Response<B>> },
        Asking { answer: Pin<Box<dyn Future<Output = Result<Response<B>, Infallible>> + Send>> },
    }
}

impl<F, B> Future for Keying<F, B>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            KeyingProjected::Called { inner } => inner.poll(cx),
            KeyingProjected::Refused { refusal } => match refusal.take() {
                Some(refusal) => Poll::Ready(Ok(refusal)),
                // Polled after its end.
                None => Poll::Pending,
            },
            KeyingProjected::Asking { answer } => answer.as_mut().poll(cx),
        }
    }
}

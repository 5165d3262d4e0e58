//! Lets pages of configured origins call the webhook from a browser and read every answer, errors too.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
    },
};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::protocol::call::Route;

const ALLOWED_METHODS: HeaderValue = HeaderValue::from_static("POST");
const ALLOWED_HEADERS: HeaderValue = HeaderValue::from_static("Authorization, Content-Type, X-Request-Id, traceparent");
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static(
    "X-Request-Id, Retry-After, RateLimit, RateLimit-Policy, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset",
);
/// Two hours in seconds: what browsers cap it at.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// The origins whose pages may call; cheap to clone. The default is none.
#[derive(Debug, Clone, Default)]
pub struct Cors(Arc<[HeaderValue]>);

impl Cors {
    /// Allows `origins`, each as a browser sends it (`https://chat.example.com`), compared byte for byte.
    pub fn new(origins: impl IntoIterator<Item = HeaderValue>) -> Self {
        Self(origins.into_iter().collect())
    }

    fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(ORIGIN)?;
        self.0.iter().find(|allowed| *allowed == origin).cloned()
    }
}

/// See the module.
#[derive(Clone)]
pub(super) struct CorsLayer {
    cors: Cors,
    route_of: fn(&str) -> Route,
}

impl CorsLayer {
    pub(super) fn new(cors: Cors, route_of: fn(&str) -> Route) -> Self {
        Self { cors, route_of }
    }
}

#[derive(Clone)]
pub(super) struct WithCors<S> {
    inner: S,
    layer: CorsLayer,
}

impl<S> Layer<S> for CorsLayer {
    type Service = WithCors<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WithCors { inner, layer: self.clone() }
    }
}

impl<S, R, B> Service<Request<R>> for WithCors<S>
where
    S: Service<Request<R>, Response = Response<B>, Error = Infallible>,
    B: Default,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = Sharing<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let origin = self.layer.cors.allowed(request.headers());
        let is_preflight = origin.is_some()
            && request.method() == Method::OPTIONS
            && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
            // Elsewhere the answer is 404, to a preflight too.
            && (self.layer.route_of)(request.uri().path()) != Route::NONE;
        Sharing {
            inner: (!is_preflight).then(|| self.inner.call(request)),
            origin,
            // Shared caches must know that the answer depends on it, whoever asked first.
            varies: !self.layer.cors.0.is_empty(),
        }
    }
}

pin_project! {
    pub(super) struct Sharing<F> {
        // None for a preflight, which is answered here.
        #[pin]
        inner: Option<F>,
        origin: Option<HeaderValue>,
        varies: bool,
    }
}

impl<F, B> Future for Sharing<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: Default,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = match this.inner.as_pin_mut() {
            Some(inner) => {
                let Ok(response) = ready!(inner.poll(cx));
                response
            }
            None => preflight(),
        };
        let headers = response.headers_mut();
        if *this.varies {
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
        if let Some(origin) = this.origin.take() {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
        }
        Poll::Ready(Ok(response))
    }
}

fn preflight<B: Default>() -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    response
}

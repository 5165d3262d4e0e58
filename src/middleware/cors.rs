//! Lets pages of configured origins call the webhook from a browser and read every answer, errors too.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
    },
};

use crate::service::Route;

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

    /// The origin of a request, if it is allowed.
    pub(super) fn origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(ORIGIN)?;
        self.0.iter().find(|allowed| *allowed == origin).cloned()
    }

    /// Lets the page of `origin` read an answer.
    pub(super) fn share(&self, headers: &mut HeaderMap, origin: Option<HeaderValue>) {
        if !self.0.is_empty() {
            // Shared caches must know that the answer depends on it, whoever asked first.
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
        if let Some(origin) = origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
        }
    }
}

/// The answer to a browser that asks, for an allowed origin, whether it may call `route`; `None` for any other request, and
/// where there is no route: that is 404, to a browser too.
pub(super) fn preflight<R, B: Default>(request: &Request<R>, route: &'static Route) -> Option<Response<B>> {
    let asks = request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    if !asks || route == Route::NONE {
        return None;
    }
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(route.methods));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    Some(response)
}

//! Lets pages of configured origins, and of those of browser keys, call the webhook from a browser and read every answer, errors too.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
    },
};

use crate::{
    domain::Origin,
    protocol::call::names_a_browser_key,
    service::{Access, Route},
};

const ALLOWED_HEADERS: HeaderValue = HeaderValue::from_static("Authorization, Content-Type, X-Request-Id, traceparent");
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static(
    "X-Request-Id, Retry-After, RateLimit, RateLimit-Policy, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset",
);
/// Two hours in seconds: what browsers cap it at.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// The origins whose pages may call, with any key; cheap to clone. The default is for a port that no page calls.
#[derive(Debug, Clone, Default)]
pub struct Cors {
    listed: Arc<[HeaderValue]>,
    takes_browser_keys: bool,
}

impl Cors {
    /// Lets pages of `origins` call with any key, and those of a browser key's own origins with it. Origins are compared byte for byte.
    pub fn new(origins: &[Origin]) -> Self {
        let listed = origins.iter().filter_map(|origin| HeaderValue::from_str(origin.as_str()).ok());
        Self { listed: listed.collect(), takes_browser_keys: true }
    }

    /// The origin of a request, if its page may read what is answered, whoever it is that calls. The key alone tells whether it may call:
    /// so answers to one that is a browser key by its text can be read, that it is revoked or another origin's, too.
    pub(super) fn origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(ORIGIN)?;
        let may_read = self.listed.contains(origin) || (self.takes_browser_keys && names_a_browser_key(headers));
        may_read.then(|| origin.clone())
    }

    /// The origin of a preflight for `route`, where it is neither listed nor malformed: only its browser keys tell whether its pages may call.
    pub(super) fn asking<R>(&self, request: &Request<R>, route: &'static Route) -> Option<(HeaderValue, Origin)> {
        if !self.takes_browser_keys || route.access != Access::Key || !is_preflight(request) {
            return None;
        }
        let sent = request.headers().get(ORIGIN)?;
        let origin = Origin::parse(sent.to_str().ok()?).ok()?;
        Some((sent.clone(), origin))
    }

    /// Lets the page of `origin` read an answer.
    pub(super) fn share(&self, headers: &mut HeaderMap, origin: Option<HeaderValue>) {
        if origin.is_some() || !self.listed.is_empty() {
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
    if !is_preflight(request) || route == Route::NONE {
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

fn is_preflight<R>(request: &Request<R>) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

//! The API's own description: the OpenAPI document, and a page to read it that loads nothing from elsewhere. Both are
//! public, as the API's page is.

use std::sync::LazyLock;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue,
    header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE},
};

use super::{error, openapi};

/// The document as it is served, written to the golden file and printed by the command line.
pub fn openapi_json() -> String {
    // A document of texts, numbers and maps with text keys always has a JSON form.
    openapi::document().to_pretty_json().unwrap_or_default() + "\n"
}

/// The document.
pub(super) fn openapi() -> Response {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| openapi_json().into());
    answer(DOCUMENT.clone(), &[(CONTENT_TYPE, error::JSON)])
}

/// The page.
pub(super) fn page() -> Response {
    const PAGE: &[u8] = include_bytes!("docs.html");
    const POLICY: HeaderValue = HeaderValue::from_static(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    );
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    answer(Bytes::from_static(PAGE), &[(CONTENT_TYPE, html), (CONTENT_SECURITY_POLICY, POLICY)])
}

fn answer(body: Bytes, headers: &[(HeaderName, HeaderValue)]) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().extend(headers.iter().cloned());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

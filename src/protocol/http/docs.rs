//! The API's own description: the OpenAPI document, a page to read it and one of the errors, which load nothing from elsewhere. All
//! are public, as the API's page is.

use std::sync::LazyLock;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue,
    header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE},
};

use super::{error, error_page, openapi};

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

/// The page of the errors.
pub(super) fn error_page() -> Response {
    static PAGE: LazyLock<Bytes> = LazyLock::new(|| error_page::html().into());
    html(PAGE.clone())
}

/// The page.
pub(super) fn page() -> Response {
    html(Bytes::from_static(include_bytes!("docs.html")))
}

fn html(page: Bytes) -> Response {
    const POLICY: HeaderValue = HeaderValue::from_static(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    );
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    answer(page, &[(CONTENT_TYPE, html), (CONTENT_SECURITY_POLICY, POLICY)])
}

fn answer(body: Bytes, headers: &[(HeaderName, HeaderValue)]) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().extend(headers.iter().cloned());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

//! The API's own description: the OpenAPI document, and a page to read it that loads nothing from elsewhere. Both are
//! public, as the API's page is.

use std::sync::LazyLock;

use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method,
    header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE},
};

use super::{DOCS, Http, error, openapi};
use crate::{
    domain::{Error, Kind},
    protocol::call::RequestId,
};

/// Where the document is.
pub(super) const OPENAPI_PATH: &str = "/openapi.json";
/// Where the page is.
pub(super) const DOCS_PATH: &str = "/docs";

/// The document as it is served, written to the golden file and printed by the command line.
pub fn openapi_json() -> String {
    // A document of texts, numbers and maps with text keys always has a JSON form.
    openapi::document().to_pretty_json().unwrap_or_default() + "\n"
}

/// Any method on the document's path.
pub(super) async fn openapi(State(http): State<Http>, request: Request) -> Response {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| openapi_json().into());
    answer(&http, &request, DOCUMENT.clone(), &[(CONTENT_TYPE, error::JSON)])
}

/// Any method on the page's path.
pub(super) async fn page(State(http): State<Http>, request: Request) -> Response {
    const PAGE: &[u8] = include_bytes!("docs.html");
    const POLICY: HeaderValue = HeaderValue::from_static(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    );
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    answer(&http, &request, Bytes::from_static(PAGE), &[(CONTENT_TYPE, html), (CONTENT_SECURITY_POLICY, POLICY)])
}

fn answer(http: &Http, request: &Request, body: Bytes, headers: &[(HeaderName, HeaderValue)]) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let error = Error::new(Kind::MethodNotAllowed, "Read this with the method GET");
        let mut response = http.0.edge.reject(&error, DOCS, &RequestId::of(request.headers()));
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let mut response = Response::new(Body::from(body));
    response.headers_mut().extend(headers.iter().cloned());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

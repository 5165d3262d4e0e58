//! Takes a message in: unwrap, convert, call, convert.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, Uri, Version,
    header::{CONNECTION, CONTENT_TYPE},
};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::{Http, body, error, headers, message, paths};
use crate::{
    domain::{Draft, Timestamp},
    protocol::{
        call::{Edge as _, Failure},
        status::WireKind,
    },
    service::{Call, Held, Outcome, Permit, Receipt, Submit},
};

/// A call of the webhook, whose caller is known.
///
/// Many wait for the disk at once, so what waits is small: the request goes before the message is stored.
#[expect(clippy::manual_async_fn, reason = "it would keep the request twice")]
pub(super) fn submit<B>(http: &Http, call: &Call, mut request: Request<B>) -> impl Future<Output = Response> + Send
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
{
    async move {
        let version = request.version();
        let received = receive(http, call, &mut request).await;
        drop(request);
        let receipt = match received {
            // The share goes with the message until that is stored or refused: until then its content is in memory.
            Ok((permit, draft, held)) => permit.submit(draft, held).await.map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        match receipt {
            Ok(receipt) => render(&receipt),
            Err(failure) => {
                let mut response = http.reject(&failure, call);
                if failure.is(WireKind::RequestTimeout) && version <= Version::HTTP_11 {
                    // The rest of the body stands before the next request, and was waited for long enough.
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                response
            }
        }
    }
}

/// The lines stand in the order in which the contract promises the checks: 403, 415, 413 and 408, 400. Those before them
/// (404, 405, 401) are the way in's, those after them (429, 503) the service's.
async fn receive<'a, B: http_body::Body<Data = Bytes> + Unpin>(
    http: &'a Http,
    call: &'a Call,
    request: &mut Request<B>,
) -> Result<(Permit<'a, Submit>, Draft, Held), Failure> {
    let limits = http.service.limits();
    let (org, env) = paths::target_of(request.uri().path())?;
    let permit = http.service.authorize::<Submit>(call, org, env)?;
    headers::check(request.headers())?;
    // A head may be large, and the body may take its time.
    (*request.headers_mut(), *request.uri_mut()) = (HeaderMap::new(), Uri::default());
    let body_limits = body::Limits { bytes: limits.body_bytes, timeout: http.body_timeout };
    let (body, held) = body::read(request.body_mut(), &body_limits, permit.share()).await?;
    let draft = message::parse(&body, limits.media.clone())?.build()?;
    Ok((permit, draft, held))
}

/// The receipt of a message that is durable.
#[derive(Serialize, ToSchema)]
#[schema(as = Receipt)]
pub(super) struct ReceiptBody<'a> {
    /// Always `success`.
    status: &'static str,
    /// `Message received and processed`, or `Already processed`.
    message: &'static str,
    /// As it was sent.
    message_sid: &'a str,
    /// Whether the message had been accepted before.
    duplicate: bool,
    /// When the message was first accepted.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String, format = DateTime)]
    accepted_at: Timestamp,
    /// Until when a repetition is known as a duplicate.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String, format = DateTime)]
    duplicates_until: Timestamp,
    /// Only of a duplicate whose content differs from what was accepted first, and then false; the first content stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    payload_matches: Option<bool>,
}

impl ReceiptBody<'_> {
    /// For the API's description.
    pub(super) fn example() -> serde_json::Value {
        serde_json::json!({
            "status": "success",
            "message": "Message received and processed",
            "message_sid": "msg_xyz789",
            "duplicate": false,
            "accepted_at": "2026-01-15T09:30:00.25Z",
            "duplicates_until": "2026-02-14T09:30:00.25Z"
        })
    }
}

/// RFC 3339, as everywhere.
fn as_text<S: Serializer>(instant: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(instant)
}

fn render(receipt: &Receipt) -> Response {
    let (message, duplicate, payload_matches) = match receipt.outcome {
        Outcome::Accepted => ("Message received and processed", false, true),
        Outcome::Duplicate { payload_matches } => ("Already processed", true, payload_matches),
    };
    let body = ReceiptBody {
        status: "success",
        message,
        message_sid: receipt.sid.as_str(),
        duplicate,
        accepted_at: receipt.accepted_at,
        duplicates_until: receipt.duplicates_until,
        payload_matches: (!payload_matches).then_some(false),
    };
    // Room for all but a long `message_sid`.
    let mut json = Vec::with_capacity(256);
    // Texts and booleans always have a JSON form, and memory takes them.
    let _ = serde_json::to_writer(&mut json, &body);
    let mut response = Response::new(Body::from(json));
    response.headers_mut().insert(CONTENT_TYPE, error::JSON);
    response
}

//! Takes a message in: unwrap, convert, call, convert.

use std::convert::Infallible;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Version,
    header::{CONNECTION, CONTENT_TYPE},
};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::{Http, SUBMIT, body, error, headers, message, target};
use crate::{
    domain::{Error, Kind, NewMessage, Scope, Timestamp},
    protocol::call::{RequestId, authenticate},
    service::{Authorized, Held, Receipt},
};

/// Any method on the webhook's path, or on one that only looks like it.
///
/// Many wait for the disk at once, so what waits is small: the request goes before the message is stored.
#[expect(clippy::manual_async_fn, reason = "it would keep the request twice")]
pub(super) fn handle<B>(
    http: Http,
    mut request: Request<B>,
) -> impl Future<Output = Result<Response, Infallible>> + Send + 'static
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
{
    async move {
        let (id, version) = (RequestId::of(request.headers()), request.version());
        let received = receive(&http, &mut request).await;
        drop(request);
        let receipt = match received {
            Ok(received) => store(&http, received, &id).await,
            Err(error) => Err(error),
        };
        Ok(match receipt {
            Ok(receipt) => render(&receipt),
            Err(error) => {
                let mut response = http.0.edge.reject(&error, SUBMIT, &id);
                if error.kind() == Kind::RequestTimeout && version <= Version::HTTP_11 {
                    // The rest of the body stands before the next request, and was waited for long enough.
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                response
            }
        })
    }
}

/// A message that may be stored.
struct Received {
    authorized: Authorized,
    message: NewMessage,
    /// The share goes with the message until that is stored or refused: until then its content is in memory.
    held: Held,
}

/// The lines stand in the order in which the contract promises the checks: 404, 405, 401, 403, 415, 413 and 408, 400;
/// the service's own (429, 503) follow.
async fn receive<B: http_body::Body<Data = Bytes> + Unpin>(
    http: &Http,
    request: &mut Request<B>,
) -> Result<Received, Error> {
    let Http(edge) = http;
    let limits = edge.service.limits();
    let (org, env) = target::parse(request.uri().path())?;
    if request.method() != Method::POST {
        return Err(Error::new(Kind::MethodNotAllowed, "Send messages with the method POST"));
    }
    let caller = authenticate(&edge.keys, request.headers(), limits.store_deadline).await?;
    let authorized = edge.service.authorize(&caller, org, env, Scope::Submit)?;
    headers::check(request.headers())?;
    let body_limits = body::Limits { bytes: limits.body_bytes, timeout: edge.body_timeout };
    let share = edge.service.bodies().share(Some(caller));
    let (body, held) = body::read(request.body_mut(), &body_limits, share).await?;
    let message = message::parse(&body, limits.media.clone())?.build(authorized.org().clone(), authorized.env())?;
    let message = message.traced(request.extensions().get().copied());
    Ok(Received { authorized, message, held })
}

async fn store(http: &Http, received: Received, id: &RequestId) -> Result<Receipt, Error> {
    let Http(edge) = http;
    let Received { authorized, message, held } = received;
    let receipt = edge.service.submit_holding(&authorized, message, held).await?;
    edge.edge.report.receipt(&receipt, &authorized, id);
    Ok(receipt)
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
    let body = ReceiptBody {
        status: "success",
        message: if receipt.duplicate { "Already processed" } else { "Message received and processed" },
        message_sid: receipt.sid.as_str(),
        duplicate: receipt.duplicate,
        accepted_at: receipt.accepted_at,
        duplicates_until: receipt.duplicates_until,
        payload_matches: (!receipt.payload_matches).then_some(false),
    };
    // Room for all but a long `message_sid`.
    let mut json = Vec::with_capacity(256);
    // Texts and booleans always have a JSON form, and memory takes them.
    let _ = serde_json::to_writer(&mut json, &body);
    let mut response = Response::new(Body::from(json));
    response.headers_mut().insert(CONTENT_TYPE, error::JSON);
    response
}

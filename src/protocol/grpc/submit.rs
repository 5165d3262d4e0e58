//! Takes a message in: unwrap, convert, call, convert.

use prost::Message as _;
use tonic::Request;

use super::{
    Grpc, caller_of, message, target,
    v1::{SubmitMessageRequest, SubmitMessageResponse, SubmitOutcome},
};
use crate::{
    domain::{Error, Kind, Scope, TraceParent},
    protocol::call::RequestId,
    service::{Caller, Receipt},
};

pub(super) async fn submit(
    grpc: &Grpc,
    mut request: Request<SubmitMessageRequest>,
    id: &RequestId,
) -> Result<SubmitMessageResponse, Error> {
    let caller = caller_of(&mut request)?;
    let traceparent = request.extensions().get().copied();
    submit_one(grpc, &caller, traceparent, request.into_inner(), id).await
}

/// One message, alone or of a stream. The lines stand in the order of the contract's checks; the key was checked before
/// the message was read.
pub(super) async fn submit_one(
    grpc: &Grpc,
    caller: &Caller,
    traceparent: Option<TraceParent>,
    request: SubmitMessageRequest,
    id: &RequestId,
) -> Result<SubmitMessageResponse, Error> {
    let service = grpc.service();
    let limits = service.limits();
    let (org, env) = target::resolve(caller, &request.org_id, request.env)?;
    let authorized = service.authorize(caller, org, env, Scope::Submit)?;
    let bytes = request.encoded_len();
    if bytes > limits.body_bytes {
        return Err(too_large(limits.body_bytes));
    }
    let mut held = service.bodies().share(Some(caller.clone()));
    held.grow(bytes)?;
    let message =
        message::from_wire(request, limits.media.clone()).build(authorized.org().clone(), authorized.env())?;
    let message = message.traced(traceparent);
    let receipt = service.submit_holding(&authorized, message, held).await?;
    grpc.report().receipt(&receipt, &authorized, id);
    Ok(to_wire(&receipt))
}

fn too_large(limit: usize) -> Error {
    Error::new(Kind::BodyTooLarge, format!("The message is larger than {limit} bytes; send a shorter one"))
}

fn to_wire(receipt: &Receipt) -> SubmitMessageResponse {
    let outcome = if receipt.duplicate { SubmitOutcome::Duplicate } else { SubmitOutcome::Accepted };
    SubmitMessageResponse {
        outcome: outcome.into(),
        message_sid: receipt.sid.as_str().to_owned(),
        accepted_at: Some(message::time_to_wire(receipt.accepted_at)),
        duplicates_until: Some(message::time_to_wire(receipt.duplicates_until)),
        payload_mismatch: !receipt.payload_matches,
    }
}

//! Takes a message in: unwrap, convert, call, convert.

use prost::Message as _;

use super::{
    Messages, message, target,
    v1::{SubmitMessageRequest, SubmitMessageResponse, SubmitOutcome},
};
use crate::{
    domain::Error,
    service::{Call, Outcome, Receipt, Submit},
};

/// One message, alone or of a stream. The lines stand in the order of the contract's checks; the key was checked before
/// the message was read.
pub(super) async fn submit(
    grpc: &Messages,
    call: &Call,
    request: SubmitMessageRequest,
) -> Result<SubmitMessageResponse, Error> {
    let limits = grpc.service().limits();
    let (org, env) = target::resolve(call.caller()?, &request.org_id, request.env)?;
    let permit = grpc.service().authorize::<Submit>(call, org, env)?;
    let bytes = request.encoded_len();
    if bytes > limits.body_bytes {
        return Err(Error::too_large(limits.body_bytes));
    }
    let mut held = permit.share();
    held.grow(bytes)?;
    let draft = message::from_wire(request, limits.media.clone()).build()?;
    Ok(to_wire(&permit.submit(draft, held).await?))
}

fn to_wire(receipt: &Receipt) -> SubmitMessageResponse {
    let (outcome, payload_matches) = match receipt.outcome {
        Outcome::Accepted => (SubmitOutcome::Accepted, true),
        Outcome::Duplicate { payload_matches } => (SubmitOutcome::Duplicate, payload_matches),
    };
    SubmitMessageResponse {
        outcome: outcome.into(),
        message_sid: receipt.sid.as_str().to_owned(),
        accepted_at: Some(message::time_to_wire(receipt.accepted_at)),
        duplicates_until: Some(message::time_to_wire(receipt.duplicates_until)),
        payload_mismatch: !payload_matches,
    }
}

//! Looks a message up. The published page has no such thing, so the HTTP edge has no counterpart of this file.

use super::{
    Messages, message, target,
    v1::{GetMessageRequest, GetMessageResponse},
};
use crate::{
    domain::{Error, Kind, MessageSid, Violations},
    service::{Call, Read},
};

pub(super) async fn get(grpc: &Messages, call: &Call, request: GetMessageRequest) -> Result<GetMessageResponse, Error> {
    let (org, env) = target::resolve(call.caller()?, &request.org_id, request.env)?;
    let permit = grpc.service().authorize::<Read>(call, org, env)?;
    let mut violations = Violations::default();
    let Some(sid) = violations.check(MessageSid::new(request.message_sid)) else {
        return Err(violations.into_error(Kind::InvalidArgument));
    };
    Ok(GetMessageResponse { message: Some(message::to_wire(permit.get(sid).await?)) })
}

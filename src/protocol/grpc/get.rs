//! Looks a message up. The published page has no such thing, so the HTTP edge has no counterpart of this file.

use tonic::Request;

use super::{
    Grpc, caller_of, message, target,
    v1::{GetMessageRequest, GetMessageResponse},
};
use crate::domain::{Error, Kind, MessageSid, Scope, Violations};

pub(super) async fn get(grpc: &Grpc, mut request: Request<GetMessageRequest>) -> Result<GetMessageResponse, Error> {
    let caller = caller_of(&mut request)?;
    let request = request.into_inner();
    let (org, env) = target::resolve(&caller, &request.org_id, request.env)?;
    let authorized = grpc.service().authorize(&caller, org, env, Scope::Read)?;
    let mut violations = Violations::default();
    let Some(sid) = violations.check(MessageSid::new(request.message_sid)) else {
        return Err(violations.into_error(Kind::InvalidArgument));
    };
    let found = grpc.service().get(&authorized, sid).await?;
    Ok(GetMessageResponse { message: Some(message::to_wire(found)) })
}

//! Lists a sender's messages. The published page has no such thing, so the HTTP edge has no counterpart of this file.

use super::{
    Messages, message, target,
    v1::{ListMessagesRequest, ListMessagesResponse},
};
use crate::{
    domain::{Error, FromId, Kind, Violation, ViolationCode, Violations},
    service::{Call, PageToken, Read},
};

pub(super) async fn list(
    grpc: &Messages,
    call: &Call,
    request: ListMessagesRequest,
) -> Result<ListMessagesResponse, Error> {
    let (org, env) = target::resolve(call.caller()?, &request.org_id, request.env)?;
    let permit = grpc.service().authorize::<Read>(call, org, env)?;
    let mut violations = Violations::default();
    let from_id = violations.check(FromId::new(request.from_id));
    let page_size = violations.check(usize::try_from(request.page_size).map_err(|_| Violation {
        field: "page_size".into(),
        code: ViolationCode::InvalidValue,
        message: "'page_size' is negative; send the number of messages, or 0 for the usual".into(),
    }));
    let token = &request.page_token;
    let after = violations.check((!token.is_empty()).then(|| PageToken::parse(token)).transpose());
    let (Some(from_id), Some(page_size), Some(after)) = (from_id, page_size, after) else {
        return Err(violations.into_error(Kind::InvalidArgument));
    };
    let page = permit.list(from_id, page_size, after.as_ref()).await?;
    Ok(ListMessagesResponse {
        messages: page.messages.into_iter().map(message::to_wire).collect(),
        next_page_token: page.next.map(|token| token.to_string()).unwrap_or_default(),
    })
}

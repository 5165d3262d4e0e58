//! Takes many messages in over one stream: what `submit` does for one, hundreds at a time. The webhook has no streams,
//! so the HTTP edge has no counterpart of this file.

use std::future::ready;

use futures_util::{Stream, StreamExt, stream};
use tokio::sync::oneshot;
use tonic::{Request, Status, Streaming};
use tracing::{Instrument as _, Span};

use super::{
    Grpc, SUBMIT_STREAM, caller_of, ending, error, framework, id_of, submit,
    v1::{SubmitMessagesRequest, SubmitMessagesResponse, submit_messages_response::Result as Wire},
};
use crate::{
    domain::{Error, Scope, TraceParent, ViolationCode},
    protocol::call::{Deadline, RequestId},
    service::Caller,
    telemetry::trace,
};

/// Messages of one stream that are worked on at once; the next is read when one of them is answered.
const IN_FLIGHT: usize = 512;

/// The answers, each as soon as its message is decided.
///
/// # Errors
/// At once when the key may not submit at all; the stream itself ends with an error when the key is revoked, the service
/// stops or a message cannot be read, after the answers to what was taken in.
pub(super) fn submit_stream(
    grpc: &Grpc,
    mut request: Request<Streaming<SubmitMessagesRequest>>,
) -> Result<impl Stream<Item = Result<SubmitMessagesResponse, Status>> + Send + 'static, Error> {
    let id = id_of(&request);
    let caller = caller_of(&mut request)?;
    caller.require(Scope::Submit)?;
    let deadline = request.extensions().get().copied();
    let call = Call { caller, id, traceparent: request.extensions().get().copied(), span: trace::here() };
    let (ending, ended) = ending::when(reason_to_end(grpc.clone(), call.caller.clone(), deadline));
    let id = call.id.clone();
    let (tell, unreadable) = oneshot::channel();
    // What follows a message that cannot be read cannot be read either.
    let messages = request
        .into_inner()
        .scan(Some(tell), |tell, item| ready(item.map_err(|status| tell.take().map(|tell| tell.send(status))).ok()));
    let answers = {
        let grpc = grpc.clone();
        // Once the stream must end nothing more is read, and what was read is still answered.
        messages.take_until(ending).map(move |item| answer(grpc.clone(), call.clone(), item))
    };
    let grpc = grpc.clone();
    let unreadable = stream::once(unreadable).filter_map(|told| ready(told.ok().and_then(framework::unreadable)));
    let last = ended.map(Ok).chain(unreadable).map(move |error| match error {
        Ok(error) => Err(grpc.refuse(&error, SUBMIT_STREAM, &id)),
        Err(told) => Err(told),
    });
    Ok(answers.buffer_unordered(IN_FLIGHT).chain(last))
}

/// What all messages of a stream have in common.
#[derive(Clone)]
struct Call {
    caller: Caller,
    id: RequestId,
    traceparent: Option<TraceParent>,
    /// The call's own, under which each message has its spans.
    span: Span,
}

async fn reason_to_end(grpc: Grpc, caller: Caller, deadline: Option<Deadline>) -> Error {
    tokio::select! {
        error = ending::revoked(&grpc, caller) => error,
        error = ending::stopped(&grpc) => error,
        error = ending::late(deadline) => error,
    }
}

/// A failure of one message is an answer like another.
async fn answer(grpc: Grpc, call: Call, item: SubmitMessagesRequest) -> Result<SubmitMessagesResponse, Status> {
    let Call { caller, id, traceparent, span } = call;
    let SubmitMessagesRequest { correlation_id, message } = item;
    let result = match message {
        Some(message) => submit::submit_one(&grpc, &caller, traceparent, message, &id).instrument(span).await,
        None => Err(Error::invalid_argument("message", ViolationCode::Missing, "Missing 'message'")),
    };
    let result = match result {
        Ok(receipt) => Wire::Receipt(receipt),
        Err(error) => {
            grpc.report().failure(&error, SUBMIT_STREAM, &id);
            Wire::Error(error::status_message(&error, &id))
        }
    };
    Ok(SubmitMessagesResponse { correlation_id, result: Some(result) })
}

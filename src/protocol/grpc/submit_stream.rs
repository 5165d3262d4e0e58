//! Takes many messages in over one stream: what `submit` does for one, hundreds at a time. The webhook has no streams,
//! so the HTTP edge has no counterpart of this file.

use std::future::ready;

use futures_util::{Stream, StreamExt, stream};
use tokio::sync::oneshot;
use tonic::{Code, Status, Streaming};
use tracing::Instrument as _;

use super::{
    Messages, ending, error, framework, rpcs, submit,
    v1::{SubmitMessagesRequest, SubmitMessagesResponse, submit_messages_response::Result as Wire},
};
use crate::{
    domain::{Error, ViolationCode},
    protocol::call::{Failure, Told},
    service::Call,
};

/// Messages of one stream that are worked on at once; the next is read when one of them is answered.
const IN_FLIGHT: usize = 512;

/// The answers, each as soon as its message is decided. The stream ends with an error when the key is revoked, the service
/// stops or a message cannot be read, after the answers to what was taken in.
pub(super) fn submit_stream(
    grpc: &Messages,
    call: Call,
    requests: Streaming<SubmitMessagesRequest>,
) -> impl Stream<Item = Result<SubmitMessagesResponse, Status>> + Send + 'static {
    let (ending, ended) = ending::when(reason_to_end(grpc.clone(), call.clone()));
    let (tell, unreadable) = oneshot::channel();
    // What follows a message that cannot be read cannot be read either.
    let messages = requests
        .scan(Some(tell), |tell, item| ready(item.map_err(|status| tell.take().map(|tell| tell.send(status))).ok()));
    let answers = {
        let (grpc, call) = (grpc.clone(), call.clone());
        // Once the stream must end nothing more is read, and what was read is still answered.
        messages.take_until(ending).map(move |item| answer(grpc.clone(), call.clone(), item))
    };
    let grpc = grpc.clone();
    let unreadable = stream::once(unreadable).filter_map(|told| ready(told.ok().and_then(framework::unreadable)));
    let last = ended.map(Ok).chain(unreadable).map(move |told| match told {
        Ok(failure) => Err(grpc.refuse(failure, &call)),
        Err(told) => Err(told),
    });
    answers.buffer_unordered(IN_FLIGHT).chain(last)
}

async fn reason_to_end(grpc: Messages, call: Call) -> Failure {
    tokio::select! {
        error = ending::revoked(&grpc, &call) => Failure::from(error),
        error = ending::stopped(&grpc) => Failure::from(error),
        failure = ending::late(&call) => failure,
    }
}

/// A failure of one message is an answer like another.
async fn answer(grpc: Messages, call: Call, item: SubmitMessagesRequest) -> Result<SubmitMessagesResponse, Status> {
    let SubmitMessagesRequest { correlation_id, message } = item;
    let (stream, call) = (call.span.clone(), call.item(&rpcs::SUBMIT_ITEM));
    let result = match message {
        Some(message) => submit::submit(&grpc, &call, message).instrument(stream).await,
        None => Err(Error::invalid_argument("message", ViolationCode::Missing, "Missing 'message'")),
    };
    let (result, code) = match result {
        Ok(receipt) => (Wire::Receipt(receipt), Code::Ok),
        Err(error) => {
            let status = grpc.refuse(error, &call);
            (Wire::Error(error::to_message(&status)), status.code())
        }
    };
    grpc.0.report.answered(&call);
    grpc.0.report.ended(&call, Told::Code(code));
    Ok(SubmitMessagesResponse { correlation_id, result: Some(result) })
}

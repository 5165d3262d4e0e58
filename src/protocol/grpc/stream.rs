//! Follows the feed. The webhook has no streams, so the HTTP edge has no counterpart of this file.

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use tonic::Status;

use super::{
    Messages, ending, message, target,
    v1::{
        FeedMessage, FeedOrder as WireOrder, StartPosition, StreamMessagesRequest, StreamMessagesResponse,
        stream_messages_request::From as Wire,
    },
};
use crate::{
    domain::{Error, Kind, Timestamp, Violation, ViolationCode, Violations},
    protocol::call::Failure,
    service::{Call, Cursor, FeedFrame, FeedFrom, FeedOrder, FeedReader, FeedStart},
};

/// A reader of what the caller may see and asks for.
pub(super) async fn open(grpc: &Messages, call: &Call, request: StreamMessagesRequest) -> Result<FeedReader, Error> {
    let permit = grpc.service().authorize_feed(call, target::filter(&request.org_id, request.env)?)?;
    let mut violations = Violations::default();
    let order = violations.check(order_from_wire(request.order));
    let (Some(from), Some(order)) = (violations.check(from_wire(request.from)), order) else {
        return Err(violations.into_error(Kind::InvalidArgument));
    };
    permit.stream(from, order).await
}

/// The frames of the feed, until the caller goes, its key is revoked, its deadline passes or the service stops.
///
/// The next frame is read from the store when the last one was taken by the connection: a caller that does not read
/// holds one frame in memory and nothing else.
pub(super) fn frames(
    grpc: &Messages,
    call: Call,
    reader: FeedReader,
) -> impl Stream<Item = Result<StreamMessagesResponse, Status>> + Send + 'static {
    let frames = stream::try_unfold(reader, |mut reader| async move {
        let frame = reader.next().await?;
        Ok::<_, Failure>(Some((to_wire(frame), reader)))
    });
    let reason = {
        let (grpc, call) = (grpc.clone(), call.clone());
        async move {
            tokio::select! {
                error = ending::revoked(&grpc, &call) => Failure::from(error),
                failure = ending::late(&call) => failure,
            }
        }
    };
    // The service's stop is the reader's own business: it may end between two frames only.
    let (ending, ended) = ending::when(reason);
    let grpc = grpc.clone();
    frames.take_until(ending).chain(ended.map(Err)).map_err(move |failure| grpc.refuse(failure, &call))
}

fn order_from_wire(order: i32) -> Result<FeedOrder, Violation> {
    match WireOrder::try_from(order) {
        Ok(WireOrder::Unspecified | WireOrder::Fast) => Ok(FeedOrder::Fast),
        Ok(WireOrder::Ordered) => Ok(FeedOrder::Ordered),
        Err(_) => Err(invalid("order", "'order' is no FeedOrder")),
    }
}

fn from_wire(from: Option<Wire>) -> Result<FeedFrom, Violation> {
    let start = match from {
        None => FeedStart::Now,
        Some(Wire::Cursor(text)) => return Cursor::parse(&text).map(FeedFrom::Cursor),
        Some(Wire::Time(at)) => match Timestamp::from_unix(at.seconds, at.nanos) {
            Ok(at) => FeedStart::Time(at),
            Err(_) => return Err(invalid("time", "'time' must lie from 1970 to the end of 9999")),
        },
        Some(Wire::Position(position)) => match StartPosition::try_from(position) {
            Ok(StartPosition::Unspecified | StartPosition::Now) => FeedStart::Now,
            Ok(StartPosition::Start) => FeedStart::Start,
            Err(_) => return Err(invalid("position", "'position' is no StartPosition")),
        },
    };
    Ok(FeedFrom::Start(start))
}

fn invalid(field: &'static str, message: &'static str) -> Violation {
    Violation { field: field.into(), code: ViolationCode::InvalidValue, message: message.into() }
}

fn to_wire(frame: FeedFrame) -> StreamMessagesResponse {
    let messages = frame
        .items
        .into_iter()
        .map(|item| FeedMessage { message: Some(message::to_wire(item.message)), cursor: item.cursor.to_string() });
    StreamMessagesResponse { messages: messages.collect(), cursor: frame.cursor.to_string() }
}

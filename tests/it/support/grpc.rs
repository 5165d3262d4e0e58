//! A gRPC client, as an internal service would have it.

use std::net::SocketAddr;

use message_webhook::protocol::grpc::v1::{
    Environment, Message, StreamMessagesRequest, StreamMessagesResponse, SubmitMessageRequest,
    message_service_client::MessageServiceClient, stream_messages_request::From as StreamFrom,
};
use tonic::{Request, Status, Streaming, metadata::MetadataValue, transport::Channel};

pub type Client = MessageServiceClient<Channel>;

/// A client with one connection.
pub async fn client(grpc: SocketAddr) -> Client {
    let endpoint = Channel::from_shared(format!("http://{grpc}")).expect("an address");
    MessageServiceClient::new(endpoint.connect().await.expect("a connection"))
}

/// `message` with `key` as its metadata.
pub fn with_key<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value: MetadataValue<_> = format!("Bearer {key}").parse().expect("metadata");
    request.metadata_mut().insert("authorization", value);
    request
}

/// A submission with only the required fields, for the key's own org and environment.
pub fn submission(from_id: &str, sid: &str) -> SubmitMessageRequest {
    SubmitMessageRequest {
        org_id: String::new(),
        env: Environment::Unspecified.into(),
        from_id: from_id.into(),
        message_sid: sid.into(),
        timestamp: Some(prost_types::Timestamp { seconds: 1_672_531_200, nanos: 0 }),
        message_body: None,
        media: None,
    }
}

/// A reader of the key's own part of the feed.
pub async fn stream(client: &mut Client, key: &str, from: StreamFrom) -> Streaming<StreamMessagesResponse> {
    let request = StreamMessagesRequest { from: Some(from), ..Default::default() };
    client.stream_messages(with_key(key, request)).await.expect("a stream").into_inner()
}

/// What a stream ends with.
pub async fn end(stream: &mut Streaming<StreamMessagesResponse>) -> Status {
    loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a stream never ends well"),
            Err(status) => return status,
        }
    }
}

/// The next `count` messages of a stream and the cursor after each.
pub async fn take(stream: &mut Streaming<StreamMessagesResponse>, count: usize) -> Vec<(Message, String)> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let frame = stream.message().await.expect("no error").expect("a stream without end");
        taken.extend(frame.messages.into_iter().map(|each| (each.message.expect("a message"), each.cursor)));
    }
    taken
}

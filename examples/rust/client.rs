//! Sends one message over gRPC with tonic, again until the service has answered, and then follows the feed from its
//! beginning until that message comes by.
//!
//!     KEY=mw_dev_… cargo run --example client -- "Here is my meal"
//!
//! `GRPC_ADDR` names another server than the demo's; the key needs the scopes `submit` and `stream`. `MESSAGE_SID`
//! names the message; without it a new one is made.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program for the terminal that stands for one outside of this crate"
)]

use std::{
    env,
    error::Error,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

// Generated from proto/ by tonic-prost-build; in a crate of your own your build.rs does that.
use message_webhook::protocol::grpc::v1::{
    StartPosition, StreamMessagesRequest, SubmitMessageRequest, SubmitMessageResponse,
    message_service_client::MessageServiceClient, stream_messages_request::From,
};
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = env::var("GRPC_ADDR").unwrap_or_else(|_| "127.0.0.1:9090".into());
    let mut bearer: MetadataValue<Ascii> = format!("Bearer {}", env::var("KEY")?).parse()?;
    // Libraries that log metadata leave it out.
    bearer.set_sensitive(true);
    // Connects when it is first used, and again when the connection broke.
    let channel = Endpoint::from_shared(format!("http://{address}"))?
        .http2_keep_alive_interval(Duration::from_secs(15))
        .connect_lazy();
    let mut client = MessageServiceClient::new(channel);

    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let message = SubmitMessageRequest {
        from_id: "user_abc123".into(),
        message_sid: env::var("MESSAGE_SID").unwrap_or_else(|_| format!("msg_{}", uuid::Uuid::new_v4())),
        timestamp: Some(prost_types::Timestamp { seconds: now.as_secs().try_into()?, nanos: 0 }),
        message_body: Some(env::args().nth(1).unwrap_or_else(|| "Here is my meal".into())),
        ..SubmitMessageRequest::default()
    };
    let receipt = submit(&mut client, &bearer, &message).await?;
    println!("{}: {}", receipt.message_sid, receipt.outcome().as_str_name());

    follow_until(&mut client, &bearer, &message.message_sid).await?;
    println!("{}: seen in the feed", message.message_sid);
    Ok(())
}

/// The same message with the same id until there is an answer.
async fn submit(
    client: &mut MessageServiceClient<Channel>,
    bearer: &MetadataValue<Ascii>,
    message: &SubmitMessageRequest,
) -> Result<SubmitMessageResponse, Status> {
    let mut pause = Duration::from_millis(250);
    loop {
        let mut request = Request::new(message.clone());
        request.metadata_mut().insert("authorization", bearer.clone());
        request.set_timeout(Duration::from_secs(10));
        match client.submit_message(request).await {
            // A duplicate is a success like the first one: an earlier try came through, its answer did not.
            Ok(receipt) => return Ok(receipt.into_inner()),
            Err(status) if may_pass(&status) => {
                eprintln!("no answer yet ({:?}), trying again", status.code());
                let wait = status.get_details_retry_info().and_then(|info| info.retry_delay).unwrap_or(pause);
                tokio::time::sleep(wait).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(status) => return Err(status),
        }
    }
}

/// Whether the same call may succeed later. Accepted or not, nobody here can tell; the same message again will.
fn may_pass(status: &Status) -> bool {
    let is_final = status.get_details_error_info().is_some();
    // A quota says when to come back; a message that is too large says nothing of the kind.
    let says_when = status.get_details_retry_info().is_some();
    // An error without our details is the connection's, not the service's.
    says_when || !is_final || matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded)
}

/// Reads the feed until the message with `sid` comes. A real consumer keeps `place` and what it dealt with in one
/// transaction; see `examples/python/consume.py`.
async fn follow_until(
    client: &mut MessageServiceClient<Channel>,
    bearer: &MetadataValue<Ascii>,
    sid: &str,
) -> Result<(), Status> {
    let mut place = From::Position(StartPosition::Start.into());
    loop {
        let mut request =
            Request::new(StreamMessagesRequest { from: Some(place.clone()), ..StreamMessagesRequest::default() });
        request.metadata_mut().insert("authorization", bearer.clone());
        let lost = match client.stream_messages(request).await {
            Ok(stream) => {
                let mut stream = stream.into_inner();
                loop {
                    match stream.message().await {
                        Ok(Some(response)) => {
                            let mut messages = response.messages.into_iter().filter_map(|item| item.message);
                            if messages.any(|message| message.message_sid == sid) {
                                return Ok(());
                            }
                            place = From::Cursor(response.cursor);
                        }
                        Ok(None) => break Status::unavailable("the stream ended"),
                        Err(status) => break status,
                    }
                }
            }
            Err(status) => status,
        };
        if !may_pass(&lost) {
            return Err(lost);
        }
        eprintln!("the stream broke ({:?}), going on at the last place", lost.code());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

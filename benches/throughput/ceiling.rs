//! The ceilings: on each protocol the same framework, the same message, the same answer, and nothing in between.

use std::pin::Pin;

use axum::{Json, Router, routing::post};
use futures_util::Stream;
use message_webhook::protocol::grpc::v1::{
    GetMessageRequest, GetMessageResponse, ListMessagesRequest, ListMessagesResponse, StreamMessagesRequest,
    StreamMessagesResponse, SubmitMessageRequest, SubmitMessageResponse, SubmitMessagesRequest, SubmitMessagesResponse,
    SubmitOutcome,
    message_service_server::{MessageService, MessageServiceServer},
};
use serde::{Deserialize, Serialize};
use tonic::{Request, Response, Status, Streaming};

#[derive(Deserialize)]
#[expect(dead_code, reason = "parsed because the service must parse it")]
struct Submission {
    from_id: String,
    message_sid: String,
    timestamp: Time,
    message_body: Option<String>,
    #[serde(default)]
    image_urls: Vec<String>,
    #[serde(default)]
    audio_urls: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "parsed because the service must parse it")]
enum Time {
    Seconds(i64),
    Text(String),
}

#[derive(Serialize)]
struct Answer {
    status: &'static str,
    message: &'static str,
    message_sid: String,
    duplicate: bool,
    accepted_at: &'static str,
    duplicates_until: &'static str,
}

async fn submit(Json(submission): Json<Submission>) -> Json<Answer> {
    Json(Answer {
        status: "success",
        message: "Message received and processed",
        message_sid: submission.message_sid,
        duplicate: false,
        accepted_at: "2024-12-18T12:00:00.000000Z",
        duplicates_until: "2025-01-17T12:00:00.000000Z",
    })
}

struct Bare;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl MessageService for Bare {
    type SubmitMessagesStream = Answers<SubmitMessagesResponse>;
    type StreamMessagesStream = Answers<StreamMessagesResponse>;

    async fn submit_message(
        &self,
        request: Request<SubmitMessageRequest>,
    ) -> Result<Response<SubmitMessageResponse>, Status> {
        let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        Ok(Response::new(SubmitMessageResponse {
            outcome: SubmitOutcome::Accepted.into(),
            message_sid: request.into_inner().message_sid,
            accepted_at: time(1_734_523_200),
            duplicates_until: time(1_737_115_200),
            ..Default::default()
        }))
    }

    async fn submit_messages(
        &self,
        _: Request<Streaming<SubmitMessagesRequest>>,
    ) -> Result<Response<Self::SubmitMessagesStream>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn get_message(&self, _: Request<GetMessageRequest>) -> Result<Response<GetMessageResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn list_messages(&self, _: Request<ListMessagesRequest>) -> Result<Response<ListMessagesResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn stream_messages(
        &self,
        _: Request<StreamMessagesRequest>,
    ) -> Result<Response<Self::StreamMessagesStream>, Status> {
        Err(Status::unimplemented("not measured"))
    }
}

/// Serves HTTP on `addr` and gRPC on `grpc_addr` until killed.
pub fn serve(addr: &str, grpc_addr: &str) {
    let grpc_addr = grpc_addr.parse().expect("an address");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let grpc = tonic::transport::Server::builder().add_service(MessageServiceServer::new(Bare)).serve(grpc_addr);
        let grpc = tokio::spawn(grpc);
        let listener = tokio::net::TcpListener::bind(addr).await.expect("a free port");
        let router = Router::new().route("/{org_id}/{env}/v1/message-webhook", post(submit));
        let http = tokio::spawn(async { axum::serve(listener, router).await });
        grpc.await.expect("no panic").expect("serving");
        http.await.expect("no panic").expect("serving");
    });
}

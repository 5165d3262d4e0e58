//! The gRPC API for internal services: the same rules as the webhook's, through the same code.
//!
//! The files mirror those of the HTTP edge; what gRPC alone has stands beside them.

mod clock_service;
mod ending;
mod error;
mod foreign;
mod framework;
mod get;
mod head;
mod health;
mod key_service;
mod list;
mod message;
mod patience;
mod received;
mod rpcs;
mod stream;
mod submit;
mod submit_stream;
mod target;
mod transfer_service;

use std::{error::Error as StdError, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::Stream;
use http::HeaderMap;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, body::Body, server::NamedService, service::Routes};
use tower::Service as _;

use self::v1::{
    GetMessageRequest, GetMessageResponse, ListMessagesRequest, ListMessagesResponse, StreamMessagesRequest,
    StreamMessagesResponse, SubmitMessageRequest, SubmitMessageResponse, SubmitMessagesRequest, SubmitMessagesResponse,
    message_service_server::{MessageService as MessageRpcs, MessageServiceServer},
};
use crate::{
    domain::Error,
    protocol::call::{Answer, Edge, Failure, Head, Report},
    service::{Call, Keys, MessageService, Protocol, Readiness, Route},
};

pub use clock_service::clock_service;
pub use key_service::key_service_for_operator;
pub use transfer_service::transfer_service;

pub use generated::{control, v1};

/// Generated from `proto/`, each module from the package of its name.
#[allow(missing_docs, reason = "generated code; its documentation is in the proto files")]
mod generated {
    pub mod v1 {
        tonic::include_proto!("messagewebhook.v1");
    }

    /// For the control socket.
    pub mod control {
        pub mod v1 {
            tonic::include_proto!("messagewebhook.control.v1");
        }
    }
}

/// What `proto/` says, for reflection.
const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/messagewebhook.v1.bin"));

/// Above twice the limit of a message, which the service's own check enforces with its own words; beyond this is what should
/// not even be held in memory.
const DECODING_HEADROOM: usize = 256 * 1024;

/// The gRPC edge.
pub struct Grpc {
    parts: Arc<Parts>,
    /// Reached without a router's reading of the path.
    messages: MessageServiceServer<Messages>,
    others: Routes,
}

/// The RPCs of messages; cheap to clone.
#[derive(Clone)]
struct Messages(Arc<Parts>);

struct Parts {
    service: Arc<MessageService>,
    keys: Arc<Keys>,
    closing: CancellationToken,
    body_timeout: Duration,
    report: Arc<Report>,
}

impl Grpc {
    /// An edge over `service` and `keys`, whose health is `readiness`. Streams are ended when their key is; those that
    /// would never end by themselves end when `closing` is cancelled, so that the listener can. A message must be complete
    /// within `body_timeout`.
    ///
    /// # Errors
    /// [`crate::domain::Kind::Internal`] when the descriptors that were built in cannot be read.
    pub fn new(
        service: Arc<MessageService>,
        keys: Arc<Keys>,
        readiness: &Readiness,
        closing: CancellationToken,
        body_timeout: Duration,
    ) -> Result<Self, Error> {
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                // The details of errors, so that a client which knows nothing but reflection can show them.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        let report = Arc::new(Report::new(Self::PROTOCOL, Self::routes()));
        let others = Routes::new(key_service::for_callers(Arc::clone(&keys), Arc::clone(&report)))
            .add_service(health::server(readiness, &closing))
            .add_service(reflection().build_v1().map_err(Error::internal)?)
            .add_service(reflection().build_v1alpha().map_err(Error::internal)?)
            .prepare();
        let limit = service.limits().body_bytes.saturating_mul(2).saturating_add(DECODING_HEADROOM);
        let parts = Arc::new(Parts { service, keys, closing, body_timeout, report });
        let messages = MessageServiceServer::new(Messages(Arc::clone(&parts))).max_decoding_message_size(limit);
        Ok(Self { parts, messages, others })
    }
}

impl Edge for Grpc {
    type Body = Body;
    const PROTOCOL: Protocol = Protocol::Grpc;

    fn routes() -> impl Iterator<Item = &'static Route> {
        rpcs::RPCS.iter().chain([&rpcs::SUBMIT_ITEM, Route::NONE])
    }

    fn route_of(path: &str) -> &'static Route {
        rpcs::route_of(path)
    }

    fn report(&self) -> &Arc<Report> {
        &self.parts.report
    }

    fn foreign(head: &Head<'_>) -> Option<Failure> {
        foreign::refusal(head)
    }

    fn not_found(_: &str) -> Failure {
        Failure::no_such_rpc()
    }

    fn patience(headers: &HeaderMap) -> Option<Duration> {
        patience::of(headers)
    }

    fn render(failure: &Failure, call: &Call) -> http::Response<Body> {
        error::status(failure, &call.id).into_http()
    }

    fn render_foreign(failure: &Failure, call: &Call) -> http::Response<Body> {
        foreign::render(failure, &call.id)
    }
}

impl<B> Answer<B> for Grpc
where
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>> + Send> + Send + 'static,
{
    async fn answer(&self, call: &Call, request: http::Request<B>) -> http::Response<Body> {
        let mut request = request.map(|body| received::Received::new(body, &self.parts, call));
        head::shrink(&mut request);
        request.extensions_mut().insert(call.clone());
        let service = request.uri().path().strip_prefix('/').and_then(|path| path.split('/').next());
        let answered = if service == Some(<MessageServiceServer<Messages> as NamedService>::NAME) {
            self.messages.clone().call(request).await
        } else {
            self.others.clone().call(request).await
        };
        let Ok(response) = answered;
        match framework::refusal(&response, call.route) {
            Some(failure) => self.reject(&failure, call),
            None => response,
        }
    }
}

impl Messages {
    fn service(&self) -> &MessageService {
        &self.0.service
    }

    fn keys(&self) -> &Keys {
        &self.0.keys
    }

    fn closing(&self) -> &CancellationToken {
        &self.0.closing
    }

    fn refuse(&self, failure: impl Into<Failure>, call: &Call) -> Status {
        refuse(&self.0.report, failure, call)
    }
}

/// Unwrap, convert, call, convert: see the functions.
#[tonic::async_trait]
impl MessageRpcs for Messages {
    async fn submit_message(
        &self,
        request: Request<SubmitMessageRequest>,
    ) -> Result<Response<SubmitMessageResponse>, Status> {
        let (call, request) = opened(request)?;
        submit::submit(self, &call, request).await.map(Response::new).map_err(|error| self.refuse(error, &call))
    }

    type SubmitMessagesStream = BoxStream<SubmitMessagesResponse>;

    async fn submit_messages(
        &self,
        request: Request<Streaming<SubmitMessagesRequest>>,
    ) -> Result<Response<Self::SubmitMessagesStream>, Status> {
        let (call, request) = opened(request)?;
        Ok(boxed(submit_stream::submit_stream(self, call, request)))
    }

    async fn get_message(&self, request: Request<GetMessageRequest>) -> Result<Response<GetMessageResponse>, Status> {
        let (call, request) = opened(request)?;
        get::get(self, &call, request).await.map(Response::new).map_err(|error| self.refuse(error, &call))
    }

    async fn list_messages(
        &self,
        request: Request<ListMessagesRequest>,
    ) -> Result<Response<ListMessagesResponse>, Status> {
        let (call, request) = opened(request)?;
        list::list(self, &call, request).await.map(Response::new).map_err(|error| self.refuse(error, &call))
    }

    type StreamMessagesStream = BoxStream<StreamMessagesResponse>;

    async fn stream_messages(
        &self,
        request: Request<StreamMessagesRequest>,
    ) -> Result<Response<Self::StreamMessagesStream>, Status> {
        let (call, request) = opened(request)?;
        let reader = stream::open(self, &call, request).await.map_err(|error| self.refuse(error, &call))?;
        Ok(boxed(stream::frames(self, call, reader)))
    }
}

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn boxed<T>(stream: impl Stream<Item = Result<T, Status>> + Send + 'static) -> Response<BoxStream<T>> {
    Response::new(Box::pin(stream))
}

/// A request as the way in let it in, and the call that it is.
fn opened<T>(mut request: Request<T>) -> Result<(Call, T), Status> {
    match request.extensions_mut().remove() {
        Some(call) => Ok((call, request.into_inner())),
        // A bug: nobody was asked for a key.
        None => Err(Status::internal("Internal server error")),
    }
}

/// Tells, logs and counts a failure of a method.
fn refuse(report: &Report, failure: impl Into<Failure>, call: &Call) -> Status {
    let failure = failure.into();
    report.failure(&failure, call);
    error::status(&failure, &call.id)
}

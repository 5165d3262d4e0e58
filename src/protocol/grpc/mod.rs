//! The gRPC API for internal services: the same rules as the webhook's, through the same code.
//!
//! The files mirror those of the HTTP edge; what gRPC alone has stands beside them.

mod ending;
mod error;
mod foreign;
mod framework;
mod get;
mod health;
mod key_service;
mod list;
mod message;
mod received;
mod stream;
mod submit;
mod submit_stream;
mod target;
mod transfer_service;

use std::{
    convert::Infallible,
    error::Error as StdError,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, body::Body, server::NamedService, service::Routes};
use tower::Service;

use self::v1::{
    GetMessageRequest, GetMessageResponse, ListMessagesRequest, ListMessagesResponse, StreamMessagesRequest,
    StreamMessagesResponse, SubmitMessageRequest, SubmitMessageResponse, SubmitMessagesRequest, SubmitMessagesResponse,
    message_service_server::{MessageService as MessageRpcs, MessageServiceServer},
};
use crate::{
    domain::{Error, Scope},
    protocol::call::{Edge, Report, RequestId, Route},
    service::{Caller, Keys, MessageService, Readiness},
};

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

const SUBMIT: Route =
    Route { name: "submit", pattern: "messagewebhook.v1.MessageService/SubmitMessage", scope: Some(Scope::Submit) };
const SUBMIT_STREAM: Route = Route {
    name: "submit_stream",
    pattern: "messagewebhook.v1.MessageService/SubmitMessages",
    scope: Some(Scope::Submit),
};
const STREAM: Route =
    Route { name: "stream", pattern: "messagewebhook.v1.MessageService/StreamMessages", scope: Some(Scope::Stream) };
const LIST: Route =
    Route { name: "list", pattern: "messagewebhook.v1.MessageService/ListMessages", scope: Some(Scope::Read) };
const GET: Route =
    Route { name: "get", pattern: "messagewebhook.v1.MessageService/GetMessage", scope: Some(Scope::Read) };
const HEALTH: Route = Route { name: "health", pattern: "grpc.health.v1.Health", scope: None };
const REFLECTION: Route = Route { name: "reflection", pattern: "grpc.reflection", scope: None };

/// Every route, for metrics.
const ROUTES: &[Route] = &[
    SUBMIT,
    SUBMIT_STREAM,
    GET,
    LIST,
    STREAM,
    key_service::CREATE,
    key_service::LIST,
    key_service::REVOKE,
    HEALTH,
    REFLECTION,
    Route::NONE,
];

/// The route of a path. A method that is missing here is never let through to a caller: it would find no [`Caller`].
fn route_of(path: &str) -> Route {
    match path {
        "/messagewebhook.v1.MessageService/SubmitMessage" => SUBMIT,
        "/messagewebhook.v1.MessageService/SubmitMessages" => SUBMIT_STREAM,
        "/messagewebhook.v1.MessageService/GetMessage" => GET,
        "/messagewebhook.v1.MessageService/ListMessages" => LIST,
        "/messagewebhook.v1.MessageService/StreamMessages" => STREAM,
        _ if path.starts_with("/grpc.health.v1.Health/") => HEALTH,
        _ if path.starts_with("/grpc.reflection.v1.ServerReflection/") => REFLECTION,
        _ if path.starts_with("/grpc.reflection.v1alpha.ServerReflection/") => REFLECTION,
        _ => key_service::route_of(path).unwrap_or(Route::NONE),
    }
}

/// The gRPC edge; cheap to clone.
#[derive(Clone)]
pub struct Grpc(Arc<Parts>);

struct Parts {
    service: Arc<MessageService>,
    keys: Arc<Keys>,
    readiness: Readiness,
    closing: CancellationToken,
    body_timeout: Duration,
    edge: Arc<Edge<Body>>,
}

impl Grpc {
    /// An edge over `service` and `keys`, whose health is `readiness`. Streams are ended when their key is; those that
    /// would never end by themselves end when `closing` is cancelled, so that the listener can. A message must be complete
    /// within `body_timeout`.
    pub fn new(
        service: Arc<MessageService>,
        keys: Arc<Keys>,
        readiness: Readiness,
        closing: CancellationToken,
        body_timeout: Duration,
    ) -> Self {
        let edge = Arc::new(edge_of("grpc", route_of, ROUTES));
        Self(Arc::new(Parts { service, keys, readiness, closing, body_timeout, edge }))
    }

    /// What the layers of [`crate::middleware::grpc`] need to know.
    pub fn edge(&self) -> Arc<Edge<Body>> {
        Arc::clone(&self.0.edge)
    }

    /// All services, as one for the listener. They need the layers of [`crate::middleware::grpc`], which find out who
    /// calls.
    ///
    /// # Errors
    /// [`crate::domain::Kind::Internal`] when the descriptors that were built in cannot be read.
    pub fn routes(&self) -> Result<framework::Framed<Services>, Error> {
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                // The details of errors, so that a client which knows nothing but reflection can show them.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        let limit = self.0.service.limits().body_bytes.saturating_mul(2).saturating_add(DECODING_HEADROOM);
        let messages = MessageServiceServer::new(self.clone()).max_decoding_message_size(limit);
        let others = Routes::new(key_service::for_callers(Arc::clone(&self.0.keys), self.edge()))
            .add_service(health::server(&self.0.readiness, &self.0.closing))
            .add_service(reflection().build_v1().map_err(Error::internal)?)
            // Python's own reflection client, among others, knows only the older version of the protocol.
            .add_service(reflection().build_v1alpha().map_err(Error::internal)?)
            .prepare();
        let bodies = Arc::clone(self.0.service.bodies());
        Ok(framework::Framed::new(Services { messages, others }, self.edge(), bodies, self.0.body_timeout))
    }

    fn service(&self) -> &MessageService {
        &self.0.service
    }

    fn keys(&self) -> &Keys {
        &self.0.keys
    }

    fn closing(&self) -> &CancellationToken {
        &self.0.closing
    }

    fn report(&self) -> &Report {
        &self.0.edge.report
    }

    /// Tells, logs and counts a failure of a method.
    fn refuse(&self, error: &Error, route: Route, id: &RequestId) -> Status {
        self.report().failure(error, route, id);
        error::status(error, id)
    }
}

/// Messages, reached without a router's reading of the path, and everything else.
#[derive(Clone)]
pub struct Services {
    messages: MessageServiceServer<Grpc>,
    others: Routes,
}

impl<B> Service<http::Request<B>> for Services
where
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>> + Send> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let service = request.uri().path().strip_prefix('/').and_then(|path| path.split('/').next());
        if service == Some(<MessageServiceServer<Grpc> as NamedService>::NAME) {
            return self.messages.call(request);
        }
        Box::pin(self.others.call(request))
    }
}

/// Unwrap, convert, call, convert: see the functions.
#[tonic::async_trait]
impl MessageRpcs for Grpc {
    async fn submit_message(
        &self,
        request: Request<SubmitMessageRequest>,
    ) -> Result<Response<SubmitMessageResponse>, Status> {
        let (id, request) = (id_of(&request), request);
        submit::submit(self, request, &id).await.map(Response::new).map_err(|error| self.refuse(&error, SUBMIT, &id))
    }

    type SubmitMessagesStream = BoxStream<SubmitMessagesResponse>;

    async fn submit_messages(
        &self,
        request: Request<Streaming<SubmitMessagesRequest>>,
    ) -> Result<Response<Self::SubmitMessagesStream>, Status> {
        let id = id_of(&request);
        let answers = submit_stream::submit_stream(self, request);
        answers.map(boxed).map_err(|error| self.refuse(&error, SUBMIT_STREAM, &id))
    }

    async fn get_message(&self, request: Request<GetMessageRequest>) -> Result<Response<GetMessageResponse>, Status> {
        let (id, request) = (id_of(&request), request);
        get::get(self, request).await.map(Response::new).map_err(|error| self.refuse(&error, GET, &id))
    }

    async fn list_messages(
        &self,
        request: Request<ListMessagesRequest>,
    ) -> Result<Response<ListMessagesResponse>, Status> {
        let id = id_of(&request);
        list::list(self, request).await.map(Response::new).map_err(|error| self.refuse(&error, LIST, &id))
    }

    type StreamMessagesStream = BoxStream<StreamMessagesResponse>;

    async fn stream_messages(
        &self,
        request: Request<StreamMessagesRequest>,
    ) -> Result<Response<Self::StreamMessagesStream>, Status> {
        let id = id_of(&request);
        stream::stream(self, request).await.map(boxed).map_err(|error| self.refuse(&error, STREAM, &id))
    }
}

/// What is known of an edge of gRPC.
fn edge_of(protocol: &'static str, route_of: fn(&str) -> Route, routes: &'static [Route]) -> Edge<Body> {
    Edge {
        report: Report::new(protocol),
        route_of,
        routes,
        render: error::render,
        foreign: foreign::refusal,
        render_foreign: foreign::render,
    }
}

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn boxed<T>(stream: impl Stream<Item = Result<T, Status>> + Send + 'static) -> Response<BoxStream<T>> {
    Response::new(Box::pin(stream))
}

fn id_of<T>(request: &Request<T>) -> RequestId {
    RequestId::of(request.metadata().as_ref())
}

/// Who calls, as the key layer found out.
fn caller_of<T>(request: &mut Request<T>) -> Result<Caller, Error> {
    request.extensions_mut().remove().ok_or_else(|| Error::internal("a method without a checked key"))
}

//! `grpc.health.v1`: shows the process's readiness, the same value as `/readyz`, for each service and for all (`""`).

use std::pin::Pin;

use futures_util::{Stream, StreamExt, stream};
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health, HealthServer},
};

use super::v1::message_service_server;
use crate::service::{Readiness, ReadinessState};

/// The services that have a health, besides the whole server.
const SERVICES: &[&str] = &[message_service_server::SERVICE_NAME];

pub(super) struct Shown {
    readiness: Readiness,
    closing: CancellationToken,
}

/// The service. Watches end when `closing` is cancelled.
pub(super) fn server(readiness: &Readiness, closing: &CancellationToken) -> HealthServer<Shown> {
    HealthServer::new(Shown { readiness: readiness.clone(), closing: closing.clone() })
}

#[tonic::async_trait]
impl Health for Shown {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        if is_known(&request.get_ref().service) {
            Ok(Response::new(answer(serving(self.readiness.get()))))
        } else {
            Err(Status::not_found("There is no such service"))
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let statuses = if is_known(&request.get_ref().service) {
            WatchStream::new(self.readiness.watch()).map(serving).boxed()
        } else {
            // The protocol wants this told and the stream kept: a service may become known.
            stream::iter([ServingStatus::ServiceUnknown]).chain(stream::pending()).boxed()
        };
        let closing = self.closing.clone();
        let statuses = statuses.map(|status| Ok(answer(status))).take_until(closing.cancelled_owned());
        Ok(Response::new(statuses.boxed()))
    }
}

fn is_known(service: &str) -> bool {
    service.is_empty() || SERVICES.contains(&service)
}

fn serving(state: ReadinessState) -> ServingStatus {
    match state {
        ReadinessState::Ready => ServingStatus::Serving,
        ReadinessState::Starting
        | ReadinessState::StoreUnavailable
        | ReadinessState::StoreFailed
        | ReadinessState::Draining => ServingStatus::NotServing,
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

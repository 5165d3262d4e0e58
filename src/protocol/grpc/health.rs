//! `grpc.health.v1`: shows the process's readiness, the same value as `/readyz`. The service of messages and the whole (`""`) are
//! well while messages can be read, so that a full disk takes nobody's reads away; whether they are taken is told apart.

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

/// What is asked by who wants to know whether messages are taken.
const SUBMIT: &str = "messagewebhook.v1.MessageService/SubmitMessage";

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
        let Some(is_well) = health_of(&request.get_ref().service) else {
            return Err(Status::not_found("There is no such service"));
        };
        Ok(Response::new(answer(serving(is_well(self.readiness.get())))))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let statuses = if let Some(is_well) = health_of(&request.get_ref().service) {
            WatchStream::new(self.readiness.watch()).map(move |state| serving(is_well(state))).boxed()
        } else {
            // The protocol wants this told and the stream kept: a service may become known.
            stream::iter([ServingStatus::ServiceUnknown]).chain(stream::pending()).boxed()
        };
        let closing = self.closing.clone();
        let statuses = statuses.map(|status| Ok(answer(status))).take_until(closing.cancelled_owned());
        Ok(Response::new(statuses.boxed()))
    }
}

/// In which states `service` is well; `None` where there is none of that name.
fn health_of(service: &str) -> Option<fn(ReadinessState) -> bool> {
    match service {
        "" | message_service_server::SERVICE_NAME => Some(ReadinessState::reads),
        SUBMIT => Some(ReadinessState::accepts),
        _ => None,
    }
}

fn serving(is_well: bool) -> ServingStatus {
    if is_well { ServingStatus::Serving } else { ServingStatus::NotServing }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

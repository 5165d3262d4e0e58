//! The clock of the store, for the control socket.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    control::v1::{
        TrustClockRequest, TrustClockResponse,
        clock_service_server::{ClockService as ClockRpcs, ClockServiceServer},
    },
    refuse, rpcs,
};
use crate::{
    protocol::call::Report,
    service::{Call, Protocol, StoreClock},
};

struct ClockEdge {
    clock: StoreClock,
    report: Arc<Report>,
}

/// The service for whoever may open the control socket.
pub fn clock_service(clock: StoreClock) -> ClockServiceServer<impl ClockRpcs> {
    let report = Arc::new(Report::new(Protocol::Control, std::iter::empty()));
    ClockServiceServer::new(ClockEdge { clock, report })
}

#[tonic::async_trait]
impl ClockRpcs for ClockEdge {
    async fn trust_clock(&self, request: Request<TrustClockRequest>) -> Result<Response<TrustClockResponse>, Status> {
        let call = Call::begin(Protocol::Control, &rpcs::TRUST_CLOCK, request.metadata().as_ref());
        match self.clock.trust().await {
            Ok(changed) => Ok(Response::new(TrustClockResponse { changed })),
            Err(error) => Err(refuse(&self.report, error, &call)),
        }
    }
}

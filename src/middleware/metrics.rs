//! Counts answers and measures how long they took, by route. All handles are looked up when the layer is made.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use http::{HeaderMap, Request, Response, StatusCode};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{
    domain::Kind,
    protocol::{
        call::{Edge, Route},
        status,
    },
    telemetry::names,
};

/// Answers that no error kind stands for.
const OTHER_STATUSES: [StatusCode; 2] = [StatusCode::OK, StatusCode::NO_CONTENT];
/// gRPC's codes, by number.
const GRPC_CODES: [&str; 17] =
    ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"];

/// See the module.
#[derive(Clone)]
pub(super) struct MetricsLayer(Arc<Meters>);

struct Meters {
    route_of: fn(&str) -> Route,
    routes: Vec<RouteMeters>,
    in_flight: Gauge,
}

struct RouteMeters {
    route: Route,
    seconds: Histogram,
    /// By HTTP status; gRPC's answers are all 200 and are counted by code.
    statuses: Vec<(StatusCode, Counter)>,
    codes: Vec<Counter>,
    other: Counter,
}

impl MetricsLayer {
    pub(super) fn new<B>(edge: &Edge<B>) -> Self {
        let protocol = edge.report.protocol();
        let meters = |route: &Route| RouteMeters::new(protocol, *route);
        let in_flight = gauge!(names::REQUESTS_IN_FLIGHT, "protocol" => protocol);
        Self(Arc::new(Meters { route_of: edge.route_of, routes: edge.routes.iter().map(meters).collect(), in_flight }))
    }
}

impl RouteMeters {
    fn new(protocol: &'static str, route: Route) -> Self {
        let name = route.name;
        let requests = |status: String| counter!(names::REQUESTS_TOTAL, "protocol" => protocol, "route" => name, "status" => status);
        let is_grpc = protocol == "grpc";
        let mut statuses: Vec<(StatusCode, Counter)> = Vec::new();
        if !is_grpc {
            for status in Kind::ALL.iter().map(|kind| status::of(*kind).http).chain(OTHER_STATUSES) {
                if statuses.iter().all(|(known, _)| *known != status) {
                    statuses.push((status, requests(status.as_str().to_owned())));
                }
            }
        }
        Self {
            route,
            seconds: histogram!(names::REQUEST_DURATION_SECONDS, "protocol" => protocol, "route" => name),
            statuses,
            codes: if is_grpc { GRPC_CODES.map(|code| requests(code.to_owned())).into() } else { Vec::new() },
            other: requests("other".to_owned()),
        }
    }

    fn answered(&self, status: StatusCode, headers: &HeaderMap, began: Instant) {
        self.seconds.record(began.elapsed());
        let counter = if self.codes.is_empty() {
            self.statuses.iter().find(|(known, _)| *known == status).map(|(_, counter)| counter)
        } else if status != StatusCode::OK {
            // To what was no gRPC.
            None
        } else {
            // An answer with a message tells its code after it, in trailers: it is a success unless it is a stream.
            let code = headers.get("grpc-status").map_or(Some(0), |code| code.to_str().ok()?.parse::<usize>().ok());
            code.and_then(|code| self.codes.get(code))
        };
        counter.unwrap_or(&self.other).increment(1);
    }
}

#[derive(Clone)]
pub(super) struct Measured<S> {
    inner: S,
    meters: Arc<Meters>,
}

impl<S> Layer<S> for MetricsLayer {
    type Service = Measured<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Measured { inner, meters: Arc::clone(&self.0) }
    }
}

impl<S, R, B> Service<Request<R>> for Measured<S>
where
    S: Service<Request<R>, Response = Response<B>>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Measuring<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let route = (self.meters.route_of)(request.uri().path());
        let index = self.meters.routes.iter().position(|meters| meters.route == route);
        let under_way = UnderWay::new(&self.meters.in_flight);
        let inner = self.inner.call(request);
        Measuring { began: Instant::now(), index, meters: Arc::clone(&self.meters), under_way, inner }
    }
}

pin_project! {
    pub(super) struct Measuring<F> {
        #[pin]
        inner: F,
        meters: Arc<Meters>,
        index: Option<usize>,
        began: Instant,
        under_way: UnderWay,
    }
}

/// One request under way, however it ends.
struct UnderWay(Gauge);

impl UnderWay {
    fn new(gauge: &Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

impl<F, B, E> Future for Measuring<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        if let Some(meters) = this.index.and_then(|index| this.meters.routes.get(index)) {
            meters.answered(response.status(), response.headers(), *this.began);
        }
        Poll::Ready(Ok(response))
    }
}

//! A collector that keeps what it is sent, over both protocols of OTLP on one port.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, routing::post};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{
            ExportLogsServiceRequest, ExportLogsServiceResponse,
            logs_service_server::{LogsService, LogsServiceServer},
        },
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::LogRecord,
    metrics::v1::{Metric, metric::Data, number_data_point},
    resource::v1::Resource,
    trace::v1::Span,
};
use prost::Message;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

/// What was sent so far.
#[derive(Default)]
struct Kept {
    spans: Vec<Span>,
    metrics: Vec<Metric>,
    logs: Vec<LogRecord>,
    resources: Vec<Resource>,
}

/// See the module. It ends with the test's runtime.
#[derive(Clone)]
pub struct Collector {
    pub address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let collector = Self { address: listener.local_addr().expect("bound"), kept: Arc::default() };
        let http = Router::new()
            .route("/v1/traces", post(|State(to): State<Self>, body: Bytes| async move { to.traces(decode(&body)) }))
            .route("/v1/metrics", post(|State(to): State<Self>, body: Bytes| async move { to.metrics(decode(&body)) }))
            .route("/v1/logs", post(|State(to): State<Self>, body: Bytes| async move { to.logs(decode(&body)) }))
            .with_state(collector.clone());
        let grpc = tonic::service::Routes::new(TraceServiceServer::new(collector.clone()))
            .add_service(MetricsServiceServer::new(collector.clone()))
            .add_service(LogsServiceServer::new(collector.clone()));
        let both = grpc.prepare().into_axum_router().fallback_service(http);
        tokio::spawn(async move { axum::serve(listener, both).await });
        collector
    }

    /// The variables that send everything here.
    pub fn variables(&self, protocol: &str) -> Vec<(&'static str, String)> {
        vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", self.address)),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.to_owned()),
            ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
            ("OTEL_BLRP_SCHEDULE_DELAY", "50".to_owned()),
            ("OTEL_METRIC_EXPORT_INTERVAL", "100".to_owned()),
        ]
    }

    pub fn spans(&self) -> Vec<Span> {
        self.kept.lock().expect("no panic").spans.clone()
    }

    /// The metrics of this name, the latest last.
    pub fn metric(&self, name: &str) -> Option<Metric> {
        self.kept.lock().expect("no panic").metrics.iter().rev().find(|metric| metric.name == name).cloned()
    }

    pub fn log_records(&self) -> Vec<LogRecord> {
        self.kept.lock().expect("no panic").logs.clone()
    }

    /// Attributes of the processes that sent something.
    pub fn resource_attribute(&self, name: &str) -> Option<String> {
        let kept = self.kept.lock().expect("no panic");
        kept.resources.iter().find_map(|resource| text(&resource.attributes, name))
    }

    fn traces(&self, request: ExportTraceServiceRequest) {
        let mut kept = self.kept.lock().expect("no panic");
        for each in request.resource_spans {
            kept.resources.extend(each.resource);
            kept.spans.extend(each.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }

    fn metrics(&self, request: ExportMetricsServiceRequest) {
        let mut kept = self.kept.lock().expect("no panic");
        for each in request.resource_metrics {
            kept.metrics.extend(each.scope_metrics.into_iter().flat_map(|scope| scope.metrics));
        }
    }

    fn logs(&self, request: ExportLogsServiceRequest) {
        let mut kept = self.kept.lock().expect("no panic");
        for each in request.resource_logs {
            kept.logs.extend(each.scope_logs.into_iter().flat_map(|scope| scope.log_records));
        }
    }
}

fn decode<M: Message + Default>(body: &[u8]) -> M {
    M::decode(body).expect("protobuf")
}

/// The attribute `name` as a text.
pub fn text(attributes: &[KeyValue], name: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == name)?.value.as_ref()?;
    Some(match value {
        AnyValue { value: Some(Value::StringValue(text)) } => text.clone(),
        AnyValue { value: Some(Value::IntValue(number)) } => number.to_string(),
        other => format!("{other:?}"),
    })
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.traces(request.into_inner());
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.metrics(request.into_inner());
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.logs(request.into_inner());
        Ok(Response::new(Default::default()))
    }
}

/// The number with these labels.
pub fn number(data: &Data, labels: &[(&str, &str)]) -> Option<f64> {
    let points = match data {
        Data::Gauge(gauge) => &gauge.data_points,
        Data::Sum(sum) => &sum.data_points,
        other => panic!("no number: {other:?}"),
    };
    let has =
        |attributes: &[KeyValue]| labels.iter().all(|(name, value)| text(attributes, name).as_deref() == Some(value));
    match points.iter().find(|point| has(&point.attributes))?.value? {
        number_data_point::Value::AsDouble(number) => Some(number),
        number_data_point::Value::AsInt(number) => Some(number as f64),
    }
}

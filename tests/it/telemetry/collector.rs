//! A collector that keeps what it is sent, over both protocols of OTLP on one port.

use std::{
    io::{self, Read},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, routing::post, serve::Listener};
use flate2::read::GzDecoder;
use http::HeaderMap;
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
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::{Request, Response, Status, codec::CompressionEncoding};

/// What was sent so far.
#[derive(Default)]
struct Kept {
    spans: Vec<Span>,
    metrics: Vec<Metric>,
    logs: Vec<LogRecord>,
    resources: Vec<Resource>,
    /// How many came compressed.
    compressed: usize,
}

/// See the module. It ends with the test's runtime.
#[derive(Clone)]
pub struct Collector {
    pub address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
}

impl Collector {
    pub async fn start() -> Self {
        Self::begin(None).await
    }

    /// One that speaks TLS alone.
    pub async fn start_with(tls: ServerConfig) -> Self {
        Self::begin(Some(tls)).await
    }

    async fn begin(tls: Option<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let collector = Self { address: listener.local_addr().expect("bound"), kept: Arc::default() };
        type Sent = (State<Collector>, HeaderMap, Bytes);
        let http = Router::new()
            .route(
                "/v1/traces",
                post(|(State(to), head, body): Sent| async move { to.traces(to.decode(&head, &body)) }),
            )
            .route(
                "/v1/metrics",
                post(|(State(to), head, body): Sent| async move { to.metrics(to.decode(&head, &body)) }),
            )
            .route("/v1/logs", post(|(State(to), head, body): Sent| async move { to.logs(to.decode(&head, &body)) }))
            .with_state(collector.clone());
        let gzip = CompressionEncoding::Gzip;
        let grpc = tonic::service::Routes::new(TraceServiceServer::new(collector.clone()).accept_compressed(gzip))
            .add_service(MetricsServiceServer::new(collector.clone()).accept_compressed(gzip))
            .add_service(LogsServiceServer::new(collector.clone()).accept_compressed(gzip));
        let both = grpc.prepare().into_axum_router().fallback_service(http);
        match tls {
            None => tokio::spawn(async move { axum::serve(listener, both).await }),
            Some(config) => {
                let listener = TlsListener { listener, acceptor: TlsAcceptor::from(Arc::new(config)) };
                tokio::spawn(async move { axum::serve(listener, both).await })
            }
        };
        collector
    }

    /// How many batches came compressed.
    pub fn compressed(&self) -> usize {
        self.kept.lock().expect("no panic").compressed
    }

    fn decode<M: Message + Default>(&self, head: &HeaderMap, body: &[u8]) -> M {
        if head.get("content-encoding").is_none() {
            return M::decode(body).expect("protobuf");
        }
        self.kept.lock().expect("no panic").compressed += 1;
        let mut plain = Vec::new();
        GzDecoder::new(body).read_to_end(&mut plain).expect("gzip");
        M::decode(plain.as_slice()).expect("protobuf")
    }

    fn taken<T>(&self, request: Request<T>) -> T {
        if request.metadata().get("grpc-encoding").is_some_and(|encoding| encoding == "gzip") {
            self.kept.lock().expect("no panic").compressed += 1;
        }
        request.into_inner()
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

struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
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
        self.traces(self.taken(request));
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.metrics(self.taken(request));
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.logs(self.taken(request));
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

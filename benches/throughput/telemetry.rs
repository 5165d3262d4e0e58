//! What telemetry costs: the service with traces of 1% of requests and metrics over OTLP, beside one that exports nothing.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use super::{Options, fresh, report::Report, server::Service, turns::in_turn};

/// The share that operators are told to keep.
const GOAL: &str = "at least 0.9";

pub fn measure(options: &Options, report: &mut Report) {
    let sink = Sink::start();
    let endpoint = format!("http://{}", sink.address);
    let exporting: &[(&str, &str)] = &[
        ("OTEL_TRACES_EXPORTER", "otlp"),
        ("OTEL_METRICS_EXPORTER", "otlp"),
        ("OTEL_LOGS_EXPORTER", "otlp"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.01"),
        ("OTEL_BSP_SCHEDULE_DELAY", "500"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1000"),
    ];
    let off = Service::start(&fresh(options, "telemetry-off"));
    let on = Service::start_with(&fresh(options, "telemetry-on"), exporting);
    let [without, with] = in_turn(options, report, [("off", &off), ("on", &on)]);
    let taken = sink.requests.load(Ordering::Relaxed);
    assert!(taken > 0, "nothing was exported");
    report.ratio(&format!("accepts with telemetry ({taken} exports) / without"), &with, &without, GOAL);
}

/// A collector that takes everything and keeps nothing, on the load generator's core.
struct Sink {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
}

impl Sink {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let sink = Self { address: listener.local_addr().expect("bound"), requests: Arc::default() };
        let requests = Arc::clone(&sink.requests);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let requests = Arc::clone(&requests);
                thread::spawn(move || take(stream, &requests));
            }
        });
        sink
    }
}

/// Answers the requests of one connection, one after the other.
fn take(mut stream: TcpStream, requests: &AtomicU64) {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
    let (mut held, mut block) = (Vec::new(), vec![0; 64 * 1024]);
    while let Ok(count @ 1..) = stream.read(&mut block) {
        held.extend_from_slice(&block[..count]);
        while let Some(whole) = length(&held).filter(|whole| held.len() >= *whole) {
            held.drain(..whole);
            requests.fetch_add(1, Ordering::Relaxed);
            if stream.write_all(ANSWER).is_err() {
                return;
            }
        }
    }
}

/// The bytes of the request that `held` begins with, once its head is there.
fn length(held: &[u8]) -> Option<usize> {
    let head = held.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&held[..head]).to_ascii_lowercase();
    let body = text.lines().find_map(|line| line.strip_prefix("content-length:"))?.trim().parse::<usize>().ok()?;
    Some(head + body)
}

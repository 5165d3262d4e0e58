//! gRPC and the feed beside the webhook: the same store, the same messages, in turn.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use message_webhook::domain::{Clock, SystemClock};
use message_webhook::protocol::grpc::v1::{
    StartPosition, StreamMessagesRequest, StreamMessagesResponse, SubmitMessageRequest, SubmitMessagesRequest,
    message_service_client::MessageServiceClient, stream_messages_request::From as StreamFrom,
};
use tonic::{Request as Call, Streaming, transport::Channel};

use super::{
    CONNECTIONS, Options, fresh,
    load::{Body, Load, Outcome, Stop, Target},
    report::{Report, median},
    rpc,
    server::{Ceiling, Service},
};

const UNARY_CONNECTIONS: usize = 64;
/// Messages of the one stream that are under way at once.
const STREAM_WINDOW: u64 = 1024;
const IDLE_STREAMS: usize = 1000;
const STREAMS_PER_CONNECTION: usize = 100;
const DELIVERIES: usize = 500;
const SETTLING: Duration = Duration::from_secs(3);

pub fn measure(options: &Options, report: &mut Report) {
    // One thread: the load generator has one core.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (ceiling, service) = (Ceiling::start(), Service::start(&fresh(options, "grpc")));
    let (http, grpc) = (service.target(), service.grpc());
    let (mut bare_http, mut bare_unary) = (vec![], vec![]);
    let (mut http_cpu, mut unary_cpu) = (vec![], vec![]);
    let (mut http_64, mut unary, mut http_256, mut streamed, mut fed) = (vec![], vec![], vec![], vec![], vec![]);
    for round in 0..options.rounds {
        let accepted = |outcome: Outcome| {
            assert_eq!((outcome.wrong, outcome.duplicates), (0, 0), "answers other than accepted");
            outcome.rate()
        };
        let over_http = |target, connections, prefix: String| {
            let body = Body::unique(&prefix);
            accepted(Load { target, connections, body, stop: Stop::After(options.duration) }.run())
        };
        let over_grpc =
            |target, prefix: String| accepted(rpc::run(target, UNARY_CONNECTIONS, &prefix, options.duration));
        bare_http.push(over_http(ceiling.target(), UNARY_CONNECTIONS, format!("h{round:02}")));
        bare_unary.push(over_grpc(ceiling.grpc(), format!("u{round:02}")));
        // Tables are written behind the submissions for a moment: what comes next waits for that, and each is the first
        // of the two in half of the rounds.
        for first in [round % 2 == 0, round % 2 == 1] {
            std::thread::sleep(SETTLING);
            let before = service.cpu();
            let (rates, cpus, rate) = if first {
                (&mut http_64, &mut http_cpu, over_http(http, UNARY_CONNECTIONS, format!("h{round:02}")))
            } else {
                (&mut unary, &mut unary_cpu, over_grpc(grpc, format!("u{round:02}")))
            };
            rates.push(rate);
            cpus.push((service.cpu() - before).as_secs_f64() * 1e6 / (rate * options.duration.as_secs_f64()));
        }
        std::thread::sleep(SETTLING);
        http_256.push(over_http(http, CONNECTIONS, format!("H{round:02}")));
        streamed.push(runtime.block_on(stream_rate(grpc, &format!("s{round:02}"), options.duration)));
        std::thread::sleep(SETTLING);
        fed.push(runtime.block_on(feed_rate(grpc, options.duration)));
        report.progress(&format!(
            "round {}: bare HTTP {:.0}/s, bare unary {:.0}/s, HTTP {:.0}/s, unary {:.0}/s at {UNARY_CONNECTIONS}; HTTP {:.0}/s at {CONNECTIONS}, one stream {:.0}/s, feed {:.0}/s",
            round + 1, bare_http[round], bare_unary[round], http_64[round], unary[round], http_256[round], streamed[round], fed[round],
        ));
    }
    report.ratio("gRPC unary / HTTP, 64 connections", &unary, &http_64, "at least 0.9");
    report.line(
        "CPU of one answer, 64 connections",
        format!("gRPC {:.1} µs, HTTP {:.1} µs", median(&unary_cpu), median(&http_cpu)),
    );
    report.ratio("of them the frameworks alone: bare tonic / bare axum", &bare_unary, &bare_http, "at least 0.9");
    report.ratio("gRPC unary / bare tonic", &unary, &bare_unary, "at least 0.5");
    report.ratio("one stream of submissions / HTTP, 256 connections", &streamed, &http_256, "at least 2.0");
    report.ratio("one reader of the feed / one stream of submissions", &fed, &streamed, "at least 1.0");

    let delays = runtime.block_on(delivery_ms(http, grpc));
    report.line("accepted to delivered", format!("median {:.2} ms (goal: under 5)", median(&delays)));

    let service = Service::start(&fresh(options, "idle-streams"));
    let before = service.resident_mb();
    let streams = runtime.block_on(idle_streams(service.grpc()));
    let growth = service.resident_mb().saturating_sub(before);
    report.line(&format!("{IDLE_STREAMS} idle streams over idle"), format!("{growth} MB (goal: under 60)"));
    drop(streams);
}

pub fn submission(prefix: &str, number: u64) -> SubmitMessageRequest {
    use message_webhook::protocol::grpc::v1::submit_message_request::Media;
    SubmitMessageRequest {
        from_id: format!("user_{:010}", number % 10_000),
        message_sid: format!("msg_{prefix}_{number:010}"),
        timestamp: Some(prost_types::Timestamp { seconds: 1_672_531_200, nanos: 0 }),
        message_body: Some("Here is my meal, this is gruyere cheese btw.".into()),
        media: Some(Media::ImageUrl("https://example.com/images/food.jpg".into())),
        ..Default::default()
    }
}

async fn client(target: &Target) -> MessageServiceClient<Channel> {
    let endpoint = Channel::from_shared(format!("http://{}", target.addr)).expect("an address");
    MessageServiceClient::new(endpoint.connect().await.expect("a server that listens"))
}

fn with_key<T>(target: &Target, message: T) -> Call<T> {
    let mut call = Call::new(message);
    call.metadata_mut().insert("authorization", format!("Bearer {}", target.key).parse().expect("metadata"));
    call
}

async fn stream_rate(target: &Target, prefix: &str, duration: Duration) -> f64 {
    let mut client = client(target).await;
    let begun = Instant::now();
    let room = std::sync::Arc::new(tokio::sync::Semaphore::new(STREAM_WINDOW as usize));
    let requests = {
        let (room, prefix) = (room.clone(), prefix.to_owned());
        stream::unfold(0_u64, move |number| {
            let (room, prefix) = (room.clone(), prefix.clone());
            async move {
                room.acquire().await.ok()?.forget();
                let message = Some(submission(&prefix, number));
                let next = SubmitMessagesRequest { correlation_id: number, message };
                (begun.elapsed() < duration).then_some((next, number + 1))
            }
        })
    };
    let call = with_key(target, requests);
    let mut answers = client.submit_messages(call).await.expect("a stream").into_inner();
    let mut accepted = 0;
    while let Some(answer) = answers.message().await.expect("no error") {
        use message_webhook::protocol::grpc::v1::submit_messages_response::Result as Answer;
        assert!(matches!(answer.result, Some(Answer::Receipt(_))), "answers other than receipts");
        accepted += 1;
        room.add_permits(1);
    }
    f64::from(accepted) / begun.elapsed().as_secs_f64()
}

async fn follow(target: &Target, from: StreamFrom) -> Streaming<StreamMessagesResponse> {
    let request = StreamMessagesRequest { from: Some(from), ..Default::default() };
    client(target).await.stream_messages(with_key(target, request)).await.expect("a stream").into_inner()
}

/// How fast one reader is given what is stored.
async fn feed_rate(target: &Target, duration: Duration) -> f64 {
    let begun = Instant::now();
    let mut delivered = 0;
    while begun.elapsed() < duration {
        let mut feed = follow(target, StreamFrom::Position(StartPosition::Start.into())).await;
        while begun.elapsed() < duration {
            let frame = feed.message().await.expect("no error").expect("a stream without end");
            if frame.messages.is_empty() && delivered > 0 {
                break;
            }
            delivered += frame.messages.len();
        }
    }
    delivered as f64 / begun.elapsed().as_secs_f64()
}

/// From the time of acceptance, as the service stamped it, to the time at which a reader has the message.
async fn delivery_ms(http: &Target, grpc: &Target) -> Vec<f64> {
    let mut feed = follow(grpc, StreamFrom::Position(StartPosition::Now.into())).await;
    let (http, mut delays) = (http.clone(), Vec::new());
    let sender = tokio::task::spawn_blocking(move || {
        let mut lone = super::lone::Lone::connect(&http);
        for _ in 0..DELIVERIES {
            lone.submit();
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    while delays.len() < DELIVERIES {
        let frame = feed.message().await.expect("no error").expect("a stream without end");
        let now = SystemClock.now().as_micros();
        for message in frame.messages {
            let at = message.message.and_then(|message| message.accepted_at).expect("a time");
            let accepted_at = at.seconds * 1_000_000 + i64::from(at.nanos / 1000);
            delays.push((now - accepted_at) as f64 / 1e3);
        }
    }
    sender.await.expect("a sender");
    delays
}

async fn idle_streams(target: &Target) -> Vec<impl Sized> {
    let mut streams = Vec::new();
    for _ in 0..IDLE_STREAMS / STREAMS_PER_CONNECTION {
        let mut client = client(target).await;
        for _ in 0..STREAMS_PER_CONNECTION {
            let from = Some(StreamFrom::Position(StartPosition::Now.into()));
            let request = with_key(target, StreamMessagesRequest { from, ..Default::default() });
            let mut feed = client.stream_messages(request).await.expect("a stream").into_inner();
            feed.next().await.expect("a first frame").expect("no error");
            streams.push(feed);
        }
    }
    streams
}

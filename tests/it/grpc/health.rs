//! gRPC health and the admin port show one value.

use std::net::SocketAddr;

use message_webhook::service::ReadinessState;
use tonic::{Code, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::client::Refused;
use crate::support::{
    edges::{Edges, PATH, Settings},
    message,
    raw::{Client, PATIENCE, ask, post},
};

async fn client(edges: &Edges) -> HealthClient<Channel> {
    let channel = Channel::from_shared(format!("http://{}", edges.grpc)).expect("a URI");
    HealthClient::new(channel.connect().await.expect("connected"))
}

async fn admin(edges: &Edges, path: &str) -> (u16, String) {
    page(edges.admin, path).await
}

async fn page(address: SocketAddr, path: &str) -> (u16, String) {
    let mut client = Client::connect(address).await;
    client.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
    let answer = client.answer().await;
    (answer.status, String::from_utf8(answer.body).expect("UTF-8"))
}

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.into() }
}

#[tokio::test]
async fn check_and_readyz_follow_the_readiness_and_livez_does_not() {
    let edges = Edges::start().await;
    let mut client = client(&edges).await;
    // Whether messages are taken, and whether they can be read.
    for (state, accepts, reads) in [
        (ReadinessState::Ready, true, true),
        (ReadinessState::ReadOnly, false, true),
        (ReadinessState::StoreUnavailable, false, false),
        (ReadinessState::StoreFailed, false, true),
        (ReadinessState::Starting, false, false),
        (ReadinessState::Draining, false, false),
    ] {
        edges.readiness.set(state);
        for (service, is_well) in [
            ("", reads),
            ("messagewebhook.v1.MessageService", reads),
            ("messagewebhook.v1.MessageService/SubmitMessage", accepts),
        ] {
            let answer = client.check(of(service)).await.expect("known").into_inner();
            let serving = if is_well { ServingStatus::Serving } else { ServingStatus::NotServing };
            assert_eq!(answer.status(), serving, "{state:?} {service}");
        }
        for (path, is_well) in [("/readyz", accepts), ("/readyz/webhook", accepts), ("/readyz/grpc", reads)] {
            let status = if is_well { 200 } else { 503 };
            assert_eq!(admin(&edges, path).await, (status, format!("{}\n", state.as_str())), "{path}");
        }
        let alive = state != ReadinessState::StoreFailed;
        assert_eq!(admin(&edges, "/livez").await.0, if alive { 200 } else { 503 });
        // On the port that everybody reaches: in one word, and nothing of why.
        for (path, is_well) in [("/readyz", accepts), ("/readyz/grpc", reads)] {
            let answer = if is_well { (200, "ready\n") } else { (503, "unready\n") };
            assert_eq!(page(edges.http, path).await, (answer.0, answer.1.to_owned()), "{state:?} {path}");
        }
    }
    let status = client.check(of("nobody")).await.refused("unknown");
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn probes_are_answered_however_much_is_under_way() {
    let edges = Edges::start_with(Settings { requests_in_flight: 0, ..Settings::default() }).await;
    for path in ["/readyz", "/readyz/grpc"] {
        assert_eq!(page(edges.http, path).await.0, 200, "{path}");
        let mut client = Client::connect(edges.http).await;
        client.send(format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{path}");
    }
    let answer = client(&edges).await.check(of("")).await.expect("known").into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);
    let answer = ask(edges.http, post(PATH, &edges.key, message("s"))).await;
    assert_eq!(answer.error_code(), "overloaded", "where everything else is refused");
}

#[tokio::test]
async fn a_watch_tells_every_change_and_ends_with_the_server() {
    let mut edges = Edges::start().await;
    let mut client = client(&edges).await;
    let mut watch = client.watch(of("")).await.expect("a stream").into_inner();
    let mut unknown = client.watch(of("nobody")).await.expect("a stream").into_inner();
    for (state, serving) in [
        (ReadinessState::Ready, ServingStatus::Serving),
        (ReadinessState::StoreUnavailable, ServingStatus::NotServing),
        (ReadinessState::Ready, ServingStatus::Serving),
        (ReadinessState::Draining, ServingStatus::NotServing),
    ] {
        edges.readiness.set(state);
        let told = watch.message().await.expect("alive").expect("a change");
        assert_eq!(told.status(), serving, "{state:?}");
    }
    let told = unknown.message().await.expect("alive").expect("at once");
    assert_eq!(told.status(), ServingStatus::ServiceUnknown);
    tokio::time::timeout(PATIENCE, edges.stop()).await.expect("open streams do not hold the server");
    assert!(watch.message().await.is_ok_and(|last| last.is_none()));
}

#[tokio::test]
async fn the_admin_port_has_three_pages_and_no_other_methods() {
    let edges = Edges::start().await;
    assert_eq!(admin(&edges, "/metrics").await, (200, "a_metric 1\n".to_owned()));
    assert_eq!(admin(&edges, "/").await.0, 404);
    let mut client = Client::connect(edges.admin).await;
    client.send("POST /livez HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 405);
}

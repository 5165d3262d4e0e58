//! gRPC health and the admin port show one value.

use message_webhook::service::ReadinessState;
use tonic::{Code, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::client::Refused;
use crate::support::{
    edges::Edges,
    raw::{Client, PATIENCE},
};

async fn client(edges: &Edges) -> HealthClient<Channel> {
    let channel = Channel::from_shared(format!("http://{}", edges.grpc)).expect("a URI");
    HealthClient::new(channel.connect().await.expect("connected"))
}

async fn admin(edges: &Edges, path: &str) -> (u16, String) {
    let mut client = Client::connect(edges.admin).await;
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
    for (state, serving, status) in [
        (ReadinessState::Ready, ServingStatus::Serving, 200),
        (ReadinessState::StoreUnavailable, ServingStatus::NotServing, 503),
        (ReadinessState::Draining, ServingStatus::NotServing, 503),
    ] {
        edges.readiness.set(state);
        for service in ["", "messagewebhook.v1.MessageService"] {
            let answer = client.check(of(service)).await.expect("known").into_inner();
            assert_eq!(answer.status(), serving, "{state:?}");
        }
        assert_eq!(admin(&edges, "/readyz").await, (status, format!("{}\n", state.as_str())));
        assert_eq!(admin(&edges, "/livez").await.0, 200);
    }
    let status = client.check(of("nobody")).await.refused("unknown");
    assert_eq!(status.code(), Code::NotFound);
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

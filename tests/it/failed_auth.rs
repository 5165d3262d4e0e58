//! Guessing keys: whoever fails too often is told to wait, and nobody else.

use message_webhook::domain::{Environment, Rate, Scope};
use tonic::Code;

use crate::{
    grpc::client::{Failure, Refused},
    support::{
        TestServer,
        edges::{Edges, PATH, Settings},
        get,
        grpc::{client, submission, with_key},
        message, post,
        raw::{Client, ask, post as raw_post},
    },
};

const WRONG: &str = "mw_dev_aaaaaaaaaaaa_wrong";

#[tokio::test]
async fn an_address_that_fails_too_often_is_429_on_both_ports_while_good_keys_from_there_go_on() {
    let failed_auth = Rate::parse("1/h burst 4");
    let edges = Edges::start_with(Settings { failed_auth, ..Settings::default() }).await;
    let mut http = Client::connect(edges.http).await;
    let mut grpc = client(edges.grpc).await;
    // What one port has seen counts on the other.
    for _ in 0..2 {
        http.send(raw_post(PATH, WRONG, message("s"))).await;
        assert_eq!(http.answer().await.status, 401);
        let status = grpc.submit_message(with_key(WRONG, submission("u", "s"))).await.refused("no key");
        assert!(Failure::of(&status).is(Code::Unauthenticated, "UNAUTHENTICATED"), "{status:?}");
    }
    for number in 0..20 {
        http.send(raw_post(PATH, WRONG, message("s"))).await;
        let answer = http.answer().await;
        assert_eq!((answer.status, answer.error_code().as_str()), (429, "rate_limited"));
        let wait: u64 = answer.header("retry-after").expect("told").parse().expect("seconds");
        assert!((3000..=3600).contains(&wait), "{wait}");
        assert_eq!(answer.header("ratelimit-policy"), Some("\"address\";q=4;w=14400"));
        let status = grpc.submit_message(with_key(WRONG, submission("u", "s"))).await.refused("too many");
        let failure = Failure::of(&status);
        assert!(failure.is(Code::ResourceExhausted, "RATE_LIMITED") && failure.retry_after.is_some(), "{failure:?}");
        // On the same connections, as behind a proxy.
        http.send(raw_post(PATH, &edges.key, message(&format!("h{number}")))).await;
        assert_eq!(http.answer().await.status, 200);
        let good = with_key(&edges.key, submission("u", &format!("g{number}")));
        grpc.submit_message(good).await.expect("a good key");
        // What a good key may not do is told as ever.
        let foreign = raw_post("/other/dev/v1/message-webhook", &edges.key, message("s"));
        assert_eq!(ask(edges.http, foreign).await.status, 403);
    }
}

#[tokio::test]
async fn by_default_a_hundred_may_fail_at_once_and_the_setting_0_lets_all_of_them() {
    for (setting, some_are_limited) in [(None, true), (Some("0"), false)] {
        let server =
            setting.iter().fold(TestServer::builder(), |server, limit| server.set("rate_limit_failed_auth", limit));
        let server = server.start().await;
        let good = server.key("acme", Environment::Dev, &[Scope::Submit]).await;
        let mut client = Client::connect(server.http).await;
        let mut statuses = Vec::new();
        // At the default rate ten more come in every second.
        while statuses.len() < 101 || (some_are_limited && !statuses.contains(&429) && statuses.len() < 5000) {
            client.send(raw_post(PATH, WRONG, message("s"))).await;
            statuses.push(client.answer().await.status);
        }
        assert!(statuses[..100].iter().all(|status| *status == 401), "{statuses:?}");
        assert_eq!(statuses.contains(&429), some_are_limited);
        let (status, body) = post(server.http, PATH, &good, message("good")).await;
        assert_eq!(status, 200, "{body}");
        let (_, metrics) = get(server.admin, "/metrics").await.expect("metrics");
        assert!(metrics.contains(r#"message_webhook_auth_failures_total{code="unauthenticated"}"#), "{metrics}");
        let refused = r#"message_webhook_rejected_total{protocol="http",route="submit",code="unauthenticated"} "#;
        let refused = metrics.lines().find_map(|line| line.strip_prefix(refused)?.parse().ok());
        assert!(refused >= Some(100_u32), "{metrics}");
        // Told apart from the quotas of tenants, which an alert is about.
        let limited = r#"message_webhook_rejected_total{protocol="http",route="submit",code="auth_rate_limited"} "#;
        let limited = metrics.lines().find_map(|line| line.strip_prefix(limited)?.parse().ok());
        assert!(limited >= Some(u32::from(some_are_limited)), "{metrics}");
    }
}

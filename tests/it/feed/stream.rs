use std::time::Duration;

use message_webhook::{
    domain::{Environment, KeyOwner, Scope},
    protocol::grpc::v1::{self, StartPosition, StreamMessagesRequest, stream_messages_request::From as StreamFrom},
};
use tonic::Code;
use tonic_types::StatusExt;

use crate::support::{
    self, PATIENCE, TestServer, eventually,
    grpc::{client, end, stream, submission, take, with_key},
};

const ALL: &[Scope] = &[Scope::Submit, Scope::Read, Scope::Stream];
const START: StreamFrom = StreamFrom::Position(StartPosition::Start as i32);
const NOW: StreamFrom = StreamFrom::Position(StartPosition::Now as i32);

fn sids(messages: &[(v1::Message, String)]) -> Vec<&str> {
    messages.iter().map(|(message, _)| message.message_sid.as_str()).collect()
}

#[tokio::test]
async fn what_is_accepted_over_either_protocol_is_delivered_in_order_and_whole() {
    let server = TestServer::start().await;
    let key = server.key("acme", Environment::Dev, ALL).await;
    let mut grpc = client(server.grpc).await;
    let mut feed = stream(&mut grpc, &key, START).await;
    let body = r#"{"from_id":"u","message_sid":"over-http","timestamp":1672531200,"message_body":"hi","image_urls":["https://example.com/a.jpg"]}"#;
    assert_eq!(support::post(server.http, "/acme/dev/v1/message-webhook", &key, body).await.0, 200);
    // A repetition is not delivered again.
    assert_eq!(support::post(server.http, "/acme/dev/v1/message-webhook", &key, body).await.0, 200);
    grpc.submit_message(with_key(&key, submission("u", "over-grpc"))).await.expect("accepted");
    let messages = take(&mut feed, 2).await;
    assert_eq!(sids(&messages), ["over-http", "over-grpc"]);
    let (first, _) = &messages[0];
    assert_eq!((first.org_id.as_str(), first.from_id.as_str()), ("acme", "u"));
    assert!(first.env() == v1::Environment::Dev);
    assert_eq!(first.message_body.as_deref(), Some("hi"));
    assert!(first.media == Some(v1::message::Media::ImageUrl("https://example.com/a.jpg".into())));
    assert!(first.accepted_at.is_some());
}

#[tokio::test]
async fn a_reader_that_returns_with_its_cursor_misses_nothing_and_repeats_nothing() {
    let server = TestServer::start().await;
    let key = server.key("acme", Environment::Dev, ALL).await;
    let mut grpc = client(server.grpc).await;
    for sid in ["a", "b", "c"] {
        grpc.submit_message(with_key(&key, submission("u", sid))).await.expect("accepted");
    }
    let first = take(&mut stream(&mut grpc, &key, START).await, 3).await;
    let (_, after_a) = &first[0];
    assert!(after_a.len() <= 64);
    grpc.submit_message(with_key(&key, submission("u", "d"))).await.expect("accepted");
    let rest = take(&mut stream(&mut grpc, &key, StreamFrom::Cursor(after_a.clone())).await, 3).await;
    assert_eq!(sids(&rest), ["b", "c", "d"]);
}

#[tokio::test]
async fn a_stream_from_now_or_from_a_time_leaves_out_what_came_before() {
    let server = TestServer::start().await;
    let key = server.key("acme", Environment::Dev, ALL).await;
    let mut grpc = client(server.grpc).await;
    grpc.submit_message(with_key(&key, submission("u", "old"))).await.expect("accepted");
    let mut now = stream(&mut grpc, &key, NOW).await;
    let answer = grpc.submit_message(with_key(&key, submission("u", "new"))).await.expect("accepted").into_inner();
    assert_eq!(sids(&take(&mut now, 1).await), ["new"]);
    let accepted_at = answer.accepted_at.expect("a time");
    let mut from_time = stream(&mut grpc, &key, StreamFrom::Time(accepted_at)).await;
    assert_eq!(sids(&take(&mut from_time, 1).await), ["new"]);
}

#[tokio::test]
async fn a_key_of_an_org_sees_its_own_and_a_platform_key_what_it_asks_for() {
    let server = TestServer::start().await;
    let dev = server.key("acme", Environment::Dev, ALL).await;
    let prod = server.key("acme", Environment::Prod, ALL).await;
    let other = server.key("other", Environment::Dev, ALL).await;
    let platform = server.key_of(KeyOwner::Platform, &[Scope::Stream]).await;
    let mut grpc = client(server.grpc).await;
    for (key, sid) in [(&dev, "dev"), (&prod, "prod"), (&other, "other"), (&dev, "end")] {
        grpc.submit_message(with_key(key, submission("u", sid))).await.expect("accepted");
    }
    assert_eq!(sids(&take(&mut stream(&mut grpc, &dev, START).await, 2).await), ["dev", "end"]);
    assert_eq!(sids(&take(&mut stream(&mut grpc, &platform, START).await, 4).await), ["dev", "prod", "other", "end"]);
    let request = |org: &str, env: v1::Environment| StreamMessagesRequest {
        org_id: org.into(),
        env: env.into(),
        from: Some(START),
        order: 0,
    };
    let filtered = grpc.stream_messages(with_key(&platform, request("acme", v1::Environment::Unspecified))).await;
    assert_eq!(sids(&take(&mut filtered.expect("a stream").into_inner(), 3).await), ["dev", "prod", "end"]);
    for (key, request) in
        [(&dev, request("other", v1::Environment::Unspecified)), (&dev, request("acme", v1::Environment::Prod))]
    {
        let refused = grpc.stream_messages(with_key(key, request)).await.expect_err("another's feed");
        assert_eq!(refused.code(), Code::PermissionDenied);
    }
    let cannot_stream = server.key("acme", Environment::Dev, &[Scope::Submit]).await;
    let refused = grpc.stream_messages(with_key(&cannot_stream, request("", v1::Environment::Unspecified))).await;
    assert_eq!(refused.expect_err("without the scope").code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_cursor_of_another_store_and_other_nonsense_are_refused_by_name() {
    let (server, other) = (TestServer::start().await, TestServer::start().await);
    let key = server.key("acme", Environment::Dev, ALL).await;
    let foreign_key = other.key("acme", Environment::Dev, ALL).await;
    let mut foreign = client(other.grpc).await;
    foreign.submit_message(with_key(&foreign_key, submission("u", "a"))).await.expect("accepted");
    let (_, foreign_cursor) = take(&mut stream(&mut foreign, &foreign_key, START).await, 1).await.remove(0);
    let mut grpc = client(server.grpc).await;
    let time = prost_types::Timestamp { seconds: -1, nanos: 0 };
    for (field, from, order) in [
        ("cursor", StreamFrom::Cursor(foreign_cursor), 0),
        ("cursor", StreamFrom::Cursor("no cursor".into()), 0),
        ("cursor", StreamFrom::Cursor(String::new()), 0),
        ("time", StreamFrom::Time(time), 0),
        ("position", StreamFrom::Position(99), 0),
        ("order", START, 99),
    ] {
        let request = StreamMessagesRequest { from: Some(from), order, ..Default::default() };
        let refused = grpc.stream_messages(with_key(&key, request)).await.expect_err("nonsense");
        assert_eq!(refused.code(), Code::InvalidArgument, "{field}");
        let violations = refused.get_details_bad_request().expect("violations").field_violations;
        assert_eq!(violations.iter().map(|each| each.field.as_str()).collect::<Vec<_>>(), [field]);
    }
}

#[tokio::test]
async fn a_stream_ends_when_the_server_drains_and_says_when_to_come_back() {
    let server = TestServer::start().await;
    let key = server.key("acme", Environment::Dev, ALL).await;
    let mut grpc = client(server.grpc).await;
    let mut feed = stream(&mut grpc, &key, START).await;
    server.stop().await.expect("ended in good order though a stream was open");
    let ended = end(&mut feed).await;
    assert_eq!(ended.code(), Code::Unavailable);
    assert!(ended.get_details_retry_info().is_some());
    assert_eq!(ended.get_details_error_info().expect("a reason").reason, "DRAINING");
}

#[tokio::test]
async fn an_old_connection_is_ended_after_its_grace_and_its_reader_goes_on_from_its_cursor() {
    let builder = TestServer::builder().set("grpc_max_connection_age", "200ms").set("grpc_connection_grace", "100ms");
    let server = builder.start().await;
    let key = server.key("acme", Environment::Dev, ALL).await;
    let mut grpc = client(server.grpc).await;
    grpc.submit_message(with_key(&key, submission("u", "a"))).await.expect("accepted");
    let mut feed = stream(&mut grpc, &key, START).await;
    let (_, cursor) = take(&mut feed, 1).await.remove(0);
    tokio::time::timeout(PATIENCE, end(&mut feed)).await.expect("the end of the connection");
    // The channel connects anew by itself; on a slow machine the new connection is old soon, too.
    let next = eventually("the next message", async || {
        grpc.submit_message(with_key(&key, submission("u", "b"))).await.ok()?;
        let request = StreamMessagesRequest { from: Some(StreamFrom::Cursor(cursor.clone())), ..Default::default() };
        let mut resumed = grpc.stream_messages(with_key(&key, request)).await.ok()?.into_inner();
        loop {
            let frame = resumed.message().await.ok()??;
            if let Some(first) = frame.messages.into_iter().next() {
                return first.message;
            }
        }
    });
    assert_eq!(next.await.message_sid, "b");
}

#[tokio::test]
async fn a_revoked_key_ends_its_stream_within_5_seconds() {
    let server = TestServer::start().await;
    let key = server.key("acme", Environment::Dev, ALL).await;
    let id = message_webhook::domain::PresentedKey::parse(&key).expect("a key").id;
    let mut grpc = client(server.grpc).await;
    let mut feed = stream(&mut grpc, &key, START).await;
    server.keys.as_operator().revoke(&id).await.expect("revoked");
    let ended = tokio::time::timeout(Duration::from_secs(5), end(&mut feed)).await.expect("within 5 s");
    assert_eq!(ended.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_up_nobody_and_finds_everything_later() {
    const MESSAGES: usize = 300;
    let server = TestServer::start().await;
    let key = server.key("acme", Environment::Dev, ALL).await;
    let mut slow_client = client(server.grpc).await;
    let mut slow = stream(&mut slow_client, &key, START).await;
    let mut grpc = client(server.grpc).await;
    let mut quick = stream(&mut grpc, &key, START).await;
    // More than any window or buffer between the two holds.
    let text = "x".repeat(100 * 1024);
    for number in 0..MESSAGES {
        let mut message = submission("u", &format!("m-{number}"));
        message.message_body = Some(text.clone());
        grpc.submit_message(with_key(&key, message)).await.expect("accepted while a reader is stuck");
    }
    let expected: Vec<_> = (0..MESSAGES).map(|number| format!("m-{number}")).collect();
    assert_eq!(sids(&take(&mut quick, MESSAGES).await), expected);
    assert_eq!(sids(&take(&mut slow, MESSAGES).await), expected);
}

#[tokio::test]
async fn a_reader_from_now_has_a_place_to_return_to_before_the_first_message() {
    let server = TestServer::start().await;
    let key = server.key("acme", Environment::Dev, ALL).await;
    let mut grpc = client(server.grpc).await;
    let mut feed = stream(&mut grpc, &key, NOW).await;
    let first = tokio::time::timeout(PATIENCE, feed.message()).await.expect("at once").expect("no error");
    drop(feed);
    grpc.submit_message(with_key(&key, submission("u", "while away"))).await.expect("accepted");
    let cursor = StreamFrom::Cursor(first.expect("a stream without end").cursor);
    assert_eq!(sids(&take(&mut stream(&mut grpc, &key, cursor).await, 1).await), ["while away"]);
}

#[tokio::test]
async fn a_filtered_reader_is_told_its_place_though_nothing_is_for_it() {
    let server = TestServer::start().await;
    let quiet = server.key("quiet", Environment::Dev, ALL).await;
    let busy = server.key("busy", Environment::Dev, ALL).await;
    let mut grpc = client(server.grpc).await;
    let mut feed = stream(&mut grpc, &quiet, START).await;
    grpc.submit_message(with_key(&busy, submission("u", "not for you"))).await.expect("accepted");
    let mut heartbeat = async || {
        let frame = tokio::time::timeout(PATIENCE, feed.message()).await.expect("a heartbeat").expect("no error");
        let frame = frame.expect("a stream without end");
        assert!(frame.messages.is_empty());
        frame
    };
    let first = heartbeat().await;
    let frame = heartbeat().await;
    assert_ne!(frame.cursor, first.cursor);
    // The place has moved on over the other's message: the quiet reader need never pass it again.
    grpc.submit_message(with_key(&quiet, submission("u", "for you"))).await.expect("accepted");
    let mut resumed = stream(&mut grpc, &quiet, StreamFrom::Cursor(frame.cursor)).await;
    assert_eq!(sids(&take(&mut resumed, 1).await), ["for you"]);
}

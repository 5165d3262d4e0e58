//! What becomes of a stream shows at its end, and each of its messages counts by itself.

use futures_util::StreamExt;
use message_webhook::protocol::grpc::v1::{
    StartPosition, SubmitMessagesRequest, stream_messages_request::From as StreamFrom,
    submit_messages_response::Result as Answer,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::support::{
    ServerProcess, eventually, get,
    grpc::{client, end, stream, submission, take, with_key},
};

const START: StreamFrom = StreamFrom::Position(StartPosition::Start as i32);

fn new_key(server: &ServerProcess) -> String {
    let created = server.cli(&[
        "keys", "create", "--org", "acme", "--env", "dev", "--scope", "submit", "--scope", "read", "--scope", "stream",
    ]);
    assert_eq!(created.code, Some(0), "{}", created.stderr);
    created.stdout.trim().to_owned()
}

fn revoke(server: &ServerProcess, key: &str) {
    let id = key.split('_').nth(2).expect("an id");
    assert_eq!(server.cli(&["keys", "revoke", id]).code, Some(0));
}

/// The requests of `route` that were counted, each status with its number, where that is not 0.
async fn counted(server: &ServerProcess, route: &str) -> Vec<(String, u64)> {
    let metrics = get(server.admin, "/metrics").await.expect("metrics").1;
    let of_route = format!("protocol=\"grpc\",route=\"{route}\",status=\"");
    let lines = metrics.lines().filter_map(|line| line.strip_prefix("message_webhook_requests_total{"));
    let mut counted: Vec<_> = lines
        .filter_map(|line| line.strip_prefix(&of_route)?.split_once("\"} "))
        .map(|(status, number)| (status.to_owned(), number.parse().expect("a number")))
        .filter(|(_, number)| *number > 0)
        .collect();
    counted.sort();
    counted
}

async fn eventually_counted(server: &ServerProcess, route: &str, wanted: &[(&str, u64)]) {
    let wanted: Vec<_> = wanted.iter().map(|(status, number)| ((*status).to_owned(), *number)).collect();
    let what = format!("{wanted:?} of {route}");
    eventually(&what, async || (counted(server, route).await == wanted).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_whose_key_is_revoked_counts_as_the_refusal_that_it_is_told() {
    let server = ServerProcess::start();
    let key = new_key(&server);
    let mut grpc = client(server.grpc).await;
    let mut feed = stream(&mut grpc, &key, START).await;
    feed.message().await.expect("no error").expect("a first cursor");
    assert_eq!(counted(&server, "stream").await, [], "what became of it is not known yet");
    revoke(&server, &key);
    assert_eq!(end(&mut feed).await.code(), Code::Unauthenticated);
    eventually_counted(&server, "stream", &[("16", 1)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_has_cancelled_its_call_and_failed_nobody() {
    let server = ServerProcess::start();
    let key = new_key(&server);
    let mut grpc = client(server.grpc).await;
    grpc.submit_message(with_key(&key, submission("u", "a"))).await.expect("accepted");
    let mut feed = stream(&mut grpc, &key, START).await;
    take(&mut feed, 1).await;
    drop(feed);
    eventually_counted(&server, "stream", &[("1", 1)]).await;
    eventually_counted(&server, "submit", &[("0", 1)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_submissions_that_breaks_is_a_failure_and_its_messages_count_by_themselves() {
    let server = ServerProcess::start();
    let key = new_key(&server);
    let mut grpc = client(server.grpc).await;
    let (items, rest) = mpsc::channel(8);
    for (correlation_id, sid) in [(1, "a"), (2, "b"), (3, ""), (4, "a")] {
        let message = Some(submission("u", sid));
        items.send(SubmitMessagesRequest { correlation_id, message }).await.expect("open");
    }
    let answers = grpc.submit_messages(with_key(&key, ReceiverStream::new(rest))).await;
    let mut answers = answers.expect("a stream").into_inner();
    let mut refused = 0;
    for answer in answers.by_ref().take(4).collect::<Vec<_>>().await {
        refused += u32::from(matches!(answer.expect("an answer").result, Some(Answer::Error(_))));
    }
    assert_eq!(refused, 1);
    eventually_counted(&server, "submit_item", &[("0", 3), ("3", 1)]).await;
    assert_eq!(counted(&server, "submit_stream").await, [], "what becomes of it is not known yet");
    revoke(&server, &key);
    let ended = answers.message().await.err().expect("the end");
    assert_eq!(ended.code(), Code::Unauthenticated);
    eventually_counted(&server, "submit_stream", &[("16", 1)]).await;
    eventually_counted(&server, "submit_item", &[("0", 3), ("3", 1)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_submissions_that_ends_well_is_a_success() {
    let server = ServerProcess::start();
    let key = new_key(&server);
    let mut grpc = client(server.grpc).await;
    let items = [SubmitMessagesRequest { correlation_id: 1, message: Some(submission("u", "a")) }];
    let answers = grpc.submit_messages(with_key(&key, futures_util::stream::iter(items))).await.expect("a stream");
    assert_eq!(answers.into_inner().collect::<Vec<_>>().await.len(), 1);
    eventually_counted(&server, "submit_stream", &[("0", 1)]).await;
    eventually_counted(&server, "submit_item", &[("0", 1)]).await;
}

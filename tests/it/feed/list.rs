use message_webhook::{
    domain::{Environment, Scope},
    protocol::grpc::v1::{ListMessagesRequest, ListMessagesResponse},
};
use tonic::Code;
use tonic_types::StatusExt;

use crate::support::{
    TestServer,
    grpc::{client, submission, with_key},
};

const ALL: &[Scope] = &[Scope::Submit, Scope::Read];

fn request(from_id: &str, page_size: i32, page_token: &str) -> ListMessagesRequest {
    ListMessagesRequest { from_id: from_id.into(), page_size, page_token: page_token.into(), ..Default::default() }
}

fn sids(page: &ListMessagesResponse) -> Vec<&str> {
    page.messages.iter().map(|message| message.message_sid.as_str()).collect()
}

#[tokio::test]
async fn pages_hold_one_users_messages_newest_first_and_do_not_shift() {
    let server = TestServer::start().await;
    let key = server.key("acme", Environment::Dev, ALL).await;
    let mut grpc = client(server.grpc).await;
    for (from_id, sid) in [("u", "1"), ("other", "x"), ("u", "2"), ("u", "3")] {
        grpc.submit_message(with_key(&key, submission(from_id, sid))).await.expect("accepted");
    }
    let first = grpc.list_messages(with_key(&key, request("u", 2, ""))).await.expect("a page").into_inner();
    assert_eq!(sids(&first), ["3", "2"]);
    grpc.submit_message(with_key(&key, submission("u", "4"))).await.expect("accepted");
    let next = grpc.list_messages(with_key(&key, request("u", 2, &first.next_page_token))).await.expect("a page");
    let next = next.into_inner();
    assert_eq!((sids(&next), next.next_page_token.as_str()), (vec!["1"], ""));
    let whole = grpc.list_messages(with_key(&key, request("u", 0, ""))).await.expect("a page").into_inner();
    assert_eq!(sids(&whole), ["4", "3", "2", "1"]);
}

#[tokio::test]
async fn what_cannot_be_listed_is_refused_with_every_mistake() {
    let server = TestServer::start().await;
    let key = server.key("acme", Environment::Dev, ALL).await;
    let mut grpc = client(server.grpc).await;
    let refused = grpc.list_messages(with_key(&key, request("", -1, "?"))).await.err().expect("refused");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let violations = refused.get_details_bad_request().expect("violations").field_violations;
    assert_eq!(
        violations.iter().map(|each| each.field.as_str()).collect::<Vec<_>>(),
        ["from_id", "page_size", "page_token"]
    );
    let foreign = grpc.list_messages(with_key(&key, request("u", 1, "AAAA"))).await.err().expect("refused");
    assert_eq!(foreign.code(), Code::InvalidArgument);
}

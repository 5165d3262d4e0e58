//! Extensions that settings add, over both protocols.

use message_webhook::{
    domain::{Environment, Scope},
    protocol::grpc::v1::{SubmitMessageRequest, submit_message_request::Media},
};

use crate::support::{
    TestServer,
    grpc::{client, submission, with_key},
    post,
};

/// What each protocol says to `media`, sent as an image or an audio.
async fn submit(server: &TestServer, key: &str, field: &str, url: &str) -> [bool; 2] {
    let sid = format!("{field} {url}");
    let body = format!(r#"{{"from_id":"u","message_sid":"{sid}","timestamp":1672531200,"{field}":["{url}"]}}"#);
    let (status, _) = post(server.http, "/acme/dev/v1/message-webhook", key, body).await;
    let media = if field == "image_urls" { Media::ImageUrl(url.into()) } else { Media::AudioUrl(url.into()) };
    let request = SubmitMessageRequest { media: Some(media), ..submission("u", &sid) };
    let over_grpc = client(server.grpc).await.submit_message(with_key(key, request)).await;
    [status == 200, over_grpc.is_ok()]
}

#[tokio::test]
async fn what_a_setting_adds_is_taken_and_nothing_by_default() {
    let cases = [
        ("image_urls", "https://example.com/a.webp", true),
        ("image_urls", "https://example.com/attachments/?mid=1", false),
        ("audio_urls", "https://example.com/a.opus", true),
        ("audio_urls", "https://example.com/attachments/?mid=1", true),
        ("audio_urls", "https://example.com/a.webp", false),
    ];
    let plain = TestServer::start().await;
    let builder = TestServer::builder().set("image_extensions", ".webp").set("audio_extensions", ".opus, none");
    let more = builder.start().await;
    for (server, takes) in [(plain, false), (more, true)] {
        let key = server.key("acme", Environment::Dev, &[Scope::Submit]).await;
        for (field, url, good) in cases {
            assert_eq!(submit(&server, &key, field, url).await, [good && takes; 2], "{field} {url}");
        }
    }
}

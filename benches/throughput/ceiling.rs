//! The ceiling: the same framework, the same JSON, the same answer, and nothing in between.

use axum::{Json, Router, routing::post};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
#[expect(dead_code, reason = "parsed because the service must parse it")]
struct Submission {
    from_id: String,
    message_sid: String,
    timestamp: Time,
    message_body: Option<String>,
    #[serde(default)]
    image_urls: Vec<String>,
    #[serde(default)]
    audio_urls: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "parsed because the service must parse it")]
enum Time {
    Seconds(i64),
    Text(String),
}

#[derive(Serialize)]
struct Answer {
    status: &'static str,
    message: &'static str,
    message_sid: String,
    duplicate: bool,
    accepted_at: &'static str,
    duplicates_until: &'static str,
}

async fn submit(Json(submission): Json<Submission>) -> Json<Answer> {
    Json(Answer {
        status: "success",
        message: "Message received and processed",
        message_sid: submission.message_sid,
        duplicate: false,
        accepted_at: "2024-12-18T12:00:00.000000Z",
        duplicates_until: "2025-01-17T12:00:00.000000Z",
    })
}

/// Serves on `addr` until killed.
pub fn serve(addr: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(addr).await.expect("a free port");
        let router = Router::new().route("/{org_id}/{env}/v1/message-webhook", post(submit));
        axum::serve(listener, router).await.expect("serving");
    });
}

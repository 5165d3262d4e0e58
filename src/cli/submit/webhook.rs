//! Over the webhook, many requests at once.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use http::{
    Method, Request, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{
    super::{
        backoff,
        output::Failure,
        remote::{Server, TIMEOUT},
    },
    item::{Item, Outcome},
};

pub(super) struct Webhook {
    client: Client<HttpConnector, Full<Bytes>>,
    uri: Uri,
    bearer: http::HeaderValue,
}

/// What is read of an answer.
#[derive(Deserialize)]
struct Answer {
    message: String,
    #[serde(default)]
    duplicate: bool,
    payload_matches: Option<bool>,
}

impl Webhook {
    /// The webhook of the organisation and environment that `server` names, at `url`.
    pub(super) fn new(url: &str, server: &Server) -> Result<Self, Failure> {
        let (Some(org), Some(env)) = (&server.org, server.env) else {
            return Err(Failure::Usage("--http-url needs --org and --env, for they are part of the path".into()));
        };
        let wrong = || Failure::Usage(format!("'{url}' must be like http://HOST:PORT; for TLS use a proxy in between"));
        let uri: Uri =
            format!("{}/{org}/{env}/v1/message-webhook", url.trim_end_matches('/')).parse().map_err(|_| wrong())?;
        if uri.scheme_str() != Some("http") || uri.host().is_none() {
            return Err(wrong());
        }
        let mut bearer = http::HeaderValue::from_bytes(server.bearer().as_bytes()).map_err(Failure::of)?;
        bearer.set_sensitive(true);
        Ok(Self { client: Client::builder(TokioExecutor::new()).build_http(), uri, bearer })
    }

    /// Sends every item until it is answered for good.
    ///
    /// # Errors
    /// When the server does not answer for a long time, or refuses the key.
    pub(super) async fn submit(
        &self,
        waiting: mpsc::Receiver<Item>,
        in_flight: usize,
        tell: mpsc::Sender<(String, Outcome)>,
    ) -> Result<(), Failure> {
        let outcomes = ReceiverStream::new(waiting)
            .map(|item| async move { self.until_answered(&item).await.map(|outcome| (item.message_sid, outcome)) })
            .buffer_unordered(in_flight);
        outcomes
            .try_for_each(|outcome| async {
                // The other side ends only when stdout failed, and says so.
                tell.send(outcome).await.map_err(|_| Failure::Quiet)
            })
            .await
    }

    async fn until_answered(&self, item: &Item) -> Result<Outcome, Failure> {
        let body: Bytes = serde_json::to_vec(item).map_err(Failure::of)?.into();
        for pause in backoff::pauses() {
            let wait = match tokio::time::timeout(TIMEOUT, self.once(body.clone())).await {
                Ok(Ok((status, answer, wait))) => match status {
                    StatusCode::OK if answer.duplicate => {
                        return Ok(Outcome::Duplicate { payload_matches: answer.payload_matches.unwrap_or(true) });
                    }
                    StatusCode::OK => return Ok(Outcome::Accepted),
                    // Not about this message: the next one would fare no better.
                    StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                        return Err(Failure::Failed(answer.message));
                    }
                    StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => wait,
                    status if status.is_server_error() => wait,
                    _ => return Ok(Outcome::Refused(answer.message)),
                },
                // No answer never means "not accepted": the same message again tells.
                Ok(Err(_)) | Err(_) => None,
            };
            tokio::time::sleep(wait.unwrap_or(pause)).await;
        }
        let place = self.uri.authority().map(ToString::to_string).unwrap_or_default();
        Err(Failure::Failed(format!("{place} does not answer; send the rest again later")))
    }

    async fn once(
        &self,
        body: Bytes,
    ) -> Result<(StatusCode, Answer, Option<Duration>), Box<dyn std::error::Error + Send + Sync>> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.uri)
            .header(AUTHORIZATION, &self.bearer)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        let response = self.client.request(request).await?;
        let status = response.status();
        let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let answer = response.into_body().collect().await?.to_bytes();
        Ok((status, serde_json::from_slice(&answer)?, wait.map(Duration::from_secs)))
    }
}

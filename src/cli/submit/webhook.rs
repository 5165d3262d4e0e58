//! Over the webhook, many requests at once.

use std::time::Duration;

use backon::ExponentialBackoff;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use http::{
    Method, Request, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    super::{
        backoff,
        output::{Failure, talk},
        remote::{Server, TIMEOUT},
        tls::{self, Connector},
    },
    Tell, Told,
    item::{Item, Outcome},
};

/// How often it is said that a server does not answer.
const TELL_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Webhook {
    client: Client<Connector, Full<Bytes>>,
    uri: Uri,
    bearer: http::HeaderValue,
    seen: Mutex<Seen>,
}

/// What the server has shown, to all messages together.
struct Seen {
    was_answered: bool,
    was_slowed: bool,
    /// When a message was decided last.
    decided_at: Instant,
    /// When it was said last that it does not answer.
    told_at: Option<Instant>,
}

/// What came of one attempt.
enum Attempt {
    Answered(StatusCode, Option<Answer>, Option<Duration>),
    Unreachable,
    /// No TLS with it, for this reason.
    Strange(String),
    Lost,
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
        let wrong = || Failure::Usage(format!("'{url}' must be like http://HOST:PORT or https://HOST:PORT"));
        let uri: Uri =
            format!("{}/{org}/{env}/v1/message-webhook", url.trim_end_matches('/')).parse().map_err(|_| wrong())?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(wrong());
        }
        let bearer = server.bearer().map(|bearer| bearer.as_bytes()).unwrap_or_default();
        let mut bearer = http::HeaderValue::from_bytes(bearer).map_err(Failure::of)?;
        bearer.set_sensitive(true);
        let seen = Seen { was_answered: false, was_slowed: false, decided_at: Instant::now(), told_at: None };
        let client = Client::builder(TokioExecutor::new()).build(server.connector().clone());
        Ok(Self { client, uri, bearer, seen: Mutex::new(seen) })
    }

    /// Sends every item until it is answered for good.
    ///
    /// # Errors
    /// When the server does not answer for a long time, or refuses the key.
    pub(super) async fn submit(
        &self,
        waiting: mpsc::Receiver<Item>,
        in_flight: usize,
        tell: Tell,
    ) -> Result<(), Failure> {
        let outcomes = ReceiverStream::new(waiting)
            .map(|item| async move { self.until_answered(&item).await.map(|outcome| (item.message_sid, outcome)) })
            .buffer_unordered(in_flight);
        outcomes
            .try_for_each(|outcome| async {
                // The other side ends only when stdout failed, and says so.
                let (sid, outcome) = outcome;
                tell.send(Told::Item(sid, outcome)).await.map_err(|_| Failure::Quiet)
            })
            .await
    }

    async fn until_answered(&self, item: &Item) -> Result<Outcome, Failure> {
        let body: Bytes = serde_json::to_vec(item).map_err(Failure::of)?.into();
        let mut may_be_taken = false;
        let (mut pauses, mut was_answered) = (backoff::pauses(false), false);
        loop {
            if !was_answered && self.seen.lock().was_answered {
                (pauses, was_answered) = (backoff::pauses(true), true);
            }
            let attempt = timeout(TIMEOUT, self.once(body.clone())).await.unwrap_or(Attempt::Lost);
            let pause = match attempt {
                Attempt::Answered(status, answer, wait) => {
                    if let Some(outcome) = self.decided(status, answer.as_ref(), may_be_taken)? {
                        self.seen.lock().decided_at = Instant::now();
                        return Ok(outcome);
                    }
                    // Refused before the store was asked, by this service.
                    may_be_taken |= status != StatusCode::TOO_MANY_REQUESTS;
                    let said =
                        answer.map_or_else(|| format!("{} answers {status}", self.place()), |answer| answer.message);
                    match wait {
                        Some(wait) => self.slowed(&said).map(|()| wait)?,
                        None => pauses.next().ok_or(Failure::Failed(said))?,
                    }
                }
                Attempt::Strange(why) => {
                    return Err(Failure::Failed(format!("cannot reach the webhook at {}: {why}", self.place())));
                }
                // No answer never means "not accepted": the same message again tells.
                Attempt::Unreachable | Attempt::Lost => {
                    may_be_taken |= matches!(attempt, Attempt::Lost);
                    self.next_pause(&mut pauses)?
                }
            };
            sleep(pause).await;
        }
    }

    /// What an answer decides for good; `None` for one that asks to send again.
    fn decided(
        &self,
        status: StatusCode,
        answer: Option<&Answer>,
        may_be_own: bool,
    ) -> Result<Option<Outcome>, Failure> {
        self.seen.lock().was_answered = true;
        let is_passing = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        if is_passing || status.is_server_error() {
            return Ok(None);
        }
        let Some(answer) = answer else {
            let place = self.place();
            return Err(Failure::Failed(format!(
                "what listens on {place} does not answer as this service's webhook does ({status}); is the URL right?"
            )));
        };
        let message = answer.message.clone();
        match status {
            StatusCode::OK if answer.duplicate => {
                let payload_matches = answer.payload_matches.unwrap_or(true);
                Ok(Some(Outcome::Duplicate { payload_matches, may_be_own }))
            }
            StatusCode::OK => Ok(Some(Outcome::Accepted)),
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => Ok(Some(Outcome::Refused(message))),
            // Not about this message: the next one would fare no better.
            _ => Err(Failure::Failed(message)),
        }
    }

    /// Notes that the server asked to wait, unless that is all it says for long.
    fn slowed(&self, said: &str) -> Result<(), Failure> {
        let mut seen = self.seen.lock();
        if !std::mem::replace(&mut seen.was_slowed, true) {
            talk(&format!("{said}; going on more slowly"));
        }
        if seen.decided_at.elapsed() <= backoff::PATIENCE {
            return Ok(());
        }
        let minutes = backoff::PATIENCE.as_secs() / 60;
        Err(Failure::Failed(format!("{said} (said for {minutes} minutes; send the rest again later)")))
    }

    fn next_pause(&self, pauses: &mut ExponentialBackoff) -> Result<Duration, Failure> {
        let place = self.place();
        let mut seen = self.seen.lock();
        let was_answered = seen.was_answered;
        let said = if was_answered {
            format!("{place} does not answer")
        } else {
            format!("cannot reach the webhook at {place}")
        };
        let Some(pause) = pauses.next() else {
            return Err(Failure::Failed(if was_answered {
                format!("{said}; send the rest again later")
            } else {
                said
            }));
        };
        // Once for all that are under way.
        if seen.told_at.is_none_or(|at| at.elapsed() > TELL_EVERY) {
            seen.told_at = Some(Instant::now());
            talk(&format!("{said}; trying again"));
        }
        Ok(pause)
    }

    fn place(&self) -> String {
        self.uri.authority().map(ToString::to_string).unwrap_or_default()
    }

    async fn once(&self, body: Bytes) -> Attempt {
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.uri)
            .header(AUTHORIZATION, &self.bearer)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body));
        // Made of parts that were checked.
        let Ok(request) = request else { return Attempt::Lost };
        let response = match self.client.request(request).await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return tls::why(&error).map_or(Attempt::Unreachable, Attempt::Strange),
            Err(_) => return Attempt::Lost,
        };
        let status = response.status();
        let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let Ok(body) = response.into_body().collect().await else { return Attempt::Lost };
        Attempt::Answered(status, serde_json::from_slice(&body.to_bytes()).ok(), wait.map(Duration::from_secs))
    }
}

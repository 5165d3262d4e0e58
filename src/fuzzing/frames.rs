//! The stream of `SubmitMessages` through all layers of the gRPC edge, over a store that accepts everything. The frames are read
//! a second time here, and their messages judged by the contract.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::Service as _;

use super::{
    json::wrong_with_id,
    media_url::{AUDIOS, IMAGES, Verdict, judge},
    timestamp::of_number,
};
use crate::{
    domain::{
        Environment, Error, KeyId, KeyOwner, KeyRecord, MediaRules, Message, MessageKey, NewKey, NewMessage, OrgId,
        Scope, Sender, SystemClock, Timestamp,
    },
    middleware::{self, Cors, Entry},
    protocol::grpc::{
        Grpc,
        v1::{
            SubmitMessageRequest, SubmitMessagesRequest, SubmitMessagesResponse, submit_message_request::Media,
            submit_messages_response::Result as Answer,
        },
    },
    service::{
        AdmissionLimits, BodyLimits, FailedAuth, Keys, Limits, MessageService, RateLimits, Readiness, ReadinessState,
    },
    store::{
        Acceptance, ExportPage, FeedFollower, FeedFrom, FeedOrder, FeedStore, ImportInto, Imported, KeyStore,
        Lifecycle, ListedKey, MessagePage, MessageStore, Outcome, PageLimit, PageToken, Store, TransferStore,
    },
};

/// The limit of a message; small, so that inputs reach it.
const BODY_BYTES: usize = 1024;
/// Above which the edge does not hold a message at all.
const DECODED_BYTES: usize = 2 * BODY_BYTES + 256 * 1024;

/// A body: how it is cut into pieces, and its bytes, or what its frames hold, each behind its length.
pub fn frames(data: &[u8]) {
    let Some((shape, rest)) = data.split_first() else { return };
    let sent = if shape & 0x80 == 0 { rest.to_vec() } else { framed(rest) };
    let (expected, end) = read(&sent);
    let pieces = usize::from(shape & 0x7f) + 1;
    let scene = scene();
    let (answered, status) = scene.runtime.block_on((scene.call)(sent.chunks(pieces).map(<[u8]>::to_vec).collect()));

    let shown = || format!("{}, {status:?}, {} answers", sent.escape_ascii(), answered.len());
    let mut numbers: Vec<_> = answered.iter().map(|answer| answer.correlation_id).collect();
    let mut sent_numbers: Vec<_> = expected.iter().map(|request| request.correlation_id).collect();
    numbers.sort_unstable();
    sent_numbers.sort_unstable();
    assert_eq!(numbers, sent_numbers, "{}", shown());
    assert_eq!(status.code(), end, "{}", shown());
    assert!(end == Code::Ok || status.get_details_error_info().is_some(), "{}", shown());
    for answer in &answered {
        // Several may have one number, which is the callers' own.
        let fits = |request: &&SubmitMessagesRequest| request.correlation_id == answer.correlation_id;
        assert!(expected.iter().filter(fits).any(|request| is_answer_to(answer, request)), "{}", shown());
    }
}

fn framed(data: &[u8]) -> Vec<u8> {
    let (mut rest, mut frames) = (data, Vec::new());
    while let Some((length, more)) = rest.split_first() {
        let (content, more) = more.split_at(usize::from(*length).min(more.len()));
        frames.extend_from_slice(&[0, 0, 0, 0, content.len() as u8]);
        frames.extend_from_slice(content);
        rest = more;
    }
    frames
}

/// The messages before whatever cannot be read, and how the stream ends.
fn read(mut sent: &[u8]) -> (Vec<SubmitMessagesRequest>, Code) {
    let mut messages = Vec::new();
    loop {
        let (flag, length) = match sent {
            [] => return (messages, Code::Ok),
            [flag, a, b, c, d, ..] => (*flag, u32::from_be_bytes([*a, *b, *c, *d]) as usize),
            _ => return (messages, Code::InvalidArgument),
        };
        if flag == 0 && length > DECODED_BYTES {
            return (messages, Code::ResourceExhausted);
        }
        let frame = sent.get(5..5 + length).filter(|_| flag == 0);
        match frame.and_then(|frame| SubmitMessagesRequest::decode(frame).ok()) {
            Some(message) => messages.push(message),
            None => return (messages, Code::InvalidArgument),
        }
        sent = &sent[5 + length..];
    }
}

fn is_answer_to(answer: &SubmitMessagesResponse, request: &SubmitMessagesRequest) -> bool {
    match (&answer.result, request.message.as_ref().map(judged)) {
        (Some(Answer::Receipt(receipt)), Some(None | Some(Code::Ok))) => {
            request.message.as_ref().is_some_and(|message| message.message_sid == receipt.message_sid)
        }
        (Some(Answer::Error(error)), Some(Some(code))) => error.code == code as i32 && code != Code::Ok,
        (Some(Answer::Error(error)), None | Some(None)) => error.code == Code::InvalidArgument as i32,
        _ => false,
    }
}

/// What a message of a key of `acme` and `dev` is answered; `None` where one cannot tell.
fn judged(message: &SubmitMessageRequest) -> Option<Code> {
    let is_own = ["", "acme"].contains(&message.org_id.as_str()) && [0, 1].contains(&message.env);
    if !is_own {
        let is_there =
            (message.org_id.is_empty() || OrgId::is_well_formed(&message.org_id)) && (0..=2).contains(&message.env);
        return Some(if is_there { Code::PermissionDenied } else { Code::InvalidArgument });
    }
    if message.encoded_len() > BODY_BYTES {
        return Some(Code::ResourceExhausted);
    }
    let time = message.timestamp.filter(|at| (0..1_000_000_000).contains(&at.nanos));
    let is_good = wrong_with_id(&message.from_id).is_none()
        && wrong_with_id(&message.message_sid).is_none()
        && time.is_some_and(|at| of_number(at.seconds.into()).is_ok());
    let verdict = match &message.media {
        None => Verdict::Taken,
        Some(Media::ImageUrl(url)) => judge(url, &IMAGES),
        Some(Media::AudioUrl(url)) => judge(url, &AUDIOS),
    };
    match (is_good, verdict) {
        (true, Verdict::Taken) => Some(Code::Ok),
        (true, Verdict::Unclear) => None,
        _ => Some(Code::InvalidArgument),
    }
}

type Answered = (Vec<SubmitMessagesResponse>, Status);
type Call = Box<dyn Fn(Vec<Vec<u8>>) -> Pin<Box<dyn Future<Output = Answered> + Send>> + Send + Sync>;

struct Scene {
    runtime: Runtime,
    call: Call,
}

fn scene() -> &'static Scene {
    static SCENE: OnceLock<Scene> = OnceLock::new();
    SCENE.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let call = runtime.block_on(async { edge() });
        Scene { runtime, call }
    })
}

fn edge() -> Call {
    let owner = KeyOwner::Org { org: OrgId::new("acme").unwrap(), env: Environment::Dev };
    let key = NewKey::generate(owner, [Scope::Submit].into_iter().collect(), Timestamp::EPOCH, None).unwrap();
    let authorization = format!("Bearer {}", key.text.reveal());
    let store = Arc::new(AcceptsAll(key.record));
    let limits = Limits {
        body_bytes: BODY_BYTES,
        store_deadline: Duration::from_secs(30),
        media: MediaRules::default(),
        bodies: BodyLimits { bytes: 64 << 20, waiting: 4096 },
        admission: AdmissionLimits { in_flight: 4096, rates: RateLimits::default() },
        streams: 16,
        metrics_per_org: 0,
    };
    let closing = CancellationToken::new();
    let service = Arc::new(MessageService::new(
        Arc::clone(&store) as Arc<dyn Store>,
        Arc::new(SystemClock),
        limits,
        closing.clone(),
    ));
    let keys = Arc::new(Keys::new(store, Arc::new(SystemClock)));
    let readiness = Readiness::starting();
    readiness.set(ReadinessState::Ready);
    let grpc = Grpc::new(service, Arc::clone(&keys), &readiness, closing, Duration::from_secs(30)).unwrap();
    let entry = Entry {
        keys,
        key_deadline: Duration::from_secs(30),
        failed_auth: Arc::new(FailedAuth::new(None)),
        max_in_flight: 4096,
        cors: Cors::default(),
    };
    let service = Mutex::new(middleware::grpc(grpc, entry));
    Box::new(move |pieces| {
        let frames = pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from(piece))));
        let request = Request::post("http://localhost/messagewebhook.v1.MessageService/SubmitMessages")
            .version(http::Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", &authorization)
            .body(StreamBody::new(stream::iter(frames)))
            .unwrap();
        let mut service = service.lock().clone();
        Box::pin(async move {
            let Ok(response) = service.call(request).await;
            let (head, body) = response.into_parts();
            let body = body.collect().await.expect("a body");
            let status = body.trailers().and_then(Status::from_header_map);
            let status = status.or_else(|| Status::from_header_map(&head.headers)).expect("a status");
            let ids: &HeaderMap = &head.headers;
            assert!(ids.contains_key("x-request-id"));
            (answers(&body.to_bytes()), status)
        })
    })
}

fn answers(mut body: &[u8]) -> Vec<SubmitMessagesResponse> {
    let mut answers = Vec::new();
    while let [0, a, b, c, d, rest @ ..] = body {
        let (answer, rest) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        answers.push(SubmitMessagesResponse::decode(answer).expect("an answer"));
        body = rest;
    }
    assert!(body.is_empty());
    answers
}

/// Knows one key, and keeps nothing.
struct AcceptsAll(KeyRecord);

fn no<T>() -> Result<T, Error> {
    Err(Error::internal("nobody asks for this here"))
}

#[async_trait]
impl MessageStore for AcceptsAll {
    async fn submit(&self, _: NewMessage) -> Result<Outcome, Error> {
        Ok(Outcome::Accepted(Acceptance { accepted_at: Timestamp::EPOCH, duplicates_until: Timestamp::EPOCH }))
    }

    async fn get(&self, _: &MessageKey) -> Result<Option<Message>, Error> {
        no()
    }

    async fn list(&self, _: &Sender, _: Option<&PageToken>, _: PageLimit) -> Result<MessagePage, Error> {
        no()
    }
}

#[async_trait]
impl FeedStore for AcceptsAll {
    async fn follow(&self, _: FeedFrom, _: FeedOrder) -> Result<Box<dyn FeedFollower>, Error> {
        no()
    }
}

#[async_trait]
impl KeyStore for AcceptsAll {
    async fn create_key(&self, _: KeyRecord) -> Result<(), Error> {
        no()
    }

    async fn key(&self, id: &KeyId) -> Result<Option<KeyRecord>, Error> {
        Ok((*id == self.0.id).then(|| self.0.clone()))
    }

    async fn keys(&self, _: Option<&OrgId>) -> Result<Vec<ListedKey>, Error> {
        no()
    }

    async fn revoke_key(&self, _: &KeyId, _: Timestamp) -> Result<Option<KeyRecord>, Error> {
        no()
    }

    async fn touch_keys(&self, _: Vec<(KeyId, Timestamp)>) -> Result<(), Error> {
        Ok(())
    }
}

#[async_trait]
impl TransferStore for AcceptsAll {
    async fn export(&self, _: Option<&PageToken>, _: PageLimit) -> Result<ExportPage, Error> {
        no()
    }

    async fn import(&self, _: Vec<Message>, _: ImportInto) -> Result<Vec<Imported>, Error> {
        no()
    }
}

#[async_trait]
impl Lifecycle for AcceptsAll {
    async fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn close(&self) -> Result<(), Error> {
        Ok(())
    }
}

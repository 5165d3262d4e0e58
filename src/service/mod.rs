//! What can be done with messages and keys. Knows no protocol and no backend; both edges call it, and every rule
//! that is not a message's own shape stands here: who may do what, admission, the deadline.

mod admission;
mod bodies;
mod feed;
mod key_manager;
mod keys;
mod orgs;
mod readiness;
mod transfer;
mod work;

use std::{borrow::Cow, sync::Arc, time::Duration};

pub use admission::{Admission, AdmissionLimits};
pub use bodies::{Bodies, BodyLimits, Held};
pub use feed::{FeedFilter, FeedFrame, FeedReader, HEARTBEAT, StreamAccess, draining};
pub use key_manager::{KeyManager, KeyRequest};
pub use keys::{Caller, Keys, unauthenticated};
pub use readiness::{Readiness, ReadinessState};
pub use transfer::Transfer;

// Places that callers are given and hand back: words of the service too, so that no edge needs to know the store.
pub use crate::store::{Cursor, FeedFrom, FeedOrder, FeedStart, Imported, PageToken};

use metrics::{Histogram, histogram};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use crate::{
    domain::{
        Environment, Error, Fingerprint, FromId, KeyOwner, Kind, MediaRules, Message, MessageKey, MessageSid,
        NewMessage, OrgId, Scope, Sender, Timestamp,
    },
    store::{Acceptance, MessagePage, MessageStore, Outcome, PageLimit},
    telemetry::{names, spans, trace},
};

use orgs::Orgs;
use work::Work;

/// Messages on a page of a list when the caller names no number.
pub const DEFAULT_PAGE: usize = 50;
/// The most messages on a page of a list.
pub const MAX_PAGE: usize = 500;
/// A page or a frame of the feed holds at most this many bytes of messages, unless one message is larger.
const PAGE_BYTES: usize = 1024 * 1024;

/// Submit, get, list and follow messages.
pub struct MessageService {
    store: Arc<dyn MessageStore>,
    admission: Admission,
    bodies: Arc<Bodies>,
    limits: Limits,
    stopping: CancellationToken,
    message_age: Histogram,
    orgs: Orgs,
}

/// What the service itself limits, the same for both protocols.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The largest submission, in bytes: of the JSON body or of the encoded gRPC message.
    pub body_bytes: usize,
    /// For how long a call waits for the store before it answers 503.
    pub store_deadline: Duration,
    /// Which media URLs are accepted.
    pub media: MediaRules,
    /// What the bodies of requests under way may cost, all together.
    pub bodies: BodyLimits,
    /// What admission lets in.
    pub admission: AdmissionLimits,
    /// So many organisations are counted by name; 0 for none.
    pub metrics_per_org: usize,
}

/// The proof that a caller may do one thing in one org and environment; only [`MessageService::authorize`] makes it.
#[derive(Debug, Clone)]
pub struct Authorized {
    org: OrgId,
    env: Environment,
    scope: Scope,
}

/// What a submission is answered with, on every protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The message's id, as it was sent.
    pub sid: MessageSid,
    /// Whether the message had been accepted before.
    pub duplicate: bool,
    /// Of a duplicate: whether its content is what was accepted first. `true` for a first acceptance.
    pub payload_matches: bool,
    /// When the message was first accepted.
    pub accepted_at: Timestamp,
    /// Until when a repetition is known as a duplicate.
    pub duplicates_until: Timestamp,
}

impl MessageService {
    /// A service over `store`. When `stopping` is cancelled, readers of the feed are sent away, for they would never
    /// finish by themselves.
    pub fn new(store: Arc<dyn MessageStore>, limits: Limits, stopping: CancellationToken) -> Self {
        Self {
            store,
            admission: Admission::new(&limits.admission),
            bodies: Bodies::new(limits.bodies),
            stopping,
            message_age: histogram!(names::MESSAGE_AGE_SECONDS),
            orgs: Orgs::new(limits.metrics_per_org),
            limits,
        }
    }

    /// The service's limits, for the edges that must know them before there is a message.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Where the bytes of requests under way are counted.
    pub fn bodies(&self) -> &Arc<Bodies> {
        &self.bodies
    }

    /// Whether the store works on no submission.
    pub fn is_idle(&self) -> bool {
        self.admission.is_idle()
    }

    /// Forgets what is only kept for callers that have been idle; called now and then so that memory stays bounded.
    pub fn forget_idle(&self) {
        self.admission.forget_idle();
    }

    /// Lets `caller` use `scope` in `org` and `env`.
    ///
    /// # Errors
    /// [`Kind::PermissionDenied`]; an org that nobody ever used looks the same.
    pub fn authorize(&self, caller: &Caller, org: OrgId, env: Environment, scope: Scope) -> Result<Authorized, Error> {
        if !caller.owns(&org, env) {
            return Err(Error::new(
                Kind::PermissionDenied,
                match caller.owner() {
                    // Its holder knows of both; of other organisations nothing is told.
                    KeyOwner::Org { org: own, env: its } if *own == org => format!(
                        "This API key is for '{its}', and the call is for '{env}'; send it with a key for '{env}'"
                    )
                    .into(),
                    KeyOwner::Org { .. } | KeyOwner::Platform => {
                        Cow::Borrowed("This API key belongs to another organisation or environment")
                    }
                },
            ));
        }
        caller.require(scope)?;
        Ok(Authorized { org, env, scope })
    }

    /// Accepts `message` or recognises it as a duplicate.
    ///
    /// # Errors
    /// [`Kind::RateLimited`], [`Kind::Overloaded`], [`Kind::DeadlineExceeded`] and whatever the store cannot do. After
    /// an error of the last two kinds the message may be accepted nevertheless: the caller repeats it.
    pub async fn submit(&self, authorized: &Authorized, message: NewMessage) -> Result<Receipt, Error> {
        self.submit_holding(authorized, message, ()).await
    }

    /// As [`MessageService::submit`]; `held` is kept for as long as the message is worked on, which may be longer than
    /// anybody waits for it.
    ///
    /// # Errors
    /// As [`MessageService::submit`].
    pub async fn submit_holding(
        &self,
        authorized: &Authorized,
        message: NewMessage,
        held: impl Send + 'static,
    ) -> Result<Receipt, Error> {
        let span = trace::child(spans::SUBMIT, "producer");
        if !span.is_none() {
            note_messaging(&span, "submit", "send");
            trace::note(&span, spans::MESSAGE_KEY, message.key().fingerprint());
            note_target(&span, authorized);
        }
        let (sid, fingerprint) = (message.key().sid.clone(), *message.fingerprint());
        let submitted = self.submit_within(authorized, message, held).instrument(span.clone()).await;
        if let Err(error) = &submitted
            && error.is_ours()
        {
            trace::mark_failed(&span);
        }
        let stored = submitted.map_err(|error| error.about(authorized.message_key(&sid).fingerprint()))?;
        let receipt = Receipt::of(sid, stored, &fingerprint);
        let outcome = receipt.outcome();
        trace::note(&span, spans::OUTCOME, outcome);
        self.orgs.count(authorized, outcome);
        Ok(receipt)
    }

    async fn submit_within(
        &self,
        authorized: &Authorized,
        message: NewMessage,
        held: impl Send + 'static,
    ) -> Result<Outcome, Error> {
        authorized.expect_target(Scope::Submit, &message.key().org, message.key().env)?;
        let permit = self.admission.admit(&message.key().org, message.key().env)?;
        let traceparent = trace::to_keep(message.traceparent());
        let message = message.traced(traceparent);
        let sent_at = message.content().timestamp;
        let store = Arc::clone(&self.store);
        let work = Work::new(async move {
            // Both are the work's, not the caller's: who leaves early must not make room for more than may be under way.
            let _holds = (permit, held);
            store.submit(message).await
        });
        let outcome = self.within_deadline(work).await?;
        if let Outcome::Accepted(acceptance) = &outcome {
            self.message_age.record(acceptance.accepted_at.since(sent_at));
        }
        Ok(outcome)
    }

    /// The message with `sid`.
    ///
    /// # Errors
    /// [`Kind::MessageNotFound`], also when it is past its retention.
    pub async fn get(&self, authorized: &Authorized, sid: MessageSid) -> Result<Message, Error> {
        authorized.expect_scope(Scope::Read)?;
        let key = authorized.message_key(&sid);
        let span = trace::child(spans::GET, "internal");
        if !span.is_none() {
            trace::note(&span, spans::MESSAGE_KEY, key.fingerprint());
            note_target(&span, authorized);
        }
        let found = self.within_deadline(self.store.get(&key)).instrument(span).await;
        let message = found.map_err(|error| error.about(key.fingerprint()))?;
        message.ok_or_else(|| Error::new(Kind::MessageNotFound, "No message with this 'message_sid' is kept"))
    }

    /// The messages of the end user `from_id`, the newest accepted first; `page_size` 0 is [`DEFAULT_PAGE`], and more
    /// than [`MAX_PAGE`] counts as that.
    ///
    /// # Errors
    /// [`Kind::InvalidArgument`] for a page token that this service did not give.
    pub async fn list(
        &self,
        authorized: &Authorized,
        from_id: FromId,
        page_size: usize,
        after: Option<&PageToken>,
    ) -> Result<MessagePage, Error> {
        authorized.expect_scope(Scope::Read)?;
        let sender = Sender { org: authorized.org.clone(), env: authorized.env, from_id };
        let messages = if page_size == 0 { DEFAULT_PAGE } else { page_size.min(MAX_PAGE) };
        let limit = PageLimit { messages, bytes: PAGE_BYTES };
        let span = trace::child(spans::LIST, "internal");
        note_target(&span, authorized);
        self.within_deadline(self.store.list(&sender, after, limit)).instrument(span).await
    }

    async fn within_deadline<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match tokio::time::timeout(self.limits.store_deadline, call).await {
            Ok(result) => result,
            Err(elapsed) => Err(Error::new(
                Kind::DeadlineExceeded,
                "The store did not answer in time; send the message again with the same 'message_sid'",
            )
            .with_retry_after(Duration::from_secs(1))
            .with_cause(elapsed)),
        }
    }
}

/// What every span of a message's way says of it.
fn note_messaging(span: &Span, operation: &'static str, kind: &'static str) {
    trace::note(span, spans::MESSAGING_SYSTEM, "message_webhook");
    trace::note(span, spans::MESSAGING_OPERATION_NAME, operation);
    trace::note(span, spans::MESSAGING_OPERATION_TYPE, kind);
    trace::note(span, spans::MESSAGING_DESTINATION_NAME, "feed");
}

fn note_target(span: &Span, authorized: &Authorized) {
    if !span.is_none() {
        trace::note(span, spans::ORG_ID, authorized.org.as_str().to_owned());
        trace::note(span, spans::ENVIRONMENT, authorized.env.as_str());
    }
}

impl Receipt {
    /// The receipt of a submission of `sid` with the content of `fingerprint`.
    fn of(sid: MessageSid, outcome: Outcome, fingerprint: &Fingerprint) -> Self {
        let (duplicate, payload_matches, acceptance) = match outcome {
            Outcome::Accepted(acceptance) => (false, true, acceptance),
            Outcome::Duplicate { first, fingerprint: known } => {
                (true, known.is_none_or(|known| known.matches(fingerprint)), first)
            }
        };
        let Acceptance { accepted_at, duplicates_until } = acceptance;
        Self { sid, duplicate, payload_matches, accepted_at, duplicates_until }
    }

    /// The word for what became of the submission, in metrics and spans.
    pub fn outcome(&self) -> &'static str {
        match (self.duplicate, self.payload_matches) {
            (false, _) => "accepted",
            (true, true) => "duplicate",
            (true, false) => "duplicate_mismatch",
        }
    }
}

impl Authorized {
    /// The key of the message with `sid` there.
    pub fn message_key(&self, sid: &MessageSid) -> MessageKey {
        MessageKey { org: self.org.clone(), env: self.env, sid: sid.clone() }
    }

    /// The organisation.
    pub fn org(&self) -> &OrgId {
        &self.org
    }

    /// The environment.
    pub fn env(&self) -> Environment {
        self.env
    }

    fn expect_scope(&self, scope: Scope) -> Result<(), Error> {
        // A bug at an edge, not a caller's mistake: it asked for one scope and uses another.
        if self.scope == scope { Ok(()) } else { Err(Error::internal("authorized for another scope")) }
    }

    fn expect_target(&self, scope: Scope, org: &OrgId, env: Environment) -> Result<(), Error> {
        self.expect_scope(scope)?;
        if self.org == *org && self.env == env { Ok(()) } else { Err(Error::internal("authorized for another target")) }
    }
}

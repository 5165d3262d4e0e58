//! What can be done with messages and keys. Knows no protocol and no backend; both edges call it, and every rule
//! that is not a message's own shape stands here: who may do what, admission, the deadline.

mod admission;
mod bodies;
mod call;
mod failed_auth;
mod feed;
mod key_manager;
mod keys;
mod orgs;
mod pages;
mod permit;
mod places;
mod rates;
mod readiness;
mod receipt;
mod request_id;
mod store_clock;
mod transfer;
mod work;

use std::{sync::Arc, time::Duration};

pub use admission::{Admission, AdmissionLimits};
pub use bodies::{Bodies, BodyLimits, Held};
pub use call::{Access, Call, Flow, Protocol, Route};
pub use failed_auth::FailedAuth;
pub use feed::{FeedFilter, FeedFrame, FeedReader, HEARTBEAT};
pub use key_manager::{KeyManager, KeyRequest};
pub use keys::{Caller, Keys};
pub use permit::{Follow, Permit, Read, Right, Submit, Target};
pub use rates::RateLimits;
pub use readiness::{Readiness, ReadinessState};
pub use receipt::{Outcome, Receipt};
pub use request_id::{RequestId, X_REQUEST_ID};
pub use store_clock::StoreClock;
pub use transfer::Transfer;

// Places that callers are given and hand back: words of the service too, so that no edge needs to know the store.
pub use crate::store::{Cursor, FeedFrom, FeedOrder, FeedStart, ImportInto, Imported, PageToken};

use metrics::{Histogram, histogram};
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::{
    domain::{Clock, Error, MediaRules},
    store::Store,
    telemetry::{names, spans, trace},
};

use places::Places;
use receipt::Receipts;

/// Messages on a page of a list when the caller names no number.
pub const DEFAULT_PAGE: usize = 50;
/// The most messages on a page of a list.
pub const MAX_PAGE: usize = 500;
/// A page or a frame of the feed holds at most this many bytes of messages, unless one message is larger.
const PAGE_BYTES: usize = 1024 * 1024;

/// Submit, get, list and follow messages.
pub struct MessageService {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    admission: Admission,
    feeds: Places,
    bodies: Arc<Bodies>,
    limits: Limits,
    stopping: CancellationToken,
    message_age: Histogram,
    receipts: Receipts,
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
    /// Readers of the feed at once.
    pub streams: usize,
    /// So many organisations are counted by name; 0 for none.
    pub metrics_per_org: usize,
}

impl MessageService {
    /// A service over `store`; by `clock` it is measured how late messages are delivered. When `stopping` is cancelled, readers of the feed are sent away, for they would never
    /// finish by themselves.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, limits: Limits, stopping: CancellationToken) -> Self {
        Self {
            store,
            clock,
            admission: Admission::new(&limits.admission),
            feeds: Places::new(limits.streams),
            bodies: Bodies::new(limits.bodies),
            stopping,
            message_age: histogram!(names::MESSAGE_AGE_SECONDS),
            receipts: Receipts::new(limits.metrics_per_org),
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

    async fn within_deadline<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match tokio::time::timeout(self.limits.store_deadline, call).await {
            Ok(result) => result,
            Err(elapsed) => Err(Error::store_too_slow(elapsed)),
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

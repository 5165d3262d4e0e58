//! The one place where an edge logs and counts what became of a call.

use std::fmt::Write as _;

use http::StatusCode;
use metrics::{Counter, counter};

use super::{RequestId, Route};
use crate::{
    domain::{Error, Kind},
    protocol::status,
    service::{Authorized, Receipt},
    telemetry::{names, spans, trace},
};

/// Logs and counts for one protocol; its counters are looked up once, when it is made.
pub struct Report {
    protocol: &'static str,
    accepted: Counter,
    duplicate: Counter,
    mismatch: Counter,
    /// In the order of [`Kind::ALL`].
    rejected: Vec<Counter>,
}

impl Report {
    /// A report whose metrics carry `protocol` as a label.
    pub fn new(protocol: &'static str) -> Self {
        let submissions =
            |outcome: &'static str| counter!(names::SUBMISSIONS_TOTAL, "protocol" => protocol, "outcome" => outcome);
        let rejected =
            |kind: &Kind| counter!(names::REJECTED_TOTAL, "protocol" => protocol, "code" => status::of(*kind).code);
        Self {
            protocol,
            accepted: submissions("accepted"),
            duplicate: submissions("duplicate"),
            mismatch: submissions("duplicate_mismatch"),
            rejected: Kind::ALL.iter().map(rejected).collect(),
        }
    }

    /// The label of this edge.
    pub fn protocol(&self) -> &'static str {
        self.protocol
    }

    /// Notes what a submission was answered.
    pub fn receipt(&self, receipt: &Receipt, authorized: &Authorized, id: &RequestId) {
        if !receipt.duplicate {
            self.accepted.increment(1);
        } else if receipt.payload_matches {
            self.duplicate.increment(1);
        } else {
            self.mismatch.increment(1);
            tracing::info!(
                protocol = self.protocol,
                org_id = authorized.org().as_str(),
                env = authorized.env().as_str(),
                request_id = id.as_str(),
                message_key = authorized.message_key(&receipt.sid).fingerprint(),
                "a known message_sid came with another content; the first content stays"
            );
        }
    }

    /// Notes that a call failed. Every failure passes here once and is logged nowhere else.
    pub fn failure(&self, error: &Error, route: Route, id: &RequestId) {
        let kind = error.kind();
        if let Some(counter) =
            Kind::ALL.iter().position(|each| *each == kind).and_then(|index| self.rejected.get(index))
        {
            counter.increment(1);
        }
        let face = status::of(kind);
        trace::note(&trace::here(), spans::ERROR_TYPE, face.code);
        // A macro's level must be a constant, hence three calls.
        macro_rules! log {
            ($level:ident) => {
                tracing::$level!(
                    protocol = self.protocol,
                    route = route.name,
                    request_id = id.as_str(),
                    code = face.code,
                    message_key = error.subject(),
                    cause = cause(error),
                    "{}",
                    error.public_message()
                )
            };
        }
        if face.http == StatusCode::INTERNAL_SERVER_ERROR {
            log!(error);
        } else if face.http.is_server_error() && kind != Kind::CallerDeadlineExceeded {
            log!(warn);
        } else {
            log!(debug);
        }
    }
}

/// The cause and what caused it, joined by colons.
fn cause(error: &Error) -> Option<String> {
    let cause = error.cause()?;
    let mut text = cause.to_string();
    let mut next = cause.source();
    while let Some(cause) = next {
        let _ = write!(text, ": {cause}");
        next = cause.source();
    }
    Some(text)
}

//! What a submission is answered with, and the one place where it is counted and told.

use metrics::{Counter, counter};

use super::{Call, Protocol, Target, orgs::Orgs};
use crate::{
    domain::{Fingerprint, MessageSid, Timestamp},
    store::{self, Acceptance},
    telemetry::{names, spans, trace},
};

/// What a submission is answered with, on every protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The message's id, as it was sent.
    pub sid: MessageSid,
    /// What became of the submission.
    pub outcome: Outcome,
    /// When the message was first accepted.
    pub accepted_at: Timestamp,
    /// Until when a repetition is known as a duplicate.
    pub duplicates_until: Timestamp,
}

/// What became of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The message is new.
    Accepted,
    /// It had been accepted before.
    Duplicate {
        /// Whether its content is what was accepted first; the first content stays in any case.
        payload_matches: bool,
    },
}

/// A counter for each outcome.
pub(super) struct Outcomes([Counter; 3]);

/// Counts and tells what submissions are answered.
pub(super) struct Receipts {
    protocols: [(Protocol, Outcomes); 3],
    orgs: Orgs,
}

impl Receipt {
    /// The receipt of a submission of `sid` with the content of `fingerprint`.
    pub(super) fn of(sid: MessageSid, decided: store::Outcome, fingerprint: &Fingerprint) -> Self {
        let (outcome, Acceptance { accepted_at, duplicates_until }) = match decided {
            store::Outcome::Accepted(acceptance) => (Outcome::Accepted, acceptance),
            store::Outcome::Duplicate { first, fingerprint: known } => {
                let payload_matches = known.is_none_or(|known| known.matches(fingerprint));
                (Outcome::Duplicate { payload_matches }, first)
            }
        };
        Self { sid, outcome, accepted_at, duplicates_until }
    }

    /// As it is told to those who may have taken their key from a page: whether the content matches would let them try what somebody
    /// else's message says.
    pub(super) fn uncompared(mut self) -> Self {
        if let Outcome::Duplicate { payload_matches } = &mut self.outcome {
            *payload_matches = true;
        }
        self
    }
}

impl Outcome {
    const MISMATCH: Outcome = Outcome::Duplicate { payload_matches: false };
    const ALL: [Outcome; 3] = [Outcome::Accepted, Outcome::Duplicate { payload_matches: true }, Self::MISMATCH];

    /// The word in metrics and spans.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Accepted => "accepted",
            Outcome::Duplicate { payload_matches: true } => "duplicate",
            Outcome::Duplicate { payload_matches: false } => "duplicate_mismatch",
        }
    }
}

impl Outcomes {
    /// The counters that `of_word` gives for the words of the outcomes.
    pub(super) fn new(of_word: impl Fn(&'static str) -> Counter) -> Self {
        Self(Outcome::ALL.map(|outcome| of_word(outcome.as_str())))
    }

    pub(super) fn count(&self, outcome: Outcome) {
        let [accepted, duplicate, mismatch] = &self.0;
        match outcome {
            Outcome::Accepted => accepted.increment(1),
            Outcome::Duplicate { payload_matches: true } => duplicate.increment(1),
            Outcome::Duplicate { payload_matches: false } => mismatch.increment(1),
        }
    }
}

impl Receipts {
    /// Counts `most` organisations by name, too.
    pub(super) fn new(most: usize) -> Self {
        let protocols = [Protocol::Http, Protocol::Grpc, Protocol::Control].map(|protocol| {
            let label = protocol.as_str();
            let of_word =
                |word: &'static str| counter!(names::SUBMISSIONS_TOTAL, "protocol" => label, "outcome" => word);
            (protocol, Outcomes::new(of_word))
        });
        Self { protocols, orgs: Orgs::new(most) }
    }

    /// Notes what the submission by `call` to `target` is answered.
    pub(super) fn note(&self, receipt: &Receipt, call: &Call, target: &Target, span: &tracing::Span) {
        let outcome = receipt.outcome;
        trace::note(span, spans::OUTCOME, outcome.as_str());
        if let Some((_, outcomes)) = self.protocols.iter().find(|(protocol, _)| *protocol == call.protocol) {
            outcomes.count(outcome);
        }
        self.orgs.count(target, outcome);
        if outcome == Outcome::MISMATCH {
            tracing::info!(
                protocol = call.protocol.as_str(),
                org_id = target.org.as_str(),
                env = target.env.as_str(),
                request_id = call.id.as_str(),
                message_key = target.message_key(&receipt.sid).fingerprint(),
                "a known message_sid came with another content; the first content stays"
            );
        }
    }
}

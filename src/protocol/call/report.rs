//! The one place where an edge logs and counts what became of a call. Its counters are looked up once, when it is made.

use std::{fmt::Write as _, time::Instant};

use http::{HeaderMap, StatusCode};
use metrics::{Counter, Histogram, counter, histogram};
use parking_lot::Mutex;
use tonic::{Code, Status};

use super::Failure;
use crate::{
    protocol::status::{self, WireKind},
    service::{Call, Flow, Protocol, Route},
    telemetry::{Lines, names, spans, trace},
};

/// Answers that no error kind stands for.
const OTHER_STATUSES: [StatusCode; 2] = [StatusCode::OK, StatusCode::NO_CONTENT];
/// gRPC's codes, by number.
const GRPC_CODES: [&str; 17] =
    ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"];

/// Logs and counts for one protocol.
pub struct Report {
    routes: Vec<RouteMeters>,
    rejected: Vec<Rejected>,
}

/// Of one published word of an error.
struct Rejected {
    code: &'static str,
    lines: Mutex<Lines>,
}

struct RouteMeters {
    route: &'static Route,
    seconds: Histogram,
    /// By HTTP status; gRPC's answers are all 200 and are counted by code.
    statuses: Vec<(StatusCode, Counter)>,
    codes: Vec<Counter>,
    other: Counter,
    /// By the word in metrics of the error.
    rejected: Vec<(&'static str, Counter)>,
}

/// What an answer says became of its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// By HTTP's status.
    Status(StatusCode),
    /// By gRPC's code.
    Code(Code),
}

impl Told {
    /// What the head of the answer to `call` says; `None` where its end will.
    pub fn by_head(call: &Call, status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        if call.protocol != Protocol::Grpc || status != StatusCode::OK {
            return Some(Told::Status(status));
        }
        match (Self::code_of(headers), call.route.flow) {
            (Some(code), _) => Some(Told::Code(code)),
            // One message and then, in trailers, that it is a success.
            (None, Flow::Single) => Some(Told::Code(Code::Ok)),
            (None, Flow::Answers | Flow::Both) => None,
        }
    }

    /// The code of gRPC in headers or trailers.
    pub fn code_of(headers: &HeaderMap) -> Option<Code> {
        headers.get(Status::GRPC_STATUS).map(|code| Code::from_bytes(code.as_bytes()))
    }
}

impl Report {
    /// A report whose metrics carry `protocol` as a label, and its routes.
    pub fn new(protocol: Protocol, routes: impl Iterator<Item = &'static Route>) -> Self {
        let rejected = |face: status::Status| Rejected { code: face.code, lines: Mutex::default() };
        Self {
            routes: routes.map(|route| RouteMeters::new(protocol, route)).collect(),
            rejected: status::all().map(rejected).collect(),
        }
    }

    /// Notes that the answer to `call` begins.
    pub fn answered(&self, call: &Call) {
        if let Some(meters) = self.meters(call) {
            meters.seconds.record(call.began.elapsed());
        }
    }

    /// Notes what became of `call`; once, when it is known.
    pub fn ended(&self, call: &Call, told: Told) {
        if let Some(meters) = self.meters(call) {
            meters.counter(told).increment(1);
        }
    }

    fn meters(&self, call: &Call) -> Option<&RouteMeters> {
        self.routes.iter().find(|meters| meters.route == call.route)
    }

    /// Notes that a call failed. Every failure passes here once and is logged nowhere else; one that many have at once, one line a
    /// second for each code.
    pub fn failure(&self, failure: &Failure, call: &Call) {
        let face = failure.face();
        let rejected = self.rejected.iter().find(|rejected| rejected.code == face.code);
        let word = failure.counted_as();
        let counted = self.meters(call).and_then(|meters| meters.rejected.iter().find(|(code, _)| *code == word));
        match counted {
            Some((_, count)) => count.increment(1),
            // The control socket's, which are few.
            None => rejected_total(call.protocol, call.route, word).increment(1),
        }
        trace::note(&call.span, spans::ERROR_TYPE, face.code);
        // A macro's level must be a constant, hence three calls.
        macro_rules! log {
            ($level:ident, $left_out:expr) => {
                tracing::$level!(
                    protocol = call.protocol.as_str(),
                    route = call.route.name,
                    request_id = call.id.as_str(),
                    code = face.code,
                    message_key = failure.subject(),
                    cause = cause(failure),
                    left_out = $left_out,
                    "{}",
                    failure.public_message()
                )
            };
        }
        if face.http == StatusCode::INTERNAL_SERVER_ERROR {
            log!(error, None::<u64>);
        } else if face.http.is_server_error() && !failure.is(WireKind::CallerDeadlineExceeded) {
            match rejected.map_or(Some(0), |rejected| rejected.lines.lock().next(Instant::now())) {
                Some(left_out) => log!(warn, (left_out > 0).then_some(left_out)),
                None => log!(debug, None::<u64>),
            }
        } else {
            log!(debug, None::<u64>);
        }
    }
}

impl RouteMeters {
    fn new(protocol: Protocol, route: &'static Route) -> Self {
        let (label, name) = (protocol.as_str(), route.name);
        let requests =
            |status: String| counter!(names::REQUESTS_TOTAL, "protocol" => label, "route" => name, "status" => status);
        let is_grpc = protocol == Protocol::Grpc;
        let mut statuses: Vec<(StatusCode, Counter)> = Vec::new();
        if !is_grpc {
            for status in status::all().map(|face| face.http).chain(OTHER_STATUSES) {
                if statuses.iter().all(|(known, _)| *known != status) {
                    statuses.push((status, requests(status.as_str().to_owned())));
                }
            }
        }
        Self {
            route,
            seconds: histogram!(names::REQUEST_DURATION_SECONDS, "protocol" => label, "route" => name),
            statuses,
            codes: if is_grpc { GRPC_CODES.map(|code| requests(code.to_owned())).into() } else { Vec::new() },
            other: requests("other".to_owned()),
            rejected: Failure::all_counted().map(|code| (code, rejected_total(protocol, route, code))).collect(),
        }
    }

    fn counter(&self, told: Told) -> &Counter {
        let counter = match told {
            Told::Status(status) => {
                self.statuses.iter().find(|(known, _)| *known == status).map(|(_, counter)| counter)
            }
            Told::Code(code) => self.codes.get(code as usize),
        };
        counter.unwrap_or(&self.other)
    }
}

fn rejected_total(protocol: Protocol, route: &Route, code: &'static str) -> Counter {
    counter!(names::REJECTED_TOTAL, "protocol" => protocol.as_str(), "route" => route.name, "code" => code)
}

/// The cause and what caused it, joined by colons.
fn cause(failure: &Failure) -> Option<String> {
    let cause = failure.cause()?;
    let mut text = cause.to_string();
    let mut next = cause.source();
    while let Some(cause) = next {
        let _ = write!(text, ": {cause}");
        next = cause.source();
    }
    Some(text)
}

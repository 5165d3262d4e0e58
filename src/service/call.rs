//! One call, as all that works for it knows it. The outermost layer makes it, once; everything below reads it.

use std::{net::IpAddr, time::Instant};

use http::{HeaderMap, HeaderValue, header::ORIGIN};
use tracing::Span;

use super::{Caller, RequestId};
use crate::{
    domain::{Error, Scope, TraceParent},
    telemetry::trace,
};

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Call {
    /// Under which it appears in its answer, in the log and in traces.
    pub id: RequestId,
    /// By which way it came in.
    pub protocol: Protocol,
    /// What is called.
    pub route: &'static Route,
    /// The trace context that its caller sent.
    pub traceparent: Option<TraceParent>,
    /// When it came in.
    pub began: Instant,
    /// When its caller's patience ends, where it told.
    pub deadline: Option<tokio::time::Instant>,
    /// From where it comes, where that is known.
    pub address: Option<IpAddr>,
    /// Its span, where it is traced.
    pub span: Span,
    origin: Option<HeaderValue>,
    caller: Option<Caller>,
}

/// By which way a call comes in: a label of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// The webhook.
    Http,
    /// The gRPC listener.
    Grpc,
    /// The control socket.
    Control,
}

/// One thing that can be called: a row in the table of an edge. Anything that does not exist is [`Route::NONE`], so that
/// labels stay few.
#[derive(Debug)]
pub struct Route {
    /// The word in logs and metrics, such as `submit`.
    pub name: &'static str,
    /// Its path without what callers put into it, or its RPC, or an RPC service of others.
    pub pattern: &'static str,
    /// The methods of HTTP that it has, as the header `Allow` lists them.
    pub methods: &'static str,
    /// Whom the way in lets through.
    pub access: Access,
    /// How its messages come and go.
    pub flow: Flow,
}

/// How the messages of a call come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// One is answered by one.
    Single,
    /// One is answered by many: the answer goes on after its head, and only its end tells what became of the call.
    Answers,
    /// Many are answered by many; they come when they come.
    Both,
}

/// Whom the way in lets through to a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Open,
    /// Whoever has a key. What it may do is asked later, when it is known where.
    Key,
    /// Whoever has a key with this scope, before anything more is read of the call.
    Scope(Scope),
}

impl Call {
    /// A call of `route` with these headers, which begins now.
    pub fn begin(protocol: Protocol, route: &'static Route, headers: &HeaderMap) -> Self {
        Self {
            id: RequestId::sent(headers).unwrap_or_else(RequestId::fresh),
            protocol,
            route,
            traceparent: trace::sent(headers),
            began: Instant::now(),
            deadline: None,
            address: None,
            span: Span::none(),
            origin: headers.get(ORIGIN).cloned(),
            caller: None,
        }
    }

    /// From now on it is `caller`'s, whose key was checked.
    ///
    /// # Errors
    /// `PermissionDenied` where a browser key may not call: by another way than the webhook, or from a page of another origin.
    pub fn identify(&mut self, caller: Caller) -> Result<(), Error> {
        caller.require_page(self.protocol, self.origin.as_ref())?;
        self.caller = Some(caller);
        Ok(())
    }

    /// A message of its stream as a call of its own, which begins now. What becomes of it is not in the stream's span.
    pub fn item(&self, route: &'static Route) -> Self {
        Self { route, began: Instant::now(), span: Span::none(), ..self.clone() }
    }

    /// Who calls.
    ///
    /// # Errors
    /// [`crate::domain::Kind::Internal`] on a route that the way in lets everybody through to: a bug, not a guest.
    pub fn caller(&self) -> Result<&Caller, Error> {
        self.caller.as_ref().ok_or_else(|| Error::internal("a call without a checked key"))
    }
}

impl Route {
    /// Whatever does not exist.
    pub const NONE: &'static Route = {
        static NONE: Route =
            Route { name: "none", pattern: "_OTHER", methods: "", access: Access::Open, flow: Flow::Single };
        &NONE
    };
}

impl PartialEq for Route {
    /// Each row is one, and is nowhere else.
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Protocol {
    /// The word in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Http => "http",
            Protocol::Grpc => "grpc",
            Protocol::Control => "control",
        }
    }
}

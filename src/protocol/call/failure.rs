//! Why a call failed: for a reason of the domain, or for one that only the wire can have, whose texts are here.

use std::{borrow::Cow, error::Error as StdError, time::Duration};

use crate::{
    domain::{Error, Kind, Limited, RateExceeded, Violation},
    protocol::status::{self, Status, WireKind},
};

/// The path of the page that explains errors, on the webhook's port. A path and no whole URL: under which names the service is
/// reached, those in front of it know.
pub const ERROR_DOCS: &str = "/docs/errors";

/// In metrics alone: `rate_limited`, where requests without a valid key are too many.
const AUTH_RATE_LIMITED: &str = "auth_rate_limited";

/// See the module.
#[derive(Debug)]
pub enum Failure {
    /// The domain's, with all that it tells.
    Domain(Error),
    /// The wire's, and its public text.
    Wire(WireKind, Cow<'static, str>),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Domain(error)
    }
}

impl Failure {
    /// There is no such path.
    pub fn no_such_path() -> Self {
        let text =
            "There is no such path; send messages to /{org_id}/{env}/v1/message-webhook, where env is 'dev' or 'prod'";
        Self::Wire(WireKind::NotFound, text.into())
    }

    /// There is such a path, without the slash at its end.
    pub fn slash_at_the_end() -> Self {
        Self::Wire(WireKind::NotFound, "There is no such path; leave the slash at its end out".into())
    }

    /// There is no such RPC.
    pub fn no_such_rpc() -> Self {
        let text = "There is no such method; server reflection lists those that there are";
        Self::Wire(WireKind::NotFound, text.into())
    }

    /// The path has `methods` only.
    pub fn method_not_allowed(methods: &str) -> Self {
        let methods = methods.replace(", ", " or ");
        let text = format!("This path has no such method; call it with {methods}");
        Self::Wire(WireKind::MethodNotAllowed, text.into())
    }

    /// What is waited for was not complete in `limit`.
    pub fn too_slow(limit: Duration) -> Self {
        let text = format!("The message came too slowly; send all of it within {} seconds", limit.as_secs_f32());
        Self::Wire(WireKind::RequestTimeout, text.into())
    }

    /// The body is not said to be JSON.
    pub fn not_json() -> Self {
        let text = "Send JSON, with the header 'Content-Type: application/json'";
        Self::Wire(WireKind::UnsupportedMediaType, text.into())
    }

    /// The request is not of gRPC.
    pub fn not_grpc() -> Self {
        let text = "This is the gRPC port; call it over HTTP/2 with 'Content-Type: application/grpc', and send the \
                    webhook's JSON to the HTTP port, which is 8080 unless 'http_addr' says otherwise";
        Self::Wire(WireKind::UnsupportedMediaType, text.into())
    }

    /// A request of HTTP names no host, or several.
    pub fn not_one_host() -> Self {
        Error::new(Kind::InvalidArgument, "Send one header 'Host'").into()
    }

    /// The body is compressed.
    pub fn compressed_body() -> Self {
        let text = "Send the body without compression and without the header 'Content-Encoding'";
        Self::Wire(WireKind::UnsupportedContentEncoding, text.into())
    }

    /// The body is encoded on its way.
    pub fn encoded_transfer() -> Self {
        let text = "Send the body without compression, with no other 'Transfer-Encoding' than 'chunked'";
        Self::Wire(WireKind::UnsupportedContentEncoding, text.into())
    }

    /// The message is compressed.
    pub fn compressed_message() -> Self {
        Self::Wire(WireKind::UnsupportedContentEncoding, "Send the message without compression".into())
    }

    /// The message is so large that it is not even read.
    pub fn too_large_to_read() -> Self {
        Error::new(Kind::BodyTooLarge, "The message is too large; send a shorter one").into()
    }

    /// The message is not what its RPC takes.
    pub fn not_protobuf() -> Self {
        Error::new(Kind::InvalidArgument, "The request is not one valid protobuf message of this method").into()
    }

    /// The body is not one JSON object; `why` tells where it is not.
    pub fn malformed_json(why: impl Into<Cow<'static, str>>) -> Self {
        Self::Wire(WireKind::MalformedJson, why.into())
    }

    /// The caller's own deadline passed.
    pub fn too_late() -> Self {
        let text = "The deadline of this call passed; repeat the call to learn what became of it";
        Self::Wire(WireKind::CallerDeadlineExceeded, text.into())
    }

    /// Its row in the tables.
    pub fn face(&self) -> Status {
        match self {
            Failure::Domain(error) => status::of(error.kind()),
            Failure::Wire(kind, _) => status::of_wire(*kind),
        }
    }

    /// Its word in metrics: the published one, but what strangers cause by their number is told apart from the quotas of tenants.
    pub fn counted_as(&self) -> &'static str {
        match self.rate_exceeded() {
            Some(exceeded) if exceeded.limit == Limited::FailedAuth => AUTH_RATE_LIMITED,
            _ => self.face().code,
        }
    }

    /// Every word that [`Failure::counted_as`] gives.
    pub fn all_counted() -> impl Iterator<Item = &'static str> {
        status::all().map(|face| face.code).chain([AUTH_RATE_LIMITED])
    }

    /// Where its code is explained.
    pub fn doc_url(&self) -> String {
        format!("{ERROR_DOCS}#{}", self.face().code)
    }

    /// Whether it is this one of the wire.
    pub fn is(&self, wire: WireKind) -> bool {
        matches!(self, Failure::Wire(kind, _) if *kind == wire)
    }

    /// The text for the caller.
    pub fn public_message(&self) -> &str {
        match self {
            Failure::Domain(error) => error.public_message(),
            Failure::Wire(_, text) => text,
        }
    }

    /// Every rule of a field that was broken.
    pub fn violations(&self) -> &[Violation] {
        self.of_domain().map_or(&[], Error::violations)
    }

    /// How long to wait before a retry, where a retry can help.
    pub fn retry_after(&self) -> Option<Duration> {
        self.of_domain()?.retry_after()
    }

    /// The limit that is used up, where it is that.
    pub fn rate_exceeded(&self) -> Option<&RateExceeded> {
        self.of_domain()?.rate_exceeded()
    }

    /// Which message it is about; for the log.
    pub fn subject(&self) -> Option<&str> {
        self.of_domain()?.subject()
    }

    /// The cause, for the log and for nobody else.
    pub fn cause(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.of_domain()?.cause()
    }

    fn of_domain(&self) -> Option<&Error> {
        match self {
            Failure::Domain(error) => Some(error),
            Failure::Wire(..) => None,
        }
    }
}

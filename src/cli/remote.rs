//! How commands reach a server's gRPC port: where, as whom, for which organisation.

use std::{path::PathBuf, time::Duration};

use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint, Uri},
};
use tonic_types::StatusExt;

use super::{
    health::reachable,
    keys::env_of,
    output::Failure,
    tls::{self, Connector, TlsFlags},
};
use crate::{
    config::text_of_file,
    domain::{Environment, OrgId, Violation},
    protocol::grpc::v1::{self, message_service_client::MessageServiceClient},
    tls::{H2, HTTP_1_1},
};

const DEFAULT_ADDRESS: &str = "127.0.0.1:9090";
/// For a connection, and for the answer to a call that has one.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// A connection whose other side fell silent is noticed after twice this time.
const PING: Duration = Duration::from_secs(10);
/// A page or a frame holds at most 1 MiB, or one message of any size that the server takes.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

pub(super) const KEY_HELP: &str = "The key is read from --key-file or MESSAGE_WEBHOOK_KEY, never from an argument, \
                                   which other users of the machine can see. None is needed with --tls-cert-file \
                                   where the server knows the certificate's name.";

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Remote {
    /// The organisation; defaults to the key's.
    #[arg(long)]
    org: Option<String>,
    /// The environment, dev or prod; defaults to the key's.
    #[arg(long)]
    env: Option<String>,
    /// Address of the server's gRPC port, with https:// before it if that speaks TLS; 0.0.0.0 and [::] mean this machine.
    #[arg(long, value_name = "HOST:PORT", env = "MESSAGE_WEBHOOK_GRPC_ADDR", default_value = DEFAULT_ADDRESS)]
    grpc_addr: String,
    /// File that contains the key.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    #[command(flatten)]
    tls: TlsFlags,
}

/// What `Remote` names, checked; not connected yet.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) org: Option<OrgId>,
    pub(super) env: Option<Environment>,
    pub(super) address: String,
    endpoint: Endpoint,
    connector: Connector,
    bearer: Option<MetadataValue<Ascii>>,
}

impl Remote {
    pub(super) fn check(self) -> Result<Server, Failure> {
        self.check_for(None)
    }

    /// As [`Remote::check`]; where `http_url` is given, the server is called there and not at its gRPC port.
    pub(super) fn check_for(self, http_url: Option<&str>) -> Result<Server, Failure> {
        let wrong = |violation: Violation| Failure::Usage(violation.message.into_owned());
        let org = self.org.as_deref().map(OrgId::new).transpose().map_err(wrong)?;
        let env = self.env.as_deref().map(str::parse::<Environment>).transpose().map_err(wrong)?;
        // An empty variable is an unset one.
        let address = if self.grpc_addr.is_empty() { DEFAULT_ADDRESS } else { &self.grpc_addr };
        let uri = uri_of(address)?;
        let is_https = http_url.map_or(uri.scheme_str() == Some("https"), |url| url.starts_with("https:"));
        let has_certificate = self.tls.has_certificate();
        let alpn: &[&[u8]] = if http_url.is_some() { &[H2, HTTP_1_1] } else { &[H2] };
        let connector = self.tls.connector(is_https, alpn)?;
        let address = uri.authority().map(ToString::to_string).unwrap_or_default();
        let bearer = match key(self.key_file)? {
            Some(key) => {
                let bearer: Result<MetadataValue<_>, _> = format!("Bearer {key}").parse();
                let mut bearer =
                    bearer.map_err(|_| Failure::Usage("the key is no line of printable characters".into()))?;
                // So that no library logs it.
                bearer.set_sensitive(true);
                Some(bearer)
            }
            // The certificate tells who calls; the webhook asks for a key in any case.
            None if has_certificate && http_url.is_none() => None,
            None => return Err(Failure::Usage("name a key by --key-file FILE or in MESSAGE_WEBHOOK_KEY".into())),
        };
        let endpoint = Endpoint::from(uri)
            .connect_timeout(TIMEOUT)
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .keep_alive_while_idle(true);
        Ok(Server { org, env, address, endpoint, connector, bearer })
    }
}

/// `HOST:PORT`, with `https://` before it for TLS.
fn uri_of(address: &str) -> Result<Uri, Failure> {
    let wrong = || {
        Failure::Usage(format!(
            "'{address}' is no address; write HOST:PORT, e.g. 127.0.0.1:9090, or https://HOST:PORT where it speaks TLS"
        ))
    };
    let (scheme, place) = match address.split_once("://") {
        Some(("https", place)) => ("https", place.trim_end_matches('/')),
        Some(_) => return Err(wrong()),
        None => ("http", address),
    };
    let place = place.parse().map_or(place.to_owned(), |place| reachable(place).to_string());
    let uri: Uri = format!("{scheme}://{place}/").parse().map_err(|_| wrong())?;
    // Without a port it would be 80: the key would be sent to whoever listens there. With TLS they show who they are.
    let names_both = uri.authority().is_some_and(|authority| {
        let has_port = authority.port().is_some() || scheme == "https";
        has_port && !authority.host().is_empty() && !place.contains(['@', '/', '?'])
    });
    if names_both { Ok(uri) } else { Err(wrong()) }
}

impl Server {
    pub(super) async fn connect(&self) -> Result<MessageServiceClient<Channel>, Failure> {
        self.try_connect().await.map_err(|why| self.unconnected(why))
    }

    /// As [`Server::connect`]; where it fails by TLS, and so would fail again, with the reason.
    pub(super) async fn try_connect(&self) -> Result<MessageServiceClient<Channel>, Option<String>> {
        let channel = self.endpoint.connect_with_connector(self.connector.clone()).await;
        let channel = channel.map_err(|error| tls::why(&error))?;
        Ok(MessageServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES))
    }

    /// What is said when [`Server::try_connect`] failed.
    pub(super) fn unconnected(&self, why: Option<String>) -> Failure {
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        Failure::Failed(format!("cannot connect to gRPC at {}{why}", self.address))
    }

    /// `message` with the key, where there is one.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(bearer) = &self.bearer {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        request
    }

    /// The field `org_id` of every request.
    pub(super) fn org_id(&self) -> String {
        self.org.as_ref().map(|org| org.as_str().to_owned()).unwrap_or_default()
    }

    /// The field `env` of every request.
    pub(super) fn env(&self) -> v1::Environment {
        env_of(self.env)
    }

    /// What connections are made by.
    pub(super) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// The whole header that carries the key, where there is one.
    pub(super) fn bearer(&self) -> Option<&MetadataValue<Ascii>> {
        self.bearer.as_ref()
    }

    /// What a call failed with.
    pub(super) fn failure(&self, status: &Status) -> Failure {
        Failure::Failed(self.said(status))
    }

    /// The same as words: the service's own, and never a library's.
    pub(super) fn said(&self, status: &Status) -> String {
        let Server { address, .. } = self;
        if is_the_services(status) {
            return status.message().to_owned();
        }
        let code = status.code();
        if code == Code::Unavailable {
            format!("cannot connect to gRPC at {address}")
        } else if code == Code::DeadlineExceeded || code == Code::Cancelled {
            format!("{address} did not answer in time")
        } else {
            format!(
                "what listens on {address} does not answer as this service's gRPC port does ({code:?}); is the address right, with https:// before it where it speaks TLS?"
            )
        }
    }
}

/// Whether `status` is the service's own: every error of it has details. Others are the transport's, or whoever's who listens
/// at a wrong address.
pub(super) fn is_the_services(status: &Status) -> bool {
    status.get_details_error_info().is_some()
}

/// Whether the same call may succeed later, by itself.
pub(super) fn is_passing(status: &Status) -> bool {
    match status.code() {
        // A broken connection shows as any of these, depending on where it broke.
        Code::Unavailable | Code::Cancelled | Code::Unknown | Code::DeadlineExceeded | Code::Aborted => true,
        Code::ResourceExhausted => status.get_details_retry_info().is_some(),
        // Without details it is not the server's own, but the transport's.
        Code::Internal => !is_the_services(status),
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}

/// The key that is named, if one is.
fn key(file: Option<PathBuf>) -> Result<Option<String>, Failure> {
    let text = match file {
        Some(path) => {
            let bytes = std::fs::read(&path)
                .map_err(|error| Failure::Failed(format!("cannot read {}: {error}", path.display())))?;
            text_of_file(bytes).map_err(|wrong| Failure::Failed(format!("{} {wrong}", path.display())))?
        }
        None => std::env::var("MESSAGE_WEBHOOK_KEY").unwrap_or_default(),
    };
    let key = text.trim();
    Ok((!key.is_empty()).then(|| key.to_owned()))
}

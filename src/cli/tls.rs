//! How commands speak TLS.

use std::{error::Error, io, path::PathBuf, sync::Arc};

use hyper_rustls::{DefaultServerNameResolver, FixedServerNameResolver, HttpsConnector, ResolveServerName};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::{CertificateError, pki_types::ServerName};

use super::output::Failure;
use crate::tls::{ClientFiles, Trust, client_config};

/// Makes connections, with TLS to addresses of `https`.
pub(super) type Connector = HttpsConnector<HttpConnector>;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct TlsFlags {
    /// Trust the authorities whose certificates (PEM) are in this file instead of the system's.
    #[arg(long, value_name = "FILE")]
    tls_ca_file: Option<PathBuf>,
    /// Expect the server's certificate to have this name instead of the address's.
    #[arg(long, value_name = "NAME", value_parser = server_name)]
    tls_server_name: Option<ServerName<'static>>,
    /// The client's own certificate chain (PEM), where the server asks for one.
    #[arg(long, value_name = "FILE", requires = "tls_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// The private key (PEM) of that certificate.
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    tls_key_file: Option<PathBuf>,
}

impl TlsFlags {
    /// Whether the command has a certificate of its own, by which a server may know it without a key.
    pub(super) fn has_certificate(&self) -> bool {
        self.tls_cert_file.is_some()
    }

    /// What makes connections, of the protocols `alpn` where the address is one of `https`.
    pub(super) fn connector(self, is_https: bool, alpn: &[&[u8]]) -> Result<Connector, Failure> {
        let Self { tls_ca_file, tls_server_name, tls_cert_file, tls_key_file } = self;
        if !is_https && (tls_ca_file.is_some() || tls_server_name.is_some() || tls_cert_file.is_some()) {
            return Err(Failure::Usage(
                "the --tls flags are for an address that begins with https://; write it so, or leave them out".into(),
            ));
        }
        let trust = match tls_ca_file {
            _ if !is_https => Trust::Nobody,
            Some(path) => Trust::File(path),
            None => Trust::System,
        };
        let files = ClientFiles { trust, own: tls_cert_file.zip(tls_key_file) };
        let mut config = client_config(&files).map_err(Failure::Failed)?;
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let names: Arc<dyn ResolveServerName + Send + Sync> = match tls_server_name {
            Some(name) => Arc::new(FixedServerNameResolver::new(name)),
            None => Arc::new(DefaultServerNameResolver::default()),
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        // Requests are written whole: waiting to fill a segment would only delay them.
        tcp.set_nodelay(true);
        Ok(HttpsConnector::new(tcp, config, false, names))
    }
}

/// A name that a certificate can have.
pub(super) fn server_name(text: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(text.to_owned()).map_err(|_| "write a host's name or an IP address".into())
}

/// What went wrong with TLS, if anything in `error` tells.
pub(super) fn why(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(said(error));
        }
        // Of an error within it an I/O error names only what is behind that.
        let within = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match within {
            Some(within) => Some(within),
            None => error.source(),
        };
    }
    None
}

fn said(error: &rustls::Error) -> String {
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext, UnknownIssuer,
    };
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage};
    // Of an authority with the same name and another key the signature is what does not fit.
    if matches!(error, InvalidCertificate(UnknownIssuer | BadSignature)) {
        "its certificate is of an authority that is not trusted here; name that by --tls-ca-file".into()
    } else if matches!(error, InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) {
        "its certificate has another name than the address; give that name by --tls-server-name".into()
    } else if matches!(error, InvalidCertificate(Expired | ExpiredContext { .. })) {
        "its certificate has expired".into()
    } else if matches!(error, InvalidMessage(_)) {
        "it speaks no TLS; leave https:// out".into()
    } else if let AlertReceived(alert) = error {
        format!("it refused the connection ({alert:?})")
    } else {
        // A library's words, but none of any secret.
        format!("no TLS with it: {error}")
    }
}

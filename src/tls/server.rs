//! What a listener presents, and which clients it trusts.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ServerConfig,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use tokio::io::AsyncReadExt;
use x509_cert::{Certificate, der::Decode, time::Time};

use super::{pem, provider};
use crate::domain::Timestamp;

/// A chain of a few certificates, or a bundle of authorities.
const MAX_BYTES: u64 = 1024 * 1024;

/// Whether clients must have a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// Who has none is let in as anybody.
    Optional,
    /// Who has none gets no connection.
    Required,
}

/// The files of one listener.
#[derive(Debug, Clone)]
pub struct ServerFiles {
    /// The chain, the server's own certificate first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities of clients' certificates, where clients may have one.
    pub client_ca: Option<(PathBuf, ClientAuth)>,
    /// The protocols that are spoken, as ALPN has them; the first that the client has, too, is taken.
    pub alpn: &'static [&'static [u8]],
}

/// What the files of a listener hold. Compared, not printed: a private key is among it.
#[derive(Clone, PartialEq, Eq)]
pub struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// What is wrong with which file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongFile {
    /// The file.
    pub path: PathBuf,
    /// What is wrong, and what to give instead.
    pub wrong: String,
}

/// Files that are good together.
#[derive(Clone)]
pub struct Identity {
    /// What connections are opened with.
    pub config: Arc<ServerConfig>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl ServerFiles {
    /// What the files hold now.
    ///
    /// # Errors
    /// The first file that cannot be read.
    pub async fn read(&self) -> Result<Contents, WrongFile> {
        Ok(Contents {
            cert: read(&self.cert).await?,
            key: read(&self.key).await?,
            client_ca: match &self.client_ca {
                Some((path, _)) => Some(read(path).await?),
                None => None,
            },
        })
    }

    /// What `contents` of these files are for a listener.
    ///
    /// # Errors
    /// The first file that is not good.
    pub fn identity(&self, contents: &Contents) -> Result<Identity, WrongFile> {
        let in_cert = |wrong| WrongFile { path: self.cert.clone(), wrong };
        let chain = pem::chain(&contents.cert).map_err(in_cert)?;
        let key = pem::key(&contents.key).map_err(|wrong| WrongFile { path: self.key.clone(), wrong })?;
        let own = chain.first().and_then(|own| Certificate::from_der(own).ok());
        let own = own.ok_or_else(|| in_cert("has a certificate that cannot be read; make it again".into()))?;
        let validity = own.tbs_certificate().validity();
        let at = |time: Time| Timestamp::from_system(time.to_system_time());
        let (not_before, not_after) = (at(validity.not_before), at(validity.not_after));

        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| in_cert(error.to_string()))?;
        let builder = match (&self.client_ca, &contents.client_ca) {
            (Some((path, auth)), Some(text)) => {
                let in_ca = |wrong| WrongFile { path: path.clone(), wrong };
                let roots = Arc::new(pem::authorities(text).map_err(in_ca)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                let verifier = match auth {
                    ClientAuth::Optional => verifier.allow_unauthenticated(),
                    ClientAuth::Required => verifier,
                };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| in_ca(error.to_string()))?)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| WrongFile {
            path: self.key.clone(),
            wrong: if matches!(error, rustls::Error::InconsistentKeys(_)) {
                format!(
                    "does not fit the first certificate in {}; give the key that this was made with, and the server's own \
                     certificate first",
                    self.cert.display()
                )
            } else {
                format!("cannot be used: {error}; give an ECDSA, Ed25519 or RSA key")
            },
        })?;
        config.alpn_protocols = self.alpn.iter().map(|name| name.to_vec()).collect();
        if self.client_ca.is_some() {
            // A resumed session keeps the certificate that it began with, however expired that is by now.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Identity { config: Arc::new(config), not_before, not_after })
    }
}

impl Identity {
    /// When the server's own certificate expires.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// What is wrong with the certificate's dates at `now`.
    pub fn warning(&self, now: Timestamp) -> Option<String> {
        if now >= self.not_after {
            Some(format!("it expired at {}", self.not_after))
        } else if now < self.not_before {
            Some(format!("it is good only from {} on", self.not_before))
        } else {
            None
        }
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, WrongFile> {
    let wrong = |wrong| WrongFile { path: path.to_path_buf(), wrong };
    let unreadable = |error: io::Error| {
        let kind = error.kind();
        wrong(if kind == io::ErrorKind::NotFound {
            "is not there; name a file that is, or leave the setting out".to_owned()
        } else if kind == io::ErrorKind::PermissionDenied {
            "may not be read by this user; let the server's user read it".to_owned()
        } else {
            format!("cannot be read: {error}")
        })
    };
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).await.map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(wrong(format!("has more than {MAX_BYTES} bytes; give PEM, as certificates and keys come in it")));
    }
    Ok(bytes)
}

//! What the connections to the database are encrypted and proved with: read from files, and again while the program runs. New
//! connections have what was read last; those that are open go on.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::RwLock;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        ResolvesClientCert, Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    sign::CertifiedKey,
};

use super::connect_error::ConnectError;

/// The files. Servers must have certificates for their IP addresses.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The certificates, in PEM, of the authorities that sign servers' certificates.
    pub ca_file: PathBuf,
    /// A certificate chain and its private key, in PEM, where the database asks for one.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// What the files held. It has a private key in it, and so no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsContents {
    ca: Vec<u8>,
    client: Option<(Vec<u8>, Vec<u8>)>,
}

/// See the module. All values that were cloned from one share what was read last.
#[derive(Clone)]
pub struct Encryption {
    files: Tls,
    live: Arc<Live>,
    config: Arc<ClientConfig>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`ConnectError::Tls`], for one that cannot be read.
    pub async fn read(&self) -> Result<TlsContents, ConnectError> {
        let ca = read("the CA file", &self.ca_file).await?;
        let client = match &self.client {
            Some((chain, key)) => Some((read(CLIENT_CERTIFICATE, chain).await?, read(CLIENT_KEY, key).await?)),
            None => None,
        };
        Ok(TlsContents { ca, client })
    }
}

const CLIENT_CERTIFICATE: &str = "the client certificate";
const CLIENT_KEY: &str = "the client key";

async fn read(what: &str, path: &Path) -> Result<Vec<u8>, ConnectError> {
    tokio::fs::read(path).await.map_err(|error| broken(what, path, error.to_string()))
}

fn broken(what: &str, path: &Path, wrong: String) -> ConnectError {
    ConnectError::Tls { file: format!("{what} {}", path.display()), wrong }
}

impl Encryption {
    /// By what `files` hold.
    ///
    /// # Errors
    /// [`ConnectError::Tls`].
    pub fn new(files: Tls, contents: &TlsContents) -> Result<Self, ConnectError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let (verifier, client) = understood(&files, contents, &provider)?;
        let live = Arc::new(Live { verifier: RwLock::new(verifier), client: RwLock::new(client), provider });
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&live.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| broken("the CA file", &files.ca_file, error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&live) as Arc<dyn ServerCertVerifier>)
            .with_client_cert_resolver(Arc::clone(&live) as Arc<dyn ResolvesClientCert>);
        // A session that goes on would be one of the certificate before.
        config.resumption = Resumption::disabled();
        Ok(Self { files, live, config: Arc::new(config) })
    }

    /// Has new connections go by `contents`.
    ///
    /// # Errors
    /// [`ConnectError::Tls`]; nothing has changed then.
    pub fn replace(&self, contents: &TlsContents) -> Result<(), ConnectError> {
        let (verifier, client) = understood(&self.files, contents, &self.live.provider)?;
        *self.live.verifier.write() = verifier;
        *self.live.client.write() = client;
        Ok(())
    }

    /// The files.
    pub fn files(&self) -> &Tls {
        &self.files
    }

    /// For the driver.
    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }
}

impl fmt::Debug for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Encryption").field(&self.files).finish()
    }
}

type Understood = (Arc<WebPkiServerVerifier>, Option<Arc<CertifiedKey>>);

fn understood(files: &Tls, contents: &TlsContents, provider: &Arc<CryptoProvider>) -> Result<Understood, ConnectError> {
    let ca = |wrong| broken("the CA file", &files.ca_file, wrong);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&contents.ca) {
        let certificate = certificate.map_err(|error| ca(error.to_string()))?;
        roots.add(certificate).map_err(|error| ca(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(ca("it has no certificate in PEM".to_owned()));
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    let verifier = verifier.map_err(|error| ca(error.to_string()))?;
    let client = match files.client.as_ref().zip(contents.client.as_ref()) {
        Some(((chain_file, key_file), (chain, key))) => {
            let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
                .collect::<Result<_, _>>()
                .map_err(|error| broken(CLIENT_CERTIFICATE, chain_file, error.to_string()))?;
            if chain.is_empty() {
                return Err(broken(CLIENT_CERTIFICATE, chain_file, "it has no certificate in PEM".to_owned()));
            }
            let key =
                PrivateKeyDer::from_pem_slice(key).map_err(|error| broken(CLIENT_KEY, key_file, error.to_string()))?;
            let certified = CertifiedKey::from_der(chain, key, provider)
                .map_err(|error| broken(CLIENT_CERTIFICATE, chain_file, error.to_string()))?;
            Some(Arc::new(certified))
        }
        None => None,
    };
    Ok((verifier, client))
}

/// What was read last, as the library asks for it at each handshake.
#[derive(Debug)]
struct Live {
    verifier: RwLock<Arc<WebPkiServerVerifier>>,
    client: RwLock<Option<Arc<CertifiedKey>>>,
    provider: Arc<CryptoProvider>,
}

impl Live {
    fn verifier(&self) -> Arc<WebPkiServerVerifier> {
        Arc::clone(&self.verifier.read())
    }
}

impl ResolvesClientCert for Live {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.client.read().clone()
    }

    fn has_certs(&self) -> bool {
        self.client.read().is_some()
    }
}

impl ServerCertVerifier for Live {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verifier().verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier().verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier().verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier().supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::{ClientConnection, ServerConfig, ServerConnection, server::WebPkiClientVerifier};

    use super::*;

    struct Authority {
        issuer: Issuer<'static, KeyPair>,
        pem: String,
    }

    impl Authority {
        fn generate() -> Self {
            let mut params = CertificateParams::new([]).expect("no names");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().expect("a key");
            let pem = params.self_signed(&key).expect("signed").pem();
            Self { issuer: Issuer::new(params, key), pem }
        }

        fn pair(&self) -> (String, String) {
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
            (params.signed_by(&key, &self.issuer).expect("signed").pem(), key.serialize_pem())
        }

        /// A node of the database that asks for clients' certificates of this authority.
        fn node(&self) -> Arc<ServerConfig> {
            let (chain, key) = self.pair();
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("PEM")).expect("an authority");
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
            let builder = builder.expect("versions").with_client_cert_verifier(clients.build().expect("a verifier"));
            let chain = vec![CertificateDer::from_pem_slice(chain.as_bytes()).expect("PEM")];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
            Arc::new(builder.with_single_cert(chain, key).expect("a pair"))
        }

        fn contents(&self) -> TlsContents {
            let (chain, key) = self.pair();
            TlsContents { ca: self.pem.clone().into_bytes(), client: Some((chain.into_bytes(), key.into_bytes())) }
        }
    }

    /// Whether both sides take each other's certificate.
    fn shake(encryption: &Encryption, node: &Arc<ServerConfig>) -> Result<(), Error> {
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        let mut client = ClientConnection::new(encryption.config(), name)?;
        let mut server = ServerConnection::new(Arc::clone(node))?;
        while client.is_handshaking() || server.is_handshaking() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).expect("memory");
            server.read_tls(&mut bytes.as_slice()).expect("memory");
            server.process_new_packets()?;
            let mut bytes = Vec::new();
            server.write_tls(&mut bytes).expect("memory");
            client.read_tls(&mut bytes.as_slice()).expect("memory");
            client.process_new_packets()?;
        }
        Ok(())
    }

    #[test]
    fn new_connections_go_by_the_files_that_were_read_last() {
        let (old, new) = (Authority::generate(), Authority::generate());
        let files = Tls { ca_file: "ca.pem".into(), client: Some(("client.pem".into(), "client.key".into())) };
        let encryption = Encryption::new(files, &old.contents()).expect("good files");
        assert_eq!(shake(&encryption, &old.node()), Ok(()));
        assert!(shake(&encryption, &new.node()).is_err());
        encryption.replace(&new.contents()).expect("good files");
        assert_eq!(shake(&encryption, &new.node()), Ok(()));
        assert!(shake(&encryption, &old.node()).is_err());
        // A broken half changes nothing.
        let mixed =
            TlsContents { ca: old.contents().ca, client: new.contents().client.map(|(chain, _)| (chain, Vec::new())) };
        assert!(encryption.replace(&mixed).is_err_and(|error| error.to_string().contains("client.key")));
        assert_eq!(shake(&encryption, &new.node()), Ok(()));
    }
}

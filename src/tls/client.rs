//! Whom the program's own commands trust, and who they are.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::{pem, provider};

/// Whose certificates a command trusts.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Nobody's: for connections without TLS.
    Nobody,
    /// Those of the system's authorities.
    System,
    /// Those of the authorities in a file.
    File(PathBuf),
}

/// The files of a command.
#[derive(Debug, Clone)]
pub struct ClientFiles {
    /// Whom it trusts.
    pub trust: Trust,
    /// The client's own chain and key.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// How `files` have a command speak TLS.
///
/// # Errors
/// What is wrong with which file, in words.
pub fn client_config(files: &ClientFiles) -> Result<ClientConfig, String> {
    let told = |path: &PathBuf, wrong: String| format!("{} {wrong}", path.display());
    let read = |path: &PathBuf| std::fs::read(path).map_err(|error| told(path, format!("cannot be read: {error}")));
    let roots = match &files.trust {
        Trust::Nobody => RootCertStore::empty(),
        Trust::System => system_authorities()?,
        Trust::File(path) => pem::authorities(&read(path)?).map_err(|wrong| told(path, wrong))?,
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let Some((cert, key)) = &files.own else { return Ok(builder.with_no_client_auth()) };
    let chain = pem::chain(&read(cert)?).map_err(|wrong| told(cert, wrong))?;
    let own = pem::key(&read(key)?).map_err(|wrong| told(key, wrong))?;
    builder.with_client_auth_cert(chain, own).map_err(|error| {
        if matches!(error, rustls::Error::InconsistentKeys(_)) {
            told(key, format!("does not fit the certificate in {}", cert.display()))
        } else {
            told(key, format!("cannot be used: {error}"))
        }
    })
}

fn system_authorities() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    // Of a system's hundreds some may be of a kind that nobody reads.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("this system has no certificates of authorities; name some by --tls-ca-file FILE".into());
    }
    Ok(roots)
}

/// For a look at a server's health, to which nothing secret is sent: any certificate will do, as it does for the probes of
/// Kubernetes. An expired one must not have a server restarted.
///
/// # Errors
/// None but a bug's.
pub fn unverified_client_config() -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let any = Arc::new(AnyCertificate(provider()));
    Ok(builder.dangerous().with_custom_certificate_verifier(any).with_no_client_auth())
}

/// Takes whatever certificate there is, and checks only that the other side has its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

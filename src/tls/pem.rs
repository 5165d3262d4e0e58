//! What PEM files hold.

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
};

/// The certificates in `text`, at least one.
pub(super) fn chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(text).collect();
    let chain = chain.map_err(|_| "is no good PEM; copy it again, from '-----BEGIN CERTIFICATE-----' on".to_owned())?;
    if chain.is_empty() {
        return Err(
            "has no certificate in PEM ('-----BEGIN CERTIFICATE-----'); give the chain, its owner's own certificate first"
                .into(),
        );
    }
    Ok(chain)
}

/// The private key in `text`.
pub(super) fn key(text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(text).map_err(|_| {
        if text.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED) {
            "is locked by a passphrase; give it without one, as 'openssl pkey -in FILE' writes it".into()
        } else {
            "has no private key in PEM ('-----BEGIN PRIVATE KEY-----'); give the key that the certificate was made with"
                .into()
        }
    })
}

const ENCRYPTED: &[u8] = b"ENCRYPTED";

/// The authorities in `text`, at least one.
pub(super) fn authorities(text: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(text)? {
        roots
            .add(certificate)
            .map_err(|_| "has a certificate that cannot be read; give authorities in PEM".to_owned())?;
    }
    Ok(roots)
}

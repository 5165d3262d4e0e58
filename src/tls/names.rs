//! Who a client is, by its certificate.

use rustls::pki_types::CertificateDer;
use x509_cert::{
    Certificate,
    der::Decode,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

use crate::domain::{ClientCertificate, IdentityName, Timestamp};

/// What `certificate`, which was verified, says of its holder; `None` of one that cannot be read.
pub fn client_certificate(certificate: &CertificateDer<'_>) -> Option<ClientCertificate> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let certificate = certificate.tbs_certificate();
    let names = match certificate.get_extension::<SubjectAltName>().ok()? {
        Some((_, SubjectAltName(names))) => names,
        None => Vec::new(),
    };
    let names = names.iter().filter_map(|name| {
        if let GeneralName::UniformResourceIdentifier(uri) = name {
            return IdentityName::new(uri.as_str()).filter(|name| name.as_str().starts_with("spiffe://"));
        }
        if let GeneralName::DnsName(host) = name { IdentityName::new(host.as_str()) } else { None }
    });
    let not_after = Timestamp::from_system(certificate.validity().not_after.to_system_time());
    Some(ClientCertificate { names: names.collect(), not_after })
}

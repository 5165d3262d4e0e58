//! What is known of a client from how it connected: by what certificate, where it has one in place of a key, and from where.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

use super::{KeyId, KeyOwner, KeyRecord, Scopes, SecretHash, Timestamp};

/// A name that a certificate has: a SPIFFE id, or the name of a host in small letters.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IdentityName(Box<str>);

/// From where a request comes, as far as those on its way are believed; among the request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// That a request came over TLS to this service itself; among the request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverTls;

impl ClientAddress {
    /// What one client has: an address of IPv4, of IPv6 a /64, within which it chooses as it likes.
    pub fn assigned(self) -> IpAddr {
        match self.0.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
            address @ IpAddr::V4(_) => address,
        }
    }
}

/// By what a caller showed who it is; errors call it so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// A key.
    ApiKey,
    /// The certificate of its connection.
    Certificate,
}

/// What the certificate of a client says, after it was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// All its names of these kinds.
    pub names: Vec<IdentityName>,
    /// When it expires.
    pub not_after: Timestamp,
}

/// What the holder of a name may do, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityRecord {
    /// The name.
    pub name: IdentityName,
    /// To whom it belongs.
    pub owner: KeyOwner,
    /// What it may do.
    pub scopes: Scopes,
}

impl IdentityName {
    /// Takes a SPIFFE id with a path, or a host's name of at least two labels and without a pattern.
    pub fn new(text: &str) -> Option<Self> {
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        let is_host = |host: &str| host.len() <= 255 && host.split('.').all(is_label);
        match text.strip_prefix("spiffe://") {
            Some(rest) => {
                let (domain, path) = rest.split_once('/')?;
                let is_segment = |segment: &str| {
                    let has_good_bytes = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
                    !matches!(segment, "" | "." | "..") && segment.bytes().all(has_good_bytes)
                };
                let is_good = text.len() <= 2048 && is_host(domain) && path.split('/').all(is_segment);
                is_good.then(|| Self(text.into()))
            }
            None => (is_host(text) && text.contains('.')).then(|| Self(text.to_ascii_lowercase().into())),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl IdentityRecord {
    /// What the name is good for, as a key is: until the certificate expires. No key's text proves it, for it is in no list of keys.
    pub fn as_key(&self, certificate: &ClientCertificate) -> KeyRecord {
        KeyRecord {
            id: KeyId::of_name(self.name.as_str()),
            owner: self.owner.clone(),
            scopes: self.scopes,
            rate: None,
            origins: Vec::new(),
            secret_hash: SecretHash::from_bytes([0; 32]),
            created_at: Timestamp::EPOCH,
            expires_at: Some(certificate.not_after),
            revoked_at: None,
        }
    }
}

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credential::ApiKey => "API key",
            Credential::Certificate => "client certificate",
        })
    }
}

impl fmt::Debug for IdentityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_spiffe_id_or_that_of_a_host() {
        for (text, name) in [
            ("spiffe://example.org/ns/billing/sa/reader", "spiffe://example.org/ns/billing/sa/reader"),
            ("spiffe://td/a", "spiffe://td/a"),
            ("Billing.Internal.example", "billing.internal.example"),
        ] {
            assert_eq!(IdentityName::new(text).expect(text).as_str(), name);
        }
        for bad in [
            "",
            "billing",
            "*.example.com",
            "a..b",
            "spiffe://example.org",
            "spiffe://example.org/",
            "spiffe://example.org/a/../b",
            "spiffe://example.org/a//b",
            "spiffe://user@example.org/a",
            "spiffe://example.org:80/a",
            "SPIFFE://example.org/a",
            "https://example.org/a",
            "a b.c",
        ] {
            assert_eq!(IdentityName::new(bad), None, "{bad}");
        }
    }
}

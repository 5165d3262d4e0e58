//! From which address a request comes, where proxies that are trusted tell.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::Request;
use ipnet::IpNet;
use ppp::v2::{Addresses, Command, Header, PROTOCOL_PREFIX};
use tokio::{io::AsyncReadExt, net::TcpStream};
use trusted_proxies::{Config, Trusted};

use crate::domain::ClientAddress;

/// Before the addresses: the signature, version and command, family, length.
const FIXED_BYTES: usize = 16;
/// Addresses take 36 bytes at most; a proxy may have more to say, and no reason to say much.
const MOST_BYTES: usize = 4096;

/// Whose word on a client's address is believed: those who connect from these networks. Cheap to clone.
#[derive(Clone, Default)]
pub struct TrustedProxies(Option<Arc<Config>>);

impl TrustedProxies {
    /// Believes who connects from `networks`; nobody where there are none.
    pub fn new(networks: &[IpNet]) -> Self {
        if networks.is_empty() {
            return Self(None);
        }
        let mut config = Config::new();
        for network in networks {
            // As it was parsed before, it is read.
            let _ = config.add_trusted_ip(&network.to_string());
        }
        config.trust_forwarded();
        config.trust_x_forwarded_for();
        Self(Some(Arc::new(config)))
    }

    /// Whether `address` is that of a trusted proxy, as it is or as a socket of both families has it.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.0.as_ref().is_some_and(|config| config.is_ip_trusted(&canonical(address)))
    }

    /// The client of `request`, which came over a connection of `peer`.
    pub(super) fn client_of<B>(&self, peer: IpAddr, request: &Request<B>) -> ClientAddress {
        match &self.0 {
            Some(config) if self.trusts(peer) => ClientAddress(Trusted::from(peer, request, config).ip()),
            _ => ClientAddress(peer),
        }
    }

    /// Who is at the other end of `stream`: what a PROXY header of version 2 says before anything else, where the one that
    /// connected is trusted and sends one.
    ///
    /// # Errors
    /// A header that is none. The connection is of no use then.
    pub(super) async fn peer_of(&self, stream: &mut TcpStream, connected: SocketAddr) -> io::Result<IpAddr> {
        let connected = canonical(connected.ip());
        let mut first = [0];
        if !self.trusts(connected) || stream.peek(&mut first).await? == 0 || PROTOCOL_PREFIX.first() != first.first() {
            return Ok(connected);
        }
        let mut header = vec![0; FIXED_BYTES];
        stream.read_exact(&mut header).await?;
        let length = match header.last_chunk() {
            Some(length) if header.starts_with(PROTOCOL_PREFIX) => usize::from(u16::from_be_bytes(*length)),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        if length > MOST_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        header.resize(FIXED_BYTES + length, 0);
        let rest = header.get_mut(FIXED_BYTES..).unwrap_or_default();
        stream.read_exact(rest).await?;
        let header = Header::try_from(header.as_slice()).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(match (header.command, header.addresses) {
            (Command::Proxy, Addresses::IPv4(addresses)) => addresses.source_address.into(),
            (Command::Proxy, Addresses::IPv6(addresses)) => canonical(addresses.source_address.into()),
            // The proxy speaks for itself, as for a look at our health.
            (Command::Local, _) | (Command::Proxy, Addresses::Unspecified | Addresses::Unix(_)) => connected,
        })
    }
}

/// As IPv4 where a socket of both families has it within IPv6.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

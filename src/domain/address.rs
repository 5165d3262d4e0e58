//! Which hosts of media URLs are reachable from the public internet.
//!
//! Source: the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and its updates), column
//! "Globally Reachable", and the multicast and unallocated space around them.

use std::net::{Ipv4Addr, Ipv6Addr};

use url::Host;

/// Names below which nothing is on the public internet: reserved (RFC 6761, 6762, 8375, ICANN's `.internal`), or those of
/// clusters and of machines themselves.
const INTERNAL_NAMES: &[&str] =
    &["localhost", "localhost.localdomain", "local", "internal", "svc", "cluster.local", "home.arpa"];

/// Whether internal services may be sent to `host`. Names are not resolved; those that can only be internal are never public.
pub(super) fn is_public(host: &Host<&str>) -> bool {
    match host {
        // The parser has lower-cased the name. It takes off no more than one dot before it looks for an address.
        Host::Domain(name) => match Host::parse(name.trim_end_matches('.')) {
            Ok(Host::Domain(name)) => is_public_name(&name),
            Ok(Host::Ipv4(address)) => is_public_v4(address),
            Ok(Host::Ipv6(_)) | Err(_) => false,
        },
        Host::Ipv4(address) => is_public_v4(*address),
        Host::Ipv6(address) => is_public_v6(*address),
    }
}

/// A single label is a name on this machine or on this network: `ip6-localhost`, `db`, `kubernetes`.
fn is_public_name(name: &str) -> bool {
    let is_below =
        |parent: &&str| name.strip_suffix(*parent).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    name.contains('.') && !INTERNAL_NAMES.iter().any(is_below)
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u32) -> (u32, u32) {
    (u32::from_be_bytes([a, b, c, d]), prefix)
}

const NOT_PUBLIC_V4: &[(u32, u32)] = &[
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    // Multicast, reserved and broadcast.
    v4(224, 0, 0, 0, 3),
];

/// Inside 192.0.0.0/24, yet listed as globally reachable: PCP and TURN anycast.
const PUBLIC_V4: &[(u32, u32)] = &[v4(192, 0, 0, 9, 32), v4(192, 0, 0, 10, 32)];

fn is_public_v4(address: Ipv4Addr) -> bool {
    let bits = u32::from(address);
    let within = |&(net, prefix): &(u32, u32)| (bits ^ net).leading_zeros() >= prefix;
    PUBLIC_V4.iter().any(within) || !NOT_PUBLIC_V4.iter().any(within)
}

const fn v6(segments: [u16; 8], prefix: u32) -> (u128, u32) {
    (
        Ipv6Addr::new(
            segments[0],
            segments[1],
            segments[2],
            segments[3],
            segments[4],
            segments[5],
            segments[6],
            segments[7],
        )
        .to_bits(),
        prefix,
    )
}

/// The only space that is allocated as global unicast.
const GLOBAL_UNICAST_V6: (u128, u32) = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);
/// The well-known NAT64 prefix: as public as the IPv4 address inside.
const NAT64: (u128, u32) = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);

const NOT_PUBLIC_V6: &[(u128, u32)] = &[
    // IETF protocol assignments, Teredo and ORCHID among them.
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
    // 6to4 carries an IPv4 address that is not judged here.
    v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
];

const PUBLIC_V6: &[(u128, u32)] = &[
    v6([0x2001, 1, 0, 0, 0, 0, 0, 1], 128),
    v6([0x2001, 1, 0, 0, 0, 0, 0, 2], 128),
    v6([0x2001, 1, 0, 0, 0, 0, 0, 3], 128),
    v6([0x2001, 3, 0, 0, 0, 0, 0, 0], 32),
    v6([0x2001, 4, 0x112, 0, 0, 0, 0, 0], 48),
    v6([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28),
    v6([0x2001, 0x30, 0, 0, 0, 0, 0, 0], 28),
];

fn is_public_v6(address: Ipv6Addr) -> bool {
    let bits = address.to_bits();
    let within = |&(net, prefix): &(u128, u32)| (bits ^ net).leading_zeros() >= prefix;
    if within(&NAT64) {
        // The cast keeps the low 32 bits, which are the embedded address (RFC 6052).
        return is_public_v4(Ipv4Addr::from_bits(bits as u32));
    }
    within(&GLOBAL_UNICAST_V6) && (PUBLIC_V6.iter().any(within) || !NOT_PUBLIC_V6.iter().any(within))
}

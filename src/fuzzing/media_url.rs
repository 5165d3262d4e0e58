//! URLs of media: the contract's rules on the text as it stands, beside a reader of hosts and a list of networks of its own.
//! What only a whole URL parser can tell (international names, percent signs in a host) is judged by what it makes of it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::OnceLock,
};

use ipnet::IpNet;
use url::{Host, Url};

use crate::domain::{HostPolicy, Media, ViolationCode};

/// What the published page lists.
pub(super) const IMAGES: [&str; 3] = [".jpg", ".jpeg", ".png"];
/// What the published page lists.
pub(super) const AUDIOS: [&str; 3] = [".ogg", ".mp3", ".wav"];

/// What the contract says of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Taken,
    Refused(ViolationCode),
    /// Refused for one reason or another.
    NotTaken,
    /// Not to be told from the text alone.
    Unclear,
}

/// A URL, as an image and as an audio.
pub fn media_url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let image = Media::image(text.to_owned(), HostPolicy::PublicOnly);
    let audio = Media::audio(text.to_owned(), HostPolicy::PublicOnly);
    assert!(image.is_err() || audio.is_err(), "{text:?}");
    for (ours, extensions) in [(&image, IMAGES), (&audio, AUDIOS)] {
        let code = ours.as_ref().err().map(|violation| violation.code);
        assert!(agree(code, judge(text, &extensions), text, &extensions), "{text:?}: {code:?}");
        if let Ok(media) = ours {
            assert_eq!(media.url().as_str(), text);
        }
    }
    if image.is_ok() {
        assert!(Media::image(text.to_owned(), HostPolicy::Any).is_ok(), "{text:?}");
    }
}

/// Whether `ours`, the word for what is wrong if anything is, is what the contract says.
pub(super) fn agree(ours: Option<ViolationCode>, verdict: Verdict, text: &str, extensions: &[&str]) -> bool {
    match (verdict, ours) {
        (Verdict::Taken, ours) => ours.is_none(),
        (Verdict::Refused(code), ours) => ours == Some(code),
        (Verdict::NotTaken, ours) => ours.is_some(),
        (Verdict::Unclear, None) => is_harmless(text, extensions),
        (Verdict::Unclear, Some(_)) => true,
    }
}

/// What internal services may be sent to, by what a browser's parser makes of it.
fn is_harmless(text: &str, extensions: &[&str]) -> bool {
    let url = Url::parse(text).expect("a URL that was taken");
    let is_public = match url.host().expect("a host") {
        Host::Domain(name) => {
            let number = parse_numbers(name.trim_end_matches('.'));
            !is_internal(name) && number.is_none_or(|address| address.is_some_and(|address| is_public(address.into())))
        }
        Host::Ipv4(address) => is_public(address.into()),
        Host::Ipv6(address) => is_public(address.into()),
    };
    let path = percent_decoded(url.path());
    is_public
        && ["http", "https"].contains(&url.scheme())
        && (url.username(), url.password()) == ("", None)
        && ends_with_any(&path, extensions)
}

pub(super) fn judge(text: &str, extensions: &[&str]) -> Verdict {
    use Verdict::{NotTaken, Refused, Taken, Unclear};

    if text.len() > 2048 {
        return Refused(ViolationCode::TooLong);
    }
    let invalid = Refused(ViolationCode::InvalidUrl);
    if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
        return invalid;
    }
    let lower = text.to_ascii_lowercase();
    let Some(begin) = ["http://", "https://"].iter().find(|scheme| lower.starts_with(*scheme)).map(|s| s.len()) else {
        return invalid;
    };
    let rest = &text[begin..];
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority.is_empty() || authority.contains('@') {
        return invalid;
    }
    let path = path.split(['?', '#']).next().unwrap();
    let has_extension = ends_with_any(&percent_decoded(path), extensions);
    let by_extension = if has_extension { Taken } else { Refused(ViolationCode::UnsupportedExtension) };
    let by_address = |address: IpAddr| {
        if is_public(address) { by_extension } else { Refused(ViolationCode::PrivateHost) }
    };

    if let Some(inner) = authority.strip_prefix('[') {
        let Some((address, port)) = inner.split_once(']') else { return invalid };
        return match (address.parse::<Ipv6Addr>(), is_port(port)) {
            (Ok(address), true) => by_address(address.into()),
            _ => invalid,
        };
    }
    let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
    if !is_port(port) || host.is_empty() {
        return invalid;
    }
    if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.') {
        return Unclear;
    }
    let host = host.to_ascii_lowercase();
    let name = host.trim_end_matches('.');
    match parse_numbers(name) {
        Some(Some(address)) => return by_address(address.into()),
        Some(None) => return NotTaken,
        None => {}
    }
    if name.len() > 253
        || name.split('.').any(|label| label.starts_with("xn--") || label.is_empty() || label.len() > 63)
    {
        return if is_internal(&host) { NotTaken } else { Unclear };
    }
    if is_internal(&host) { Refused(ViolationCode::PrivateHost) } else { by_extension }
}

/// Nothing, or a colon and a number of 16 bits, or a colon alone.
fn is_port(text: &str) -> bool {
    match text.strip_prefix(':') {
        None => text.is_empty(),
        Some("") => true,
        Some(port) => {
            let port =
                if port.bytes().all(|b| b.is_ascii_digit()) { port.trim_start_matches('0') } else { return false };
            port.is_empty() || port.parse::<u16>().is_ok()
        }
    }
}

/// A host whose last label is a number is an IPv4 address, as inet_aton reads it: `Some(None)` where it is a broken one.
fn parse_numbers(name: &str) -> Option<Option<Ipv4Addr>> {
    let labels: Vec<_> = name.split('.').collect();
    let last = labels.last()?;
    let is_number = !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    is_number.then(|| {
        if labels.len() > 4 {
            return None;
        }
        let numbers: Option<Vec<u64>> = labels.iter().map(|label| c_number(label)).collect();
        let numbers = numbers?;
        let (last, first) = numbers.split_last()?;
        let room = 8 * (4 - first.len() as u32);
        if first.iter().any(|number| *number > 255) || *last >= 1 << room {
            return None;
        }
        let high = first.iter().enumerate().map(|(at, number)| number << (24 - 8 * at)).sum::<u64>();
        Some(Ipv4Addr::from_bits(u32::try_from(high + last).ok()?))
    })
}

/// As C spells numbers; one that is too large for anything here is `u64::MAX / 2`.
fn c_number(text: &str) -> Option<u64> {
    let (text, radix) = match text.strip_prefix("0x") {
        Some("") => return Some(0),
        Some(hex) => (hex, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    if text.is_empty() || !text.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    Some(u64::from_str_radix(text, radix).unwrap_or(u64::MAX / 2).min(u64::MAX / 2))
}

/// Names that can only be internal, in any number of trailing dots.
fn is_internal(host: &str) -> bool {
    let name = host.trim_end_matches('.');
    !name.contains('.')
        || [".localhost", ".local", ".internal", ".svc", ".cluster.local", ".home.arpa", ".localhost.localdomain"]
            .iter()
            .any(|end| format!(".{name}").ends_with(end))
}

/// Every network of the IANA registries of special purpose that is not globally reachable, and what is allocated to nobody.
const NOT_GLOBAL: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/3",
    "4000::/2",
    "8000::/1",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
];

/// What lies within one of those and is reachable all the same.
const GLOBAL: &[&str] = &[
    "192.0.0.9/32",
    "192.0.0.10/32",
    "2001:1::1/128",
    "2001:1::2/128",
    "2001:1::3/128",
    "2001:3::/32",
    "2001:4:112::/48",
    "2001:20::/28",
    "2001:30::/28",
];

pub(super) fn is_public(address: IpAddr) -> bool {
    static NETS: OnceLock<[Vec<IpNet>; 2]> = OnceLock::new();
    if let IpAddr::V6(address) = address
        && let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = address.segments()
    {
        return is_public(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)).into());
    }
    let [not, but] =
        NETS.get_or_init(|| [NOT_GLOBAL, GLOBAL].map(|all| all.iter().map(|net| net.parse().unwrap()).collect()));
    let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&address));
    within(but) || !within(not)
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let (bytes, mut at, mut decoded) = (text.as_bytes(), 0, Vec::new());
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|two| std::str::from_utf8(two).ok());
        let hex = hex.filter(|two| two.bytes().all(|b| b.is_ascii_hexdigit()));
        match hex.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) if bytes[at] == b'%' => {
                decoded.push(byte);
                at += 3;
            }
            _ => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    decoded
}

fn ends_with_any(path: &[u8], extensions: &[&str]) -> bool {
    let path = path.to_ascii_lowercase();
    extensions.iter().any(|extension| path.ends_with(extension.as_bytes()))
}

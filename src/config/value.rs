//! The types of settings: how each is read from text and written as TOML.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use bytesize::ByteSize;
use ipnet::IpNet;
use tracing_subscriber::EnvFilter;

use crate::{
    domain::{Extension, Origin, Rate},
    telemetry::LogFormat,
};

/// A type that a setting can have. A list's text is parted by commas.
pub trait Value: Sized {
    /// What help calls a value.
    const NAME: &'static str;
    /// Whether a flag may stand alone.
    const IS_SWITCH: bool = false;

    /// Reads `text`; the error says what to write instead.
    fn parse(text: &str) -> Result<Self, String>;

    /// The value as TOML that [`Value::parse`] reads to the same value.
    fn to_toml(&self) -> String;
}

/// Which logs are written; checked directives of `tracing`'s filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    /// The directives.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Value for SocketAddr {
    const NAME: &'static str = "IP:PORT";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| {
            format!("'{text}' is no address; write IP:PORT, e.g. 127.0.0.1:8080, or 0.0.0.0:8080 for every interface")
        })
    }

    fn to_toml(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Value for PathBuf {
    const NAME: &'static str = "PATH";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("the path is empty".into()) } else { Ok(text.into()) }
    }

    fn to_toml(&self) -> String {
        path(self)
    }
}

impl Value for Option<PathBuf> {
    const NAME: &'static str = "PATH";

    fn parse(text: &str) -> Result<Self, String> {
        Ok((!text.is_empty()).then(|| text.into()))
    }

    fn to_toml(&self) -> String {
        path(self.as_deref().unwrap_or(Path::new("")))
    }
}

impl Value for Duration {
    const NAME: &'static str = "DURATION";

    fn parse(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text).map_err(|_| {
            format!("'{text}' is no duration; write a number with a unit, e.g. 500ms, 10s, 5m, 12h or 30d")
        })
    }

    fn to_toml(&self) -> String {
        quoted(&humantime::format_duration(*self).to_string())
    }
}

impl Value for ByteSize {
    const NAME: &'static str = "SIZE";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("'{text}' is no size; write bytes, or a number with a unit, e.g. 256KiB or 64MiB"))
    }

    fn to_toml(&self) -> String {
        quoted(&shown_size(*self))
    }
}

impl Value for bool {
    const NAME: &'static str = "true|false";
    const IS_SWITCH: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("'{text}' is neither true nor false"))
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }
}

impl Value for usize {
    const NAME: &'static str = "N";

    fn parse(text: &str) -> Result<Self, String> {
        number(text)
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }
}

impl Value for Option<Rate> {
    const NAME: &'static str = "RATE";

    fn parse(text: &str) -> Result<Self, String> {
        if text == "0" {
            return Ok(None);
        }
        Rate::parse(text).map(Some).ok_or_else(|| {
            let most = Rate::MOST;
            format!("'{text}' is no rate; write e.g. 50/s, 600/min or '50/s burst 200', with numbers up to {most}, or 0 for no limit")
        })
    }

    fn to_toml(&self) -> String {
        self.map_or_else(|| "0".to_owned(), |rate| quoted(&rate.to_string()))
    }
}

impl Value for LogFormat {
    const NAME: &'static str = "auto|human|json";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(LogFormat::Auto),
            "human" => Ok(LogFormat::Human),
            "json" => Ok(LogFormat::Json),
            _ => Err(format!("'{text}' is none of auto, human and json")),
        }
    }

    fn to_toml(&self) -> String {
        quoted(match self {
            LogFormat::Auto => "auto",
            LogFormat::Human => "human",
            LogFormat::Json => "json",
        })
    }
}

impl Value for LogFilter {
    const NAME: &'static str = "LEVEL";

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "'{text}' is no log level; write error, warn, info, debug, trace or off, or 'target=level' directives"
            )
        };
        // A word that is no level would be taken as the name of a target, and then nothing be logged.
        let bare = text.split(',').filter(|part| !part.contains('=') && !part.contains('['));
        let levels = ["error", "warn", "info", "debug", "trace", "off"];
        let known = |part: &str| levels.iter().any(|level| level.eq_ignore_ascii_case(part.trim()));
        // The filter's own parser panics on some texts beyond ASCII.
        if text.is_empty() || !text.is_ascii() || !bare.into_iter().all(known) || EnvFilter::try_new(text).is_err() {
            return Err(wrong());
        }
        Ok(Self(text.into()))
    }

    fn to_toml(&self) -> String {
        quoted(&self.0)
    }
}

impl Value for Vec<Origin> {
    const NAME: &'static str = "ORIGIN,…";

    fn parse(text: &str) -> Result<Self, String> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(origin).collect()
    }

    fn to_toml(&self) -> String {
        let items: Vec<_> = self.iter().map(|origin| quoted(origin.as_str())).collect();
        format!("[{}]", items.join(", "))
    }
}

impl Value for Vec<IpNet> {
    const NAME: &'static str = "NETWORK,…";

    fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(network).collect()
    }

    fn to_toml(&self) -> String {
        let items: Vec<_> = self.iter().map(|network| quoted(&network.to_string())).collect();
        format!("[{}]", items.join(", "))
    }
}

/// A network, or the address of one machine.
fn network(text: &str) -> Result<IpNet, String> {
    let network: IpNet = match text.parse::<IpAddr>() {
        Ok(address) => address.into(),
        Err(_) => text.parse().map_err(|_| {
            format!("'{text}' is no network; write ADDRESS/BITS, e.g. 10.0.0.0/8 or fd00::/8, or one address")
        })?,
    };
    if network.prefix_len() == 0 {
        return Err(format!("'{text}' is everybody, who could then say any address; name the proxies' own networks"));
    }
    if network.trunc() != network {
        return Err(format!("'{text}' has an address within the network; write '{}'", network.trunc()));
    }
    Ok(network)
}

impl Value for Vec<Extension> {
    const NAME: &'static str = "EXTENSION,…";

    fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let wrong =
            |part: &str| format!("'{part}' is no extension; write a dot and letters or digits, e.g. .webp, or none");
        parts.map(|part| Extension::parse(part).ok_or_else(|| wrong(part))).collect()
    }

    fn to_toml(&self) -> String {
        let items: Vec<_> = self.iter().map(|extension| quoted(extension.as_str())).collect();
        format!("[{}]", items.join(", "))
    }
}

fn origin(text: &str) -> Result<Origin, String> {
    Origin::parse(text).map_err(|wrong| format!("'{text}' {wrong}"))
}

pub(super) fn shown_size(size: ByteSize) -> String {
    let bytes = size.as_u64();
    let units =
        [(ByteSize::gib(1).as_u64(), "GiB"), (ByteSize::mib(1).as_u64(), "MiB"), (ByteSize::kib(1).as_u64(), "KiB")];
    match units.into_iter().find(|(unit, _)| bytes != 0 && bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

pub(super) fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("'{text}' is no whole number in range"))
}

pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

fn path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn back<T: Value>(toml: &str) -> T {
        let table: toml::Table = format!("x = {toml}").parse().expect("TOML");
        let text = match &table["x"] {
            toml::Value::String(text) => text.clone(),
            toml::Value::Array(items) => items.iter().filter_map(toml::Value::as_str).collect::<Vec<_>>().join(","),
            other @ (toml::Value::Integer(_) | toml::Value::Boolean(_)) => other.to_string(),
            toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => panic!("not shown so"),
        };
        T::parse(&text).expect("what was shown is read")
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_to_the_same_value(secs in 0_u64..10_000_000_000, nanos in 0_u32..1_000_000_000, bytes: u64, text in "\\PC+") {
            let duration = Duration::new(secs, nanos);
            prop_assert_eq!(back::<Duration>(&duration.to_toml()), duration);
            prop_assert_eq!(back::<ByteSize>(&ByteSize(bytes).to_toml()), ByteSize(bytes));
            prop_assert_eq!(back::<PathBuf>(&PathBuf::from(&text).to_toml()), PathBuf::from(&text));
        }

        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in "\\PC*") {
            let _ = (Duration::parse(&text), ByteSize::parse(&text), LogFilter::parse(&text), Vec::<Origin>::parse(&text));
        }
    }

    #[test]
    fn a_network_is_that_of_some_proxies_and_not_everybody() {
        for (text, toml) in [
            ("10.0.0.0/8, 192.0.2.7", "[\"10.0.0.0/8\", \"192.0.2.7/32\"]"),
            ("fd00::/8,::1", "[\"fd00::/8\", \"::1/128\"]"),
            ("", "[]"),
        ] {
            assert_eq!(Vec::<IpNet>::parse(text).expect(text).to_toml(), toml);
        }
        for bad in ["0.0.0.0/0", "::/0", "10.1.2.3/8", "10.0.0.0/33", "proxy.example", "10.0.0"] {
            assert!(Vec::<IpNet>::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_log_level_that_would_log_nothing_by_a_typo_is_refused() {
        for good in ["info", "warn,message_webhook::store=debug", "off", "INFO"] {
            assert!(LogFilter::parse(good).is_ok(), "{good}");
        }
        for bad in ["inof", "", "info,store", "message_webhook=loud", "a:𐣨=M"] {
            assert!(LogFilter::parse(bad).is_err(), "{bad}");
        }
    }
}

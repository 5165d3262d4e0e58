//! The types of the settings that say which store there is and how one on ScyllaDB is reached.

use std::fmt;

use super::value::{Value, quoted};

/// Which store keeps the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// The one inside the server, on one machine.
    Embedded,
    /// ScyllaDB or Apache Cassandra, for any number of replicas.
    Scylla,
}

/// Where conditional writes are decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// Among all data centres.
    Serial,
    /// In one data centre, the home of the keyspace.
    LocalSerial,
}

/// A contact point, `host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node(String);

/// A name of a keyspace that needs no quotes in CQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyspace(String);

/// What is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Node {
    /// The usual port of CQL.
    const PORT: u16 = 9042;

    /// The contact point as `host:port`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no contact point; write HOST:PORT, e.g. 10.0.0.1:9042 or [fd00::1]:9042");
        let (host, port) = match text.rsplit_once(':') {
            // An IPv6 address without a port ends in a bracket; without brackets its last part is no port.
            Some((host, port)) if !text.ends_with(']') => (host, port.parse().map_err(|_| wrong())?),
            _ => (text, Self::PORT),
        };
        let is_ipv6 = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
        let is_name = !host.is_empty()
            && host.len() <= 253
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
        if port == 0 || !(is_ipv6 || is_name) {
            return Err(wrong());
        }
        Ok(Self(format!("{host}:{port}")))
    }
}

impl Keyspace {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Secret {
    /// Keeps `text` from sight.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl Value for StoreKind {
    const NAME: &'static str = "embedded|scylla";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "embedded" => Ok(StoreKind::Embedded),
            "scylla" => Ok(StoreKind::Scylla),
            _ => Err(format!("'{text}' is neither embedded nor scylla")),
        }
    }

    fn to_toml(&self) -> String {
        quoted(match self {
            StoreKind::Embedded => "embedded",
            StoreKind::Scylla => "scylla",
        })
    }
}

impl Value for Consistency {
    const NAME: &'static str = "serial|local-serial";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "serial" => Ok(Consistency::Serial),
            "local-serial" => Ok(Consistency::LocalSerial),
            _ => Err(format!("'{text}' is neither serial nor local-serial")),
        }
    }

    fn to_toml(&self) -> String {
        quoted(match self {
            Consistency::Serial => "serial",
            Consistency::LocalSerial => "local-serial",
        })
    }
}

impl Value for Vec<Node> {
    const NAME: &'static str = "HOST:PORT,…";

    fn parse(text: &str) -> Result<Self, String> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(Node::parse).collect()
    }

    fn to_toml(&self) -> String {
        let items: Vec<_> = self.iter().map(|node| quoted(&node.0)).collect();
        format!("[{}]", items.join(", "))
    }
}

impl Value for Keyspace {
    const NAME: &'static str = "NAME";

    fn parse(text: &str) -> Result<Self, String> {
        let good = text.len() <= 48
            && text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase())
            && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        if good {
            Ok(Self(text.into()))
        } else {
            Err(format!("'{text}' is no keyspace; write 1 to 48 of a-z, 0-9 and '_', beginning with a letter"))
        }
    }

    fn to_toml(&self) -> String {
        quoted(&self.0)
    }
}

impl Value for Option<String> {
    const NAME: &'static str = "NAME";

    fn parse(text: &str) -> Result<Self, String> {
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    fn to_toml(&self) -> String {
        quoted(self.as_deref().unwrap_or_default())
    }
}

impl Value for u16 {
    const NAME: &'static str = "N";

    fn parse(text: &str) -> Result<Self, String> {
        super::value::number(text)
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_contact_point_is_a_host_and_a_port() {
        for (text, node) in [
            ("127.0.0.1:9042", "127.0.0.1:9042"),
            ("db-1.example", "db-1.example:9042"),
            ("[fd00::1]:19042", "[fd00::1]:19042"),
            ("[fd00::1]", "[fd00::1]:9042"),
        ] {
            assert_eq!(Node::parse(text).expect(text).as_str(), node);
        }
        for bad in
            ["", ":9042", "host:", "host:0", "host:99999", "fd00::1", "http://host:9042", "a b:1", "[::1", "user@h"]
        {
            assert!(Node::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_keyspace_needs_no_quotes() {
        for good in ["message_webhook", "a", "k9"] {
            assert!(Keyspace::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "9k", "_k", "Messages", "a-b", "a;b", &"k".repeat(49)] {
            assert!(Keyspace::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert!(!format!("{:?}", Some(Secret::new("hunter2".into()))).contains("hunter2"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in "\\PC*") {
            let _ = (Vec::<Node>::parse(&text), Keyspace::parse(&text), StoreKind::parse(&text), Consistency::parse(&text));
        }
    }
}

//! How a store on ScyllaDB is reached and what its keyspace was made with.

use std::time::Duration;

use super::{encryption::Encryption, login::Login};

/// Where the database is, who we are there, and the constants that every process of one keyspace shares.
#[derive(Debug, Clone)]
pub struct Options {
    /// Contact points, `host:port`; the others are found through them.
    pub nodes: Vec<String>,
    /// The keyspace: `[a-z][a-z0-9_]{0,47}`.
    pub keyspace: String,
    /// The data centre whose nodes are asked; by default that of the first contact point.
    pub datacenter: Option<String>,
    /// Copies of each row in a keyspace that [`super::migrate`] makes, and that a store expects; 3 by default, never fewer by
    /// itself.
    pub replication_factor: u32,
    /// Where conditional writes are decided.
    pub serial: Serial,
    /// Who logs in, where the database asks.
    pub login: Option<Login>,
    /// Encrypts the connections.
    pub tls: Option<Encryption>,
    /// For how long a message and the memory of its key are kept, at least a second.
    pub retention: Duration,
    /// Into how many shards the feed is divided, from 1 to 1024.
    pub shards: u16,
    /// How many groups of shards are resolved under a lease each, from 1 to `shards`.
    pub slots: u16,
    /// How far behind the clocks the resolver stays. With `reference_window` it tunes how often an attempt is made
    /// again; no message depends on it.
    pub window: Duration,
    /// For how long the references of one attempt are tried, below `window`.
    pub reference_window: Duration,
    /// Between two cycles of a resolver.
    pub cycle: Duration,
    /// For how long one submission may take, its repetitions included.
    pub deadline: Duration,
    /// Keys of which this process remembers that they were accepted; about 150 bytes each.
    pub remembered: usize,
}

/// Where conditional writes are decided. One keyspace, one of the two, for ever: mixing them accepts messages twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serial {
    /// Among all data centres: `SERIAL`.
    Everywhere,
    /// In one data centre, which all processes then name: `LOCAL_SERIAL`.
    Home,
}

impl Serial {
    /// The word in the keyspace's settings and in configurations.
    pub fn as_str(self) -> &'static str {
        match self {
            Serial::Everywhere => "serial",
            Serial::Home => "local-serial",
        }
    }
}

impl Options {
    /// Defaults for `keyspace` on `nodes`: 30 days, 64 shards in 8 slots.
    pub fn new(nodes: Vec<String>, keyspace: impl Into<String>) -> Self {
        Self {
            nodes,
            keyspace: keyspace.into(),
            datacenter: None,
            replication_factor: 3,
            serial: Serial::Everywhere,
            login: None,
            tls: None,
            retention: Duration::from_hours(30 * 24),
            shards: 64,
            slots: 8,
            window: Duration::from_secs(10),
            reference_window: Duration::from_secs(3),
            cycle: Duration::from_secs(2),
            deadline: Duration::from_secs(5),
            remembered: 100_000,
        }
    }

    /// What is wrong with these options, a line each.
    pub fn mistakes(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.nodes.is_empty() {
            found.push("no contact point is given; name at least one node as host:port".to_owned());
        }
        if !is_keyspace(&self.keyspace) {
            found.push("the keyspace must be 1 to 48 of a-z, 0-9 and '_', and begin with a letter".to_owned());
        }
        if self.replication_factor == 0 {
            found.push("the replication factor must be at least 1".to_owned());
        }
        if self.retention < Duration::from_secs(1) || self.retention > Duration::from_hours(10 * 365 * 24) {
            found.push("the retention must be from 1 second to 10 years".to_owned());
        }
        if self.shards == 0 || self.shards > 1024 {
            found.push("the number of shards must be from 1 to 1024".to_owned());
        }
        if self.slots == 0 || self.slots > self.shards {
            found.push("the number of slots must be from 1 to that of the shards".to_owned());
        }
        if self.reference_window >= self.window {
            found.push("the reference window must be shorter than the window".to_owned());
        }
        if self.cycle.is_zero() || self.deadline.is_zero() {
            found.push("the cycle and the deadline must be longer than nothing".to_owned());
        }
        found
    }
}

/// Whether `name` needs no quotes in CQL and is short enough for both engines.
fn is_keyspace(name: &str) -> bool {
    name.len() <= 48
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

// The password is shown to nobody.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_have_no_mistake() {
        let options = Options::new(vec!["127.0.0.1:9042".to_owned()], "message_webhook");
        assert_eq!(options.mistakes(), Vec::<String>::new());
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let mut options = Options::new(Vec::new(), "Quoted\"; DROP");
        options.replication_factor = 0;
        options.retention = Duration::ZERO;
        options.shards = 4;
        options.reference_window = options.window;
        options.cycle = Duration::ZERO;
        assert_eq!(options.mistakes().len(), 7);
    }

    #[test]
    fn debug_shows_no_password() {
        let mut options = Options::new(vec!["127.0.0.1:9042".to_owned()], "message_webhook");
        options.login = Some(Login::new("webhook", "open sesame".to_owned()));
        let shown = format!("{options:?}");
        assert!(shown.contains("webhook") && !shown.contains("sesame"), "{shown}");
    }
}

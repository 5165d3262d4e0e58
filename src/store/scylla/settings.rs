//! The constants that all processes of a keyspace share, kept in one row of it.

use std::time::Duration;

use super::{
    lwt::Row,
    options::{Options, Serial},
    schema,
    ticks::{self, Ticks},
};
use crate::domain::Timestamp;

/// The name of the one row.
pub const NAME: &str = "store";

/// The row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The version of the schema.
    pub schema_version: i32,
    /// The oldest program, by its [`schema::VERSION`], that may run.
    pub oldest_program: i32,
    /// When the keyspace was made: nothing in it is older, import aside.
    pub created_at: Timestamp,
    shards: i32,
    slots: i32,
    window_ms: i64,
    reference_window_ms: i64,
    retention_s: i64,
    serial: String,
    home_datacenter: String,
}

impl Settings {
    /// What a keyspace that is made with `options` now has.
    pub fn new(options: &Options, datacenter: &str, created_at: Timestamp) -> Self {
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let oldest = schema::MIGRATIONS.last().map_or(schema::VERSION, |migration| migration.oldest_program);
        Self {
            schema_version: schema::VERSION,
            oldest_program: oldest,
            created_at,
            shards: options.shards.into(),
            slots: options.slots.into(),
            window_ms: millis(options.window),
            reference_window_ms: millis(options.reference_window),
            retention_s: i64::try_from(options.retention.as_secs()).unwrap_or(i64::MAX),
            serial: options.serial.as_str().to_owned(),
            home_datacenter: match options.serial {
                Serial::Everywhere => String::new(),
                Serial::Home => datacenter.to_owned(),
            },
        }
    }

    /// Reads the row; `None` where a column is missing.
    pub fn read(row: &Row) -> Option<Self> {
        Some(Self {
            schema_version: row.int("schema_version")?,
            oldest_program: row.int("oldest_program")?,
            created_at: row.bigint("created_at").and_then(Timestamp::from_micros)?,
            shards: row.int("shards")?,
            slots: row.int("slots")?,
            window_ms: row.bigint("window_ms")?,
            reference_window_ms: row.bigint("reference_window_ms")?,
            retention_s: row.bigint("retention_s")?,
            serial: row.text("serial")?.to_owned(),
            // An empty text may come back as none.
            home_datacenter: row.text("home_datacenter").unwrap_or_default().to_owned(),
        })
    }

    /// The values of [`super::cql::migration::INSERT_SETTINGS`].
    pub fn values(&self) -> (&'static str, i32, i32, i32, i32, i64, i64, i64, &str, &str, i64) {
        (
            NAME,
            self.schema_version,
            self.oldest_program,
            self.shards,
            self.slots,
            self.window_ms,
            self.reference_window_ms,
            self.retention_s,
            &self.serial,
            &self.home_datacenter,
            self.created_at.as_micros(),
        )
    }

    /// The mark at which every lease begins: before anything that was ever written.
    pub fn first_mark(&self) -> Ticks {
        ticks::before(ticks::at(self.created_at), Duration::from_hours(1))
    }

    /// Which constants a process with `options` has otherwise, a line each.
    pub fn differences(&self, options: &Options, datacenter: &str) -> Vec<String> {
        let own = Self::new(options, datacenter, self.created_at);
        let mut found = Vec::new();
        let mut compare = |name: &str, kept: &dyn std::fmt::Display, own: &dyn std::fmt::Display| {
            let (kept, own) = (kept.to_string(), own.to_string());
            if kept != own {
                found.push(format!("{name} is {kept} there and {own} here"));
            }
        };
        compare("the number of shards", &self.shards, &own.shards);
        compare("the number of slots", &self.slots, &own.slots);
        compare("the window in ms", &self.window_ms, &own.window_ms);
        compare("the reference window in ms", &self.reference_window_ms, &own.reference_window_ms);
        compare("the retention in seconds", &self.retention_s, &own.retention_s);
        compare("the consistency", &self.serial, &own.serial);
        compare("the home data centre", &self.home_datacenter, &own.home_datacenter);
        found
    }

    /// Why this program cannot work with the keyspace's schema, if so.
    pub fn wrong_version(&self) -> Option<String> {
        if schema::VERSION < self.oldest_program {
            Some(format!(
                "the schema is at version {}, which needs a later version of this program",
                self.schema_version
            ))
        } else if self.schema_version < schema::VERSION {
            Some(format!(
                "the schema is at version {}, and this program needs {}",
                self.schema_version,
                schema::VERSION
            ))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options::new(vec!["127.0.0.1".to_owned()], "webhook")
    }

    #[test]
    fn a_process_with_the_same_constants_finds_no_difference() {
        let kept = Settings::new(&options(), "dc1", Timestamp::EPOCH);
        assert_eq!(kept.differences(&options(), "dc2"), Vec::<String>::new());
        assert_eq!(kept.wrong_version(), None);
    }

    #[test]
    fn each_constant_that_differs_is_named() {
        let kept = Settings::new(&options(), "dc1", Timestamp::EPOCH);
        let mut other = options();
        other.shards = 8;
        other.slots = 2;
        other.window = Duration::from_secs(20);
        other.reference_window = Duration::from_secs(4);
        other.retention = Duration::from_hours(1);
        other.serial = Serial::Home;
        assert_eq!(kept.differences(&other, "dc1").len(), 7);
    }

    #[test]
    fn programs_next_to_each_other_share_a_keyspace_and_others_do_not() {
        let at = |schema_version, oldest_program| Settings {
            schema_version,
            oldest_program,
            ..Settings::new(&options(), "dc1", Timestamp::EPOCH)
        };
        assert_eq!(at(schema::VERSION + 1, schema::VERSION).wrong_version(), None);
        assert!(at(schema::VERSION + 2, schema::VERSION + 1).wrong_version().is_some());
        assert!(at(schema::VERSION - 1, 0).wrong_version().is_some());
    }
}

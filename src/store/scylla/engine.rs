//! Which database this is, and whether it can do what is needed.

use scylla::client::session::Session;

use super::{connect_error::ConnectError, cql::migration, error::is_invalid, lwt::Row};

/// The first ScyllaDB that does lightweight transactions on tablets.
const LWT_ON_TABLETS: (u32, u32) = (2025, 4);

/// A database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engine {
    /// ScyllaDB.
    Scylla {
        /// Its version in words.
        version: String,
    },
    /// Apache Cassandra, or something that behaves as it does.
    Cassandra,
}

impl Engine {
    /// Asks the database.
    ///
    /// # Errors
    /// [`ConnectError::Statement`].
    pub async fn detect(session: &Session) -> Result<Self, ConnectError> {
        // A table of ScyllaDB's own.
        match session.query_unpaged(migration::SCYLLA_VERSION, &[]).await {
            Ok(result) => {
                let row = result.into_rows_result().ok().and_then(|rows| rows.maybe_first_row::<Row>().ok().flatten());
                let version = row.as_ref().and_then(|row| row.text("version")).unwrap_or_default().to_owned();
                Ok(Engine::Scylla { version })
            }
            Err(error) if is_invalid(&error) => Ok(Engine::Cassandra),
            Err(error) => Err(ConnectError::statement("ask the database for its version", &error)),
        }
    }

    /// Whether a new keyspace must say that it wants no tablets.
    pub fn needs_no_tablets(&self) -> bool {
        match self {
            Engine::Cassandra => false,
            Engine::Scylla { version } => number(version).is_some_and(|number| {
                // Older ones know no tablets and would refuse the word.
                (number >= (2024, 2) || (6..2000).contains(&number.0)) && number < LWT_ON_TABLETS
            }),
        }
    }

    /// Checks that conditional writes are possible in `keyspace`, which exists.
    ///
    /// # Errors
    /// [`ConnectError::Engine`] when they are not.
    pub async fn check_keyspace(&self, session: &Session, keyspace: &str) -> Result<(), ConnectError> {
        if !self.needs_no_tablets() {
            return Ok(());
        }
        let Engine::Scylla { version } = self else { return Ok(()) };
        let result = match session.query_unpaged(migration::TABLETS, (keyspace,)).await {
            Ok(result) => result,
            Err(_) => return Ok(()),
        };
        let row = result.into_rows_result().ok().and_then(|rows| rows.maybe_first_row::<Row>().ok().flatten());
        if row.and_then(|row| row.int("initial_tablets")).is_none() {
            return Ok(());
        }
        Err(ConnectError::Engine(format!(
            "the keyspace '{keyspace}' uses tablets, on which ScyllaDB {version} has no lightweight transactions; \
             upgrade to 2025.4 or later, or let 'migrate' make a new keyspace, which it makes without tablets here"
        )))
    }
}

/// Year and release, or major and minor.
fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tablets_are_left_out_only_where_they_can_not_serve() {
        let without = |version: &str| Engine::Scylla { version: version.to_owned() }.needs_no_tablets();
        for version in ["6.0.1", "6.2.3-0.20250101.abc", "2024.2.0", "2025.1.5", "2025.3.0-rc1"] {
            assert!(without(version), "{version}");
        }
        for version in ["5.4.9", "2023.1.0", "2024.1.2", "2025.4.0", "2026.1.0", ""] {
            assert!(!without(version), "{version}");
        }
        assert!(!Engine::Cassandra.needs_no_tablets());
    }
}

//! The tables, and how they came to be: one list of migrations for both engines.
//!
//! A keyspace at version N serves programs of version N and N - 1: a migration adds what older programs do not know and
//! takes nothing away that they use. The settings row says which programs may run.

use std::time::Duration;

use super::options::Options;

/// The version of the schema that this program makes and needs.
pub const VERSION: i32 = 2;

/// One step from a version to the next.
pub struct Migration {
    /// The version it leads to.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "its place in the list says the same; a test holds them together")
    )]
    pub version: i32,
    /// The oldest program, by its [`VERSION`], that can work with the result.
    pub oldest_program: i32,
    /// The tables that it makes; each statement is safe to run again and beside another run.
    pub tables: fn(&Options) -> Vec<Table>,
    /// The columns that it adds to tables of earlier versions.
    pub columns: &'static [Column],
}

/// A table that a migration makes.
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// The statement, with `$ks` for the keyspace.
    pub cql: String,
}

/// A column that a migration adds: null in the rows of before, and to programs of before, which name the columns they read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// The table.
    pub table: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: &'static str,
}

/// All steps, from nothing on.
pub const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, oldest_program: 1, tables: version_1, columns: &[] },
    Migration { version: 2, oldest_program: 1, tables: |_| Vec::new(), columns: VERSION_2 },
];

/// What a key has of its own: a rate, as the setting for all keys is written; of a browser key its origins, with spaces between. A
/// program of version 1 does not know the text of a browser key, and so lets none in.
const VERSION_2: &[Column] = &[
    Column { table: "api_keys", name: "rate", kind: "text" },
    Column { table: "api_keys", name: "origins", kind: "text" },
];

/// Claims outlive references, so that no reference is ever without its claim for age alone.
pub const CLAIMS_LONGER: Duration = Duration::from_hours(24);

fn version_1(options: &Options) -> Vec<Table> {
    let references = options.retention.as_secs();
    let claims = (options.retention + CLAIMS_LONGER).as_secs();
    // At most 50 windows in the life of a row; a minute is the shortest that both engines know.
    let minutes = options.retention.as_secs().div_ceil(60 * 50).max(1);
    let by_age = format!(
        "compaction = {{'class': 'TimeWindowCompactionStrategy', 'compaction_window_unit': 'MINUTES', \
         'compaction_window_size': {minutes}}}"
    );
    let tables = [
        // The claim of a message: written by conditional writes only, ever. accepted_at is in microseconds, as all
        // times here: CQL's timestamp has milliseconds.
        (
            "messages",
            format!(
                "(org_id text, env text, message_sid text, attempt_id timeuuid, accepted_at bigint, from_id text, \
             fingerprint blob, message blob, PRIMARY KEY ((org_id, env, message_sid))) \
             WITH default_time_to_live = {claims}"
            ),
        ),
        (
            "feed",
            format!(
                "(shard int, bucket int, attempt_id timeuuid, org_id text, env text, message_sid text, \
             accepted_at bigint, from_id text, fingerprint blob, message blob, \
             PRIMARY KEY ((shard, bucket), attempt_id)) \
             WITH CLUSTERING ORDER BY (attempt_id ASC) AND default_time_to_live = {references} AND {by_age}"
            ),
        ),
        (
            "feed_buckets",
            format!(
                "(day int, shard int, bucket int, opened_at bigint, PRIMARY KEY ((day), shard, bucket)) \
             WITH default_time_to_live = {claims}"
            ),
        ),
        // message_sid is no part of the key: rows of key columns alone would not expire by windows.
        (
            "messages_by_sender",
            format!(
                "(org_id text, env text, from_id text, period int, attempt_id timeuuid, \
             message_sid text, PRIMARY KEY ((org_id, env, from_id, period), attempt_id)) \
             WITH CLUSTERING ORDER BY (attempt_id DESC) AND default_time_to_live = {references} AND {by_age}"
            ),
        ),
        (
            "leases",
            "(name text, slot int, owner text, epoch bigint, beat bigint, resolving_upto bigint, \
         resolved_upto bigint, PRIMARY KEY ((name, slot)))"
                .to_owned(),
        ),
        (
            "api_keys",
            "(key_id text, org_id text, env text, scopes int, secret_hash blob, created_at bigint, \
         expires_at bigint, revoked_at bigint, PRIMARY KEY ((key_id)))"
                .to_owned(),
        ),
        (
            "api_keys_by_org",
            "(org_id text, env text, key_id text, created_at bigint, PRIMARY KEY ((org_id), env, key_id))".to_owned(),
        ),
        ("api_key_uses", "(key_id text, last_used_at bigint, PRIMARY KEY ((key_id)))".to_owned()),
        // Last of this version: their row, which is written after all, says that there is everything else.
        (
            "settings",
            "(name text, schema_version int, oldest_program int, shards int, slots int, window_ms bigint, \
         reference_window_ms bigint, retention_s bigint, serial text, home_datacenter text, created_at bigint, \
         probed_at bigint, PRIMARY KEY ((name)))"
                .to_owned(),
        ),
    ];
    let table = |(name, columns)| Table { name, cql: format!("CREATE TABLE IF NOT EXISTS $ks.{name} {columns}") };
    tables.into_iter().map(table).collect()
}

impl Column {
    /// The statement that adds it. Neither engine has an `IF NOT EXISTS` that the other knows: of two runs at once one is refused.
    pub fn cql(&self) -> String {
        format!("ALTER TABLE $ks.{} ADD {} {}", self.table, self.name, self.kind)
    }
}

/// The keyspace, in one data centre. Replicas elsewhere are the operator's own decision.
pub fn keyspace(keyspace: &str, datacenter: &str, replicas: u32, without_tablets: bool) -> String {
    let datacenter = datacenter.replace('\'', "''");
    let tablets = if without_tablets { " AND tablets = {'enabled': false}" } else { "" };
    format!(
        "CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = \
         {{'class': 'NetworkTopologyStrategy', '{datacenter}': {replicas}}}{tablets}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_migrations_lead_to_the_version_of_this_program() {
        assert_eq!(MIGRATIONS.last().map(|migration| migration.version), Some(VERSION));
        assert!(MIGRATIONS.iter().zip(1..).all(|(migration, version)| migration.version == version));
        assert!(MIGRATIONS.iter().all(|migration| migration.oldest_program <= (migration.version - 1).max(1)));
    }

    #[test]
    fn a_column_is_added_to_a_table_of_an_earlier_version() {
        let options = Options::new(vec!["127.0.0.1".to_owned()], "webhook");
        for migration in MIGRATIONS {
            let earlier = MIGRATIONS.iter().filter(|other| other.version < migration.version);
            let tables: Vec<_> = earlier.flat_map(|other| (other.tables)(&options)).map(|table| table.name).collect();
            assert!(migration.columns.iter().all(|column| tables.contains(&column.table)));
        }
        assert_eq!(VERSION_2[0].cql(), "ALTER TABLE $ks.api_keys ADD rate text");
    }

    #[test]
    fn claims_live_a_day_longer_than_references_and_windows_are_few() {
        let options = Options::new(vec!["127.0.0.1".to_owned()], "webhook");
        let made = version_1(&options);
        assert!(made[0].cql.ends_with("default_time_to_live = 2678400"), "{}", made[0].cql);
        assert!(made[1].cql.contains("default_time_to_live = 2592000"), "{}", made[1].cql);
        assert!(made[1].cql.contains("'compaction_window_size': 864"), "{}", made[1].cql);
    }

    #[test]
    fn the_keyspace_names_its_data_centre_and_leaves_tablets_where_they_can_not_serve() {
        assert_eq!(
            keyspace("webhook", "dc'1", 3, true),
            "CREATE KEYSPACE IF NOT EXISTS webhook WITH replication = \
             {'class': 'NetworkTopologyStrategy', 'dc''1': 3} AND tablets = {'enabled': false}"
        );
    }
}

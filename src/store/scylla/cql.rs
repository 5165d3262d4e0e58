//! All CQL there is, in one place; the tables' own is in [`super::schema`].
//!
//! The same text for ScyllaDB and Cassandra. Prepared, and of one partition each but for an export's scan; no `IN`, no `ALLOW FILTERING`, no
//! counters, no logged batches, no `USING TIMESTAMP` on a conditional write. Columns that have no value are left unset,
//! never bound to null, which would be a tombstone.

use futures_util::future::try_join_all;
use scylla::{client::session::Session, statement::Statement};

use super::{
    connect_error::ConnectError,
    error::as_read,
    failpoint::{Breach, breaks},
    prepared::Prepared,
    session::Profiles,
};

/// How a statement is sent; see [`Profiles`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// A conditional write.
    Claim,
    /// A plain write that may be repeated.
    Reference,
    /// A read at quorum.
    Read,
    /// A read that first settles what conditional writes left undecided.
    SerialRead,
    /// Asked of any one node, about itself.
    Node,
}

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident: $way:ident $text:expr;)*) => {
        /// Every statement, prepared. `$ks` stands for the keyspace in the texts.
        #[derive(Debug)]
        pub struct Statements {
            $($(#[$doc])* pub $name: Prepared,)*
        }

        impl Statements {
            /// Prepares all of them.
            ///
            /// # Errors
            /// [`ConnectError::NotMigrated`] where a table or a column is missing.
            pub async fn prepare(session: &Session, keyspace: &str, profiles: &Profiles) -> Result<Self, ConnectError> {
                let texts = [$((Way::$way, $text),)*];
                let preparing = texts.iter().map(|(way, text)| prepare(session, keyspace, profiles, *way, text));
                let mut prepared = try_join_all(preparing).await?.into_iter();
                Ok(Self {
                    // As many as there are fields, in their order: both come from the one list above.
                    $($name: prepared.next().ok_or_else(|| ConnectError::Engine("a statement was not prepared".to_owned()))?,)*
                })
            }
        }

        #[cfg(test)]
        const TEXTS: &[(Way, &str)] = &[$((Way::$way, $text),)*];
    };
}

statements! {
    /// Accepts a message, or tells who did. Binds key, attempt, time, sender, fingerprint and record.
    claim: Claim "INSERT INTO $ks.messages (org_id, env, message_sid, attempt_id, accepted_at, from_id, fingerprint, message) \
                  VALUES (?, ?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS";
    /// Accepts a message that is imported. Binds the same, and for how many seconds more it is known.
    import_claim: Claim "INSERT INTO $ks.messages (org_id, env, message_sid, attempt_id, accepted_at, from_id, fingerprint, message) \
                         VALUES (?, ?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS USING TTL ?";
    /// Claims with their contents after a token, in the order of tokens.
    export_claims: Read "SELECT org_id, env, message_sid, attempt_id, accepted_at, message, \
                         token(org_id, env, message_sid) AS position FROM $ks.messages \
                         WHERE token(org_id, env, message_sid) > ? LIMIT ?";
    /// The claim of a key, with its contents.
    read_claim: Read "SELECT attempt_id, accepted_at, from_id, fingerprint, message FROM $ks.messages \
                      WHERE org_id = ? AND env = ? AND message_sid = ?";
    /// The claim of a key, without its contents.
    read_claim_head: Read "SELECT attempt_id, accepted_at, fingerprint FROM $ks.messages \
                           WHERE org_id = ? AND env = ? AND message_sid = ?";

    /// The reference by which readers of the feed find an attempt. The last value is the write's timestamp.
    insert_feed: Reference "INSERT INTO $ks.feed (shard, bucket, attempt_id, org_id, env, message_sid, accepted_at, from_id, fingerprint, message) \
                            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
    /// The references of a bucket from one attempt (excluded) to another (included), in their order: who they name.
    scan_feed: Read "SELECT attempt_id, org_id, env, message_sid FROM $ks.feed \
                     WHERE shard = ? AND bucket = ? AND attempt_id > ? AND attempt_id <= ? LIMIT ?";
    /// One reference with all that a claim needs.
    read_feed: Read "SELECT org_id, env, message_sid, accepted_at, from_id, fingerprint, message FROM $ks.feed \
                     WHERE shard = ? AND bucket = ? AND attempt_id = ?";
    /// Says that a bucket has rows.
    insert_bucket: Reference "INSERT INTO $ks.feed_buckets (day, shard, bucket, opened_at) VALUES (?, ?, ?, ?)";
    /// The buckets of a day that have rows, by shard, after one of them.
    list_buckets: Read "SELECT shard, bucket FROM $ks.feed_buckets WHERE day = ? AND (shard, bucket) > (?, ?) LIMIT ?";

    /// The reference by which a sender's list finds an attempt. The last value is the write's timestamp.
    insert_sender: Reference "INSERT INTO $ks.messages_by_sender (org_id, env, from_id, period, attempt_id, message_sid) \
                              VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
    /// The same for an imported message. The last values are the write's timestamp and for how many seconds it stays.
    import_sender: Reference "INSERT INTO $ks.messages_by_sender (org_id, env, from_id, period, attempt_id, message_sid) \
                              VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?";
    /// A sender's references of a period before an attempt and not before another, the newest first. Without the second bound
    /// the database would go through all that is expired there.
    list_sender: Read "SELECT attempt_id, message_sid FROM $ks.messages_by_sender \
                       WHERE org_id = ? AND env = ? AND from_id = ? AND period = ? AND attempt_id < ? AND attempt_id >= ? LIMIT ?";

    /// A lease, as a quorum has it.
    read_lease: Read "SELECT owner, epoch, beat, resolving_upto, resolved_upto FROM $ks.leases WHERE name = ? AND slot = ?";
    /// A lease, after what was undecided about it is settled.
    settle_lease: SerialRead "SELECT owner, epoch, beat, resolving_upto, resolved_upto FROM $ks.leases WHERE name = ? AND slot = ?";
    /// How far the resolver of a slot has begun: an attempt that is not later comes too late.
    read_upto: Read "SELECT resolving_upto FROM $ks.leases WHERE name = ? AND slot = ?";
    /// Moves a lease on. Binds beat, both marks, name and slot, then what the row must have: epoch, owner, beat.
    renew_lease: Claim "UPDATE $ks.leases SET beat = ?, resolving_upto = ?, resolved_upto = ? WHERE name = ? AND slot = ? \
                        IF epoch = ? AND owner = ? AND beat = ?";
    /// Takes a lease that stood still, or that nobody has. Binds owner, epoch and beat, name and slot, then what the row
    /// must have: epoch, beat.
    take_lease: Claim "UPDATE $ks.leases SET owner = ?, epoch = ?, beat = ? WHERE name = ? AND slot = ? \
                       IF epoch = ? AND beat = ?";
    /// Gives a lease back: the owner becomes empty. Binds owner, epoch and beat, name and slot, then what the row must
    /// have: epoch, owner, beat.
    give_lease: Claim "UPDATE $ks.leases SET owner = ?, epoch = ?, beat = ? WHERE name = ? AND slot = ? \
                       IF epoch = ? AND owner = ? AND beat = ?";

    /// A new key. `expires_at` is unset where it never expires, `rate` where it has none of its own, `origins` of one that is no browser
    /// key.
    insert_key: Claim "INSERT INTO $ks.api_keys (key_id, org_id, env, scopes, secret_hash, created_at, expires_at, rate, \
                       origins) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS";
    /// Revokes a key once. `created_at` is not null, so that no row comes into being.
    revoke_key: Claim "UPDATE $ks.api_keys SET revoked_at = ? WHERE key_id = ? IF created_at = ? AND revoked_at = null";
    /// A key.
    read_key: Read "SELECT key_id, org_id, env, scopes, secret_hash, created_at, expires_at, revoked_at, rate, origins \
                    FROM $ks.api_keys WHERE key_id = ?";
    /// A key, after what was undecided about it is settled.
    settle_key: SerialRead "SELECT key_id, org_id, env, scopes, secret_hash, created_at, expires_at, revoked_at, rate, \
                            origins FROM $ks.api_keys WHERE key_id = ?";
    /// Lists a key, before it is created.
    insert_key_entry: Reference "INSERT INTO $ks.api_keys_by_org (org_id, env, key_id, created_at) VALUES (?, ?, ?, ?)";
    /// The keys of an organisation after one of them; some may not have come into being.
    list_keys: Read "SELECT env, key_id FROM $ks.api_keys_by_org WHERE org_id = ? AND (env, key_id) > (?, ?) LIMIT ?";
    /// Notes when a key was used. The last value is the write's timestamp, so that the latest use stays.
    insert_key_use: Reference "INSERT INTO $ks.api_key_uses (key_id, last_used_at) VALUES (?, ?) USING TIMESTAMP ?";
    /// When a key was last used.
    read_key_use: Read "SELECT last_used_at FROM $ks.api_key_uses WHERE key_id = ?";

    /// The clock of one node, as a version 1 UUID.
    now: Node NOW;
}

/// The text of [`Statements::now`], which `migrate` needs, too.
pub const NOW: &str = "SELECT now() AS now FROM system.local";

/// Statements of a start and of `migrate`: sent once, before the tables behind the others are known to be there.
pub mod migration {
    /// ScyllaDB's version; Cassandra has no such table.
    pub const SCYLLA_VERSION: &str = "SELECT version FROM system.versions WHERE key = 'local'";
    /// Whether a keyspace of ScyllaDB uses tablets: then the column has a value.
    pub const TABLETS: &str = "SELECT initial_tablets FROM system_schema.scylla_keyspaces WHERE keyspace_name = ?";
    /// Whether a keyspace exists.
    pub const KEYSPACE: &str = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?";
    /// The tables of a keyspace.
    pub const TABLES: &str = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?";
    /// The columns of all tables of a keyspace.
    pub const COLUMNS: &str = "SELECT table_name, column_name FROM system_schema.columns WHERE keyspace_name = ?";
    /// The constants of the keyspace.
    pub const READ_SETTINGS: &str = "SELECT schema_version, oldest_program, shards, slots, window_ms, \
                                     reference_window_ms, retention_s, serial, home_datacenter, created_at \
                                     FROM $ks.settings WHERE name = ?";
    /// Whether a lease exists.
    pub const READ_LEASE: &str = "SELECT epoch FROM $ks.leases WHERE name = ? AND slot = ?";
    /// The constants of the keyspace, once.
    pub const INSERT_SETTINGS: &str = "INSERT INTO $ks.settings (name, schema_version, oldest_program, shards, slots, \
                                       window_ms, reference_window_ms, retention_s, serial, home_datacenter, created_at) \
                                       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS";
    /// Moves the schema's version on. Binds the version, the oldest program that may run and the name, then the version
    /// that the row must have.
    pub const UPDATE_VERSION: &str =
        "UPDATE $ks.settings SET schema_version = ?, oldest_program = ? WHERE name = ? IF schema_version = ?";
    /// A lease that nobody has, once.
    pub const INSERT_LEASE: &str = "INSERT INTO $ks.leases (name, slot, owner, epoch, beat, resolving_upto, resolved_upto) \
                                    VALUES (?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS";
    /// A conditional write that changes nothing of use: an engine that cannot do it says so here.
    pub const PROBE: &str = "UPDATE $ks.settings SET probed_at = ? WHERE name = ? IF schema_version = ?";
}

/// `text` with the keyspace's name in it.
pub fn in_keyspace(text: &str, keyspace: &str) -> String {
    text.replace("$ks", keyspace)
}

async fn prepare(
    session: &Session,
    keyspace: &str,
    profiles: &Profiles,
    way: Way,
    text: &'static str,
) -> Result<Prepared, ConnectError> {
    let mut sent = in_keyspace(text, keyspace);
    if way == Way::Claim && sent.contains(".messages ") && breaks(Breach::NoCondition) {
        sent = sent.replace(" IF NOT EXISTS", "");
    }
    let mut statement = Statement::new(sent);
    let profile = match way {
        Way::Claim => &profiles.claim,
        Way::Reference => &profiles.reference,
        Way::Read | Way::Node => &profiles.read,
        Way::SerialRead => {
            statement.set_consistency(as_read(profiles.serial));
            &profiles.claim
        }
    };
    if way == Way::Node {
        statement.set_consistency(scylla::statement::Consistency::One);
    }
    statement.set_execution_profile_handle(Some(profile.clone()));
    // Of a conditional write a repetition is ours to decide.
    statement.set_is_idempotent(way != Way::Claim);
    let prepared = session.prepare(statement).await.map_err(|error| ConnectError::prepare(keyspace, &error))?;
    Ok(Prepared::new(prepared, keyspace, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditional_writes_are_sent_as_such_and_no_others() {
        for (way, text) in TEXTS {
            assert_eq!(text.contains(" IF "), *way == Way::Claim, "{text}");
            assert!(!(text.contains(" IF ") && text.contains("USING TIMESTAMP")), "{text}");
        }
    }

    #[test]
    fn every_statement_is_of_one_partition() {
        for (way, text) in TEXTS {
            for word in [" IN ", "ALLOW FILTERING", "BATCH", "COUNTER"] {
                assert!(!text.contains(word), "{text}");
            }
            assert!(*way == Way::Node || text.contains("WHERE") || text.starts_with("INSERT"), "{text}");
        }
    }
}

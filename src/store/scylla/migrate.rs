//! Makes a keyspace and its tables, and brings older ones up to date.
//!
//! Safe when two run at once: every statement may be carried out twice, and all schema statements go to the node with the
//! least host id that is up, which puts them in order. Cassandra would otherwise make two tables of one name.

use std::{fmt, sync::Arc, time::Duration};

use scylla::{
    client::{
        execution_profile::{ExecutionProfile, ExecutionProfileHandle},
        session::Session,
    },
    cluster::Node,
    policies::{
        load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy},
        retry::FallthroughRetryPolicy,
    },
    serialize::row::SerializeRow,
    statement::{Consistency, Statement},
};

use super::{
    connect_error::ConnectError,
    cql::{NOW, in_keyspace, migration},
    database_clock::{agree, ask},
    engine::Engine,
    error::{Failed, Fate, full_text, is_invalid},
    lwt::{Decision, Row},
    options::Options,
    prepared::Prepared,
    schema::{self, Column, MIGRATIONS},
    session::{Connection, Profiles},
    settings::{self, Settings},
    sharding, ticks,
};
use crate::domain::{Clock, Timestamp};

/// A schema change takes a node this long at most; a ring under load takes seconds.
const SCHEMA: Duration = Duration::from_secs(60);
/// A conditional write whose outcome is unclear, or a schema change that lost to another, is repeated this often.
const ATTEMPTS: usize = 10;

/// What a keyspace lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The keyspace.
    pub keyspace: String,
    /// What is to be done, or was done, in this order.
    pub steps: Vec<MigrationStep>,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MigrationStep {
    /// The statement that makes the keyspace.
    Keyspace(String),
    /// A statement that makes a table.
    Table(String),
    /// A column that is added.
    Column(String, Column),
    /// The row of constants.
    Settings,
    /// So many leases.
    Leases(usize),
    /// The schema's version.
    Version {
        /// As it is.
        from: i32,
        /// As it will be.
        to: i32,
    },
}

/// What a keyspace with `options` lacks; changes nothing.
///
/// # Errors
/// As [`ConnectError`] has them.
pub async fn plan(options: &Options) -> Result<Plan, ConnectError> {
    Migrator::open(options).await?.plan().await
}

/// Does what [`plan`] names and says what it did. One conditional write at the end shows that the database can do them,
/// and lets ScyllaDB make its table for them.
///
/// # Errors
/// As [`ConnectError`] has them. What was done stays, and the next run goes on from there.
pub async fn apply(options: &Options, clock: &dyn Clock) -> Result<Plan, ConnectError> {
    let migrator = Migrator::open(options).await?;
    let plan = migrator.plan().await?;
    migrator.carry_out(&plan, clock).await?;
    Ok(plan)
}

struct Migrator<'a> {
    options: &'a Options,
    connection: Connection,
    profiles: Profiles,
    /// To the one node that puts schema changes in order.
    schema: ExecutionProfileHandle,
    engine: Engine,
}

impl<'a> Migrator<'a> {
    async fn open(options: &'a Options) -> Result<Self, ConnectError> {
        let connection = Connection::open(options).await?;
        let profiles = connection.profiles(options.serial);
        let node = first_node(&connection)?;
        let schema = ExecutionProfile::builder()
            .request_timeout(Some(SCHEMA))
            .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
            .load_balancing_policy(SingleTargetLoadBalancingPolicy::new(NodeIdentifier::Node(node), None))
            .build()
            .into_handle();
        let engine = Engine::detect(&connection.session).await?;
        Ok(Self { options, connection, profiles, schema, engine })
    }

    fn session(&self) -> &Session {
        &self.connection.session
    }

    async fn plan(&self) -> Result<Plan, ConnectError> {
        let keyspace = self.options.keyspace.clone();
        // After a run that ended half-way one node may have a table that another does not know yet.
        self.agree().await?;
        let mut plan = Plan { keyspace: keyspace.clone(), steps: Vec::new(), warnings: Vec::new() };
        if self.rows(migration::KEYSPACE, &keyspace).await?.is_empty() {
            let replicas = self.options.replication_factor;
            if let Err(too_few) = self.check_nodes() {
                plan.warnings.push(too_few.to_string());
            }
            if replicas < 3 {
                plan.warnings.push(format!(
                    "the keyspace is to have a replication factor of {replicas}: below 3 the loss of one node stops \
                     the service or loses messages"
                ));
            }
            let tablets = self.engine.needs_no_tablets();
            plan.steps.push(MigrationStep::Keyspace(schema::keyspace(
                &keyspace,
                &self.connection.datacenter,
                replicas,
                tablets,
            )));
        } else {
            self.engine.check_keyspace(self.session(), &keyspace).await?;
            plan.warnings.extend(self.connection.too_few_copies(self.options));
        }
        let tables: Vec<String> = self
            .rows(migration::TABLES, &keyspace)
            .await?
            .iter()
            .filter_map(|row| row.text("table_name").map(str::to_owned))
            .collect();
        for table in MIGRATIONS.iter().flat_map(|migration| (migration.tables)(self.options)) {
            if !tables.iter().any(|known| *known == table.name) {
                plan.steps.push(MigrationStep::Table(in_keyspace(&table.cql, &keyspace)));
            }
        }
        let columns = self.columns().await?;
        for column in MIGRATIONS.iter().flat_map(|migration| migration.columns) {
            if !has_column(&columns, column) {
                plan.steps.push(MigrationStep::Column(in_keyspace(&column.cql(), &keyspace), *column));
            }
        }
        let has = |name: &str| tables.iter().any(|known| known == name);
        let settings = if has("settings") { self.settings().await? } else { None };
        let missing = if has("leases") { self.missing_leases().await? } else { self.options.slots.into() };
        if missing > 0 {
            plan.steps.push(MigrationStep::Leases(missing));
        }
        match settings {
            None => plan.steps.push(MigrationStep::Settings),
            Some(settings) => {
                self.check(&settings)?;
                if settings.schema_version < schema::VERSION {
                    plan.steps.push(MigrationStep::Version { from: settings.schema_version, to: schema::VERSION });
                }
            }
        }
        Ok(plan)
    }

    /// Whether the data centre has the nodes that a new keyspace needs: as many as there are to be copies, a majority of them up.
    fn check_nodes(&self) -> Result<(), ConnectError> {
        let (wanted, (joined, up)) = (self.options.replication_factor, self.connection.nodes());
        let copies = usize::try_from(wanted).unwrap_or(usize::MAX);
        if joined >= copies && up > copies / 2 {
            return Ok(());
        }
        Err(ConnectError::TooFewNodes { datacenter: self.connection.datacenter.clone(), wanted, joined, up })
    }

    async fn carry_out(&self, plan: &Plan, clock: &dyn Clock) -> Result<(), ConnectError> {
        for step in &plan.steps {
            match step {
                MigrationStep::Keyspace(cql) => {
                    self.check_nodes()?;
                    self.change_schema(cql, None).await?;
                }
                MigrationStep::Table(cql) => self.change_schema(cql, None).await?,
                MigrationStep::Column(cql, column) => self.change_schema(cql, Some(column)).await?,
                MigrationStep::Settings | MigrationStep::Leases(_) | MigrationStep::Version { .. } => {}
            }
        }
        self.agree().await?;
        self.session().refresh_metadata().await.map_err(|error| ConnectError::failed("read the schema", &error))?;

        let now = self.database_time(clock).await?;
        let new = Settings::new(self.options, &self.connection.datacenter, now);
        // Of one that another run made, its own begin holds.
        let mark = self.settings().await?.unwrap_or_else(|| new.clone()).first_mark();
        for slot in 0..i32::from(self.options.slots) {
            let values = (sharding::RESOLVER, slot, "", 0_i64, 0_i64, mark, mark);
            self.decide("write the leases", migration::INSERT_LEASE, values).await?;
        }
        // Last: a keyspace with settings has everything else, and servers start on it.
        self.decide("write the settings", migration::INSERT_SETTINGS, new.values()).await?;
        // Another run may have been first, and its row holds.
        let settings = self.settings().await?.ok_or_else(|| ConnectError::NotMigrated {
            keyspace: self.options.keyspace.clone(),
            missing: "the row of settings".to_owned(),
        })?;
        self.check(&settings)?;
        if settings.schema_version < schema::VERSION {
            let values = (schema::VERSION, new.oldest_program, settings::NAME, settings.schema_version);
            self.decide("write the schema's version", migration::UPDATE_VERSION, values).await?;
        }
        self.probe(now).await
    }

    /// What time it is in the database: that of this machine may be wrong, and would be the keyspace's for ever.
    async fn database_time(&self, clock: &dyn Clock) -> Result<Timestamp, ConnectError> {
        let failed = |error: &dyn fmt::Display| ConnectError::failed("ask the database for its time", error);
        let mut statement = Statement::new(NOW);
        statement.set_execution_profile_handle(Some(self.profiles.read.clone()));
        statement.set_consistency(Consistency::One);
        let now = self.session().prepare(statement).await.map_err(|error| failed(&error))?;
        let now = Prepared::new(now, &self.options.keyspace, NOW);
        let told = ask(self.session(), &self.connection.datacenter, &now, || clock.since_boot()).await;
        let told = told.map_err(|error| failed(&error))?;
        let agreed = agree(&told, (ticks::at(clock.now()), clock.since_boot()));
        agreed.map(|agreed| ticks::time(agreed.fixed.database)).ok_or_else(|| failed(&"no node tells it"))
    }

    async fn probe(&self, now: Timestamp) -> Result<(), ConnectError> {
        let values = (now.as_micros(), settings::NAME, schema::VERSION);
        self.decide("do a lightweight transaction", migration::PROBE, values).await.map(drop)
    }

    async fn rows(&self, text: &str, keyspace: &str) -> Result<Vec<Row>, ConnectError> {
        let mut statement = Statement::new(text);
        statement.set_execution_profile_handle(Some(self.schema.clone()));
        statement.set_is_idempotent(true);
        let result = self
            .session()
            .query_unpaged(statement, (keyspace,))
            .await
            .map_err(|error| ConnectError::statement("read the schema", &error))?;
        let rows = result.into_rows_result().map_err(|error| ConnectError::failed("read the schema", &error))?;
        rows.rows::<Row>()
            .map_err(|error| ConnectError::failed("read the schema", &error))?
            .collect::<Result<_, _>>()
            .map_err(|error| ConnectError::failed("read the schema", &error))
    }

    /// The columns of all tables there are.
    async fn columns(&self) -> Result<Vec<Row>, ConnectError> {
        self.rows(migration::COLUMNS, &self.options.keyspace).await
    }

    /// Carries out `cql`, which adds `column` if it is told: another run may have added it meanwhile.
    async fn change_schema(&self, cql: &str, column: Option<&Column>) -> Result<(), ConnectError> {
        let mut statement = Statement::new(cql);
        statement.set_execution_profile_handle(Some(self.schema.clone()));
        let mut failed = None;
        for attempt in 0..ATTEMPTS {
            match self.session().query_unpaged(statement.clone(), &[]).await {
                Ok(_) => return Ok(()),
                // ScyllaDB says so too when another change was faster; only a repetition tells.
                Err(error) => failed = Some(ConnectError::statement(format!("carry out '{cql}'"), &error)),
            }
            if let Some(column) = column
                && has_column(&self.columns().await?, column)
            {
                return Ok(());
            }
            pause(attempt).await;
        }
        Err(failed.unwrap_or_else(|| ConnectError::Engine("a schema change was not tried".to_owned())))
    }

    /// A conditional write, until its outcome is clear.
    async fn decide(&self, what: &str, text: &str, values: impl SerializeRow) -> Result<Decision, ConnectError> {
        let mut statement = Statement::new(in_keyspace(text, &self.options.keyspace));
        statement.set_execution_profile_handle(Some(self.profiles.claim.clone()));
        let prepared = self
            .session()
            .prepare(statement)
            .await
            .map_err(|error| ConnectError::prepare(&self.options.keyspace, &error))?;
        let mut wrong = String::new();
        for attempt in 0..ATTEMPTS {
            match self.session().execute_unpaged(&prepared, &values).await {
                Ok(result) => {
                    return Decision::read(result).map_err(|failed| ConnectError::failed(what, &failed));
                }
                Err(error) => {
                    wrong = full_text(&error);
                    if Failed::from(error).fate == Fate::Bug {
                        return Err(ConnectError::Engine(format!(
                            "this database does no lightweight transactions in the keyspace '{}': {wrong}; use \
                             ScyllaDB 2025.4 or later (2025.1 to 2025.3 with tablets = {{'enabled': false}}), or \
                             Apache Cassandra 5",
                            self.options.keyspace
                        )));
                    }
                }
            }
            pause(attempt).await;
        }
        Err(ConnectError::failed(what, &wrong))
    }

    /// Waits until all nodes that are up have the same schema.
    async fn agree(&self) -> Result<(), ConnectError> {
        let agreed = self.session().await_schema_agreement().await;
        agreed.map(drop).map_err(|error| ConnectError::failed("wait until all nodes have the schema", &error))
    }

    /// The row of constants, if there is one. Where another run changes the schema, a node may not answer at once.
    async fn settings(&self) -> Result<Option<Settings>, ConnectError> {
        let mut attempt = 0;
        loop {
            match read_settings(self.session(), &self.profiles, &self.options.keyspace).await {
                Err(error) if error.may_pass() && attempt < ATTEMPTS => pause(attempt).await,
                read => return read,
            }
            attempt += 1;
        }
    }

    fn check(&self, settings: &Settings) -> Result<(), ConnectError> {
        let mut differs = settings.differences(self.options, &self.connection.datacenter);
        if schema::VERSION < settings.oldest_program {
            differs.extend(settings.wrong_version());
        }
        if differs.is_empty() {
            return Ok(());
        }
        Err(ConnectError::Settings { keyspace: self.options.keyspace.clone(), differs })
    }

    async fn missing_leases(&self) -> Result<usize, ConnectError> {
        let mut statement = Statement::new(in_keyspace(migration::READ_LEASE, &self.options.keyspace));
        statement.set_execution_profile_handle(Some(self.profiles.read.clone()));
        let failed = |error: &dyn fmt::Display| ConnectError::failed("read the leases", error);
        let prepared = self.session().prepare(statement).await.map_err(|error| failed(&error))?;
        let mut missing = 0;
        for slot in 0..i32::from(self.options.slots) {
            let result = self.session().execute_unpaged(&prepared, (sharding::RESOLVER, slot)).await;
            let rows = result.map_err(|error| failed(&error))?.into_rows_result().map_err(|error| failed(&error))?;
            missing += usize::from(rows.rows_num() == 0);
        }
        Ok(missing)
    }
}

fn has_column(columns: &[Row], column: &Column) -> bool {
    let is_it =
        |row: &Row| row.text("table_name") == Some(column.table) && row.text("column_name") == Some(column.name);
    columns.iter().any(is_it)
}

/// The row of constants, if there is one.
pub(super) async fn read_settings(
    session: &Session,
    profiles: &Profiles,
    keyspace: &str,
) -> Result<Option<Settings>, ConnectError> {
    let mut statement = Statement::new(in_keyspace(migration::READ_SETTINGS, keyspace));
    statement.set_execution_profile_handle(Some(profiles.read.clone()));
    let failed = |error: &dyn fmt::Display| ConnectError::failed("read the settings", error);
    let result = session.query_unpaged(statement, (settings::NAME,)).await.map_err(|error| {
        if is_invalid(&error) {
            ConnectError::NotMigrated { keyspace: keyspace.to_owned(), missing: "the table of settings".to_owned() }
        } else {
            ConnectError::statement("read the settings", &error)
        }
    })?;
    let rows = result.into_rows_result().map_err(|error| failed(&error))?;
    let row = rows.maybe_first_row::<Row>().map_err(|error| failed(&error))?;
    Ok(row.as_ref().and_then(Settings::read))
}

/// The node with the least host id of those that are up: the same one for whoever asks at the same time.
fn first_node(connection: &Connection) -> Result<Arc<Node>, ConnectError> {
    let state = connection.session.get_cluster_state();
    let up = state.get_nodes_info().iter().filter(|node| node.is_connected());
    up.min_by_key(|node| node.host_id)
        .cloned()
        .ok_or_else(|| ConnectError::Engine("no node of the database is connected".to_owned()))
}

async fn pause(attempt: usize) {
    // 0.1 s, 0.2 s, up to 1 s.
    let tenths = u64::try_from(attempt + 1).unwrap_or(10).min(10);
    tokio::time::sleep(Duration::from_millis(100 * tenths)).await;
}

impl fmt::Display for MigrationStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MigrationStep::Keyspace(cql) | MigrationStep::Table(cql) | MigrationStep::Column(cql, _) => {
                write!(f, "{cql};")
            }
            MigrationStep::Settings => f.write_str("-- write the settings that all processes share"),
            MigrationStep::Leases(count) => write!(f, "-- write {count} leases of the resolver"),
            MigrationStep::Version { from, to } => write!(f, "-- move the schema's version from {from} to {to}"),
        }
    }
}

/// A line each; without steps a text that says so.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.steps.is_empty() {
            return write!(f, "-- the keyspace {} is up to date", self.keyspace);
        }
        let lines: Vec<_> = self.steps.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

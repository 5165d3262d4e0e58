//! The configured store, opened.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::time::Instant;

use super::{Consent, Stop, database_files::DatabaseFiles};
use crate::{
    config::{Config, Consistency, Node, StoreKind},
    domain::{Clock, SystemClock},
    store::{
        Store, embedded,
        scylla::{self, ConnectError, ScyllaStore, migrate},
    },
};

/// Between two tries to reach a database that is not up.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// For so long `migrate` waits for the nodes that a new keyspace needs: those of a cluster that is being made join one after
/// the other.
const NODES_PATIENCE: Duration = Duration::from_secs(120);
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);

/// Why the configured store does not open.
#[derive(Debug)]
pub enum OpenError {
    /// The embedded store.
    Embedded(embedded::OpenError),
    /// The file with the password of the database's user cannot be read.
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        wrong: String,
    },
    /// The store on ScyllaDB.
    Scylla(ConnectError),
    /// A command that is of the other store.
    NoMigration,
}

/// An open store.
pub(super) struct OpenedStore {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The directory that this process owns with it.
    pub dir: Option<PathBuf>,
    /// The files by which it is reached.
    pub files: DatabaseFiles,
}

/// Opens the store that `config` names and tells in the log what was found.
async fn open(config: &Config, consent: Consent, clock: Arc<dyn Clock>) -> Result<OpenedStore, OpenError> {
    match config.store {
        StoreKind::Embedded => {
            let mode = if consent.accept_loss { embedded::Mode::AcceptLoss } else { embedded::Mode::Serve };
            let options = embedded::Options { trust_clock: consent.trust_clock, ..embedded_options(config, mode) };
            let (store, report) = open_embedded(options, clock).await.map_err(OpenError::Embedded)?;
            tracing::info!(data_dir = %config.data_dir.display(), "{report}");
            Ok(OpenedStore { store, dir: Some(config.data_dir.clone()), files: DatabaseFiles::default() })
        }
        StoreKind::Scylla => {
            let (options, files) = scylla_options(config).await?;
            let store = ScyllaStore::connect(options, clock).await.map_err(OpenError::Scylla)?;
            tracing::info!(keyspace = config.scylla_keyspace.as_str(), "connected to the database");
            Ok(OpenedStore { store: Arc::new(store), dir: None, files })
        }
    }
}

/// As [`open`], and waits for a database that is not up, for as long as it takes: a restart would not bring it up, and
/// would only make the wait longer. What an operator must mend is told at once. `None` when `stop` came first.
pub(super) async fn open_in_time(
    config: &Config,
    consent: Consent,
    clock: &Arc<dyn Clock>,
    stop: &Stop,
    waiting: impl Fn(),
) -> Result<Option<OpenedStore>, OpenError> {
    let mut pauses = ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times()
        .build();
    loop {
        let error = match open(config, consent, Arc::clone(clock)).await {
            Err(error) if error.may_pass() => error,
            opened => return opened.map(Some),
        };
        waiting();
        let pause = pauses.next().unwrap_or(LONGEST_PAUSE);
        tracing::warn!(%error, next_try_in_ms = pause.as_millis() as u64, "the store cannot be opened yet");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.drain() => return Ok(None),
        }
    }
}

/// How the embedded store that `config` names is opened.
pub(super) fn embedded_options(config: &Config, mode: embedded::Mode) -> embedded::Options {
    embedded::Options {
        retention: config.retention,
        mode,
        largest_record: embedded::Options::largest_record(config.body_limit.as_u64()),
        ..embedded::Options::new(&config.data_dir)
    }
}

/// Opens the embedded store on a thread that may block.
pub(super) async fn open_embedded(
    options: embedded::Options,
    clock: Arc<dyn Clock>,
) -> Result<(Arc<dyn Store>, embedded::OpenReport), embedded::OpenError> {
    let opening = tokio::task::spawn_blocking(move || embedded::EmbeddedStore::open(options, clock));
    match opening.await {
        Ok(opened) => opened.map(|(store, report)| (Arc::new(store) as Arc<dyn Store>, report)),
        Err(error) => Err(embedded::OpenError::Threads { error: io::Error::other(error) }),
    }
}

/// Connects to the keyspace that `config` names, for the time of one command.
pub(super) async fn open_scylla_briefly(config: &Config) -> Result<Arc<dyn Store>, OpenError> {
    let (options, _) = scylla_options(config).await?;
    let store = ScyllaStore::connect_briefly(options, Arc::new(SystemClock)).await.map_err(OpenError::Scylla)?;
    Ok(Arc::new(store))
}

/// What the keyspace that `config` names lacks; `apply` does it. Waits some minutes for nodes that are needed for the copies of
/// a new keyspace, and tells `waiting` so once.
///
/// # Errors
/// [`OpenError`]; its text is for the operator.
pub async fn migrate(config: &Config, apply: bool, waiting: impl Fn(&str)) -> Result<migrate::Plan, OpenError> {
    if config.store == StoreKind::Embedded {
        return Err(OpenError::NoMigration);
    }
    let (options, _) = scylla_options(config).await?;
    if !apply {
        return migrate::plan(&options).await.map_err(OpenError::Scylla);
    }
    let until = Instant::now() + NODES_PATIENCE;
    let mut is_told = false;
    loop {
        let error = match migrate::apply(&options, &SystemClock).await {
            Err(error @ ConnectError::TooFewNodes { .. }) if Instant::now() < until => error,
            migrated => return migrated.map_err(OpenError::Scylla),
        };
        if !is_told {
            waiting(&format!("waiting up to {} s: {error}", NODES_PATIENCE.as_secs()));
            is_told = true;
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

/// How the database is reached, by files that can be followed.
async fn scylla_options(config: &Config) -> Result<(scylla::Options, DatabaseFiles), OpenError> {
    let mut files = DatabaseFiles::default();
    let password = match (&config.scylla_password, &config.scylla_password_file) {
        (Some(secret), _) => Some(secret.reveal().to_owned()),
        (None, Some(path)) => Some(first_line(path).await?),
        (None, None) => None,
    };
    let login = config.scylla_user.clone().zip(password).map(|(user, password)| scylla::Login::new(&user, password));
    if let (Some(login), Some(path)) = (&login, &config.scylla_password_file) {
        files.password = Some((path.clone(), login.clone()));
    }
    let client = config.scylla_client_cert_file.clone().zip(config.scylla_client_key_file.clone());
    let nodes = config.scylla_nodes.iter().map(Node::as_str).map(str::to_owned).collect();
    let tls = match config.scylla_ca_file.clone() {
        Some(ca_file) => {
            let tls = scylla::Tls { ca_file, client };
            let contents = tls.read().await.map_err(OpenError::Scylla)?;
            let encryption = scylla::Encryption::new(tls, &contents).map_err(OpenError::Scylla)?;
            files.tls = Some((encryption.clone(), contents));
            Some(encryption)
        }
        None => None,
    };
    let options = scylla::Options {
        datacenter: config.scylla_datacenter.clone(),
        replication_factor: config.scylla_replication_factor.into(),
        serial: match config.scylla_consistency {
            Consistency::Serial => scylla::Serial::Everywhere,
            Consistency::LocalSerial => scylla::Serial::Home,
        },
        login,
        tls,
        retention: config.retention,
        shards: config.scylla_shards,
        slots: config.scylla_slots,
        window: config.scylla_window,
        reference_window: config.scylla_reference_window,
        deadline: config.store_deadline,
        ..scylla::Options::new(nodes, config.scylla_keyspace.as_str())
    };
    Ok((options, files))
}

/// Editors end a file with a line break, which is no part of a password.
pub(super) async fn first_line(path: &Path) -> Result<String, OpenError> {
    let wrong = match tokio::fs::read_to_string(path).await {
        Ok(text) => match text.lines().next() {
            Some(line) if !line.is_empty() => return Ok(line.to_owned()),
            Some(_) | None => "its first line is empty".to_owned(),
        },
        Err(error) => error.to_string(),
    };
    Err(OpenError::PasswordFile { path: path.to_path_buf(), wrong })
}

impl OpenError {
    /// Whether it may pass by itself.
    fn may_pass(&self) -> bool {
        match self {
            OpenError::Scylla(error) => error.may_pass(),
            OpenError::Embedded(error) => error.may_pass(),
            OpenError::PasswordFile { .. } | OpenError::NoMigration => false,
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Embedded(error) => write!(f, "{error}"),
            OpenError::PasswordFile { path, wrong } => {
                write!(f, "The password file {} cannot be used: {wrong}", path.display())
            }
            OpenError::Scylla(error) => write!(f, "The store cannot be used: {error}"),
            OpenError::NoMigration => f.write_str("The embedded store needs no migration; it brings itself up to date"),
        }
    }
}

impl std::error::Error for OpenError {}

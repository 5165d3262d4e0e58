//! The store for many replicas: the [`MessageStore`] contract on ScyllaDB, or Apache Cassandra 5, by lightweight
//! transactions.
//!
//! A message is accepted by one conditional write, its claim (`claim`, `submit`), after the references by which readers
//! find it are durable. A reference counts only when the claim of its key has the same attempt. Whatever a process leaves
//! half done, the resolver of its slot finishes.
//!
//! Where to read on: `submit` (one flight a key and process), `submit_pipeline` (from the references to the claim), `barrier` (the
//! check between them), `dedup_cache` (what is known without the database), `attempt`, `ticks` and `time` (the time that everything
//! is ordered by), `sharding` (shards and slots), `cql` (all statements), `schema` and `migrate` (the tables), `settings` (the
//! constants that all processes share), `resolver` (a slot's rounds), `progress` (how far they
//! came), `lease` (who goes round), `roll_forward` (what it finishes),
//! `feed` (what readers follow), `list`, `cursor` (positions that callers hold), `scan` (reading references), `clock` and
//! `database_clock` (how far ours is off), `error` (what the driver's errors mean), `connect_error` (why there is no
//! store), `lwt` (answers to conditional writes), `session` and `engine` (the
//! connection, and what is at its other end), `failpoint` (where tests kill the process or break a promise).
//!
//! Invariants:
//! - The claim is written by conditional writes only, and its attempt and time are never changed.
//! - "Accepted" is answered only when the claim was applied with an attempt of this flight.
//! - No claim is written for an attempt that is not later than what the resolver of its slot has begun with.
//! - A conditional write whose outcome is unclear is repeated as it was, or answered with "cannot decide now".

mod attempt;
mod barrier;
mod claim;
mod clock;
mod connect_error;
mod core;
mod cql;
mod cursor;
mod database_clock;
mod dedup_cache;
mod encryption;
mod engine;
mod error;
mod export;
mod failpoint;
mod feed;
mod import;
mod keys;
mod lease;
mod list;
mod login;
mod lwt;
mod marks;
pub mod migrate;
mod nodes;
mod options;
mod prepared;
mod progress;
mod repeat;
mod resolver;
mod roll_forward;
mod scan;
mod schema;
mod session;
mod settings;
mod sharding;
mod submit;
mod submit_pipeline;
mod ticks;
mod time;

use std::{
    sync::{Arc, atomic::AtomicI32},
    time::Duration,
};

use async_trait::async_trait;
use quick_cache::sync::Cache;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use connect_error::ConnectError;
#[cfg(any(test, fuzzing))]
pub(crate) use cursor::{FeedPosition as CursorPosition, read_token, token};
pub use encryption::{Encryption, Tls, TlsContents};
pub use login::Login;
pub use options::{Options, Serial};

use self::{
    attempt::Attempts,
    clock::ClockWatch,
    core::Core,
    cql::Statements,
    engine::Engine,
    error::Fate,
    feed::{Follower, Tail},
    marks::Marks,
    resolver::Resolver,
    session::Connection,
    sharding::Sharding,
    submit::Submissions,
    time::Time,
};
use super::{
    ExportPage, FeedFollower, FeedFrom, FeedOrder, FeedStore, ImportInto, Imported, KeyStore, Lifecycle, ListedKey,
    MessagePage, MessageStore, Outcome, PageLimit, PageToken, TransferStore,
};
use crate::{
    domain::{Clock, Error, KeyId, KeyRecord, Kind, Message, MessageKey, NewMessage, OrgId, Sender, Timestamp},
    telemetry::names,
};

/// So many rows that cannot be read are told once and not each time that they are met.
const UNREADABLE: usize = 10_000;
/// Attempts of which this process remembers that they were accepted, until they are resolved: those of some 12 s at 4,000 a
/// second.
const ACCEPTED: usize = 50_000;

/// A store in a keyspace that any number of processes share.
pub struct ScyllaStore {
    core: Arc<Core>,
    submissions: Arc<Submissions>,
    tail: Arc<Tail>,
}

impl ScyllaStore {
    /// Connects to a keyspace that [`migrate::apply`] made.
    ///
    /// # Errors
    /// [`ConnectError`]; its text is for the operator.
    pub async fn connect(options: Options, clock: Arc<dyn Clock>) -> Result<Self, ConnectError> {
        Self::connect_by(options, Time::new(clock, false), true).await
    }

    /// As [`ScyllaStore::connect`], for the time of one command: takes no part in the resolving, which would only change
    /// hands and change back.
    ///
    /// # Errors
    /// As [`ScyllaStore::connect`].
    pub async fn connect_briefly(options: Options, clock: Arc<dyn Clock>) -> Result<Self, ConnectError> {
        Self::connect_by(options, Time::new(clock, false), false).await
    }

    /// As [`ScyllaStore::connect`], and takes `clock` for the database's, too. For tests that move time.
    ///
    /// # Errors
    /// As [`ScyllaStore::connect`].
    #[doc(hidden)]
    pub async fn connect_trusting(options: Options, clock: Arc<dyn Clock>) -> Result<Self, ConnectError> {
        Self::connect_by(options, Time::new(clock, true), true).await
    }

    async fn connect_by(options: Options, time: Time, resolves: bool) -> Result<Self, ConnectError> {
        failpoint::set_up();
        let connection = Connection::open(&options).await?;
        let not_migrated = |missing: &str| ConnectError::NotMigrated {
            keyspace: options.keyspace.clone(),
            missing: missing.to_owned(),
        };
        if connection.session.get_cluster_state().get_keyspace(&options.keyspace).is_none() {
            return Err(not_migrated("the keyspace"));
        }
        Engine::detect(&connection.session).await?.check_keyspace(&connection.session, &options.keyspace).await?;
        if let Some(copies) = connection.copies(&options.keyspace) {
            metrics::gauge!(names::STORE_REPLICATION_FACTOR).set(copies as f64);
        }
        if let Some(few) = connection.too_few_copies(&options) {
            tracing::error!(warning = few, "the keyspace has too few copies of each row");
        }
        let profiles = connection.profiles(options.serial);
        let settings = match migrate::read_settings(&connection.session, &profiles, &options.keyspace).await? {
            Some(settings) => settings,
            None => return Err(not_migrated("the row of settings")),
        };
        let mut differs = settings.differences(&options, &connection.datacenter);
        differs.extend(settings.wrong_version());
        if !differs.is_empty() {
            return Err(ConnectError::Settings { keyspace: options.keyspace, differs });
        }
        let cql = Statements::prepare(&connection.session, &options.keyspace, &profiles).await?;
        let attempts = Attempts::new().map_err(|error| ConnectError::failed("make ids of attempts", &error))?;
        let core = Arc::new(Core {
            session: connection.session,
            datacenter: connection.datacenter,
            cql,
            sharding: Sharding { shards: options.shards, slots: options.slots },
            options,
            settings,
            time,
            unreadable: Cache::new(UNREADABLE),
            attempts,
            accepted: Cache::new(ACCEPTED),
            marks: Marks::default(),
            crowded_day: AtomicI32::new(i32::MIN),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        // Earlier versions of `migrate` wrote the settings first, and may have got no further.
        core.resolved_upto().await.map_err(|failed| match failed.fate {
            Fate::Bug => {
                ConnectError::NotMigrated { keyspace: core.options.keyspace.clone(), missing: failed.to_string() }
            }
            Fate::Unclear | Fate::NoEffect => ConnectError::Statement {
                what: "read the leases".to_owned(),
                wrong: failed.to_string(),
                may_pass: true,
            },
        })?;
        let clock = Arc::new(ClockWatch::default());
        // Before the first submission, which would be refused. Where it fails it is soon made up for.
        if let Err(failed) = clock.compare(&core).await {
            tracing::warn!(%failed, "the database does not tell its time");
        }
        if resolves {
            Resolver::start(&core, &clock);
        }
        core.tasks.spawn({
            let core = Arc::clone(&core);
            async move { clock.run(&core).await }
        });
        let tail = Tail::new(&core);
        Ok(Self { submissions: Submissions::new(Arc::clone(&core), Arc::clone(&tail)), core, tail })
    }

    /// Returns when everything that is accepted by now is resolved, by whichever process. For tests.
    ///
    /// # Errors
    /// What stands in the way.
    #[doc(hidden)]
    pub async fn settle(&self) -> Result<(), Error> {
        let now = ticks::at(self.core.now());
        while self.core.resolved_upto().await? < now {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// The store's parts, unless it was closed.
    fn open(&self) -> Result<&Arc<Core>, Error> {
        if self.core.stop.is_cancelled() {
            return Err(Error::store_unavailable("the store is closed"));
        }
        Ok(&self.core)
    }
}

impl Drop for ScyllaStore {
    fn drop(&mut self) {
        self.core.stop.cancel();
    }
}

#[async_trait]
impl MessageStore for ScyllaStore {
    async fn submit(&self, message: NewMessage) -> Result<Outcome, Error> {
        self.open()?;
        self.submissions.submit(message).await
    }

    async fn get(&self, key: &MessageKey) -> Result<Option<Message>, Error> {
        let core = self.open()?;
        let Some(row) = core.claim(key).await? else { return Ok(None) };
        let message = claim::message(key, &row).map_err(|wrong| {
            core.found_unreadable("messages", &key.fingerprint());
            Error::new(Kind::DataLoss, "The message was accepted, but its content cannot be read").with_cause(wrong)
        })?;
        // Claims outlive the retention; what is past it is forgotten all the same.
        Ok(message.filter(|message| !core.is_past(message.accepted_at)))
    }

    async fn list(&self, sender: &Sender, after: Option<&PageToken>, limit: PageLimit) -> Result<MessagePage, Error> {
        list::page(self.open()?, sender, after, limit).await
    }
}

#[async_trait]
impl FeedStore for ScyllaStore {
    async fn follow(&self, from: FeedFrom, order: FeedOrder) -> Result<Box<dyn FeedFollower>, Error> {
        self.open()?;
        Ok(Box::new(Follower::begin(&self.tail, from, order).await?))
    }
}

#[async_trait]
impl KeyStore for ScyllaStore {
    async fn create_key(&self, key: KeyRecord) -> Result<(), Error> {
        keys::create(self.open()?, &key).await
    }

    async fn key(&self, id: &KeyId) -> Result<Option<KeyRecord>, Error> {
        keys::get(self.open()?, id).await
    }

    async fn keys(&self, org: Option<&OrgId>) -> Result<Vec<ListedKey>, Error> {
        keys::list(self.open()?, org).await
    }

    async fn key_records(&self) -> Result<Vec<KeyRecord>, Error> {
        keys::records(self.open()?).await
    }

    async fn revoke_key(&self, id: &KeyId, at: Timestamp) -> Result<Option<KeyRecord>, Error> {
        keys::revoke(self.open()?, id, at).await
    }

    async fn touch_keys(&self, used: Vec<(KeyId, Timestamp)>) -> Result<(), Error> {
        keys::touch(self.open()?, used).await
    }
}

#[async_trait]
impl TransferStore for ScyllaStore {
    async fn export(&self, after: Option<&PageToken>, limit: PageLimit) -> Result<ExportPage, Error> {
        export::export(self.open()?, after, limit).await
    }

    async fn import(&self, messages: Vec<Message>, into: ImportInto) -> Result<Vec<Imported>, Error> {
        import::import(self.open()?, self.submissions.pipeline(), messages, into).await
    }
}

#[async_trait]
impl Lifecycle for ScyllaStore {
    async fn check(&self) -> Result<(), Error> {
        let core = self.open()?;
        core.time.for_attempts()?;
        // A quorum answers for a row that is always there.
        core.read(&core.cql.read_upto, (sharding::RESOLVER, 0)).await?;
        Ok(())
    }

    async fn close(&self) -> Result<(), Error> {
        self.core.stop.cancel();
        self.core.tasks.close();
        self.core.tasks.wait().await;
        Ok(())
    }
}

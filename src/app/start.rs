//! From bound ports to a serving server, and from there to its end.

use std::{
    fmt, io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::timeout_at};
use tokio_util::sync::CancellationToken;

use super::{
    Addresses, App, Stop, StopError, StoreSource,
    background::{self, Background},
    connection_limits::ConnectionLimits,
    control::ControlSocket,
    database_files::DatabaseFiles,
    keys_file,
    store::{self, OpenError, OpenedStore},
};
use crate::{
    config::Config,
    domain::{Clock, Error, HostPolicy, MediaRules, MoreExtensions},
    middleware,
    protocol::{admin, grpc, http, listener},
    service::{
        AdmissionLimits, BodyLimits, FailedAuth, Keys, Limits, MessageService, RateLimits, Readiness, ReadinessState,
    },
    store::{KeyStore, Lifecycle, Observed, Store},
};

/// Of the time until the deadline this much is kept for closing the store, at most a fifth of it.
const CLOSING: Duration = Duration::from_secs(5);

/// What the bodies of all requests under way may take of memory.
const BODIES_BYTES: usize = 64 * 1024 * 1024;
/// Or else there is room for so many of the largest.
const LARGEST_BODIES: usize = 16;

/// Why a server does not start.
#[derive(Debug)]
pub enum StartError {
    /// A port cannot be had.
    Bind {
        /// The setting.
        name: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The store does not open.
    Open(OpenError),
    /// The keys file is broken.
    KeysFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        wrong: String,
    },
    /// The certificate of a listener cannot be used.
    Tls {
        /// The listener.
        listener: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        wrong: String,
    },
    /// A bug: what was built in cannot be read.
    Reflection(Error),
    /// A signal came before the server was ready; what was opened is closed.
    Stopped,
    /// As [`StartError::Stopped`], and the opening of the store was not waited for. The store withstands that as it
    /// does a kill.
    CutOff,
}

/// A server that serves.
pub struct Running {
    config: Config,
    addresses: Addresses,
    readiness: Readiness,
    store: Arc<dyn Store>,
    keys: Arc<Keys>,
    service: Arc<MessageService>,
    background: Background,
    /// What has requests under way, each by its name.
    edges: JoinSet<&'static str>,
    stop_edges: CancellationToken,
    /// Ends last, so that probes see the drain.
    admin: JoinSet<()>,
}

impl App {
    /// Opens the store and serves. The admin port answers from the beginning of this call.
    ///
    /// # Errors
    /// As [`StartError`] has them; what was opened is closed then.
    pub async fn start(self, stop: &Stop) -> Result<Running, StartError> {
        let Self { config, store, clock, readiness, metrics, certificates, http, grpc, admin, addresses } = self;
        let begun = Instant::now();
        background::show(&readiness);
        let shares = ConnectionLimits::of_this_process(config.max_connections);
        let mut admin_task = JoinSet::new();
        let admin_router = admin::router(readiness.clone(), {
            let metrics = metrics.clone();
            move || metrics.render()
        });
        admin_task.spawn(listener::serve(
            listener::Port::new(admin, certificates.admin()),
            admin_router,
            listener::ConnectionLimits {
                name: "admin",
                max_connections: shares.admin,
                makes_room: true,
                ..listener::ConnectionLimits::default()
            },
            CancellationToken::new(),
        ));

        let OpenedStore { store, dir, files } = match store {
            StoreSource::Open(store) => OpenedStore { store, dir: None, files: DatabaseFiles::default() },
            StoreSource::Configured { consent } => tokio::select! {
                opened = store::open_in_time(&config, consent, &clock, stop, || {
                    readiness.set(ReadinessState::StoreUnavailable);
                    background::show(&readiness);
                }) => opened.map_err(StartError::Open)?.ok_or(StartError::Stopped)?,
                () = stop.now() => return Err(StartError::CutOff),
                () = async {
                    stop.drain().await;
                    tokio::time::sleep(config.shutdown_deadline).await;
                } => return Err(StartError::CutOff),
            },
        };
        let store: Arc<dyn Store> = Arc::new(Observed::new(store));
        let opened = Opened { config, addresses, readiness, store, clock, dir };
        let keys = Keys::new(Arc::clone(&opened.store) as Arc<dyn KeyStore>, Arc::clone(&opened.clock))
            .with_highest_rate(opened.config.rate_limit_per_key);
        let keys = Arc::new(keys);
        let prepared = match opened.prepare(&keys, stop).await {
            Ok(prepared) => prepared,
            Err(error) => {
                // It was open for a moment and holds nothing that is not durable.
                let _ = opened.store.close().await;
                return Err(error);
            }
        };
        let Opened { config, addresses, readiness, store, clock, .. } = opened;

        let mut background = Background::default();
        if let Some((path, text)) = prepared.keys_file {
            keys_file::follow(&mut background, path, text, &keys, &clock);
        }
        files.follow(&mut background, &clock);
        let stop_edges = CancellationToken::new();
        let service =
            Arc::new(MessageService::new(Arc::clone(&store), Arc::clone(&clock), limits(&config), stop_edges.clone()));
        background.check_store(Arc::clone(&store) as Arc<dyn Lifecycle>, &readiness, config.store_deadline);
        background.save_uses(&keys);
        let failed_auth = Arc::new(FailedAuth::new(config.rate_limit_failed_auth));
        background.upkeep(&metrics, &service, &failed_auth);

        if config.allow_private_media_hosts {
            tracing::warn!("media URLs may name any host: allow_private_media_hosts is for development only");
        }
        let mut edges = JoinSet::new();
        let limits_of = |name, max_connections| listener::ConnectionLimits {
            name,
            max_connections,
            header_timeout: config.header_timeout,
            idle_timeout: config.idle_timeout,
            ..listener::ConnectionLimits::default()
        };
        // Those that wait for their own clients' bodies must not keep others out: they have places of their own, of which
        // each tenant gets its share.
        let under_way = config.max_in_flight.saturating_mul(2).saturating_add(config.max_connections);
        let entry = |cors| middleware::Entry {
            keys: Arc::clone(&keys),
            failed_auth: Arc::clone(&failed_auth),
            key_deadline: config.store_deadline,
            max_in_flight: under_way,
            cors,
        };
        let proxies = listener::TrustedProxies::new(&config.trusted_proxies);
        let cors = middleware::Cors::new(&config.cors_origins);
        let edge = http::Http::new(Arc::clone(&service), &readiness, config.body_timeout);
        let serving = listener::serve(
            listener::Port::new(http, certificates.http()).trusting(&proxies),
            middleware::http(edge, entry(cors)),
            limits_of("http", shares.http),
            stop_edges.clone(),
        );
        edges.spawn(async move {
            serving.await;
            "HTTP requests"
        });

        let edge = grpc::Grpc::new(
            Arc::clone(&service),
            Arc::clone(&keys),
            &readiness,
            stop_edges.clone(),
            config.body_timeout,
        );
        let edge = edge.map_err(StartError::Reflection)?;
        let age = config.grpc_max_connection_age;
        let max_age = (!age.is_zero()).then_some(listener::MaxAge { age, grace: config.grpc_connection_grace });
        let limits = listener::ConnectionLimits { max_age, ..limits_of("grpc", shares.grpc) };
        let stack = middleware::grpc(edge, entry(middleware::Cors::default()));
        let grpc = listener::Port::new(grpc, certificates.grpc()).trusting(&proxies);
        let serving = listener::serve(grpc, stack, limits, stop_edges.clone());
        edges.spawn(async move {
            serving.await;
            "gRPC calls"
        });

        if let Some(socket) = prepared.control {
            let serving = socket.serve(Arc::clone(&store), Arc::clone(&keys), stop_edges.clone());
            edges.spawn(async move {
                serving.await;
                "calls on the control socket"
            });
        }
        certificates.follow(&mut background);
        background::check(store.as_ref(), &readiness, config.store_deadline).await;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            http_addr = %addresses.http,
            grpc_addr = %addresses.grpc,
            admin_addr = %addresses.admin,
            readiness = readiness.get().as_str(),
            took_ms = begun.elapsed().as_millis() as u64,
            "serving"
        );
        let admin = admin_task;
        Ok(Running { config, addresses, readiness, store, keys, service, background, edges, stop_edges, admin })
    }
}

/// A store that is open, and must be closed if the server does not start.
struct Opened {
    config: Config,
    addresses: Addresses,
    readiness: Readiness,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    dir: Option<PathBuf>,
}

struct Prepared {
    keys_file: Option<(PathBuf, String)>,
    control: Option<ControlSocket>,
}

impl Opened {
    async fn prepare(&self, keys: &Keys, stop: &Stop) -> Result<Prepared, StartError> {
        if stop.is_draining() {
            return Err(StartError::Stopped);
        }
        let keys_file = match &self.config.keys_file {
            None => None,
            Some(path) => {
                let loaded = keys_file::load(path, keys, &self.clock).await;
                let text = loaded.map_err(|wrong| StartError::KeysFile { path: path.clone(), wrong })?;
                Some((path.clone(), text))
            }
        };
        let control = self.dir.as_ref().and_then(|dir| match ControlSocket::bind(dir) {
            Ok(socket) => Some(socket),
            // Some volumes hold no sockets; messages are served all the same.
            Err(error) => {
                tracing::warn!(%error, "no control socket: 'keys', 'export' and 'import' will not work while this server runs");
                None
            }
        });
        Ok(Prepared { keys_file, control })
    }
}

impl Running {
    /// Where the server listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The keys of its store.
    pub fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    /// Where the server is in its life.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Serves until `stop`, then drains: readiness off, the configured delay, no new connection, what is under way is
    /// finished, the store is closed.
    ///
    /// # Errors
    /// As [`StopError`] has them. Whatever was acknowledged is durable all the same.
    pub async fn wait(mut self, stop: &Stop) -> Result<(), StopError> {
        let broken = tokio::select! {
            () = stop.drain() => None,
            // Reads have gone on; only a restart brings acceptance back.
            () = background::failed(&self.readiness, self.config.store_failure_exit) => Some("the store"),
            // Nobody asked them to end: half a server would be worse than none, for nothing would restart it.
            ended = self.edges.join_next() => Some(name_of(ended)),
            _ = self.admin.join_next() => Some("the admin port"),
        };
        let drained = tokio::select! {
            ended = self.drain() => ended,
            () = stop.now() => return Err(StopError::AtOnce),
        };
        match broken {
            None => drained,
            Some(name) => Err(StopError::Broken(name)),
        }
    }

    async fn drain(mut self) -> Result<(), StopError> {
        let begun = tokio::time::Instant::now();
        let deadline = self.config.shutdown_deadline;
        let end = begun + deadline;
        self.readiness.set(ReadinessState::Draining);
        background::show(&self.readiness);
        // For load balancers to notice; meanwhile everything is served.
        tokio::time::sleep(self.config.drain_delay).await;
        self.stop_edges.cancel();

        // Of what the delay has left, so that there is time for requests however long it was.
        let rest = end.saturating_duration_since(tokio::time::Instant::now());
        let requests_end = end - CLOSING.min(rest / 5);
        let mut ended = Vec::new();
        let left = loop {
            match timeout_at(requests_end, self.edges.join_next()).await {
                Ok(None) => break None,
                Ok(Some(Ok(name))) => ended.push(name),
                Ok(Some(Err(error))) => tracing::error!(%error, "a listener ended by a panic"),
                Err(_) => {
                    let all = ["HTTP requests", "gRPC calls", "calls on the control socket"];
                    let left: Vec<_> = all.into_iter().filter(|name| !ended.contains(name)).collect();
                    let left = format!("{} were still under way and were cut off", left.join(", "));
                    if self.service.is_idle() {
                        // Whatever their clients were still sending, nothing of it was taken in: nothing is lost.
                        tracing::warn!(
                            left,
                            "clients that had not sent all of their requests were cut off; nothing is lost by that"
                        );
                        break None;
                    }
                    break Some(left);
                }
            }
        };
        // Ends the connections that are left, so that nobody submits while the store closes.
        self.edges.shutdown().await;
        drop(self.background);

        if let Err(error) = self.keys.save_uses().await {
            tracing::warn!(code = ?error.kind(), "cannot save when keys were last used");
        }
        let closed = timeout_at(end, self.store.close()).await;
        self.admin.shutdown().await;
        match (left, closed) {
            (left, Err(_)) => {
                let closing = "the store was still closing".to_owned();
                let left = left.map_or(closing.clone(), |left| format!("{left}, and {closing}"));
                Err(StopError::Deadline { deadline, left })
            }
            (_, Ok(Err(error))) => {
                Err(StopError::Store(error.cause().map_or_else(|| error.to_string(), ToString::to_string)))
            }
            (Some(left), Ok(Ok(()))) => Err(StopError::Deadline { deadline, left }),
            (None, Ok(Ok(()))) => {
                tracing::info!(took_ms = begun.elapsed().as_millis() as u64, "ended in good order");
                Ok(())
            }
        }
    }
}

fn name_of(ended: Option<Result<&'static str, tokio::task::JoinError>>) -> &'static str {
    ended.and_then(Result::ok).unwrap_or("a listener")
}

fn limits(config: &Config) -> Limits {
    let hosts = if config.allow_private_media_hosts { HostPolicy::Any } else { HostPolicy::PublicOnly };
    let more = MoreExtensions { image: config.image_extensions.clone(), audio: config.audio_extensions.clone() };
    let body_bytes = usize::try_from(config.body_limit.as_u64()).unwrap_or(usize::MAX);
    Limits {
        body_bytes,
        bodies: BodyLimits {
            bytes: BODIES_BYTES.max(body_bytes.saturating_mul(LARGEST_BODIES)),
            waiting: config.max_connections,
        },
        store_deadline: config.store_deadline,
        media: MediaRules::from(hosts).with_extensions(more),
        admission: AdmissionLimits {
            in_flight: config.max_in_flight,
            rates: RateLimits {
                per_sender: config.rate_limit_per_sender,
                per_key: config.rate_limit_per_key,
                per_org: config.rate_limit_per_org,
                browser_per_key: config.browser_rate_limit_per_key,
                browser_per_sender: config.browser_rate_limit_per_sender,
                browser_per_address: config.browser_rate_limit_per_address,
            },
        },
        streams: config.max_streams,
        metrics_per_org: config.metrics_per_org,
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Bind { name, address, error } => {
                write!(f, "Cannot listen on {address} ({name}): {error}; choose another address or stop who has it")
            }
            StartError::Open(error) => write!(f, "{error}"),
            StartError::KeysFile { path, wrong } => write!(f, "The keys file {} is broken: {wrong}", path.display()),
            StartError::Tls { listener, path, wrong } => {
                write!(f, "No TLS for {listener} (settings {listener}_tls_…): {} {wrong}", path.display())
            }
            StartError::Reflection(error) => write!(f, "{error}"),
            StartError::Stopped => f.write_str("Stopped by a signal before the server was ready"),
            StartError::CutOff => f.write_str("Stopped by signals while the store was opening"),
        }
    }
}

impl std::error::Error for StartError {}

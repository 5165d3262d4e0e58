//! The control socket: who may open it is the operator, and manages keys through the same `KeyService` as gRPC has, exports
//! and imports.
//!
//! [`Control`] is its client. Where no server owns the directory it opens the store itself and speaks to the same
//! service through a pipe, so that a command works alike on a stopped and on a running server.

use std::{
    fmt, fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Mutex,
    task::JoinHandle,
};
use tokio_stream::{StreamExt, wrappers::UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server, Uri};

use super::{
    clock,
    store::{OpenError, embedded_options, open_embedded, open_scylla_briefly},
};
use crate::{
    config::{Config, StoreKind},
    domain::SystemClock,
    protocol::grpc,
    service::{Keys, StoreClock, Transfer},
    store::{KeyStore, Lifecycle, Store, TransferStore, embedded},
};

/// The socket's name in the store's directory.
pub const SOCKET_NAME: &str = "control.sock";
/// A server that owns the directory may still be starting, or just ending.
const SERVER_PATIENCE: Duration = Duration::from_secs(10);
const RETRY_EVERY: Duration = Duration::from_millis(100);
/// The system's limit on the path of a socket, which it keeps in 108 bytes with a zero at the end.
const MAX_PATH_BYTES: usize = 107;

/// A connection to the keys of one store, with an operator's rights.
pub struct Control {
    channel: Channel,
    offline: Option<Offline>,
    /// What the store has lost, a line each; only where this process opened it.
    lost: Vec<String>,
}

/// A store that this process opened for the time of one command.
struct Offline {
    store: Arc<dyn Store>,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

/// Why the keys of a store cannot be managed.
#[derive(Debug)]
pub enum ControlError {
    /// The directory is not there.
    Missing(PathBuf),
    /// A server owns the directory and its socket does not answer.
    Silent {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The store cannot be opened.
    Open(OpenError),
    /// Anything else.
    Failed(String),
}

/// What a command wants of a store that no server owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To read it; not one byte of it is changed.
    Read,
    /// To change it.
    Change,
    /// To change it, and to make it if it is missing.
    Create,
}

/// The socket of a running server; its file is removed when this is dropped.
pub(super) struct ControlSocket {
    path: PathBuf,
    listener: Option<UnixListener>,
}

impl Control {
    /// Connects to the server that owns the configured directory, or opens the store when none does. A store on ScyllaDB
    /// has no owner: it is opened, and its servers see within seconds what was changed.
    ///
    /// A directory that is not there is made for [`Purpose::Create`]: it is a new store.
    ///
    /// # Errors
    /// As [`ControlError`] has them.
    pub async fn open(config: &Config, purpose: Purpose) -> Result<Self, ControlError> {
        if config.store == StoreKind::Scylla {
            let store = open_scylla_briefly(config).await.map_err(ControlError::Open)?;
            return Self::over(store).await;
        }
        let dir = &config.data_dir;
        if purpose != Purpose::Create && !dir.exists() {
            return Err(ControlError::Missing(dir.clone()));
        }
        let give_up = tokio::time::Instant::now() + SERVER_PATIENCE;
        loop {
            let error = match connect(dir).await {
                Ok(channel) => return Ok(Self { channel, offline: None, lost: Vec::new() }),
                Err(error) => error,
            };
            match Self::open_offline(config, purpose).await {
                Err(ControlError::Open(OpenError::Embedded(embedded::OpenError::Locked { .. })))
                    if tokio::time::Instant::now() < give_up =>
                {
                    tokio::time::sleep(RETRY_EVERY).await;
                }
                Err(ControlError::Open(OpenError::Embedded(embedded::OpenError::Locked { .. }))) => {
                    return Err(ControlError::Silent { socket: dir.join(SOCKET_NAME), error });
                }
                opened => return opened,
            }
        }
    }

    /// For a client of `KeyService` or `TransferService`.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Whether this process opened the store, because no server owns it.
    pub fn is_offline(&self) -> bool {
        self.offline.is_some()
    }

    /// What a store that was opened to be read has lost, a line each.
    pub fn lost(&self) -> &[String] {
        &self.lost
    }

    /// Closes the store if this process opened it.
    ///
    /// # Errors
    /// When the store cannot be closed in good order.
    pub async fn close(self) -> Result<(), ControlError> {
        let Some(offline) = self.offline else { return Ok(()) };
        drop(self.channel);
        offline.stop.cancel();
        offline.server.await.map_err(|error| ControlError::Failed(error.to_string()))?;
        let closed = offline.store.close().await;
        closed
            .map_err(|error| ControlError::Failed(error.cause().map_or_else(|| error.to_string(), ToString::to_string)))
    }

    async fn open_offline(config: &Config, purpose: Purpose) -> Result<Self, ControlError> {
        let mode = match purpose {
            Purpose::Read => embedded::Mode::Read,
            Purpose::Change | Purpose::Create => embedded::Mode::Serve,
        };
        let opened = open_embedded(embedded_options(config, mode), clock::clock()).await;
        let (store, report) = opened.map_err(|error| ControlError::Open(OpenError::Embedded(error)))?;
        Ok(Self { lost: report.lost, ..Self::over(store).await? })
    }

    /// Serves `store` to this process alone.
    async fn over(store: Arc<dyn Store>) -> Result<Self, ControlError> {
        let keys = Arc::new(Keys::new(Arc::clone(&store) as Arc<dyn KeyStore>, Arc::new(SystemClock)));
        let (client, server) = tokio::io::duplex(64 * 1024);
        let stop = CancellationToken::new();
        // It serves as long as connections may come; one did, and no other will.
        let incoming = tokio_stream::once(Ok::<_, io::Error>(server)).chain(tokio_stream::pending());
        let serving = Server::builder()
            .add_service(grpc::key_service_for_operator(Arc::clone(&keys)))
            .add_service(grpc::clock_service(StoreClock::new(Arc::clone(&store) as Arc<dyn Lifecycle>)))
            .add_service(grpc::transfer_service(
                Transfer::new(Arc::clone(&store) as Arc<dyn TransferStore>, keys),
                stop.clone(),
            ))
            .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
        let server = tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the key service ended");
            }
        });
        let offline = Some(Offline { store, stop, server });
        let channel = pipe(client).await.map_err(|error| ControlError::Failed(error.to_string()))?;
        Ok(Self { channel, offline, lost: Vec::new() })
    }
}

impl ControlSocket {
    /// Makes the socket in `dir`, whose lock the caller holds: a file that is there already is a dead server's.
    pub(super) fn bind(dir: &Path) -> io::Result<Self> {
        let path = dir.join(SOCKET_NAME);
        // Made in a directory that nobody else may enter, and moved when its mode is right: at no moment may another
        // user open it, whatever the umask is.
        let nursery = dir.join(".control");
        if nursery.exists() {
            fs::remove_dir_all(&nursery)?;
        }
        fs::DirBuilder::new().mode(0o700).create(&nursery)?;
        let newborn = nursery.join(SOCKET_NAME);
        let listener = UnixListener::bind(short(&newborn)?.path())?;
        fs::set_permissions(&newborn, fs::Permissions::from_mode(0o600))?;
        fs::rename(&newborn, &path)?;
        fs::remove_dir(&nursery)?;
        Ok(Self { path, listener: Some(listener) })
    }

    /// Serves `keys`, and `store` to exports and imports, until `stop`.
    pub(super) async fn serve(mut self, store: Arc<dyn Store>, keys: Arc<Keys>, stop: CancellationToken) {
        let Some(listener) = self.listener.take() else { return };
        let served = Server::builder()
            .add_service(grpc::key_service_for_operator(Arc::clone(&keys)))
            .add_service(grpc::clock_service(StoreClock::new(Arc::clone(&store) as Arc<dyn Lifecycle>)))
            .add_service(grpc::transfer_service(Transfer::new(store, keys), stop.clone()))
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.cancelled_owned())
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "the control socket ended");
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // If it cannot be removed, the next server replaces it.
        let _ = fs::remove_file(&self.path);
    }
}

/// A path to a socket that is short enough for the system.
struct ShortPath {
    path: PathBuf,
    /// Keeps the directory behind `path` open.
    _dir: Option<fs::File>,
}

impl ShortPath {
    fn path(&self) -> &Path {
        &self.path
    }
}

/// Where the path is too long, Linux knows a shorter one to the same directory.
fn short(path: &Path) -> io::Result<ShortPath> {
    if path.as_os_str().len() <= MAX_PATH_BYTES {
        return Ok(ShortPath { path: path.to_path_buf(), _dir: None });
    }
    let too_long = || {
        let text = format!("the path has more than {MAX_PATH_BYTES} bytes; use a data directory with a shorter path");
        io::Error::new(io::ErrorKind::InvalidInput, text)
    };
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Err(too_long()) };
    if !cfg!(target_os = "linux") {
        return Err(too_long());
    }
    let dir = fs::File::open(dir)?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&dir);
    Ok(ShortPath { path: Path::new(&format!("/proc/self/fd/{number}")).join(name), _dir: Some(dir) })
}

async fn connect(dir: &Path) -> io::Result<Channel> {
    let socket = dir.join(SOCKET_NAME);
    let stream = UnixStream::connect(short(&socket)?.path()).await?;
    pipe(stream).await.map_err(io::Error::other)
}

/// A channel over one stream; it is not connected a second time.
async fn pipe<S>(stream: S) -> Result<Channel, tonic::transport::Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let stream = Arc::new(Mutex::new(Some(stream)));
    let connector = tower::service_fn(move |_: Uri| {
        let stream = Arc::clone(&stream);
        async move {
            let stream = stream.lock().await.take();
            stream.map(TokioIo::new).ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionReset))
        }
    });
    // The address is never resolved; HTTP/2 wants one.
    Endpoint::from_static("http://control.invalid")
        .timeout(Duration::from_secs(30))
        .connect_with_connector(connector)
        .await
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlError::Missing(dir) => {
                write!(
                    f,
                    "There is no store in {}; name the server's directory with --data-dir, or make an empty one for a new store",
                    dir.display()
                )
            }
            ControlError::Silent { socket, error } => write!(
                f,
                "A process owns the store, and its control socket {} cannot be used: {error}; \
                 run this command as the user of the server, on its machine",
                socket.display()
            ),
            ControlError::Open(error) => write!(f, "{error}"),
            ControlError::Failed(error) => f.write_str(error),
        }
    }
}

impl std::error::Error for ControlError {}

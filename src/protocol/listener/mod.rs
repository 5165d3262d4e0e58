//! The accept loop of every listener: connections are counted, watched and ended in good order here, so that the
//! external, the internal and the admin port behave alike.
//!
//! HTTP/1.1 and HTTP/2 with prior knowledge share each port, also within TLS, where ALPN has clients choose. The version is found out here and not by hyper-util's
//! automatic builder, which would wait for a silent client for ever.

mod activity;
mod client;
mod connection;
mod guard;
mod opening;
mod unread;

use std::{
    collections::{HashMap, hash_map::Entry},
    convert::Infallible,
    error::Error as StdError,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use metrics::{Counter, Gauge, counter, gauge};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::{AbortHandle, Id, JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tower::Service;

pub use client::TrustedProxies;
pub use opening::Tls;
pub use unread::RequestBody;

use activity::Activity;

use crate::{
    domain::ClientAddress,
    telemetry::{Lines, names},
};

/// What a listener lets one connection, and all of them, cost.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// The listener's name, for metrics.
    pub name: &'static str,
    /// Connections open at once; the next ones wait in the kernel's backlog until one ends. One address has at most 8 of 9, further
    /// ones of it are closed.
    pub max_connections: usize,
    /// Where half of those are taken, whoever has been idle longest makes room for the next one: silent connections must not
    /// keep probes out.
    pub makes_room: bool,
    /// From the first byte of a request's head to its last one; also of HTTP/2's preface.
    pub header_timeout: Duration,
    /// How long a connection may stay open without a request in flight, from its beginning too. HTTP/2 is told to go
    /// (GOAWAY), HTTP/1.1 is closed.
    pub idle_timeout: Duration,
    /// How long a client may refuse to take what is written to it.
    pub write_timeout: Duration,
    /// How long a connection that the server ends is read on, so that a client which is still sending gets the answer
    /// and not a reset.
    pub linger: Duration,
    /// The head of a request in bytes: HTTP/1.1's lines, HTTP/2's header list. More is answered 431.
    pub header_bytes: u32,
    /// HTTP/2 requests in flight on one connection.
    pub max_streams: u32,
    /// How often an HTTP/2 client is pinged, and how long it may take to answer.
    pub ping: Duration,
    /// How old a connection may get, where clients are to spread over replicas anew; `None` for any age.
    pub max_age: Option<MaxAge>,
}

/// After `age` a connection takes no new requests (HTTP/2 gets GOAWAY), after `grace` more it is closed.
#[derive(Debug, Clone, Copy)]
pub struct MaxAge {
    /// From its beginning on.
    pub age: Duration,
    /// For what is under way then, streams that never end among it.
    pub grace: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            name: "other",
            max_connections: 16_384,
            makes_room: false,
            header_timeout: Duration::from_secs(10),
            // Above the 60 s of common load balancers: the side that reuses a connection should be the one to end it.
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            linger: Duration::from_secs(2),
            header_bytes: 16 * 1024,
            max_streams: 256,
            ping: Duration::from_secs(20),
            max_age: None,
        }
    }
}

/// A bound port, and what connections to it begin with.
pub struct Port {
    listener: TcpListener,
    start: Start,
}

/// What connections to a port begin with.
#[derive(Clone)]
struct Start {
    tls: Option<Tls>,
    proxies: TrustedProxies,
}

impl Port {
    /// A port that speaks TLS where `tls` is given.
    pub fn new(listener: TcpListener, tls: Option<Tls>) -> Self {
        Self { listener, start: Start { tls, proxies: TrustedProxies::default() } }
    }

    /// Has the port believe `proxies`.
    #[must_use]
    pub fn trusting(mut self, proxies: &TrustedProxies) -> Self {
        self.start.proxies = proxies.clone();
        self
    }
}

impl From<TcpListener> for Port {
    fn from(listener: TcpListener) -> Self {
        Self::new(listener, None)
    }
}

/// Serves `service` to everyone who connects to `port`, until `shutdown`; then stops accepting, closes what is
/// idle, finishes what is in flight (HTTP/2 gets GOAWAY) and returns. Dropping the future ends all connections at once.
///
/// `service` must be ready at any time: it is cloned and called without being polled ready, as axum's routers and the
/// layers of [`crate::middleware`] allow.
pub async fn serve<S, B>(port: impl Into<Port>, service: S, limits: ConnectionLimits, shutdown: CancellationToken)
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let Port { listener, start } = port.into();
    let limits = Arc::new(limits);
    let dropped = |reason: &'static str| counter!(names::CONNECTIONS_DROPPED_TOTAL, "listener" => limits.name, "reason" => reason);
    let mut connections = Connections {
        tasks: JoinSet::new(),
        open: HashMap::new(),
        of: HashMap::new(),
        count: 0,
        gauge: gauge!(names::CONNECTIONS, "listener" => limits.name),
        made_room: dropped("idle"),
    };
    let crowded_out = dropped("address");
    let mut full = false;
    // Both may change with every connection.
    let (mut lines_of_full, mut lines_of_crowded) = (Lines::default(), Lines::default());
    loop {
        let room = connections.tasks.len() < limits.max_connections;
        if !room
            && !full
            && let Some(left_out) = lines_of_full.next(Instant::now())
        {
            let left_out = (left_out > 0).then_some(left_out);
            tracing::warn!(
                listener = limits.name,
                max_connections = limits.max_connections,
                left_out,
                "all connections are taken; new ones wait"
            );
        }
        full = !room;
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(ended) = connections.tasks.join_next_with_id() => connections.forget(ended),
            accepted = listener.accept(), if room => match accepted {
                // Closed and not left waiting: who is next in the queue may be somebody else.
                Ok((_, peer)) if connections.has_its_share(peer, &start.proxies, &limits) => {
                    crowded_out.increment(1);
                    if let Some(left_out) = lines_of_crowded.next(Instant::now()) {
                        let left_out = (left_out > 0).then_some(left_out);
                        tracing::warn!(
                            listener = limits.name,
                            max_connections = limits.max_connections,
                            left_out,
                            "one address has most of the connections; further ones of it are closed"
                        );
                    }
                }
                Ok((stream, peer)) => {
                    if limits.makes_room && connections.tasks.len() >= limits.max_connections / 2 {
                        connections.end_the_idlest();
                    }
                    connections.add((stream, peer), start.clone(), service.clone(), Arc::clone(&limits));
                }
                Err(error) => tokio::select! {
                    () = shutdown.cancelled() => break,
                    () = pause_after(&error) => {}
                },
            },
        }
    }
    drop(listener);
    connections.close().await;
}

/// A client that gave up while it waited in the backlog costs nothing; when descriptors or memory have run out, time
/// must pass before another try can succeed.
async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    if !matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
        tracing::warn!(%error, "cannot accept a connection; trying again in a moment");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The connections of one listener.
struct Connections {
    tasks: JoinSet<()>,
    open: HashMap<Id, Open>,
    /// By whose address they come from.
    of: HashMap<IpAddr, usize>,
    /// Of all so far.
    count: u64,
    gauge: Gauge,
    /// Ended in favour of others.
    made_room: Counter,
}

struct Open {
    task: AbortHandle,
    /// Dropping it asks the connection to end. One channel each, because a token that all of them poll would be one lock for
    /// every request of the listener.
    _stop: oneshot::Sender<Infallible>,
    activity: Arc<Activity>,
    number: u64,
    from: IpAddr,
}

/// One address has at most so many times what it leaves free: 8 of 9 connections where it is alone.
const HELD_FOR_EACH_FREE: usize = 8;

impl Connections {
    /// Whether `peer` has as many as one address may have. A trusted proxy has all: it stands for many.
    fn has_its_share(&self, peer: SocketAddr, proxies: &TrustedProxies, limits: &ConnectionLimits) -> bool {
        let own = self.of.get(&ClientAddress(peer.ip()).assigned()).copied().unwrap_or(0);
        let free = limits.max_connections.saturating_sub(self.tasks.len());
        // Where room is made for whoever comes, nobody is shut out.
        own >= free.saturating_mul(HELD_FOR_EACH_FREE) && !limits.makes_room && !proxies.trusts(peer.ip())
    }

    fn add<S, B>(&mut self, accepted: (TcpStream, SocketAddr), start: Start, service: S, limits: Arc<ConnectionLimits>)
    where
        S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let (stop, stopped) = oneshot::channel();
        let activity = Arc::new(Activity::default());
        let from = ClientAddress(accepted.1.ip()).assigned();
        let task =
            self.tasks.spawn(connection::serve(accepted, start, service, limits, Arc::clone(&activity), stopped));
        self.count += 1;
        *self.of.entry(from).or_default() += 1;
        self.open.insert(task.id(), Open { task, _stop: stop, activity, number: self.count, from });
        self.gauge.set(self.tasks.len() as f64);
    }

    /// Closes the oldest connection without a request, at once: there is nothing to wait for.
    fn end_the_idlest(&mut self) {
        let idle = self.open.iter().filter(|(_, open)| open.activity.in_flight() == 0);
        if let Some(open) =
            idle.min_by_key(|(_, open)| open.number).map(|(id, _)| *id).and_then(|id| self.open.remove(&id))
        {
            open.task.abort();
            self.made_room.increment(1);
            self.leave(open.from);
        }
    }

    fn leave(&mut self, from: IpAddr) {
        if let Entry::Occupied(mut own) = self.of.entry(from) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }

    fn forget(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                if error.is_panic() {
                    tracing::error!(%error, "a connection's task ended by a panic");
                }
                error.id()
            }
        };
        if let Some(open) = self.open.remove(&id) {
            self.leave(open.from);
        }
        self.gauge.set(self.tasks.len() as f64);
    }

    fn close(mut self) -> impl Future<Output = ()> {
        self.open.clear();
        async move {
            while self.tasks.join_next().await.is_some() {
                self.gauge.set(self.tasks.len() as f64);
            }
        }
    }
}

//! The only place that knows all the others: binds the ports, opens the store, serves, and ends in good order.
//!
//! [`App::build`] binds, so that a taken port is told before heavy work; [`App::start`] opens the store and serves;
//! [`Running::wait`] drains and closes. Each step hands over what the next one needs, so none can be left out.

mod background;
mod clock;
mod connection_limits;
mod control;
mod database_files;
mod keys_file;
mod reload;
mod start;
mod stop;
mod store;
mod tls;

use std::{io, net::SocketAddr, sync::Arc};

use tokio::net::TcpListener;

pub use control::{Control, ControlError, Purpose, SOCKET_NAME};
pub use start::{Running, StartError};
pub use stop::{Stop, StopError};
pub use store::{OpenError, migrate};

/// The HTTP API's description, for who may not name the edge.
pub use crate::protocol::http::openapi_json;

use tls::Certificates;

use crate::{config::Config, domain::Clock, service::Readiness, store::Store, telemetry::Metrics};

/// A server whose ports are bound and whose store is not open yet.
pub struct App {
    config: Config,
    store: StoreSource,
    clock: Arc<dyn Clock>,
    readiness: Readiness,
    metrics: Metrics,
    certificates: Certificates,
    http: TcpListener,
    grpc: TcpListener,
    admin: TcpListener,
    addresses: Addresses,
}

/// Where the store comes from.
pub enum StoreSource {
    /// The one that the configuration names.
    Configured {
        /// What the operator has agreed to.
        consent: Consent,
    },
    /// One that is open already; it is closed when the server ends.
    Open(Arc<dyn Store>),
}

/// What an operator agrees to for one start of an embedded store.
#[derive(Debug, Clone, Copy, Default)]
pub struct Consent {
    /// To go on without what the opening finds to be lost.
    pub accept_loss: bool,
    /// That the wall clock is right, however far it is behind the last message.
    pub trust_clock: bool,
}

/// Where a server listens; with port 0 in the configuration, the ports that the system chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The webhook.
    pub http: SocketAddr,
    /// gRPC.
    pub grpc: SocketAddr,
    /// Health and metrics.
    pub admin: SocketAddr,
}

impl App {
    /// Binds the ports. Connections wait in the kernel's queue until the store is open, except on the admin port.
    ///
    /// # Errors
    /// [`StartError::Bind`], [`StartError::Tls`].
    pub async fn build(config: Config, store: StoreSource) -> Result<Self, StartError> {
        Self::build_with_clock(config, store, clock::clock()).await
    }

    /// [`App::build`] with another clock than the machine's, for tests.
    ///
    /// # Errors
    /// As [`App::build`].
    pub async fn build_with_clock(
        config: Config,
        store: StoreSource,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        // Before anything looks a metric up.
        let metrics = Metrics::install();
        let certificates = Certificates::load(&config, &clock).await?;
        let http = bind("http_addr", config.http_addr).await?;
        let grpc = bind("grpc_addr", config.grpc_addr).await?;
        let admin = bind("admin_addr", config.admin_addr).await?;
        let local = |name, listener: &TcpListener| {
            listener.local_addr().map_err(|error| StartError::Bind { name, address: config.http_addr, error })
        };
        let addresses = Addresses {
            http: local("http_addr", &http)?,
            grpc: local("grpc_addr", &grpc)?,
            admin: local("admin_addr", &admin)?,
        };
        let readiness = Readiness::starting();
        Ok(Self { config, store, clock, readiness, metrics, certificates, http, grpc, admin, addresses })
    }

    /// Where the server listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }
}

async fn bind(name: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let bound: io::Result<TcpListener> = TcpListener::bind(address).await;
    bound.map_err(|error| StartError::Bind { name, address, error })
}

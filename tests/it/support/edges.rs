//! Both edges and the admin routes with their real layers and listeners, on port 0.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use message_webhook::{
    domain::{Clock, Environment, KeyOwner, MediaRules, NewKey, OrgId, Origin, Rate, Scope, Scopes, SystemClock},
    middleware::{self, Cors, Entry},
    protocol::{
        admin,
        grpc::{Grpc, v1::message_service_client::MessageServiceClient},
        http::Http,
        listener::{self, ConnectionLimits},
    },
    service::{
        AdmissionLimits, BodyLimits, FailedAuth, Keys, Limits, MessageService, RateLimits, Readiness, ReadinessState,
    },
    store::{KeyStore, Store},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::flaky::FlakyStore;

/// The published path of the org and env that most tests use.
pub const PATH: &str = "/acme/dev/v1/message-webhook";
pub const ORIGIN: &str = "https://chat.example.com";

/// What a test may want otherwise.
pub struct Settings {
    pub connections: ConnectionLimits,
    pub body_timeout: Duration,
    pub store_deadline: Duration,
    pub admission: AdmissionLimits,
    pub failed_auth: Option<Rate>,
    pub requests_in_flight: usize,
    pub streams: usize,
    pub media: MediaRules,
    pub bodies: BodyLimits,
    /// An embedded one of its own where none is given.
    pub store: Option<Arc<FlakyStore>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections: ConnectionLimits::default(),
            body_timeout: Duration::from_secs(30),
            store_deadline: Duration::from_secs(30),
            admission: AdmissionLimits { in_flight: 4096, rates: RateLimits::default() },
            failed_auth: None,
            requests_in_flight: 4096,
            streams: 2048,
            media: MediaRules::default(),
            bodies: BodyLimits { bytes: 64 << 20, waiting: 4096 },
            store: None,
        }
    }
}

pub struct Edges {
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    pub admin: SocketAddr,
    pub store: Arc<FlakyStore>,
    pub service: Arc<MessageService>,
    pub keys: Arc<Keys>,
    pub readiness: Readiness,
    pub shutdown: CancellationToken,
    /// Of acme and dev, with scopes submit and read.
    pub key: String,
    listeners: Vec<JoinHandle<()>>,
}

impl Edges {
    pub async fn start() -> Self {
        Self::start_with(Settings::default()).await
    }

    pub async fn start_with(settings: Settings) -> Self {
        super::said::listen();
        let store = settings.store.unwrap_or_else(FlakyStore::new);
        let limits = Limits {
            metrics_per_org: 0,
            streams: settings.streams,
            body_bytes: 256 * 1024,
            store_deadline: settings.store_deadline,
            media: settings.media,
            bodies: settings.bodies,
            admission: settings.admission,
        };
        let shutdown = CancellationToken::new();
        let service = Arc::new(MessageService::new(
            Arc::clone(&store) as Arc<dyn Store>,
            Arc::new(SystemClock),
            limits,
            shutdown.clone(),
        ));
        let keys = Arc::new(Keys::new(Arc::clone(&store) as Arc<dyn Store>, Arc::new(SystemClock)));
        let readiness = Readiness::starting();
        readiness.set(ReadinessState::Ready);

        let failed_auth = Arc::new(FailedAuth::new(settings.failed_auth));
        let entry = |cors| Entry {
            keys: Arc::clone(&keys),
            failed_auth: Arc::clone(&failed_auth),
            key_deadline: settings.store_deadline,
            max_in_flight: settings.requests_in_flight,
            cors,
        };
        let timeout = settings.body_timeout;
        let http = Http::new(Arc::clone(&service), &readiness, timeout);
        let http = middleware::http(http, entry(Cors::new(&[Origin::parse(ORIGIN).expect("an origin")])));
        let grpc = Grpc::new(Arc::clone(&service), Arc::clone(&keys), &readiness, shutdown.clone(), timeout);
        let grpc = middleware::grpc(grpc.expect("descriptors"), entry(Cors::default()));
        let admin = admin::router(readiness.clone(), || "a_metric 1\n".to_owned());

        let mut edges = Self {
            http: SocketAddr::from(([127, 0, 0, 1], 0)),
            grpc: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
            store,
            service,
            keys,
            readiness,
            shutdown: shutdown.clone(),
            key: String::new(),
            listeners: Vec::new(),
        };
        let limits = settings.connections;
        let (listener, address) = bind().await;
        edges.http = address;
        edges.listeners.push(tokio::spawn(listener::serve(listener, http, limits.clone(), shutdown.clone())));
        let (listener, address) = bind().await;
        edges.grpc = address;
        edges.listeners.push(tokio::spawn(listener::serve(listener, grpc, limits.clone(), shutdown.clone())));
        let (listener, address) = bind().await;
        edges.admin = address;
        edges.listeners.push(tokio::spawn(listener::serve(listener, admin, limits, shutdown)));
        edges.key = edges.org_key("acme", Environment::Dev, &[Scope::Submit, Scope::Read]).await;
        edges
    }

    pub async fn org_key(&self, org: &str, env: Environment, scopes: &[Scope]) -> String {
        self.create_key(KeyOwner::Org { org: OrgId::new(org).expect("valid"), env }, scopes).await
    }

    pub async fn platform_key(&self, scopes: &[Scope]) -> String {
        self.create_key(KeyOwner::Platform, scopes).await
    }

    /// A key of `acme` and dev that may submit at its own rate.
    pub async fn limited_key(&self, rate: &str) -> String {
        let owner = KeyOwner::Org { org: OrgId::new("acme").expect("valid"), env: Environment::Dev };
        let key = NewKey::generate(owner, Scopes::from_iter([Scope::Submit]), SystemClock.now(), None);
        self.keep(key.expect("randomness").with_rate(Rate::parse(rate))).await
    }

    /// A browser key of `acme` and dev, for pages of `origins`.
    pub async fn browser_key(&self, origins: &[&str]) -> String {
        let owner = KeyOwner::Org { org: OrgId::new("acme").expect("valid"), env: Environment::Dev };
        let origins = origins.iter().map(|text| Origin::parse(text).expect("an origin")).collect();
        let scopes = Scopes::from_iter([Scope::Submit]);
        let key = NewKey::generate_for(origins, owner, scopes, SystemClock.now(), None);
        self.keep(key.expect("randomness")).await
    }

    async fn create_key(&self, owner: KeyOwner, scopes: &[Scope]) -> String {
        let scopes = Scopes::from_iter(scopes.iter().copied());
        self.keep(NewKey::generate(owner, scopes, SystemClock.now(), None).expect("randomness")).await
    }

    async fn keep(&self, key: NewKey) -> String {
        self.store.create_key(key.record.clone()).await.expect("kept");
        key.text.reveal().to_owned()
    }

    pub fn url(&self) -> String {
        format!("http://{}{PATH}", self.http)
    }

    /// A channel of its own for each caller.
    pub async fn grpc_client(&self) -> MessageServiceClient<Channel> {
        MessageServiceClient::connect(format!("http://{}", self.grpc)).await.expect("connected")
    }

    /// Ends as the process would; returns when all that was in flight is answered.
    pub async fn stop(&mut self) {
        self.shutdown.cancel();
        for listener in self.listeners.drain(..) {
            listener.await.expect("no panic");
        }
    }
}

async fn bind() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

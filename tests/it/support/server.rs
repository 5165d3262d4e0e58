//! The real server inside the test's process.

use std::{path::PathBuf, sync::Arc};

use message_webhook::{
    app::{Addresses, App, Consent, StartError, Stop, StopError, StoreSource},
    config::{Config, Given, SETTINGS, Source, load},
    domain::{Environment, KeyOwner, OrgId, Scope},
    service::{KeyRequest, Keys, Readiness},
    store::Store,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// A server on ports of the system's choice, over a store in a directory of its own unless it is given one.
pub struct TestServer {
    pub http: std::net::SocketAddr,
    pub grpc: std::net::SocketAddr,
    pub admin: std::net::SocketAddr,
    pub keys: Arc<Keys>,
    pub readiness: Readiness,
    pub data_dir: PathBuf,
    pub stop: Stop,
    ended: Option<JoinHandle<Result<(), StopError>>>,
    _dir: TempDir,
}

/// What is special about a server.
#[derive(Default)]
pub struct Builder {
    settings: Vec<(&'static str, String)>,
    store: Option<Arc<dyn Store>>,
}

impl TestServer {
    /// A server with default settings.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The text of a new key of `org` and `env`.
    pub async fn key(&self, org: &str, env: Environment, scopes: &[Scope]) -> String {
        let owner = KeyOwner::Org { org: OrgId::new(org).expect("valid"), env };
        self.key_of(owner, scopes).await
    }

    /// The text of a new key of `owner`.
    pub async fn key_of(&self, owner: KeyOwner, scopes: &[Scope]) -> String {
        let request = KeyRequest {
            owner,
            scopes: scopes.iter().copied().collect(),
            rate: None,
            origins: Vec::new(),
            expires_at: None,
        };
        let created = self.keys.as_operator().create(request).await.expect("created");
        created.text.reveal().to_owned()
    }

    /// Asks the server to stop, and waits for its end.
    pub async fn stop(mut self) -> Result<(), StopError> {
        self.stop.signal();
        self.ended().await
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> Result<(), StopError> {
        self.ended.take().expect("not waited for before").await.expect("no panic")
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // A test that has seen enough does not wait for a good end.
        self.stop.signal();
        self.stop.signal();
    }
}

impl Builder {
    /// Gives a setting another value than its default.
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        let setting = SETTINGS.iter().find(|setting| setting.name == name);
        self.settings.push((setting.unwrap_or_else(|| panic!("no setting {name}")).name, value.to_string()));
        self
    }

    /// Serves `store` instead of an embedded one.
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    pub async fn start(self) -> TestServer {
        self.try_start().await.expect("a server")
    }

    pub async fn try_start(self) -> Result<TestServer, StartError> {
        super::said::listen();
        let dir = TempDir::new().expect("a directory");
        let config = config(&dir, self.settings);
        let data_dir = config.data_dir.clone();
        let store = self.store.map_or(StoreSource::Configured { consent: Consent::default() }, StoreSource::Open);
        let app = App::build(config, store).await?;
        let Addresses { http, grpc, admin } = app.addresses();
        let stop = Stop::default();
        let running = app.start(&stop).await?;
        let (keys, readiness) = (Arc::clone(running.keys()), running.readiness().clone());
        let ended = tokio::spawn({
            let stop = stop.clone();
            async move { running.wait(&stop).await }
        });
        Ok(TestServer { http, grpc, admin, keys, readiness, data_dir, stop, ended: Some(ended), _dir: dir })
    }
}

fn config(dir: &TempDir, settings: Vec<(&'static str, String)>) -> Config {
    let data_dir = dir.path().join("data").to_str().expect("UTF-8").to_owned();
    let common = [
        ("http_addr", "127.0.0.1:0".to_owned()),
        ("grpc_addr", "127.0.0.1:0".to_owned()),
        ("admin_addr", "127.0.0.1:0".to_owned()),
        ("data_dir", data_dir),
    ];
    let given = common.into_iter().chain(settings);
    let given = given.map(|(name, text)| Given { name, text, source: Source::Flag(name.into()) }).collect();
    load(Vec::new(), None, Vec::new(), given).expect("a good configuration").config
}

//! The certificates of the listeners: read before a port is bound, and again whenever their files change.

use std::{sync::Arc, time::Duration};

use metrics::gauge;
use tokio::sync::Mutex;

use super::{
    StartError,
    background::Background,
    reload::{self, Reload},
};
use crate::{
    config::Config,
    domain::Clock,
    protocol::listener::Tls,
    telemetry::names,
    tls::{ClientAuth, Contents, H2, HTTP_1_1, Identity, ServerFiles, WrongFile},
};

/// The contents are compared, not the times of change: Kubernetes swaps symbolic links.
const READ_EVERY: Duration = Duration::from_secs(2);

/// Those of the listeners that speak TLS.
pub(super) struct Certificates {
    http: Option<Certificate>,
    grpc: Option<Certificate>,
    admin: Option<Certificate>,
}

/// That of one listener.
struct Certificate {
    listener: &'static str,
    files: ServerFiles,
    in_use: Contents,
    tls: Tls,
    reload: Reload,
    clock: Arc<dyn Clock>,
}

/// What is known of a listener's files.
struct Known {
    in_use: Contents,
    /// What was wrong at the last look, and whether it was told.
    wrong: Option<(Result<Contents, WrongFile>, bool)>,
}

impl Certificates {
    /// Those that `config` names.
    ///
    /// # Errors
    /// [`StartError::Tls`].
    pub(super) async fn load(config: &Config, clock: &Arc<dyn Clock>) -> Result<Self, StartError> {
        let files = |cert: &Option<_>, key: &Option<_>, alpn| {
            let (cert, key) = (cert.clone()?, key.clone()?);
            Some(ServerFiles { cert, key, client_ca: None, alpn })
        };
        let both: &[&[u8]] = &[H2, HTTP_1_1];
        let http = files(&config.http_tls_cert_file, &config.http_tls_key_file, both);
        let auth = if config.grpc_tls_client_required { ClientAuth::Required } else { ClientAuth::Optional };
        let client_ca = config.grpc_tls_client_ca_file.clone().map(|file| (file, auth));
        let grpc = files(&config.grpc_tls_cert_file, &config.grpc_tls_key_file, &[H2]);
        let grpc = grpc.map(|files| ServerFiles { client_ca, ..files });
        let admin = files(&config.admin_tls_cert_file, &config.admin_tls_key_file, both);
        Ok(Self {
            http: Certificate::load("http", "http_tls", http, clock).await?,
            grpc: Certificate::load("grpc", "grpc_tls", grpc, clock).await?,
            admin: Certificate::load("admin", "admin_tls", admin, clock).await?,
        })
    }

    /// That of the webhook's port.
    pub(super) fn http(&self) -> Option<Tls> {
        self.http.as_ref().map(|certificate| certificate.tls.clone())
    }

    /// That of gRPC's.
    pub(super) fn grpc(&self) -> Option<Tls> {
        self.grpc.as_ref().map(|certificate| certificate.tls.clone())
    }

    /// That of the admin port.
    pub(super) fn admin(&self) -> Option<Tls> {
        self.admin.as_ref().map(|certificate| certificate.tls.clone())
    }

    /// Follows the files. While they are broken the listeners go on with what was read last.
    pub(super) fn follow(self, background: &mut Background) {
        for certificate in [self.http, self.grpc, self.admin].into_iter().flatten() {
            certificate.follow(background);
        }
    }
}

impl Certificate {
    async fn load(
        listener: &'static str,
        file: &'static str,
        files: Option<ServerFiles>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Option<Self>, StartError> {
        let Some(files) = files else { return Ok(None) };
        let wrong = |WrongFile { path, wrong }| StartError::Tls { listener, path, wrong };
        let in_use = files.read().await.map_err(wrong)?;
        let identity = files.identity(&in_use).map_err(wrong)?;
        let tls = Tls::new(Arc::clone(&identity.config));
        let reload = Reload::of(file, clock);
        reload.taken();
        show(listener, &identity, clock.as_ref());
        tracing::info!(listener, not_after = %identity.not_after(), "certificate read");
        Ok(Some(Self { listener, files, in_use, tls, reload, clock: Arc::clone(clock) }))
    }

    fn follow(self, background: &mut Background) {
        let known = Arc::new(Mutex::new(Known { in_use: self.in_use.clone(), wrong: None }));
        let this = Arc::new(self);
        background.reread(READ_EVERY, move || {
            let (this, known) = (Arc::clone(&this), Arc::clone(&known));
            async move { this.look(&mut *known.lock().await).await }
        });
    }

    async fn look(&self, known: &mut Known) {
        let now = self.files.read().await;
        if now.as_ref() == Ok(&known.in_use) {
            if known.wrong.take().is_some() {
                self.reload.good();
            }
            return;
        }
        match now.as_ref().map_err(Clone::clone).and_then(|now| self.files.identity(now)) {
            Ok(identity) => {
                self.tls.replace(Arc::clone(&identity.config));
                self.reload.taken();
                show(self.listener, &identity, self.clock.as_ref());
                tracing::info!(listener = self.listener, not_after = %identity.not_after(), "certificate changed");
                if let Ok(now) = now {
                    *known = Known { in_use: now, wrong: None };
                }
            }
            Err(WrongFile { path, wrong }) => {
                let (was_seen, was_told) = match &known.wrong {
                    Some((seen, told)) if *seen == now => (true, *told),
                    _ => (false, false),
                };
                // The files are not replaced at one moment: only what is still so at the next look is wrong.
                if was_seen && !was_told {
                    self.reload.broken();
                    tracing::error!(
                        listener = self.listener,
                        path = %path.display(),
                        wrong,
                        "the certificate's files are broken; what was read before stays in use"
                    );
                }
                known.wrong = Some((now, was_seen));
            }
        }
    }
}

/// Tells when a certificate expires, and warns of one that is of no use now.
fn show(listener: &'static str, identity: &Identity, clock: &dyn Clock) {
    let not_after = reload::seconds(identity.not_after());
    gauge!(names::TLS_NOT_AFTER_TIMESTAMP_SECONDS, "listener" => listener).set(not_after);
    if let Some(wrong) = identity.warning(clock.now()) {
        tracing::warn!(listener, wrong, "clients refuse the certificate");
    }
}

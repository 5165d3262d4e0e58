//! Certificates of authorities that nobody else trusts, and clients that trust one of them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{DefaultServerNameResolver, HttpsConnector};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use time::{Duration, OffsetDateTime};

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Pair {
    pub cert: String,
    pub key: String,
}

/// A client of HTTPS, as reqwest has within it.
#[derive(Clone)]
pub struct HttpsClient(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub version: Version,
    pub body: String,
}

impl Authority {
    pub fn generate() -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.distinguished_name.push(DnType::CommonName, "an authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("signed").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// For a server on this machine.
    pub fn server(&self) -> Pair {
        self.pair(&["localhost", "127.0.0.1"], 30)
    }

    /// With these names, that are hosts, addresses or URIs, and good until so many days from now, which may be over.
    pub fn pair(&self, names: &[&str], days: i64) -> Pair {
        let mut params = CertificateParams::new([]).expect("no names");
        params.subject_alt_names = names.iter().map(|name| san(name)).collect();
        let now = OffsetDateTime::now_utc();
        params.not_before = now - Duration::days(60);
        params.not_after = now + Duration::days(days);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("signed").pem();
        Pair { cert, key: key.serialize_pem() }
    }

    /// Has clients trust this authority, as `own` where they have a certificate.
    pub fn client_config(&self, own: Option<&Pair>, alpn: &[&[u8]]) -> ClientConfig {
        self.client_config_of(rustls::ALL_VERSIONS, own, alpn)
    }

    /// The same with some versions of TLS.
    pub fn client_config_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        own: Option<&Pair>,
        alpn: &[&[u8]],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("PEM")).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(own.chain(), key).expect("a pair")
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config
    }

    /// Makes connections that trust this authority.
    pub fn connector(&self, own: Option<&Pair>, alpn: &[&[u8]]) -> HttpsConnector<HttpConnector> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        HttpsConnector::new(tcp, self.client_config(own, alpn), true, Arc::new(DefaultServerNameResolver::default()))
    }

    /// A client of HTTP that trusts this authority and keeps so many connections.
    pub fn http_client(&self, alpn: &[&[u8]], kept: usize) -> HttpsClient {
        let connector = self.connector(None, alpn);
        HttpsClient(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(kept).build(connector))
    }
}

impl HttpsClient {
    pub async fn get(&self, port: u16, path: &str) -> Answer {
        let request = Request::get(format!("https://localhost:{port}{path}")).body(Full::default()).expect("a request");
        self.ask(request).await.expect("an answer")
    }

    /// A submission; why there was no answer, where there was none.
    pub async fn post(&self, port: u16, path: &str, key: &str, body: String) -> Result<Answer, String> {
        let request = Request::post(format!("https://localhost:{port}{path}"))
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json");
        self.ask(request.body(Full::from(body)).expect("a request")).await
    }

    pub async fn ask(&self, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        let asked = async {
            let answer = self.0.request(request).await.map_err(|error| format!("{error:?}"))?;
            let (status, version) = (answer.status().as_u16(), answer.version());
            let body = answer.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
            Ok(Answer { status, version, body: String::from_utf8(body.to_vec()).expect("UTF-8") })
        };
        tokio::time::timeout(super::PATIENCE, asked).await.map_err(|_| "no answer".to_owned())?
    }
}

impl Pair {
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.cert.as_bytes()).collect::<Result<_, _>>().expect("PEM")
    }

    /// Writes both to `dir`, as cert-manager names them.
    pub fn write(&self, dir: &Path) -> (PathBuf, PathBuf) {
        let (cert, key) = (dir.join("tls.crt"), dir.join("tls.key"));
        std::fs::write(&cert, &self.cert).expect("written");
        std::fs::write(&key, &self.key).expect("written");
        (cert, key)
    }
}

fn san(name: &str) -> SanType {
    if name.contains("://") {
        SanType::URI(name.try_into().expect("ASCII"))
    } else if let Ok(address) = name.parse() {
        SanType::IpAddress(address)
    } else {
        SanType::DnsName(name.try_into().expect("ASCII"))
    }
}

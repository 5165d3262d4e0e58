//! The connections of OTLP, with TLS where the endpoint is one of `https`, and its HTTP client: HTTP/1.1, on the server's runtime whoever asks, as the exporters' threads have none.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{DefaultServerNameResolver, HttpsConnector};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use tokio::runtime::Handle;

use super::settings::Export;
use crate::tls::{ClientFiles, Trust, client_config};

/// An answer of a collector is a few bytes.
const ANSWER_BYTES: usize = 1024 * 1024;

/// Makes connections.
pub(super) type Connector = HttpsConnector<HttpConnector>;

/// What makes connections to the endpoint of `export`, of the protocols `alpn` over TLS.
///
/// # Errors
/// What is wrong with which file, in words.
pub(super) fn connector(export: &Export, alpn: &[&[u8]]) -> Result<Connector, String> {
    let trust = match &export.files.ca {
        _ if !export.endpoint.starts_with("https:") => Trust::Nobody,
        Some(path) => Trust::File(path.clone()),
        None => Trust::System,
    };
    let own = export.files.own.clone().filter(|_| !matches!(trust, Trust::Nobody));
    let mut config = client_config(&ClientFiles { trust, own })?;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    Ok(HttpsConnector::new(tcp, config, false, Arc::new(DefaultServerNameResolver::default())))
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct OtlpClient {
    client: Client<Connector, Full<Bytes>>,
    runtime: Handle,
    timeout: Duration,
}

impl OtlpClient {
    /// A client for `export` on the runtime around this call.
    ///
    /// # Errors
    /// As [`connector`] has them.
    pub(super) fn new(export: &Export) -> Result<Self, String> {
        let client = Client::builder(TokioExecutor::new()).build(connector(export, &[crate::tls::HTTP_1_1])?);
        Ok(Self { client, runtime: Handle::current(), timeout: export.timeout })
    }
}

#[async_trait]
impl HttpClient for OtlpClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (client, timeout) = (self.client.clone(), self.timeout);
        let exchange = async move {
            let response = client.request(request.map(Full::new)).await?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES).collect().await?.to_bytes();
            Ok::<_, HttpError>(Response::from_parts(parts, body))
        };
        self.runtime.spawn(async move { tokio::time::timeout(timeout, exchange).await? }).await?
    }
}

//! TLS on the listeners, and the commands that speak it.

mod commands;
mod identities;
mod listeners;
mod reload;
mod slow;
mod wrong;

use std::{net::SocketAddr, path::Path, sync::Arc};

use message_webhook::tls::{H2, HTTP_1_1};
use rustls::{ClientConfig, pki_types::ServerName};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::support::{TestServer, certs::Authority, server::Builder};

const PATH: &str = "/acme/dev/v1/message-webhook";
const BOTH: &[&[u8]] = &[H2, HTTP_1_1];
const LISTENERS: [&str; 3] = ["http", "grpc", "admin"];

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A server whose listeners all speak TLS, with one certificate.
struct Scene {
    authority: Authority,
    server: TestServer,
    _dir: TempDir,
}

impl Scene {
    async fn start() -> Self {
        Self::start_with(|builder| builder).await
    }

    async fn start_with(change: impl FnOnce(Builder) -> Builder) -> Self {
        let (authority, dir) = (Authority::generate(), TempDir::new().expect("a directory"));
        let (cert, key) = authority.server().write(dir.path());
        let mut builder = TestServer::builder();
        for listener in LISTENERS {
            builder = builder.set(&format!("{listener}_tls_cert_file"), text(&cert));
            builder = builder.set(&format!("{listener}_tls_key_file"), text(&key));
        }
        Self { authority, server: change(builder).start().await, _dir: dir }
    }
}

/// A handshake alone.
async fn shake(address: SocketAddr, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await.expect("connected");
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

//! Certificates and keys from files: what the listeners present, whom they trust, and whom the commands trust. Texts say what
//! is wrong with a file and what to give instead, and repeat nothing of it.

mod client;
mod names;
mod pem;
mod server;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use client::{ClientFiles, Trust, client_config, unverified_client_config};
pub use names::client_certificate;
pub use server::{ClientAuth, Contents, Identity, ServerFiles, WrongFile};

/// HTTP/2 as ALPN has it.
pub const H2: &[u8] = b"h2";
/// HTTP/1.1 as ALPN has it.
pub const HTTP_1_1: &[u8] = b"http/1.1";

/// The one that is built in, whatever else of the process chose as its default.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

//! `health`: asks the admin port and tells by the exit code. Needs nothing but its address.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};

use super::{
    output::{Failure, print},
    tls,
};
use crate::tls::{ClientFiles, Trust, client_config, unverified_client_config};

const DEFAULT_ADDRESS: &str = "127.0.0.1:9464";
/// An answer of ours has a few hundred bytes; what else may listen there is not read to its end.
const MAX_ANSWER_BYTES: u64 = 16 * 1024;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "With https:// before the address TLS is spoken. Any certificate will do then, as for the probes of \
                        Kubernetes, unless --tls-ca-file names whose is trusted: nothing secret is sent."
)]
pub(super) struct Args {
    /// Address of the server's admin port, with https:// before it if that speaks TLS; 0.0.0.0 and [::] mean this machine.
    #[arg(long, value_name = "IP:PORT", env = "MESSAGE_WEBHOOK_ADMIN_ADDR", default_value = DEFAULT_ADDRESS, value_parser = address)]
    admin_addr: Address,
    /// The server's setting of this name: if it is set, TLS is spoken.
    #[arg(long, value_name = "FILE", env = "MESSAGE_WEBHOOK_ADMIN_TLS_CERT_FILE", hide_env_values = true)]
    admin_tls_cert_file: Option<String>,
    /// Trust only the authorities whose certificates (PEM) are in this file.
    #[arg(long, value_name = "FILE")]
    tls_ca_file: Option<PathBuf>,
    /// Expect the server's certificate to have this name instead of the address.
    #[arg(long, value_name = "NAME", value_parser = tls::server_name, requires = "tls_ca_file")]
    tls_server_name: Option<ServerName<'static>>,
    /// Check that the process is alive, not that it is ready.
    #[arg(long)]
    live: bool,
    /// How long to wait for an answer.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Address {
    is_https: bool,
    place: SocketAddr,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let path = if args.live { "/livez" } else { "/readyz" };
    let address = reachable(args.admin_addr.place);
    let is_https = args.admin_addr.is_https || args.admin_tls_cert_file.is_some_and(|file| !file.is_empty());
    if !is_https && args.tls_ca_file.is_some() {
        return Err(Failure::Usage("--tls-ca-file is for an address that begins with https://".into()));
    }
    let scheme = if is_https { "https" } else { "http" };
    let asked = if is_https {
        let config = match args.tls_ca_file {
            Some(path) => client_config(&ClientFiles { trust: Trust::File(path), own: None }),
            None => unverified_client_config(),
        };
        let name = args.tls_server_name.unwrap_or_else(|| ServerName::from(address.ip()));
        let client = ClientConnection::new(Arc::new(config.map_err(Failure::Failed)?), name).map_err(Failure::of)?;
        ask(address, path, args.timeout, |tcp| StreamOwned::new(client, tcp), |tls| &tls.sock)
    } else {
        ask(address, path, args.timeout, |tcp| tcp, |tcp| tcp)
    };
    let answer = asked.map_err(|error| {
        let why = tls::why(&error).unwrap_or_else(|| error.to_string());
        Failure::Failed(format!("no answer from {scheme}://{address}{path}: {why}"))
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).unwrap_or("");
    if !head.starts_with("HTTP/1.1 ") {
        return Err(Failure::Failed(format!("what listens on {address} does not speak HTTP")));
    }
    print(&format!("{}\n", body.trim_end()))?;
    if status == "200" { Ok(()) } else { Err(Failure::Quiet) }
}

/// An empty variable is an unset one.
fn address(text: &str) -> Result<Address, String> {
    let text = if text.is_empty() { DEFAULT_ADDRESS } else { text };
    let (is_https, place) = match text.strip_prefix("https://") {
        Some(place) => (true, place),
        None => (false, text.strip_prefix("http://").unwrap_or(text)),
    };
    let place = place.trim_end_matches('/').parse();
    let place = place.map_err(|_| "write IP:PORT, e.g. 127.0.0.1:9464, or https://IP:PORT".to_owned())?;
    Ok(Address { is_https, place })
}

/// A server that listens on every address is asked on its own machine.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The answer to a `GET` on a stream that `open` makes of a connection; `socket` is what its times are set on.
fn ask<S: Read + Write>(
    address: SocketAddr,
    path: &str,
    timeout: Duration,
    open: impl FnOnce(TcpStream) -> S,
    socket: impl Fn(&S) -> &TcpStream,
) -> std::io::Result<String> {
    let end = Instant::now() + timeout;
    let stream = TcpStream::connect_timeout(&address, timeout)?;
    let left = || end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    // A handshake reads and writes in turn.
    stream.set_read_timeout(Some(left()))?;
    stream.set_write_timeout(Some(left()))?;
    let mut stream = open(stream);
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    stream.flush()?;
    let mut answer = Vec::new();
    let mut chunk = [0_u8; 1024];
    loop {
        if Instant::now() >= end {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        socket(&stream).set_read_timeout(Some(left()))?;
        let count = stream.read(&mut chunk)?;
        answer.extend(chunk.iter().take(count));
        if count == 0 || answer.len() as u64 > MAX_ANSWER_BYTES {
            return Ok(String::from_utf8_lossy(&answer).into_owned());
        }
    }
}

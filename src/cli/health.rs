//! `health`: asks the admin port and tells by the exit code. Needs nothing but its address.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use super::output::{Failure, print};

const DEFAULT_ADDRESS: &str = "127.0.0.1:9464";
/// An answer of ours has a few hundred bytes; what else may listen there is not read to its end.
const MAX_ANSWER_BYTES: u64 = 16 * 1024;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Address of the server's admin port; 0.0.0.0 and [::] mean this machine.
    #[arg(long, value_name = "IP:PORT", env = "MESSAGE_WEBHOOK_ADMIN_ADDR", default_value = DEFAULT_ADDRESS, value_parser = address)]
    admin_addr: SocketAddr,
    /// Check that the process is alive, not that it is ready.
    #[arg(long)]
    live: bool,
    /// How long to wait for an answer.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let path = if args.live { "/livez" } else { "/readyz" };
    let address = reachable(args.admin_addr);
    let answer = ask(address, path, args.timeout)
        .map_err(|error| Failure::Failed(format!("no answer from http://{address}{path}: {error}")))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).unwrap_or("");
    if !head.starts_with("HTTP/1.1 ") {
        return Err(Failure::Failed(format!("what listens on {address} does not speak HTTP")));
    }
    print(&format!("{}\n", body.trim_end()))?;
    if status == "200" { Ok(()) } else { Err(Failure::Quiet) }
}

/// An empty variable is an unset one.
fn address(text: &str) -> Result<SocketAddr, String> {
    let text = if text.is_empty() { DEFAULT_ADDRESS } else { text };
    text.parse().map_err(|_| "write IP:PORT, e.g. 127.0.0.1:9464".to_owned())
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

fn ask(address: SocketAddr, path: &str, timeout: Duration) -> std::io::Result<String> {
    let end = Instant::now() + timeout;
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    let left = || end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    stream.set_write_timeout(Some(left()))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut chunk = [0_u8; 1024];
    loop {
        if Instant::now() >= end {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left()))?;
        let count = stream.read(&mut chunk)?;
        answer.extend(chunk.iter().take(count));
        if count == 0 || answer.len() as u64 > MAX_ANSWER_BYTES {
            return Ok(String::from_utf8_lossy(&answer).into_owned());
        }
    }
}

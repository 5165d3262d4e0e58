//! From an accepted socket to the stream that HTTP is read from.

use std::{convert::Infallible, io, pin::pin, sync::Arc, time::Duration};

use metrics::counter;
use parking_lot::RwLock;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::either::Either;

use super::ConnectionLimits;
use crate::{domain::ClientCertificate, telemetry::names, tls};

/// What a port that speaks TLS opens its connections with. Replacing it leaves those that are open alone. Cheap to clone.
#[derive(Clone)]
pub struct Tls(Arc<RwLock<Arc<ServerConfig>>>);

impl Tls {
    /// Opens connections with `config`.
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self(Arc::new(RwLock::new(config)))
    }

    /// From now on opens connections with `config`.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        *self.0.write() = config;
    }

    fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.read())
    }
}

/// A socket, as it is or within TLS.
pub(super) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// The listener's wish that a connection ends: its other half was dropped. May be asked for again.
pub(super) struct Stopped(Option<oneshot::Receiver<Infallible>>);

impl Stopped {
    pub(super) fn new(stopped: oneshot::Receiver<Infallible>) -> Self {
        Self(Some(stopped))
    }

    /// Returns when the connection is to end, and from then on at once.
    pub(super) async fn asked(&mut self) {
        if let Some(stopped) = &mut self.0 {
            // Nothing is ever sent.
            let _ = stopped.await;
            self.0 = None;
        }
    }
}

/// The first byte of whatever speaks TLS: a record with a handshake. No method of HTTP begins so.
pub(super) const HANDSHAKE: u8 = 0x16;

const USE_HTTPS: &str = "This port speaks TLS: use https://\n";
const USE_HTTP: &str = "This port speaks no TLS: use http://\n";

/// What is within the TLS that `stream` begins with; `None` when there is nothing to serve.
///
/// A handshake has the time of a request's head, for it costs no less.
pub(super) async fn open(
    stream: TcpStream,
    tls: &Tls,
    limits: &ConnectionLimits,
    stopped: &mut Stopped,
) -> Option<Stream> {
    let mut first = [0];
    let peeked = tokio::select! {
        peeked = timeout(limits.idle_timeout, stream.peek(&mut first)) => peeked.ok()?.ok()?,
        () = stopped.asked() => return None,
    };
    if peeked == 0 {
        return None;
    }
    if first != [HANDSHAKE] {
        count(limits, "plain");
        say(stream, USE_HTTPS, limits.linger).await;
        return None;
    }
    let mut handshake = pin!(timeout(limits.header_timeout, TlsAcceptor::from(tls.current()).accept(stream)));
    let shaken = tokio::select! {
        shaken = handshake.as_mut() => shaken,
        // As half a head is: it may still become a request, and must not hold up the end.
        () = stopped.asked() => timeout(limits.linger, handshake).await.and_then(|shaken| shaken),
    };
    match shaken {
        Ok(Ok(stream)) => Some(Either::Right(Box::new(stream))),
        Ok(Err(error)) => {
            count(limits, reason(&error));
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
        Err(_) => {
            count(limits, "timeout");
            None
        }
    }
}

/// What the client of `stream` showed, and the handshake has verified.
pub(super) fn client_certificate(stream: &Stream) -> Option<ClientCertificate> {
    match stream {
        Either::Left(_) => None,
        Either::Right(stream) => tls::client_certificate(stream.get_ref().1.peer_certificates()?.first()?),
    }
}

/// Ends a connection on which nothing was asked for: within TLS an end that is not said is an attack.
pub(super) async fn say_goodbye(mut stream: Stream, limits: &ConnectionLimits) {
    if matches!(stream, Either::Right(_)) {
        // The client left or is too slow to hear it.
        let _ = timeout(limits.linger, stream.shutdown()).await;
    }
}

/// Ends a connection that speaks TLS on a port that does not.
pub(super) async fn refuse_tls(stream: Stream, limits: &ConnectionLimits) {
    if let Either::Left(stream) = stream {
        count(limits, "tls");
        say(stream, USE_HTTP, limits.linger).await;
    }
}

fn count(limits: &ConnectionLimits, reason: &'static str) {
    counter!(names::TLS_FAILURES_TOTAL, "listener" => limits.name, "reason" => reason).increment(1);
}

fn reason(error: &io::Error) -> &'static str {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    match error {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => "certificate",
        Some(rustls::Error::AlertReceived(_)) => "client",
        _ if error.is_none() => "gone",
        _ => "handshake",
    }
}

/// Says in HTTP/1.1, which people read and clients of everything else find strange, why the connection ends.
async fn say(mut stream: TcpStream, text: &'static str, linger: Duration) {
    let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n";
    let answer = format!("{head}content-length: {}\r\n\r\n{text}", text.len());
    let said = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        // Closed with unread bytes, the connection would be reset, and the answer lost.
        let mut scratch = [0; 4096];
        while stream.read(&mut scratch).await? > 0 {}
        io::Result::Ok(())
    };
    // The client left or is too slow: it goes without an answer.
    let _ = timeout(linger, said).await;
}

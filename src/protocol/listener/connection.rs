//! One connection from its first byte to its end.

use std::{
    convert::Infallible,
    error::Error as StdError,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::server::conn::{http1, http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    sync::oneshot,
    time::{sleep, timeout},
};
use tokio_util::either::Either;
use tower::Service;

use super::{
    ConnectionLimits, MaxAge, Start,
    activity::{Activity, Client, Counted},
    guard::{Guarded, WhenIdle},
    opening::{self, HANDSHAKE, Stopped, Stream},
    unread::RequestBody,
};

/// What an HTTP/2 client with prior knowledge sends first.
const H2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Enough for a body of 256 KiB to come in few reads; small, because an idle connection keeps what it has grown to.
const H1_BUFFER_BYTES: usize = 64 * 1024;

/// Lines of a head: as many as HTTP/2 can have in its limit, which counts 32 bytes more for each. By default hyper has 100.
const H1_HEADERS: usize = 512;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    H1,
    H2,
}

/// What a connection begins with.
enum Beginning {
    /// The version, and what was read to find it out.
    Http(Version, Bytes),
    /// TLS where none is spoken, or once more within it.
    Tls,
}

/// Serves one client until it leaves, is too slow, or `stopped` asks for the end.
pub(super) async fn serve<S, B>(
    (mut stream, connected): (TcpStream, SocketAddr),
    Start { tls, proxies }: Start,
    service: S,
    limits: Arc<ConnectionLimits>,
    activity: Arc<Activity>,
    stopped: oneshot::Receiver<Infallible>,
) where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    // Answers are small and written whole: waiting to fill a segment would only delay them. Failing costs latency only.
    let _ = stream.set_nodelay(true);
    let mut stopped = Stopped::new(stopped);
    let peer = tokio::select! {
        peer = timeout(limits.idle_timeout, proxies.peer_of(&mut stream, connected)) => peer,
        () = stopped.asked() => return,
    };
    let Ok(Ok(peer)) = peer else { return };
    let mut stream: Stream = match tls {
        None => Either::Left(stream),
        // Apart, for what a handshake keeps is large and needed once.
        Some(tls) => match Box::pin(opening::open(stream, &tls, &limits, &mut stopped)).await {
            Some(stream) => stream,
            None => return,
        },
    };
    let (version, read) = match first_bytes(&mut stream, &limits, &mut stopped).await {
        Some(Beginning::Http(version, read)) => (version, read),
        Some(Beginning::Tls) => return opening::refuse_tls(stream, &limits).await,
        None => return opening::say_goodbye(stream, &limits).await,
    };
    let certificate = opening::client_certificate(&stream).map(Arc::new);
    let client = Client { peer, proxies, is_tls: matches!(stream, Either::Right(_)), certificate };
    let service = Counted { service, activity: Arc::clone(&activity), linger: limits.linger, client };
    let (idle, when_idle) = match version {
        Version::H1 => (None, WhenIdle::Fail),
        Version::H2 => {
            let (tell, idle) = oneshot::channel();
            (Some(idle), WhenIdle::Tell { _until_dropped: tell })
        }
    };
    let io = TokioIo::new(Guarded::new(stream, read, Arc::clone(&limits), Arc::clone(&activity), when_idle));
    match version {
        Version::H1 => {
            let mut builder = http1::Builder::new();
            builder
                .max_header_size(limits.header_bytes as usize)
                .max_headers(H1_HEADERS)
                .max_buf_size(H1_BUFFER_BYTES.max(limits.header_bytes as usize))
                // A client may end its sending side and wait for the answer.
                .half_close(true)
                // Answers are small: copied behind their head they cost one plain send, less than a vectored write.
                .writev(false)
                // The guarded socket watches heads, with one timer a connection instead of one a request.
                .header_read_timeout(None);
            drive(builder.serve_connection(io, service), &limits, &activity, stopped, idle).await;
        }
        Version::H2 => {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .max_header_list_size(limits.header_bytes)
                .max_concurrent_streams(limits.max_streams)
                .keep_alive_interval(limits.ping)
                .keep_alive_timeout(limits.ping);
            drive(builder.serve_connection(io, service), &limits, &activity, stopped, idle).await;
        }
    }
}

/// Reads until the protocol is known. `None` when there is nothing to serve: the client left or was too slow, or the
/// listener stops and nothing was sent yet.
async fn first_bytes(stream: &mut Stream, limits: &ConnectionLimits, stopped: &mut Stopped) -> Option<Beginning> {
    let mut buffer = [0_u8; H2_PREFACE.len()];
    let is_tls = matches!(stream, Either::Right(_));
    let mut filled = tokio::select! {
        read = timeout(limits.idle_timeout, stream.read(&mut buffer)) => read.ok()?.ok()?,
        () = stopped.asked() => {
            // Who has just shaken hands had no moment to ask for anything.
            if !is_tls {
                return None;
            }
            timeout(limits.linger, stream.read(&mut buffer)).await.ok()?.ok()?
        }
    };
    if buffer.first() == Some(&HANDSHAKE) {
        return Some(Beginning::Tls);
    }
    let more = async {
        loop {
            let (read, rest) = buffer.split_at_mut_checked(filled)?;
            if read.is_empty() {
                return None;
            }
            if !H2_PREFACE.starts_with(read) {
                return Some(Beginning::Http(Version::H1, Bytes::copy_from_slice(read)));
            }
            if rest.is_empty() {
                return Some(Beginning::Http(Version::H2, Bytes::copy_from_slice(read)));
            }
            match stream.read(rest).await.ok()? {
                // A client may end its sending side after a request that looks like half a preface.
                0 => return Some(Beginning::Http(Version::H1, Bytes::copy_from_slice(read))),
                n => filled += n,
            }
        }
    };
    timeout(limits.header_timeout, more).await.ok()?
}

async fn drive<C>(
    connection: C,
    limits: &ConnectionLimits,
    activity: &Activity,
    mut stopped: Stopped,
    idle: Option<oneshot::Receiver<Infallible>>,
) where
    C: GracefulConnection,
    C::Error: std::fmt::Display,
{
    let mut connection = pin!(connection);
    let idle = async {
        match idle {
            Some(idle) => drop(idle.await),
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stopped.asked() => match drained(connection, activity, limits).await {
            Some(ended) => ended,
            None => return,
        },
        grace = aged(limits.max_age) => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                ended = connection.as_mut() => ended,
                () = stopped.asked() => match drained(connection, activity, limits).await {
                    Some(ended) => ended,
                    None => return,
                },
                () = sleep(grace) => return,
            }
        }
        () = idle => {
            connection.as_mut().graceful_shutdown();
            match timeout(limits.linger, connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        // The client's doing: it left, was too slow or does not speak HTTP.
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Ends a connection because the server ends; `None` when it was given up.
async fn drained<C: GracefulConnection>(
    mut connection: Pin<&mut C>,
    activity: &Activity,
    limits: &ConnectionLimits,
) -> Option<Result<(), C::Error>> {
    activity.drain();
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        ended = connection => Some(ended),
        // A client that is frozen never answers the GOAWAY, and must not hold up the end of the server.
        () = activity.idle_for(limits.linger) => None,
    }
}

/// Waits until a connection is as old as it may be; its grace. Up to a tenth sooner, by chance: connections that were
/// made together, as after a restart, must not all end together.
async fn aged(limit: Option<MaxAge>) -> Duration {
    let Some(MaxAge { age, grace }) = limit else { return std::future::pending().await };
    // Without randomness the connections end together, and nothing else is wrong.
    let chance = f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX);
    sleep(age.mul_f64(1.0 - chance / 10.0)).await;
    grace
}

//! One connection of HTTP/2, which is not replaced when it ends.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    pub async fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("connected");
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a connection");
        tokio::spawn(connection);
        Self { sender }
    }

    /// The answer with its trailers among the headers, or why there is none; not waiting for the request to be sent to its end.
    pub async fn ask(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, hyper::Error> {
        let mut sender = self.sender.clone();
        sender.ready().await?;
        let (mut head, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?;
        head.headers.extend(body.trailers().cloned().unwrap_or_default());
        Ok(Response::from_parts(head, body.to_bytes()))
    }
}

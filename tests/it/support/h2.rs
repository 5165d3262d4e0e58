//! One connection of HTTP/2, which is not replaced when it ends.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

type Sent = BoxBody<Bytes, Infallible>;

#[derive(Clone)]
pub struct Connection {
    sender: SendRequest<Sent>,
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
    pub async fn ask<B>(&self, request: Request<B>) -> Result<Response<Bytes>, hyper::Error>
    where
        B: Body<Data = Bytes, Error = Infallible> + Send + Sync + 'static,
    {
        let mut sender = self.sender.clone();
        sender.ready().await?;
        let (mut head, body) = sender.send_request(request.map(BoxBody::new)).await?.into_parts();
        let body = body.collect().await?;
        head.headers.extend(body.trailers().cloned().unwrap_or_default());
        Ok(Response::from_parts(head, body.to_bytes()))
    }
}

/// A body that begins so and never ends.
pub fn unfinished(beginning: impl Into<Bytes>) -> impl Body<Data = Bytes, Error = Infallible> + Send + Sync {
    let first = Ok(Frame::data(beginning.into()));
    StreamBody::new(stream::iter([first]).chain(stream::pending()))
}

//! An HTTP/1.1 client that sends exactly the bytes it is given.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Longer than anything here takes, so that a test fails instead of hanging.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Client {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.expect("connected"))
    }

    /// A client with a connection that is there already.
    pub fn over(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("sent");
    }

    /// Whether everything could be sent; a server may close before that.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// The next answer; `HEAD` is not for this reader, since it counts on bodies.
    pub async fn answer(&mut self) -> Answer {
        self.try_answer().await.expect("an answer before the end of the connection")
    }

    pub async fn try_answer(&mut self) -> Option<Answer> {
        let head = self.head().await?;
        let length = head.header("content-length").map_or(0, |length| length.parse().expect("a number"));
        while self.buffer.len() < length {
            if self.read().await == 0 {
                return None;
            }
        }
        let body = self.buffer.drain(..length).collect();
        Some(Answer { body, ..head })
    }

    /// The next answer's head alone, such as `100 Continue` or what HEAD gets.
    pub async fn head(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            if self.read().await == 0 {
                return None;
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let head = String::from_utf8(head).expect("an ASCII head");
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().expect("a status line").split(' ').nth(1).expect("a status");
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').expect("a header");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        Some(Answer { status: status.parse().expect("a number"), headers: headers.collect(), body: Vec::new() })
    }

    /// Waits for the server to close; whether it sent nothing more.
    pub async fn is_closed_silently(&mut self) -> bool {
        self.buffer.is_empty() && self.read().await == 0
    }

    /// Waits for the server to close, whatever it still sends.
    pub async fn read_to_end(&mut self) {
        while self.read().await > 0 {}
    }

    async fn read(&mut self) -> usize {
        let mut chunk = [0; 4096];
        // A reset is an end too.
        let read = timeout(PATIENCE, self.stream.read(&mut chunk)).await.expect("within patience").unwrap_or(0);
        self.buffer.extend_from_slice(&chunk[..read]);
        read
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(each, _)| each == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "'{name}' is there twice");
        value
    }

    pub fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    /// The error's word, after the shape that every error has was checked.
    pub fn error_code(&self) -> String {
        let body = self.json();
        let fields: Vec<_> = body.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(fields, ["code", "doc_url", "errors", "message", "request_id", "status"]);
        assert_eq!(body["status"], "error");
        assert!(!body["message"].as_str().expect("a text").is_empty());
        assert_eq!(body["request_id"].as_str(), self.header("x-request-id"));
        for error in body["errors"].as_array().expect("an array") {
            let fields: Vec<_> = error.as_object().expect("an object").keys().map(String::as_str).collect();
            assert_eq!(fields, ["code", "field", "message"]);
        }
        body["code"].as_str().expect("a word").to_owned()
    }

    /// Field and code of each violation.
    pub fn violations(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let errors = self.json()["errors"].as_array().expect("an array").clone();
        errors.iter().map(|error| (text(&error["field"]), text(&error["code"]))).collect()
    }
}

/// A POST of JSON to `path` with `key`.
pub fn post(path: &str, key: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

/// One request on one connection.
pub async fn ask(address: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    let mut client = Client::connect(address).await;
    client.send(request).await;
    client.answer().await
}

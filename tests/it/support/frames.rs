//! HTTP/2 as bytes, for what no library sends.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// Of SETTINGS and PING.
pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const INITIAL_WINDOW_SIZE: u16 = 4;

/// As large as one may be where nothing else was agreed on.
pub const LARGEST: usize = 16_384;

/// A frame as it is sent.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("small").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

pub fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let pairs = values.iter().flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat());
    frame(SETTINGS, 0, 0, &pairs.collect::<Vec<_>>())
}

/// A header block that uses no table and no Huffman code (RFC 7541, 6.2.2).
pub fn block<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(0);
        for text in [name, value] {
            integer(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// A length before a text (RFC 7541, 5.1).
fn integer(block: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else {
        return block.push(u8::try_from(length).expect("below 127"));
    };
    block.push(127);
    while rest >= 128 {
        block.push((rest % 128 + 128) as u8);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// The head of a POST.
pub fn post<'a>(path: &'a str, content_type: &'a str, authorization: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "x"),
        (":path", path),
        ("content-type", content_type),
        ("authorization", authorization),
    ]
}

/// The head of a GET.
pub fn get(path: &str) -> Vec<(&str, &str)> {
    vec![(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", path)]
}

/// The number of a client's stream.
pub fn stream(number: usize) -> u32 {
    u32::try_from(number).expect("few") * 2 + 1
}

/// A connection on which nothing happens by itself.
pub struct Raw {
    pub stream: TcpStream,
    /// What was read and is no whole frame yet.
    buffer: Vec<u8>,
}

impl Raw {
    /// Connects, and sends the preface and `values` as settings.
    pub async fn open(address: SocketAddr, values: &[(u16, u32)]) -> Self {
        Self::plain(address, &[PREFACE, &settings(values)].concat()).await
    }

    /// Connects, and sends only `beginning`.
    pub async fn plain(address: SocketAddr, beginning: &[u8]) -> Self {
        let mut raw = Self { stream: TcpStream::connect(address).await.expect("connected"), buffer: Vec::new() };
        raw.send(beginning).await;
        raw
    }

    /// Whether all of it could be sent; a server may close before that.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Sends while it reads and drops what comes, as who floods and is to be answered. The kinds of the frames that came, but
    /// for those of bodies.
    pub async fn send_and_read(&mut self, bytes: &[u8]) -> (bool, Vec<u8>) {
        let (mut reading, mut writing) = self.stream.split();
        let buffer = &mut self.buffer;
        let mut kinds = Vec::new();
        let read = async {
            let mut chunk = vec![0; 64 * 1024];
            while let Ok(length @ 1..) = reading.read(&mut chunk).await {
                buffer.extend_from_slice(&chunk[..length]);
                while let Some((kind, _)) = take_frame(buffer) {
                    if kind != DATA {
                        kinds.push(kind);
                    }
                }
            }
        };
        let sent = tokio::select! {
            sent = writing.write_all(bytes) => sent.is_ok(),
            () = read => false,
        };
        (sent, kinds)
    }

    /// The next frame: its kind and payload; `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(frame) = take_frame(&mut self.buffer) {
                return Some(frame);
            }
            if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }
}

fn take_frame(buffer: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let head = buffer.get(..9)?;
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    let kind = head[3];
    if buffer.len() < 9 + length {
        return None;
    }
    let frame: Vec<u8> = buffer.drain(..9 + length).collect();
    Some((kind, frame[9..].to_vec()))
}

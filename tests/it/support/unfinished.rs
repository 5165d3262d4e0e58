//! A request of HTTP/1.1 that stops in the middle of its body.

use std::io::{Read, Write};

/// A submission that the server has begun with, and whose body is not complete yet.
pub struct Unfinished<S> {
    stream: S,
    rest: String,
}

impl<S: Read + Write> Unfinished<S> {
    /// Sends all of it but the end of `body`.
    pub fn begin(mut stream: S, path: &str, key: &str, body: &str) -> Self {
        let (first, rest) = body.split_at(10);
        let length = body.len();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\nexpect: 100-continue\r\n\r\n"
        )
        .expect("sent");
        // The answer to `expect` tells that the server is at work on this request.
        let mut answer = [0; 25];
        stream.read_exact(&mut answer).expect("an interim answer");
        assert!(answer.starts_with(b"HTTP/1.1 100"), "{}", String::from_utf8_lossy(&answer));
        stream.write_all(first.as_bytes()).expect("sent");
        Self { stream, rest: rest.to_owned() }
    }

    /// Sends the rest; the answer, up to the end of the connection.
    pub fn finish(mut self) -> String {
        self.stream.write_all(self.rest.as_bytes()).expect("sent");
        let mut answer = String::new();
        self.stream.read_to_string(&mut answer).expect("an answer and the end");
        answer
    }
}

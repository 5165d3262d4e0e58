//! Unary calls by hand-written HTTP/2 frames, as [`super::load`] writes HTTP/1.1: headers are encoded once, of an answer
//! only the frames are read. A general client spends more on a call than the server, and would be what is measured.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use message_webhook::protocol::grpc::v1::{SubmitMessageResponse, SubmitOutcome};
use mio::{Events, Interest, Poll, Token};
use prost::Message as _;

use super::{
    grpc::submission,
    load::{Outcome, Target},
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// One call after the other on each of `connections`, for `duration`.
pub fn run(target: &Target, connections: usize, prefix: &str, duration: Duration) -> Outcome {
    let mut poll = Poll::new().expect("epoll");
    let mut callers: Vec<Caller> =
        (0..connections).map(|number| Caller::connect(target, &poll, Token(number))).collect();
    let mut outcome = Outcome::default();
    let mut sent = 0;
    let begun = Instant::now();
    for caller in &mut callers {
        caller.call(prefix, sent);
        sent += 1;
    }
    let mut events = Events::with_capacity(connections);
    let mut waiting = connections;
    let mut idle = Instant::now();
    while waiting > 0 {
        // Never sleeps; see `Load::run`.
        poll.poll(&mut events, Some(Duration::ZERO)).expect("epoll");
        if events.is_empty() {
            assert!(idle.elapsed() < Duration::from_secs(10), "no answer for 10 s");
            continue;
        }
        idle = Instant::now();
        let time_is_up = begun.elapsed() >= duration;
        for event in &events {
            let caller = &mut callers[event.token().0];
            let Some(answer) = caller.receive() else { continue };
            outcome.answers += 1;
            match answer {
                SubmitOutcome::Accepted => {}
                SubmitOutcome::Duplicate => outcome.duplicates += 1,
                SubmitOutcome::Unspecified => outcome.wrong += 1,
            }
            if time_is_up {
                waiting -= 1;
            } else {
                caller.call(prefix, sent);
                sent += 1;
            }
        }
    }
    outcome.elapsed = begun.elapsed();
    outcome
}

struct Caller {
    stream: mio::net::TcpStream,
    /// Of the first call, whose names and values go into the table of the connection, and of those after it.
    headers: [Vec<u8>; 2],
    next_stream: u32,
    request: Vec<u8>,
    received: Vec<u8>,
    answer: SubmitOutcome,
}

impl Caller {
    fn connect(target: &Target, poll: &Poll, token: Token) -> Self {
        let mut stream = TcpStream::connect(target.addr).expect("a server that listens");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        let mut hello = PREFACE.to_vec();
        frame(&mut hello, SETTINGS, 0, 0, &[]);
        // Answers are small: with a window of a gigabyte no more need be given.
        frame(&mut hello, WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
        stream.write_all(&hello).expect("an open connection");
        stream.set_nonblocking(true).expect("non-blocking");
        let mut stream = mio::net::TcpStream::from_std(stream);
        poll.registry().register(&mut stream, token, Interest::READABLE).expect("epoll");
        let headers = [first_headers(target), next_headers(target)];
        let answer = SubmitOutcome::Unspecified;
        Self { stream, headers, next_stream: 1, request: Vec::new(), received: Vec::new(), answer }
    }

    fn call(&mut self, prefix: &str, number: u64) {
        let message = submission(prefix, number);
        let mut data = vec![0];
        data.extend_from_slice(&(message.encoded_len() as u32).to_be_bytes());
        message.encode(&mut data).expect("room");
        let headers = &self.headers[usize::from(self.next_stream > 1)];
        self.request.clear();
        frame(&mut self.request, HEADERS, END_HEADERS, self.next_stream, headers);
        frame(&mut self.request, DATA, END_STREAM, self.next_stream, &data);
        self.next_stream += 2;
        self.answer = SubmitOutcome::Unspecified;
        let written = self.stream.write(&self.request).expect("an open connection");
        assert_eq!(written, self.request.len(), "a request fits into an empty socket buffer");
    }

    /// The answer, when all of it has come; unspecified where it carried no message.
    fn receive(&mut self) -> Option<SubmitOutcome> {
        let mut buffer = [0_u8; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => panic!("the server closed a connection"),
            Ok(read) => self.received.extend_from_slice(&buffer[..read]),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return None,
            Err(e) => panic!("the connection broke: {e}"),
        }
        let mut ended = false;
        let mut at = 0;
        while let Some(head) = self.received.get(at..at + FRAME_HEAD) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let (kind, flags) = (head[3], head[4]);
            let Some(payload) = self.received.get(at + FRAME_HEAD..at + FRAME_HEAD + length) else { break };
            match kind {
                DATA => {
                    let message = payload.get(5..).and_then(|message| SubmitMessageResponse::decode(message).ok());
                    self.answer = message.map_or(SubmitOutcome::Unspecified, |message| message.outcome());
                }
                SETTINGS | PING if flags & ACK == 0 => {
                    let mut reply = Vec::new();
                    let payload = if kind == PING { payload } else { &[] };
                    frame(&mut reply, kind, ACK, 0, payload);
                    assert_eq!(self.stream.write(&reply).expect("an open connection"), reply.len());
                }
                HEADERS | SETTINGS | PING | WINDOW_UPDATE => {}
                other => panic!("an HTTP/2 frame of kind {other}"),
            }
            ended |= matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
            at += FRAME_HEAD + length;
        }
        self.received.drain(..at);
        ended.then_some(self.answer)
    }
}

fn frame(to: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    to.extend_from_slice(&length);
    to.extend_from_slice(&[kind, flags]);
    to.extend_from_slice(&stream.to_be_bytes());
    to.extend_from_slice(payload);
}

/// HPACK (RFC 7541): POST and http from the static table; path, authority, content-type and te to be remembered.
fn first_headers(target: &Target) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    text(&mut block, &[0x44], "/messagewebhook.v1.MessageService/SubmitMessage");
    text(&mut block, &[0x41], &target.addr.to_string());
    text(&mut block, &[0x5f], "application/grpc");
    text(&mut block, &[0x40, 2, b't', b'e'], "trailers");
    authorization(&mut block, target);
    block
}

/// The same by their places in the table of the connection.
fn next_headers(target: &Target) -> Vec<u8> {
    let mut block = vec![0x83, 0x86, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62];
    authorization(&mut block, target);
    block
}

/// Never remembered, as gRPC's libraries send it.
fn authorization(block: &mut Vec<u8>, target: &Target) {
    text(block, &[0x0f, 23 - 15], &format!("Bearer {}", target.key));
}

fn text(block: &mut Vec<u8>, name: &[u8], value: &str) {
    block.extend_from_slice(name);
    // One byte holds lengths below 127; nothing here is longer.
    assert!(value.len() < 127, "a short value");
    block.push(value.len() as u8);
    block.extend_from_slice(value.as_bytes());
}

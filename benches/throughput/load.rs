//! A load generator that costs little: keep-alive connections on one thread, requests patched in place, of an answer
//! only what is needed to know where it ends and what it said.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token};

/// Digits of the number in a `message_sid`.
const DIGITS: usize = 10;
/// So many end users send the messages.
const SENDERS: u64 = 10_000;

/// Where to send to.
#[derive(Clone)]
pub struct Target {
    pub addr: SocketAddr,
    pub key: String,
}

/// Which messages are sent.
pub struct Body {
    prefix: String,
    /// After so many messages the first comes again.
    period: u64,
}

/// When a run ends.
#[derive(Clone, Copy)]
pub enum Stop {
    After(Duration),
    Answers(u64),
}

pub struct Load<'a> {
    pub target: &'a Target,
    pub connections: usize,
    pub body: Body,
    pub stop: Stop,
}

/// What came back.
pub struct Outcome {
    pub answers: u64,
    /// Answers other than 200.
    pub wrong: u64,
    pub duplicates: u64,
    pub elapsed: Duration,
}

impl Body {
    /// Messages with sids of their own.
    pub fn unique(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), period: u64::MAX }
    }

    /// The first `period` messages of [`Body::unique`], again and again.
    pub fn repeated(prefix: &str, period: u64) -> Self {
        Self { prefix: prefix.to_owned(), period }
    }
}

impl Outcome {
    pub fn rate(&self) -> f64 {
        self.answers as f64 / self.elapsed.as_secs_f64()
    }
}

/// One request whose numbers are patched in place.
struct Template {
    bytes: Vec<u8>,
    sender_at: usize,
    sid_at: usize,
}

impl Template {
    fn new(target: &Target, prefix: &str) -> Self {
        let zeros = "0".repeat(DIGITS);
        let body = format!(
            r#"{{"from_id":"user_{zeros}","message_sid":"msg_{prefix}_{zeros}","timestamp":"1672531200","message_body":"Here is my meal, this is gruyere cheese btw.","image_urls":["https://example.com/images/food.jpg"],"audio_urls":[]}}"#
        );
        let text = format!(
            "POST /bench/dev/v1/message-webhook HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            target.addr,
            target.key,
            body.len(),
        );
        let place = |mark: &str| text.find(mark).expect("in the template") + mark.len();
        let (sender_at, sid_at) = (place("\"user_"), place(&format!("\"msg_{prefix}_")));
        Self { bytes: text.into_bytes(), sender_at, sid_at }
    }

    fn request(&mut self, number: u64) -> &[u8] {
        write_digits(&mut self.bytes[self.sender_at..self.sender_at + DIGITS], number % SENDERS);
        write_digits(&mut self.bytes[self.sid_at..self.sid_at + DIGITS], number);
        &self.bytes
    }
}

fn write_digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

struct Connection {
    stream: mio::net::TcpStream,
    /// The part of an answer that has come so far.
    answer: Vec<u8>,
}

impl Load<'_> {
    pub fn run(self) -> Outcome {
        let mut poll = Poll::new().expect("epoll");
        let mut template = Template::new(self.target, &self.body.prefix);
        let mut connections: Vec<Connection> =
            (0..self.connections).map(|number| connect(self.target, &poll, Token(number))).collect();
        let mut outcome = Outcome { answers: 0, wrong: 0, duplicates: 0, elapsed: Duration::ZERO };
        let mut sent = 0_u64;
        let begun = Instant::now();
        for connection in &mut connections {
            send(connection, template.request(sent % self.body.period));
            sent += 1;
        }
        let mut events = Events::with_capacity(self.connections);
        let mut buffer = [0_u8; 16 * 1024];
        let mut waiting = self.connections;
        let mut idle = Instant::now();
        while waiting > 0 {
            // Never sleeps: to wake a sleeping client on this machine costs the server up to a quarter of its time, which
            // no client on another machine would.
            poll.poll(&mut events, Some(Duration::ZERO)).expect("epoll");
            if events.is_empty() {
                assert!(idle.elapsed() < Duration::from_secs(10), "no answer for 10 s");
                continue;
            }
            idle = Instant::now();
            // Once a batch of events is exact enough, and cheaper than once an answer.
            let time_is_up = match self.stop {
                Stop::After(duration) => begun.elapsed() >= duration,
                Stop::Answers(_) => false,
            };
            for event in &events {
                let connection = &mut connections[event.token().0];
                let Some(answer) = receive(connection, &mut buffer) else { continue };
                outcome.answers += 1;
                outcome.wrong += u64::from(!answer.ok);
                outcome.duplicates += u64::from(answer.duplicate);
                let enough = match self.stop {
                    Stop::After(_) => time_is_up,
                    Stop::Answers(answers) => sent >= answers,
                };
                if enough {
                    waiting -= 1;
                } else {
                    send(connection, template.request(sent % self.body.period));
                    sent += 1;
                }
            }
        }
        outcome.elapsed = begun.elapsed();
        outcome
    }
}

fn connect(target: &Target, poll: &Poll, token: Token) -> Connection {
    let stream = TcpStream::connect(target.addr).expect("a server that listens");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    stream.set_nonblocking(true).expect("non-blocking");
    let mut stream = mio::net::TcpStream::from_std(stream);
    poll.registry().register(&mut stream, token, Interest::READABLE).expect("epoll");
    Connection { stream, answer: Vec::new() }
}

fn send(connection: &mut Connection, request: &[u8]) {
    let written = connection.stream.write(request).expect("an open connection");
    assert_eq!(written, request.len(), "a request fits into an empty socket buffer");
}

/// The answer, when all of it has come.
fn receive(connection: &mut Connection, buffer: &mut [u8]) -> Option<Answer> {
    let read = match connection.stream.read(buffer) {
        Ok(0) => panic!("the server closed a connection"),
        Ok(read) => read,
        Err(e) if e.kind() == ErrorKind::WouldBlock => return None,
        Err(e) => panic!("the connection broke: {e}"),
    };
    if connection.answer.is_empty() {
        // The usual case: the whole answer in one piece.
        if let Some(answer) = Answer::parse(&buffer[..read]) {
            return Some(answer);
        }
    }
    connection.answer.extend_from_slice(&buffer[..read]);
    let answer = Answer::parse(&connection.answer)?;
    connection.answer.clear();
    Some(answer)
}

struct Answer {
    ok: bool,
    duplicate: bool,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let head = find(bytes, b"\r\n\r\n")?;
        let body = &bytes[head + 4..];
        let name = b"content-length: ";
        let at = find(&bytes[..head], name).expect("an answer with a length") + name.len();
        let length = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit());
        let length = length.fold(0_usize, |length, digit| length * 10 + usize::from(digit - b'0'));
        (body.len() >= length).then(|| Self {
            ok: bytes.starts_with(b"HTTP/1.1 200"),
            duplicate: find(body, b"\"duplicate\":true").is_some(),
        })
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// One client alone, that waits for each answer before it asks again.
pub struct Lone {
    stream: TcpStream,
    template: Template,
    sent: u64,
}

impl Lone {
    pub fn connect(target: &Target) -> Self {
        let stream = TcpStream::connect(target.addr).expect("a server that listens");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Self { stream, template: Template::new(target, "lone"), sent: 0 }
    }

    /// The time from request to answer.
    pub fn submit(&mut self) -> Duration {
        let request = self.template.request(self.sent);
        self.sent += 1;
        let begun = Instant::now();
        self.stream.write_all(request).expect("an open connection");
        let mut bytes = Vec::new();
        let mut buffer = [0_u8; 4096];
        loop {
            let read = self.stream.read(&mut buffer).expect("an open connection");
            assert_ne!(read, 0, "the server closed the connection");
            bytes.extend_from_slice(&buffer[..read]);
            if let Some(answer) = Answer::parse(&bytes) {
                assert!(answer.ok && !answer.duplicate, "an answer other than accepted");
                return begun.elapsed();
            }
        }
    }
}

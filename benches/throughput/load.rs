//! A load generator that costs little: keep-alive connections on one thread, requests patched in place, of an answer
//! only what is needed to know where it ends and what it said.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token};
use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};

/// Digits of the number in a `message_sid`.
const DIGITS: usize = 10;
/// So many end users send the messages.
const SENDERS: u64 = 10_000;

/// Where to send to.
#[derive(Clone)]
pub struct Target {
    pub addr: SocketAddr,
    pub key: String,
    /// Of clients that speak TLS.
    pub tls: Option<Arc<ClientConfig>>,
}

/// Which messages are sent.
pub struct Body {
    prefix: String,
    /// After so many messages the first comes again.
    period: u64,
    /// From one message's number to the next.
    step: u64,
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
#[derive(Default)]
pub struct Outcome {
    pub answers: u64,
    /// Answers other than 200.
    pub wrong: u64,
    pub duplicates: u64,
    pub elapsed: Duration,
    /// Of each answer, in microseconds.
    pub latencies: Vec<u32>,
}

impl Body {
    /// Messages with sids of their own.
    pub fn unique(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), period: u64::MAX, step: 1 }
    }

    /// The first `period` messages of [`Body::unique`], again and again.
    pub fn repeated(prefix: &str, period: u64) -> Self {
        Self { prefix: prefix.to_owned(), period, step: 1 }
    }

    /// The first `period` messages of [`Body::unique`] all over the place, so that no two neighbours follow each other.
    pub fn spread(prefix: &str, period: u64) -> Self {
        // Prime and larger than any period's factors, so each number comes once before one comes again.
        Self { prefix: prefix.to_owned(), period, step: 2_654_435_761 }
    }

    /// The number of the message that is sent as the `sent`th.
    fn number(&self, sent: u64) -> u64 {
        ((u128::from(sent) * u128::from(self.step)) % u128::from(self.period)) as u64
    }
}

impl Outcome {
    pub fn rate(&self) -> f64 {
        self.answers as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency, in milliseconds, that so many of a thousand answers do not pass.
    pub fn permille_ms(&self, permille: usize) -> f64 {
        percentile(&self.latencies, permille)
    }

    /// Counts one more answer.
    pub(super) fn count(&mut self, answer: &Answer, since: Instant) {
        self.answers += 1;
        self.wrong += u64::from(!answer.ok);
        self.duplicates += u64::from(answer.duplicate);
        self.latencies.push(since.elapsed().as_micros() as u32);
    }
}

/// The value, in thousandths, that so many of a thousand `values` do not pass.
pub fn percentile(values: &[u32], permille: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() * permille / 1000).min(sorted.len() - 1);
    f64::from(sorted[at]) / 1e3
}

/// One request whose numbers are patched in place.
pub(super) struct Template {
    bytes: Vec<u8>,
    sender_at: usize,
    sid_at: usize,
}

impl Template {
    pub(super) fn new(target: &Target, prefix: &str) -> Self {
        Self::of("bench", target, prefix)
    }

    /// Messages of `org`.
    pub(super) fn of(org: &str, target: &Target, prefix: &str) -> Self {
        let zeros = "0".repeat(DIGITS);
        let body = format!(
            r#"{{"from_id":"user_{zeros}","message_sid":"msg_{prefix}_{zeros}","timestamp":"1672531200","message_body":"Here is my meal, this is gruyere cheese btw.","image_urls":["https://example.com/images/food.jpg"],"audio_urls":[]}}"#
        );
        let text = format!(
            "POST /{org}/dev/v1/message-webhook HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            target.addr,
            target.key,
            body.len(),
        );
        let place = |mark: &str| text.find(mark).expect("in the template") + mark.len();
        let (sender_at, sid_at) = (place("\"user_"), place(&format!("\"msg_{prefix}_")));
        Self { bytes: text.into_bytes(), sender_at, sid_at }
    }

    pub(super) fn request(&mut self, number: u64) -> &[u8] {
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

/// A socket, as it is or within TLS.
enum Wire {
    Plain(mio::net::TcpStream),
    Tls(Box<StreamOwned<ClientConnection, mio::net::TcpStream>>),
}

impl Wire {
    fn stream(&mut self) -> &mut dyn Stream {
        match self {
            Wire::Plain(stream) => stream,
            Wire::Tls(stream) => stream.as_mut(),
        }
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

pub(super) struct Connection {
    wire: Wire,
    /// The part of an answer that has come so far.
    answer: Vec<u8>,
    /// When the request was sent that is not answered, or was due.
    pub(super) since: Instant,
}

impl Load<'_> {
    pub fn run(self) -> Outcome {
        let mut poll = Poll::new().expect("epoll");
        let mut template = Template::new(self.target, &self.body.prefix);
        let mut connections: Vec<Connection> =
            (0..self.connections).map(|number| connect(self.target, &poll, Token(number))).collect();
        let mut outcome = Outcome::default();
        let mut sent = 0_u64;
        let begun = Instant::now();
        for connection in &mut connections {
            send(connection, template.request(self.body.number(sent)), Instant::now());
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
                outcome.count(&answer, connection.since);
                let enough = match self.stop {
                    Stop::After(_) => time_is_up,
                    Stop::Answers(answers) => sent >= answers,
                };
                if enough {
                    waiting -= 1;
                } else {
                    send(connection, template.request(self.body.number(sent)), Instant::now());
                    sent += 1;
                }
            }
        }
        outcome.elapsed = begun.elapsed();
        outcome
    }
}

pub(super) fn connect(target: &Target, poll: &Poll, token: Token) -> Connection {
    let mut stream = TcpStream::connect(target.addr).expect("a server that listens");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    let tls = target.tls.as_ref().map(|config| {
        let name = ServerName::try_from("localhost").expect("a name");
        let mut tls = ClientConnection::new(Arc::clone(config), name).expect("a client");
        while tls.is_handshaking() {
            tls.complete_io(&mut stream).expect("shaken hands");
        }
        tls
    });
    stream.set_nonblocking(true).expect("non-blocking");
    let mut stream = mio::net::TcpStream::from_std(stream);
    poll.registry().register(&mut stream, token, Interest::READABLE).expect("epoll");
    let wire = match tls {
        None => Wire::Plain(stream),
        Some(tls) => Wire::Tls(Box::new(StreamOwned::new(tls, stream))),
    };
    Connection { wire, answer: Vec::new(), since: Instant::now() }
}

pub(super) fn send(connection: &mut Connection, request: &[u8], since: Instant) {
    connection.since = since;
    let written = connection.wire.stream().write(request).expect("an open connection");
    assert_eq!(written, request.len(), "a request fits into an empty socket buffer");
}

/// The answer, when all of it has come.
pub(super) fn receive(connection: &mut Connection, buffer: &mut [u8]) -> Option<Answer> {
    let read = match connection.wire.stream().read(buffer) {
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

pub(super) struct Answer {
    pub(super) ok: bool,
    pub(super) duplicate: bool,
    /// By 429 or 503, with the time after which to try again.
    pub(super) refused: bool,
}

impl Answer {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let head = find(bytes, b"\r\n\r\n")?;
        let body = &bytes[head + 4..];
        let name = b"content-length: ";
        let at = find(&bytes[..head], name).expect("an answer with a length") + name.len();
        let length = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit());
        let length = length.fold(0_usize, |length, digit| length * 10 + usize::from(digit - b'0'));
        (body.len() >= length).then(|| {
            let ok = bytes.starts_with(b"HTTP/1.1 200");
            let may_come_again = bytes.starts_with(b"HTTP/1.1 429") || bytes.starts_with(b"HTTP/1.1 503");
            let refused = may_come_again && find(&bytes[..head], b"\r\nretry-after: ").is_some();
            Self { ok, duplicate: ok && find(body, b"\"duplicate\":true").is_some(), refused }
        })
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

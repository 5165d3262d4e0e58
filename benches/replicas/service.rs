//! The service in a process of its own, and clients that cost little: a connection each, kept alive.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use message_webhook::store::scylla::Options;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    bare::sender_of,
    run::{Answer, Client},
};

pub struct Service {
    process: Child,
    http: SocketAddr,
    key: String,
}

impl Service {
    /// Starts it on the keyspace of `options`, with a new key for org `bench`, and waits until it is ready.
    pub fn start(options: &Options) -> Self {
        let program = env!("CARGO_BIN_EXE_message-webhook");
        let flags = [
            format!("--scylla-nodes={}", options.nodes.join(",")),
            format!("--scylla-keyspace={}", options.keyspace),
            "--store=scylla".to_owned(),
        ];
        let create = ["keys", "create", "--org", "bench", "--env", "dev"];
        let created = Command::new(program).args(create).args(&flags).output().expect("the service's binary");
        assert!(created.status.success(), "no key: {}", String::from_utf8_lossy(&created.stderr));
        let key = String::from_utf8(created.stdout).expect("a key is ASCII").trim().to_owned();
        let [http, grpc, admin] = [(); 3].map(|()| free_addr());
        let mut command = Command::new("setpriv");
        // However this process dies, it takes the server with it.
        command.args(["--pdeathsig", "KILL", program, "serve", "--log-level", "warn"]).args(&flags);
        for (flag, addr) in [("--http-addr", http), ("--grpc-addr", grpc), ("--admin-addr", admin)] {
            command.args([flag, &addr.to_string()]);
        }
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("setpriv (util-linux)");
        let begun = Instant::now();
        while !is_ready(admin) {
            assert!(begun.elapsed() < Duration::from_secs(60), "not ready after 60 s");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { process, http, key }
    }

    /// The processor time that it has used so far.
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).expect("/proc");
        let (_, fields) = stat.rsplit_once(") ").expect("a name in brackets");
        let ticks: u64 = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum();
        // Linux counts in hundredths of a second wherever this runs.
        Duration::from_millis(ticks * 10)
    }

    /// Stops it as an operator does.
    pub fn stop(mut self) {
        let pid = self.process.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().expect("kill");
        let status = self.process.wait().expect("a child that ends");
        assert!(status.success(), "the service stopped with {status}");
    }

    pub fn accepts(&self, prefix: &str) -> impl Fn(usize) -> Posts + use<'_> {
        self.duplicates(prefix, u64::MAX)
    }

    /// The first `known` of `prefix` again and again.
    pub fn duplicates(&self, prefix: &str, known: u64) -> impl Fn(usize) -> Posts + use<'_> {
        let prefix = prefix.to_owned();
        move |_| Posts {
            http: self.http,
            key: self.key.clone(),
            prefix: prefix.clone(),
            period: known,
            connection: None,
            answer: Vec::with_capacity(4096),
        }
    }

    pub async fn fill(&self, prefix: &str, count: u64) {
        let mut client = self.accepts(prefix)(0);
        for number in 0..count {
            while client.send(number).await == Answer::Failed {}
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub struct Posts {
    http: SocketAddr,
    key: String,
    prefix: String,
    period: u64,
    connection: Option<TcpStream>,
    answer: Vec<u8>,
}

impl Client for Posts {
    async fn send(&mut self, number: u64) -> Answer {
        let number = number % self.period;
        let body = format!(
            r#"{{"from_id":"{}","message_sid":"post-{}-{number}","timestamp":"1672531200","message_body":"Here is my meal, this is gruyere cheese btw.","image_urls":["https://example.com/images/food.jpg"],"audio_urls":[]}}"#,
            sender_of(number),
            self.prefix,
        );
        let request = format!(
            "POST /bench/dev/v1/message-webhook HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.key,
            body.len(),
        );
        if self.connection.is_none() {
            let stream = TcpStream::connect(self.http).await.expect("a server");
            stream.set_nodelay(true).expect("a socket");
            self.connection = Some(stream);
        }
        let stream = self.connection.as_mut().expect("made above");
        stream.write_all(request.as_bytes()).await.expect("sent");
        self.answer.clear();
        loop {
            let count = stream.read_buf(&mut self.answer).await.expect("answered");
            assert!(count > 0, "the server closed the connection");
            if let Some(whole) = whole_answer(&self.answer) {
                return whole;
            }
        }
    }
}

/// What an answer says, once it has come to its end.
fn whole_answer(bytes: &[u8]) -> Option<Answer> {
    let text = std::str::from_utf8(bytes).expect("UTF-8");
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    if body.len() < length.parse().expect("a number") {
        return None;
    }
    Some(match head.get(9..12) {
        Some("200") if body.contains("\"duplicate\":true") => Answer::Duplicate,
        Some("200") => Answer::Accepted,
        Some("503") => Answer::Failed,
        other => panic!("an answer with status {other:?}"),
    })
}

fn free_addr() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

fn is_ready(admin: SocketAddr) -> bool {
    let Ok(mut stream) = std::net::TcpStream::connect(admin) else { return false };
    let mut answer = String::new();
    let request = format!("GET /readyz HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.1 200")
}

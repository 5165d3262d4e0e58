//! The server as a process on a disk that can be hurt, and clients that take a broken connection for what it is.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use message_webhook::{
    domain::Timestamp,
    protocol::grpc::v1::{
        GetMessageRequest, StartPosition, StreamMessagesRequest, message_service_client::MessageServiceClient,
        stream_messages_request::From as StreamFrom,
    },
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tonic::{Code, Request, Status, metadata::AsciiMetadataValue, transport::Channel};

use super::ledger::{Ledger, Said, sid};
use crate::support::{
    Finished,
    process::{command, finish},
    said,
    shim::Shim,
};

pub const ORG: &str = "acme";
/// Messages from this number on are large: a few of them fill a file.
pub const LARGE: u64 = 20_000_000;
/// Longer than a start, a stop or an answer takes on the busiest machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many lines of a log tell why.
const LAST_LINES: usize = 12;
/// Where a condition is asked for again.
const SOON: Duration = Duration::from_millis(5);

/// Runs a command on the store, stopped or not, to its end.
pub fn cli(shim: &Shim, arguments: &[&str]) -> Finished {
    let mut command = command(arguments);
    command.arg("--data-dir").arg(shim.data_dir());
    shim.preload(&mut command);
    finish(&mut command)
}

/// A key that may do all with messages.
pub fn create_key(shim: &Shim) -> String {
    let scopes = ["submit", "read", "stream"].map(|scope| ["--scope", scope]).concat();
    let created = cli(shim, &[["keys", "create", "--org", ORG, "--env", "dev"].as_slice(), &scopes].concat());
    assert_eq!(created.code, Some(0), "no key: {}", created.stderr);
    created.stdout.trim().to_owned()
}

/// The third part of a key's text.
pub fn key_id(key: &str) -> &str {
    key.split('_').nth(2).expect("an id")
}

pub struct ServerProcess {
    child: Child,
    log: PathBuf,
    addresses: Option<Addresses>,
}

#[derive(Debug, Clone, Copy)]
struct Addresses {
    http: SocketAddr,
    grpc: SocketAddr,
    admin: SocketAddr,
}

/// How a server came to its end before it was ready.
#[derive(Debug)]
pub struct EndedEarly {
    pub status: ExitStatus,
    pub log: String,
}

impl ServerProcess {
    /// Starts it; it need not be ready yet, nor ever be.
    pub fn spawn(shim: &Shim, arguments: &[&str]) -> Self {
        let mut command = command(["serve", "--log-format", "json"]);
        for flag in ["--http-addr", "--grpc-addr", "--admin-addr"] {
            command.args([flag, "127.0.0.1:0"]);
        }
        command.arg("--data-dir").arg(shim.data_dir()).args(arguments);
        shim.preload(&mut command);
        let log = shim.aside("log");
        let child = command
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a writable directory"))
            .spawn()
            .expect("the server's binary");
        Self { child, log, addresses: None }
    }

    /// Starts it with these arguments and waits until it is ready.
    pub async fn start(shim: &Shim, arguments: &[&str]) -> Self {
        let mut server = Self::spawn(shim, arguments);
        if let Err(EndedEarly { status, log }) = server.ready().await {
            panic!("refused to start ({status}):\n{log}");
        }
        server
    }

    /// Waits until it is ready or has ended.
    pub async fn ready(&mut self) -> Result<(), EndedEarly> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return Err(EndedEarly { status, log: self.last_words() });
            }
            if self.addresses.is_none() {
                self.addresses = self.addresses_in_log();
            }
            if self.addresses.is_some() && self.readiness().await == Some(200) {
                return Ok(());
            }
            assert!(begun.elapsed() < PATIENCE, "not ready after {PATIENCE:?}:\n{}", self.last_words());
            tokio::time::sleep(SOON).await;
        }
    }

    fn addresses_in_log(&self) -> Option<Addresses> {
        let log = self.log();
        let line = log.lines().find(|line| line.contains("http_addr"))?;
        // The line may not be there to its end yet.
        let line: Value = serde_json::from_str(line).ok()?;
        let address = |name: &str| line.get(name)?.as_str()?.parse().ok();
        Some(Addresses { http: address("http_addr")?, grpc: address("grpc_addr")?, admin: address("admin_addr")? })
    }

    fn addresses(&self) -> Addresses {
        self.addresses.expect("a server that was ready")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of the log, for a failure's words.
    pub fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    /// The status of a page of the admin port.
    pub async fn page(&self, path: &str) -> Option<u16> {
        let answer = crate::support::client().get(format!("http://{}{path}", self.addresses().admin)).send().await;
        answer.ok().map(|answer| answer.status().as_u16())
    }

    pub async fn readiness(&self) -> Option<u16> {
        self.page("/readyz").await
    }

    /// Waits until `/readyz` answers with `status`.
    pub async fn wait_for_readiness(&self, status: u16) {
        let begun = Instant::now();
        while self.readiness().await != Some(status) {
            assert!(begun.elapsed() < PATIENCE, "/readyz is not {status} after {PATIENCE:?}:\n{}", self.last_words());
            tokio::time::sleep(SOON).await;
        }
    }

    /// SIGKILL, and the process is gone, if it was not already.
    pub fn kill(mut self) {
        // An error says that it has ended already.
        let _ = self.child.kill();
        self.child.wait().expect("a process that ends");
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a process that was not waited for");
    }

    /// SIGTERM, as an operator does, and it ends in good order.
    pub async fn stop(self) {
        self.signal(Signal::TERM);
        let (status, log) = self.end_within(PATIENCE).await;
        assert!(status.success(), "stopped with {status}:\n{log}");
    }

    /// Waits for its end, and says how it came and what was logged.
    pub async fn end_within(mut self, patience: Duration) -> (ExitStatus, String) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return (status, self.last_words());
            }
            assert!(begun.elapsed() < patience, "still running after {patience:?}:\n{}", self.last_words());
            tokio::time::sleep(SOON).await;
        }
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    /// A client with a connection of its own.
    pub fn webhook(&self, key: &str) -> Webhook {
        Webhook {
            client: reqwest::Client::builder().timeout(Duration::from_secs(30)).build().expect("a client"),
            url: format!("http://{}/{ORG}/dev/v1/message-webhook", self.addresses().http),
            authorization: format!("Bearer {key}"),
        }
    }

    pub async fn reader(&self, key: &str) -> Reader {
        let address = format!("http://{}", self.addresses().grpc);
        let client = MessageServiceClient::connect(address).await.expect("a gRPC port");
        Reader { client, authorization: format!("Bearer {key}").parse().expect("ASCII") }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        said::keep("log", &self.log());
        // An error says that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct Webhook {
    client: reqwest::Client,
    url: String,
    authorization: String,
}

impl Webhook {
    /// Sends a message and notes the answer.
    pub async fn note(&self, number: u64, ledger: &Ledger) -> Said {
        let begun = Instant::now();
        let said = self.submit(number).await;
        ledger.note(number, begun, said.clone());
        said
    }

    pub async fn submit(&self, number: u64) -> Said {
        let body = serde_json::json!({
            "from_id": format!("user_{}", number % 97),
            "message_sid": sid(number),
            "timestamp": 1_672_531_200 + number,
            "message_body": text(number),
        });
        let request = self.client.post(&self.url).header("authorization", &self.authorization);
        let request = request.header("content-type", "application/json").body(body.to_string());
        let Ok(answer) = request.send().await else { return Said::Nothing };
        let status = answer.status().as_u16();
        // Half an answer is no answer.
        let Ok(body) = answer.bytes().await else { return Said::Nothing };
        if status != 200 {
            return Said::Refused { status };
        }
        let body: Value = serde_json::from_slice(&body).expect("JSON in a whole answer");
        let accepted_at = body["accepted_at"].as_str().expect("a time").to_owned();
        match body["message"].as_str().expect("a text") {
            "Message received and processed" => Said::Processed { accepted_at },
            "Already processed" => {
                Said::Already { accepted_at, payload_matches: body.get("payload_matches").is_none() }
            }
            other => panic!("unknown answer '{other}'"),
        }
    }
}

/// Differs in length, so that records do not all end at the same places of a page.
fn text(number: u64) -> String {
    let times = match number {
        LARGE.. => 10_000,
        _ if number % 64 == 63 => 1_500,
        _ => 1 + number % 40,
    };
    format!("message {number} ").repeat(usize::try_from(times).expect("small"))
}

pub struct Reader {
    client: MessageServiceClient<Channel>,
    authorization: AsciiMetadataValue,
}

impl Reader {
    fn with_key<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.authorization.clone());
        request
    }

    /// When the message was accepted, in the words of HTTP; its content is what was sent. `None` where it is not there.
    pub async fn get(&mut self, number: u64) -> Option<String> {
        let request = self.with_key(GetMessageRequest { message_sid: sid(number), ..Default::default() });
        let answer = match self.client.get_message(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.code() == Code::NotFound => return None,
            Err(status) => panic!("{}: {status}", sid(number)),
        };
        let message = answer.message.expect("a message");
        assert_eq!(message.message_sid, sid(number));
        assert_eq!(message.message_body, Some(text(number)));
        assert_eq!(message.from_id, format!("user_{}", number % 97));
        assert!(message.media.is_none());
        let at = message.accepted_at.expect("a time");
        Some(Timestamp::from_unix(at.seconds, at.nanos).expect("in range").to_string())
    }

    /// The sids in the feed from its start to the message `last`, in order.
    pub async fn feed_through(&mut self, last: u64) -> Vec<String> {
        loop {
            match self.try_feed_through(last).await {
                Ok(sids) => return sids,
                // It was overtaken by the retention.
                Err(status) if status.code() == Code::OutOfRange => {}
                Err(status) => panic!("{status}"),
            }
        }
    }

    async fn try_feed_through(&mut self, last: u64) -> Result<Vec<String>, Status> {
        let from = Some(StreamFrom::Position(StartPosition::Start.into()));
        let request = self.with_key(StreamMessagesRequest { from, ..Default::default() });
        let mut frames = self.client.stream_messages(request).await?.into_inner();
        let (mut sids, last) = (Vec::new(), sid(last));
        loop {
            let frame = tokio::time::timeout(PATIENCE, frames.message()).await.unwrap_or_else(|_| {
                panic!("the feed does not come to {last}; it has {} messages", sids.len());
            });
            for item in frame?.expect("a stream without end").messages {
                sids.push(item.message.expect("a message").message_sid);
                if sids.last() == Some(&last) {
                    return Ok(sids);
                }
            }
        }
    }
}

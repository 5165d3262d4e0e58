//! The server as a process, and clients that take a broken connection for what it is.

use std::{
    collections::HashMap,
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use message_webhook::{
    domain::{SystemClock, Timestamp},
    protocol::grpc::v1::{GetMessageRequest, message_service_client::MessageServiceClient},
    store::{
        FeedFrom, FeedOrder, FeedStart, MessageStore, PageLimit,
        embedded::{EmbeddedStore, Left, Options},
    },
};
use tonic::{Request, metadata::AsciiMetadataValue, transport::Channel};

use super::ledger::{Said, sid};

const PROGRAM: &str = env!("CARGO_BIN_EXE_message-webhook");

/// A key that may submit and read.
pub fn create_key(dir: &Path, org: &str) -> String {
    let output = Command::new(PROGRAM)
        .args(["keys", "create", "--org", org, "--env", "dev", "--scope", "submit", "--scope", "read", "--data-dir"])
        .arg(dir)
        .output()
        .expect("the server's binary");
    assert!(output.status.success(), "no key: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("a key is ASCII").trim().to_owned()
}

/// How often each message is in the feed of the store in `dir`, which no server has open.
pub async fn count_in_feed(dir: &Path) -> HashMap<String, usize> {
    let (store, report) = EmbeddedStore::open(Options::new(dir), Arc::new(SystemClock)).expect("a store in order");
    assert_eq!(report.left, Left::Clean, "{report}");
    let start = FeedFrom::Start(FeedStart::Start);
    let mut follower = store.follow(start, FeedOrder::Ordered).await.expect("a follower");
    let mut times = HashMap::new();
    loop {
        let page = follower.next(PageLimit { messages: 1000, bytes: 1 << 20 }).await.expect("a page");
        if page.items.is_empty() {
            break;
        }
        for item in page.items {
            *times.entry(item.message.key.sid.as_str().to_owned()).or_default() += 1;
        }
    }
    store.close().await.expect("closed");
    times
}

pub struct ServerProcess {
    child: Child,
    http: SocketAddr,
    grpc: SocketAddr,
    admin: SocketAddr,
    log: PathBuf,
}

impl ServerProcess {
    pub fn start(dir: &Path) -> Self {
        let [http, grpc, admin] = [free_addr(), free_addr(), free_addr()];
        let log = dir.with_extension("log");
        let child = Command::new(PROGRAM)
            .args(["serve", "--data-dir"])
            .arg(dir)
            .args(["--http-addr", &http.to_string()])
            .args(["--grpc-addr", &grpc.to_string()])
            .args(["--admin-addr", &admin.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a writable directory"))
            .spawn()
            .expect("the server's binary");
        Self { child, http, grpc, admin, log }
    }

    pub async fn wait_until_ready(&self) {
        let url = format!("http://{}/readyz", self.admin);
        let begun = Instant::now();
        while !reqwest::get(&url).await.is_ok_and(|answer| answer.status().is_success()) {
            let log = || fs::read_to_string(&self.log).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_secs(60), "not ready after 60 s:\n{}", log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// SIGKILL, and the process is gone.
    pub fn kill(mut self) {
        self.child.kill().expect("a process that runs");
        self.child.wait().expect("a process that ends");
    }

    /// SIGTERM, as an operator does.
    pub async fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "still running 60 s after SIGTERM");
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        assert!(status.success(), "stopped with {status}");
    }

    /// A client with a connection of its own.
    pub fn webhook(&self, org: &str, key: &str) -> Webhook {
        Webhook {
            client: reqwest::Client::builder().timeout(Duration::from_secs(30)).build().expect("a client"),
            url: format!("http://{}/{org}/dev/v1/message-webhook", self.http),
            authorization: format!("Bearer {key}"),
        }
    }

    pub async fn reader(&self, key: &str) -> Reader {
        let client = MessageServiceClient::connect(format!("http://{}", self.grpc)).await.expect("a gRPC port");
        Reader { client, authorization: format!("Bearer {key}").parse().expect("ASCII") }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        crate::support::said::keep("log", &fs::read_to_string(&self.log).unwrap_or_default());
        // An error says that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_addr() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

pub struct Webhook {
    client: reqwest::Client,
    url: String,
    authorization: String,
}

impl Webhook {
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
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON in a whole answer");
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
    format!("message {number} ").repeat(usize::try_from(1 + number % 40).expect("small"))
}

pub struct Reader {
    client: MessageServiceClient<Channel>,
    authorization: AsciiMetadataValue,
}

impl Reader {
    /// When the message was accepted, in the words of HTTP; its content is what was sent.
    pub async fn get(&mut self, number: u64) -> String {
        let mut request = Request::new(GetMessageRequest { message_sid: sid(number), ..Default::default() });
        request.metadata_mut().insert("authorization", self.authorization.clone());
        let answer = self.client.get_message(request).await.unwrap_or_else(|e| panic!("{}: {e}", sid(number)));
        let message = answer.into_inner().message.expect("a message");
        assert_eq!(message.message_sid, sid(number));
        assert_eq!(message.message_body, Some(text(number)));
        assert_eq!(message.from_id, format!("user_{}", number % 97));
        assert!(message.media.is_none());
        let at = message.accepted_at.expect("a time");
        Timestamp::from_unix(at.seconds, at.nanos).expect("in range").to_string()
    }
}

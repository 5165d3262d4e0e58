//! Concurrent clients of both protocols that write down what they are told.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use message_webhook::{
    domain::Timestamp,
    protocol::grpc::v1::{
        self, Environment, FeedOrder, GetMessageRequest, StartPosition, StreamMessagesRequest, SubmitMessageRequest,
        SubmitOutcome, message_service_client::MessageServiceClient, stream_messages_request::From as StreamFrom,
    },
};
use parking_lot::{Mutex, RwLock};
use tokio::task::{JoinHandle, JoinSet};
use tonic::{Code, Status, transport::Channel};

use super::record::{Answer, Content, History, Key, Recorder, Shown};
use crate::support::{dice::Dice, grpc::with_key};

/// How long a client waits for one answer.
const ANSWER: Duration = Duration::from_secs(20);

/// The servers that can be spoken to now; a killed one comes back with other ports.
pub type Servers = Arc<RwLock<Vec<Server>>>;

/// One process of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Server {
    pub http: SocketAddr,
    pub grpc: SocketAddr,
}

/// An org and environment, with a key that may submit and read there.
#[derive(Clone)]
pub struct World {
    pub org: String,
    pub env: Environment,
    pub key: String,
}

/// What the clients do.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    pub clients: u64,
    /// Of each client.
    pub requests: u64,
    /// The number of the first sid, and of the first text.
    pub first: u64,
    /// So many sids are in use in all, one after the other.
    pub sids: u64,
    /// So long each client waits between two requests at most, in milliseconds.
    pub pause: u64,
}

/// Runs the clients to their end beside readers with `platform_key`, which sees all; then a fresh reader. Readers have up
/// to `patience` to get everything.
pub async fn run(plan: Plan, servers: &Servers, worlds: &[World], platform_key: &str, patience: Duration) -> History {
    let recorder = Arc::new(Recorder::new());
    let readers = readers(servers, platform_key);
    load(plan, servers, worlds, &recorder).await;
    finish(servers, worlds, readers, patience, &recorder).await
}

/// Runs the clients to their end.
pub async fn load(plan: Plan, servers: &Servers, worlds: &[World], recorder: &Arc<Recorder>) {
    let mut clients = JoinSet::new();
    for number in 0..plan.clients {
        let mut client = Client {
            number,
            dice: Dice(plan.seed ^ (number << 32)),
            servers: Arc::clone(servers),
            recorder: Arc::clone(recorder),
            http: reqwest::Client::builder().timeout(ANSWER).build().expect("a client"),
            grpc: None,
        };
        let worlds = worlds.to_vec();
        clients.spawn(async move {
            for request in 0..plan.requests {
                let world = &worlds[client.roll(worlds.len() as u64)];
                // All clients come to a sid at about the same time.
                let sid = plan.first + request * plan.sids / plan.requests.max(1) + client.dice.roll(4);
                let pause = client.dice.roll(plan.pause + 1);
                client.ask(world, sid, plan.first + request).await;
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        });
    }
    clients.join_all().await;
}

/// Looks everything up that was told as accepted, waits for the readers, reads the feed once more, and closes the book.
pub async fn finish(
    servers: &Servers,
    worlds: &[World],
    mut readers: Vec<Reader>,
    patience: Duration,
    recorder: &Arc<Recorder>,
) -> History {
    let all = servers.read().clone();
    let mut accepted = recorder.accepted();
    accepted.sort();
    accepted.dedup();
    let mut connections = Vec::new();
    for server in all {
        connections.push(connect(server).await.expect("a server"));
    }
    let looking = stream::iter(accepted.iter().enumerate()).for_each_concurrent(16, |(number, key)| {
        let mut grpc = connections[number % connections.len()].clone();
        let world = worlds.iter().find(|world| world.org == key.org && env(world.env) == key.env);
        async move { look_up(&mut grpc, world.expect("a world"), key.clone(), recorder).await }
    });
    looking.await;
    let fresh = Reader::start(servers, &readers[0].platform_key, FeedOrder::Ordered);
    readers.push(fresh);
    let give_up = Instant::now() + patience;
    // What did not come by then is a fault, and the checker says which.
    while Instant::now() < give_up && !readers.iter().all(|reader| reader.has(&accepted)) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    recorder.finish(readers.into_iter().map(Reader::stop).collect())
}

/// One submission outside the load, written down as the others are; `patience` is for the answer.
pub async fn submit(
    server: Server,
    world: &World,
    sid: &str,
    text: &str,
    patience: Duration,
    recorder: &Recorder,
) -> Answer {
    let client = reqwest::Client::builder().timeout(patience).build().expect("a client");
    let key = Key { org: world.org.clone(), env: env(world.env).to_owned(), sid: sid.to_owned() };
    let content = Content { from_id: "user_1".to_owned(), text: text.to_owned() };
    let began = recorder.now();
    let answer = submit_http(&client, server, world, &key, &content).await;
    recorder.submitted(key, content, began, answer.clone());
    answer
}

/// [`submit`] again and again until the answer is clear, as a sender does.
pub async fn submit_until_clear(
    server: Server,
    world: &World,
    sid: &str,
    text: &str,
    patience: Duration,
    recorder: &Recorder,
) -> Answer {
    let give_up = Instant::now() + patience;
    loop {
        let answer = submit(server, world, sid, text, ANSWER, recorder).await;
        if answer.accepted_at().is_some() {
            return answer;
        }
        assert!(Instant::now() < give_up, "{sid} is not accepted: {answer:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A reader of each order.
pub fn readers(servers: &Servers, platform_key: &str) -> Vec<Reader> {
    [FeedOrder::Fast, FeedOrder::Ordered].map(|order| Reader::start(servers, platform_key, order)).into()
}

/// One that follows the feed from its start, on whichever server is there, and goes on by its cursor.
pub struct Reader {
    platform_key: String,
    got: Arc<Mutex<Vec<(Key, Shown)>>>,
    task: JoinHandle<()>,
}

impl Reader {
    fn start(servers: &Servers, platform_key: &str, order: FeedOrder) -> Self {
        let got = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(follow(Arc::clone(servers), platform_key.to_owned(), order, Arc::clone(&got)));
        Self { platform_key: platform_key.to_owned(), got, task }
    }

    /// Whether all of `wanted` came.
    pub fn has(&self, wanted: &[Key]) -> bool {
        let got = self.got.lock();
        let got: BTreeSet<&Key> = got.iter().map(|(key, _)| key).collect();
        wanted.iter().all(|key| got.contains(key))
    }

    fn stop(self) -> Vec<(Key, Shown)> {
        self.task.abort();
        std::mem::take(&mut *self.got.lock())
    }
}

async fn follow(servers: Servers, platform_key: String, order: FeedOrder, got: Arc<Mutex<Vec<(Key, Shown)>>>) {
    let mut from = StreamFrom::Position(StartPosition::Start.into());
    for turn in 0.. {
        let server = {
            let servers = servers.read();
            servers[turn % servers.len()]
        };
        let request = StreamMessagesRequest { from: Some(from.clone()), order: order.into(), ..Default::default() };
        if let Some(mut grpc) = connect(server).await
            && let Ok(stream) = grpc.stream_messages(with_key(&platform_key, request)).await
        {
            let mut stream = stream.into_inner();
            while let Ok(Some(frame)) = stream.message().await {
                let mut got = got.lock();
                for message in frame.messages {
                    let message = message.message.expect("a message");
                    let key = Key {
                        org: message.org_id.clone(),
                        env: env(message.env()).to_owned(),
                        sid: message.message_sid.clone(),
                    };
                    got.push((key, shown(message)));
                }
                from = StreamFrom::Cursor(frame.cursor);
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

struct Client {
    number: u64,
    dice: Dice,
    servers: Servers,
    recorder: Arc<Recorder>,
    http: reqwest::Client,
    grpc: Option<(SocketAddr, MessageServiceClient<Channel>)>,
}

impl Client {
    fn roll(&mut self, below: u64) -> usize {
        usize::try_from(self.dice.roll(below)).expect("small")
    }

    async fn ask(&mut self, world: &World, sid: u64, request: u64) {
        let server = {
            let servers = self.servers.read().clone();
            servers[self.roll(servers.len() as u64)]
        };
        let key = Key { org: world.org.clone(), env: env(world.env).to_owned(), sid: format!("m-{sid}") };
        let content =
            Content { from_id: format!("user_{}", sid % 7), text: format!("client {} request {request}", self.number) };
        match self.dice.roll(10) {
            0..2 => {
                if let Some(mut grpc) = self.grpc(server).await {
                    look_up(&mut grpc, world, key, &self.recorder).await;
                }
            }
            2..6 => {
                let Some(mut grpc) = self.grpc(server).await else { return };
                let began = self.recorder.now();
                let answer = submit_grpc(&mut grpc, world, &key, &content).await;
                self.recorder.submitted(key, content, began, answer);
            }
            _ => {
                let began = self.recorder.now();
                let answer = submit_http(&self.http, server, world, &key, &content).await;
                let unclear = answer == Answer::Unclear;
                self.recorder.submitted(key, content, began, answer);
                if unclear {
                    // A caller does not hammer on a door that is shut.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// A connection that lasts, as callers have one; `None` when the server is away.
    async fn grpc(&mut self, server: Server) -> Option<MessageServiceClient<Channel>> {
        if let Some((address, client)) = &self.grpc
            && *address == server.grpc
        {
            return Some(client.clone());
        }
        let client = connect(server).await?;
        self.grpc = Some((server.grpc, client.clone()));
        Some(client)
    }
}

async fn connect(server: Server) -> Option<MessageServiceClient<Channel>> {
    let endpoint = Channel::from_shared(format!("http://{}", server.grpc)).expect("an address").timeout(ANSWER);
    endpoint.connect().await.ok().map(MessageServiceClient::new)
}

async fn submit_http(client: &reqwest::Client, server: Server, world: &World, key: &Key, content: &Content) -> Answer {
    let url = format!("http://{}/{}/{}/v1/message-webhook", server.http, key.org, key.env);
    let body = serde_json::json!({
        "from_id": content.from_id,
        "message_sid": key.sid,
        "timestamp": 1_672_531_200,
        "message_body": content.text,
    });
    let request = client.post(url).header("authorization", format!("Bearer {}", world.key));
    let request = request.header("content-type", "application/json").body(body.to_string());
    let Ok(response) = request.send().await else { return Answer::Unclear };
    let status = response.status().as_u16();
    let Ok(body) = response.bytes().await else { return Answer::Unclear };
    match status {
        200 => {}
        500 => return Answer::Bug,
        501.. | 408 => return Answer::Unclear,
        _ => return Answer::Refused,
    }
    let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON in a whole answer");
    let accepted_at = body["accepted_at"].as_str().expect("a time").to_owned();
    match body["message"].as_str().expect("a text") {
        "Message received and processed" => Answer::Processed { accepted_at },
        "Already processed" => Answer::Already { accepted_at, payload_matches: body.get("payload_matches").is_none() },
        other => panic!("unknown answer '{other}'"),
    }
}

async fn submit_grpc(
    client: &mut MessageServiceClient<Channel>,
    world: &World,
    key: &Key,
    content: &Content,
) -> Answer {
    let request = SubmitMessageRequest {
        org_id: String::new(),
        env: Environment::Unspecified.into(),
        from_id: content.from_id.clone(),
        message_sid: key.sid.clone(),
        timestamp: Some(prost_types::Timestamp { seconds: 1_672_531_200, nanos: 0 }),
        message_body: Some(content.text.clone()),
        media: None,
    };
    let receipt = match client.submit_message(with_key(&world.key, request)).await {
        Ok(response) => response.into_inner(),
        Err(status) => return unaccepted(&status),
    };
    let accepted_at = time(receipt.accepted_at);
    match receipt.outcome() {
        SubmitOutcome::Accepted => Answer::Processed { accepted_at },
        SubmitOutcome::Duplicate => Answer::Already { accepted_at, payload_matches: !receipt.payload_mismatch },
        SubmitOutcome::Unspecified => panic!("an answer without an outcome"),
    }
}

/// What a status says of a submission; those that our client's library makes up when a connection breaks say nothing.
fn unaccepted(status: &Status) -> Answer {
    match status.code() {
        Code::Internal if status.metadata().contains_key("x-request-id") => Answer::Bug,
        Code::InvalidArgument | Code::Unauthenticated | Code::PermissionDenied | Code::ResourceExhausted => {
            Answer::Refused
        }
        _ => Answer::Unclear,
    }
}

async fn look_up(client: &mut MessageServiceClient<Channel>, world: &World, key: Key, recorder: &Recorder) {
    let began = recorder.now();
    let request = GetMessageRequest { message_sid: key.sid.clone(), ..Default::default() };
    match client.get_message(with_key(&world.key, request)).await {
        Ok(response) => {
            let message = response.into_inner().message.expect("a message");
            recorder.looked_up(key, began, Some(shown(message)));
        }
        Err(status) if status.code() == Code::NotFound => recorder.looked_up(key, began, None),
        // No answer says nothing.
        Err(_) => {}
    }
}

fn shown(message: v1::Message) -> Shown {
    Shown {
        accepted_at: time(message.accepted_at),
        content: Content { from_id: message.from_id, text: message.message_body.expect("a text") },
    }
}

/// In the words of HTTP.
fn time(at: Option<prost_types::Timestamp>) -> String {
    let at = at.expect("a time");
    Timestamp::from_unix(at.seconds, at.nanos).expect("in range").to_string()
}

pub fn env(env: Environment) -> &'static str {
    match env {
        Environment::Dev => "dev",
        Environment::Prod => "prod",
        Environment::Unspecified => panic!("an answer without an environment"),
    }
}

//! One store from its making to its end, what was sent to it, and what must be true of it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::task::JoinSet;

use super::{
    ledger::{Ledger, Said, sid},
    process::{ServerProcess, Webhook, cli, create_key, key_id},
};
use crate::support::{dice::Dice, shim::Shim};

const CLIENTS: u64 = 24;
const CHECKERS: u64 = 32;
/// Of what was checked before, so much is checked again.
const AGAIN: u64 = 200;
/// Imported messages are numbered from here on.
pub const IMPORTED: u64 = 10_000_000;
/// Within this a disk that has room again takes messages.
const COMES_BACK: Duration = Duration::from_secs(30);
/// What a client waits for after a 503.
const RETRY: Duration = Duration::from_millis(20);
/// Above this what the disk noted is taken for written back, when no server runs.
const MOST_NOTED: u64 = 64 * 1024 * 1024;

/// For so long a server goes on after a failed sync.
const EXIT: (&str, &str) = ("MESSAGE_WEBHOOK_STORE_FAILURE_EXIT", "5s");
/// What stores have unless they are told otherwise.
pub const RETENTION: Duration = Duration::from_hours(30 * 24);

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    Live,
    Revoked,
    /// The command that was to revoke it did not end.
    Unknown,
}

pub struct Life {
    pub shim: Shim,
    /// May do all with messages, and is never revoked.
    pub key: String,
    retention: Duration,
    pub keys: Vec<(String, KeyState)>,
    pub ledger: Arc<Ledger>,
    /// The number of the next message.
    next: Arc<AtomicU64>,
    /// All before this number was checked since it was sent.
    checked: u64,
    /// Parts of the export that were imported whole, and whether the feed has them.
    pub imported: BTreeMap<u64, bool>,
    pub server: Option<ServerProcess>,
    /// The wall clock is ahead by so many seconds, and never goes back by itself.
    pub ahead: i64,
}

/// Clients that submit until they are told to stop or the server is gone.
pub struct Load {
    down: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

impl Life {
    /// A new store.
    pub fn new() -> Self {
        Self::with_retention(RETENTION)
    }

    /// A new store that forgets; one that forgets soon begins files often.
    pub fn with_retention(retention: Duration) -> Self {
        let life = Self::without_key(retention);
        // As an operator does who makes a key before the first start.
        fs::create_dir(life.shim.data_dir()).expect("a directory");
        Self { key: create_key(&life.shim), ..life }
    }

    /// A new store that the server itself has made, with its directory.
    pub async fn made_by_the_server() -> Self {
        let mut life = Self::without_key(RETENTION);
        life.up().await;
        life.key = create_key(&life.shim);
        life
    }

    fn without_key(retention: Duration) -> Self {
        let mut shim = Shim::make();
        if retention != RETENTION {
            shim.environment.push(("MESSAGE_WEBHOOK_RETENTION", format!("{}ms", retention.as_millis())));
            shim.environment.push(("MESSAGE_WEBHOOK_ALLOW_SHORT_RETENTION", "true".into()));
        }
        shim.environment.push((EXIT.0, EXIT.1.into()));
        Self {
            shim,
            key: String::new(),
            retention,
            keys: Vec::new(),
            ledger: Arc::new(Ledger::new(retention)),
            next: Arc::default(),
            checked: 0,
            imported: BTreeMap::new(),
            server: None,
            ahead: 0,
        }
    }

    /// Whether messages are forgotten while it is tested.
    pub fn forgets(&self) -> bool {
        self.retention != RETENTION
    }

    /// A server that need not be ready.
    pub fn spawn(&self) -> ServerProcess {
        ServerProcess::spawn(&self.shim, &[])
    }

    /// The server, started and ready.
    pub async fn up(&mut self) {
        if self.server.is_none() {
            let mut server = self.spawn();
            if let Err(ended) = server.ready().await {
                panic!("refused to start ({}):\n{}", ended.status, ended.log);
            }
            self.server = Some(server);
        }
    }

    /// The server that runs.
    pub fn running(&self) -> &ServerProcess {
        self.server.as_ref().expect("a server that runs")
    }

    /// A client of it with a connection of its own.
    pub fn webhook(&self) -> Webhook {
        self.running().webhook(&self.key)
    }

    /// SIGKILL, where it runs.
    pub fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill();
        }
        self.shim.heal();
        self.settle();
    }

    fn settle(&self) {
        if self.shim.noted() > MOST_NOTED {
            self.shim.settle();
        }
    }

    /// SIGTERM, where it runs, and a good end.
    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await;
            self.settle();
        }
    }

    /// Sends one message, and notes the answer.
    pub async fn submit(&mut self) -> (u64, Said) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number, self.webhook().note(number, &self.ledger).await)
    }

    /// Waits until messages are accepted.
    pub async fn until_accepted(&mut self) {
        let begun = Instant::now();
        loop {
            let (_, said) = self.submit().await;
            if said.accepted_at().is_some() {
                return;
            }
            let log = self.server.as_ref().map(ServerProcess::last_words).unwrap_or_default();
            assert!(begun.elapsed() < COMES_BACK, "nothing is accepted after {COMES_BACK:?}: {said:?}\n{log}");
            tokio::time::sleep(RETRY).await;
        }
    }

    /// New messages, and earlier ones again: some of them are in flight on another connection.
    pub fn load(&self, seed: u64) -> Load {
        let down = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let (ledger, next, down) = (Arc::clone(&self.ledger), Arc::clone(&self.next), Arc::clone(&down));
            let (webhook, mut dice) = (self.webhook(), Dice(seed ^ client));
            clients.spawn(async move {
                let mut refused = None;
                while !down.load(Ordering::Relaxed) {
                    let known = next.load(Ordering::Relaxed).max(1);
                    let number = refused.take().unwrap_or_else(|| match dice.roll(10) {
                        0 => dice.roll(known),
                        1 | 2 => known - 1 - dice.roll(known.min(50)),
                        _ => next.fetch_add(1, Ordering::Relaxed),
                    });
                    match webhook.note(number, &ledger).await {
                        Said::Nothing => return,
                        Said::Refused { .. } => {
                            refused = Some(number);
                            tokio::time::sleep(RETRY).await;
                        }
                        Said::Processed { .. } | Said::Already { .. } => {}
                    }
                }
            });
        }
        Load { down, clients }
    }

    /// Starts it where it does not run, and sends all again that was sent since the last check, and some of the rest: what
    /// was acknowledged must be known, with its time.
    pub async fn check(&mut self, dice: &mut Dice) {
        self.up().await;
        let all = self.next.load(Ordering::Relaxed);
        let mut numbers: Vec<u64> = (self.checked..all).collect();
        numbers.extend((0..AGAIN.min(all)).map(|_| dice.roll(all)));
        numbers.extend(self.imported.keys().copied().filter(|_| dice.roll(3) == 0));
        self.checked = all;
        let numbers = Arc::new(numbers);
        let mut checkers = JoinSet::new();
        for checker in 0..CHECKERS.min(numbers.len() as u64) {
            let (webhook, ledger, numbers) = (self.webhook(), Arc::clone(&self.ledger), Arc::clone(&numbers));
            checkers.spawn(async move {
                for number in numbers.iter().skip(checker as usize).step_by(CHECKERS as usize) {
                    let begun = Instant::now();
                    let mut said = webhook.note(*number, &ledger).await;
                    // After a full disk the next file may take a moment.
                    while said == (Said::Refused { status: 503 }) && begun.elapsed() < COMES_BACK {
                        tokio::time::sleep(RETRY).await;
                        said = webhook.note(*number, &ledger).await;
                    }
                    assert!(said.accepted_at().is_some(), "{}: {said:?}", sid(*number));
                    ledger.assert_sound_of(*number);
                }
            });
        }
        checkers.join_all().await;
        self.ledger.assert_sound();
    }

    /// Everything that was acknowledged is there once: by look-up, in the feed, and in an export of the stopped store; and
    /// the keys are as they were left.
    pub async fn end(&mut self, dice: &mut Dice) {
        self.check(dice).await;
        self.read_all(&self.ledger.acknowledged()).await;
        let (last, said) = self.submit().await;
        assert!(said.accepted_at().is_some(), "{said:?}");
        let fed = self.running().reader(&self.key).await.feed_through(last).await;
        self.check_feed(&fed);
        self.check_keys().await;
        self.stop().await;
        self.check_export(true);
    }

    /// Reads `numbers` back over gRPC: each is there, with the content that was sent, unless it may be forgotten.
    async fn read_all(&self, numbers: &[u64]) {
        let mut readers = JoinSet::new();
        for reader in 0..CHECKERS as usize {
            let (mut client, ledger) = (self.running().reader(&self.key).await, Arc::clone(&self.ledger));
            let own: Vec<u64> = numbers.iter().copied().skip(reader).step_by(CHECKERS as usize).collect();
            readers.spawn(async move {
                for number in own {
                    let found = client.get(number).await;
                    if ledger.must_keep(number) {
                        assert_eq!(found, ledger.accepted_at(number), "{}", sid(number));
                    }
                }
            });
        }
        readers.join_all().await;
    }

    /// The feed from its start has each message as often as it was accepted, or less where it may be forgotten.
    fn check_feed(&self, fed: &[String]) {
        let mut times: HashMap<&str, usize> = HashMap::new();
        for sid in fed {
            *times.entry(sid).or_default() += 1;
        }
        for number in self.ledger.kept() {
            let in_feed = self.imported.get(&number).copied().unwrap_or(true);
            let found = times.contains_key(sid(number).as_str());
            assert_eq!(found, in_feed, "{} is in the feed or not", sid(number));
        }
        for number in self.ledger.acknowledged() {
            let found = times.remove(sid(number).as_str()).unwrap_or_default();
            assert!(found <= 1 || self.forgets(), "{} is in the feed {found} times", sid(number));
        }
        assert!(times.is_empty(), "the feed has messages that nobody was told of: {times:?}");
    }

    /// An export, of a store that is stopped or not, has each message that must be there, once, with its time; and nothing
    /// that nobody was told of, where `all_told`.
    pub fn check_export(&self, all_told: bool) {
        let exported: Vec<(String, String)> = exported(&self.export()).collect();
        let mut there: HashSet<&(String, String)> = exported.iter().collect();
        assert_eq!(there.len(), exported.len(), "the export has a message twice");
        for number in self.ledger.kept() {
            let expected = (sid(number), self.ledger.accepted_at(number).expect("acknowledged"));
            assert!(there.contains(&expected), "the export has no {expected:?}");
        }
        for number in self.ledger.acknowledged() {
            there.remove(&(sid(number), self.ledger.accepted_at(number).expect("acknowledged")));
        }
        assert!(there.is_empty() || self.forgets() || !all_told, "nobody was told of {there:?}");
    }

    /// Exports the store, stopped or not, and gives the lines.
    pub fn export(&self) -> String {
        let exported = cli(&self.shim, &["export"]);
        assert_eq!(exported.code, Some(0), "{}", exported.stderr);
        exported.stdout
    }

    /// A file with these lines of an export.
    pub fn part_of(&self, lines: &[String]) -> PathBuf {
        let path = self.shim.aside("part.ndjson");
        let head = r#"{"format":"message-webhook-export","version":1,"exported_at":"2025-02-03T04:05:06Z"}"#;
        let end = format!(r#"{{"end":true,"messages":{}}}"#, lines.len());
        fs::write(&path, format!("{head}\n{}\n{end}\n", lines.join("\n"))).expect("written");
        path
    }

    /// What `keys list` says is what the commands were told.
    pub async fn check_keys(&self) {
        let listed = cli(&self.shim, &["keys", "list", "--json"]);
        assert_eq!(listed.code, Some(0), "{}", listed.stderr);
        let listed: Vec<Value> = serde_json::from_str(&listed.stdout).expect("JSON");
        for (key, state) in self.keys.iter().chain([&(self.key.clone(), KeyState::Live)]) {
            let id = key_id(key);
            match listed.iter().find(|listed| listed["key_id"] == id) {
                Some(found) => {
                    let is_revoked = !found["revoked_at"].is_null();
                    assert!(
                        *state == KeyState::Unknown || is_revoked == (*state == KeyState::Revoked),
                        "{id}: {state:?}"
                    );
                }
                // Keys that ended are forgotten after the retention, too.
                None => assert!(self.forgets() && *state != KeyState::Live, "{id}, {state:?}, is lost"),
            }
            let Some(server) = &self.server else { continue };
            let begun = Instant::now();
            let said = server.webhook(key).submit(0).await;
            if said != (Said::Refused { status: 401 }) {
                self.ledger.note(0, begun, said.clone());
            }
            match (state, said) {
                (KeyState::Live, Said::Processed { .. } | Said::Already { .. })
                | (KeyState::Revoked, Said::Refused { status: 401 })
                | (KeyState::Unknown, _) => {}
                (_, said) => panic!("{id} is {state:?}, and a submission with it: {said:?}"),
            }
        }
    }
}

impl Load {
    /// No more is sent, and all answers are noted.
    pub async fn end(self) {
        self.down.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
    }
}

/// Sid and time of the messages of an export.
pub fn exported(lines: &str) -> impl Iterator<Item = (String, String)> {
    let text = |line: &Value, name: &str| line.get(name).and_then(Value::as_str).map(str::to_owned);
    lines.lines().filter_map(move |line| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        Some((text(&line, "message_sid")?, text(&line, "accepted_at")?))
    })
}

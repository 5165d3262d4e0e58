//! Concurrent clients write down what they ask and what they are told; a checker finds what cannot be.
//!
//! Both protocols, the same sids in three worlds, and a text of its own in each submission, so that it is known of every
//! content shown whose it was. `HISTORY_REQUESTS` (of each client) makes a run longer, `HISTORY_SEED` makes it the same.

mod broken;
pub mod checker;
pub mod clients;
#[cfg(feature = "failpoints")]
mod failpoints;
mod made_up;
pub mod record;
mod replicas;
pub mod scene;

use std::{sync::Arc, time::Duration};

use message_webhook::{
    domain::{self, Clock, KeyOwner, Scope, SystemClock},
    protocol::grpc::v1::Environment,
};
use parking_lot::RwLock;

use self::{
    broken::{Breakage, BrokenStore},
    checker::{Rule, check},
    clients::{Plan, Server, Servers, World, load},
    record::{History, Recorder},
};
use crate::support::{
    PATIENCE, ServerProcess, TestServer,
    dice::{Dice, setting},
};

const WORLDS: [(&str, Environment); 3] =
    [("acme", Environment::Dev), ("acme", Environment::Prod), ("other", Environment::Dev)];

fn plan(requests: u64) -> Plan {
    let seed = setting("HISTORY_SEED", SystemClock.now().as_micros().unsigned_abs());
    println!("history: HISTORY_SEED={seed}");
    let requests = setting("HISTORY_REQUESTS", requests);
    Plan { seed, clients: 16, requests, first: 0, sids: requests / 2, pause: 4 }
}

#[track_caller]
fn assert_sound(history: &History) {
    let faults = check(history);
    let shown: Vec<String> = faults.iter().map(ToString::to_string).collect();
    println!("history: {}, {} faults", history.summary(), faults.len());
    println!("history: {}", history.counts());
    assert!(faults.is_empty(), "{shown:#?}");
}

fn keys_of(server: &ServerProcess) -> (Vec<World>, String) {
    let key = |arguments: &[&str]| {
        let created = server.cli(&[&["keys", "create"], arguments].concat());
        assert_eq!(created.code, Some(0), "{}", created.stderr);
        created.stdout.trim().to_owned()
    };
    let worlds = WORLDS.map(|(org, env)| World {
        org: org.into(),
        env,
        key: key(&["--org", org, "--env", clients::env(env), "--scope", "submit", "--scope", "read"]),
    });
    (worlds.into(), key(&["--platform", "--scope", "stream"]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_history_of_a_server_that_is_killed_again_and_again_is_sound() {
    let plan = plan(300);
    let mut server = ServerProcess::start();
    let dir = server.keep_dir();
    let data_dir = server.data_dir.clone();
    let (worlds, platform_key) = keys_of(&server);
    let at = |server: &ServerProcess| Server { http: server.http, grpc: server.grpc };
    let servers: Servers = Arc::new(RwLock::new(vec![at(&server)]));
    let recorder = Arc::new(Recorder::new());
    let readers = clients::readers(&servers, &platform_key);
    let clients = tokio::spawn({
        let (servers, worlds, recorder) = (Arc::clone(&servers), worlds.clone(), Arc::clone(&recorder));
        async move { load(plan, &servers, &worlds, &recorder).await }
    });
    let mut dice = Dice(plan.seed);
    let mut kills = 0;
    while !clients.is_finished() {
        tokio::time::sleep(Duration::from_millis(50 + dice.roll(400))).await;
        server.signal("KILL");
        server.wait();
        server = ServerProcess::builder().data_dir(&data_dir).start();
        *servers.write() = vec![at(&server)];
        kills += 1;
    }
    clients.await.expect("no panic");
    let history = clients::finish(&servers, &worlds, readers, PATIENCE, &recorder).await;
    println!("history: {kills} kills");
    assert!(kills > 0 && history.submissions.iter().any(|it| it.answer == record::Answer::Unclear));
    assert_sound(&history);
    drop(dir);
}

/// The faults of a server over a store that breaks a promise.
async fn faults_of(breakage: Breakage) -> Vec<Rule> {
    let store = BrokenStore::new(breakage);
    let server = TestServer::builder().store(store).start().await;
    let mut worlds = Vec::new();
    for (org, env) in WORLDS {
        let which = if env == Environment::Prod { domain::Environment::Prod } else { domain::Environment::Dev };
        let key = server.key(org, which, &[Scope::Submit, Scope::Read]).await;
        worlds.push(World { org: org.into(), env, key });
    }
    let platform_key = server.key_of(KeyOwner::Platform, &[Scope::Stream]).await;
    let servers: Servers = Arc::new(RwLock::new(vec![Server { http: server.http, grpc: server.grpc }]));
    // The reader gives up soon: what it waits for may never come.
    let history = clients::run(plan(40), &servers, &worlds, &platform_key, Duration::from_secs(2)).await;
    let mut rules: Vec<Rule> = check(&history).into_iter().map(|fault| fault.rule).collect();
    rules.sort();
    rules.dedup();
    println!("{breakage:?}: {}: {rules:?}", history.summary());
    rules
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_writes_without_a_condition_is_found_out() {
    assert!(faults_of(Breakage::NoCondition).await.contains(&Rule::ProcessedTwice));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_accepts_what_readers_have_passed_is_found_out() {
    assert_eq!(faults_of(Breakage::NoCheck).await, [Rule::NotDelivered]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_speaks_of_what_is_not_durable_is_found_out() {
    assert!(faults_of(Breakage::SpeaksTooEarly).await.contains(&Rule::NotThere));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_shows_another_content_is_found_out() {
    assert_eq!(faults_of(Breakage::LastContentWins).await, [Rule::OtherContent]);
}

//! How fast the service is on a CQL cluster, beside a bare loop on the same driver that does the same statements.
//!
//! `CQL_NODES=HOST:PORT,… cargo bench --bench replicas -- [--rounds N] [--seconds S] [--clients N]`
//!
//! Three take turns, round by round, so that a slow minute of the cluster meets all: the bare loop; the store, called in
//! this process; and the service in a process of its own, over HTTP. Each has the same number of clients, one request at
//! a time each. Medians of the rounds are printed, and the medians of the rounds' ratios. The keyspace is the bench's
//! own, and is dropped.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a benchmark that fails says so and stops, and it prints what it found"
)]

mod bare;
#[path = "../throughput/report.rs"]
#[allow(dead_code, reason = "some of its lines are of the other benchmark alone")]
mod report;
mod run;
mod service;
mod store;

use std::{sync::Arc, time::Duration};

use message_webhook::{
    domain::SystemClock,
    store::scylla::{Options, migrate},
};
use scylla::client::session::Session;

use report::{Report, median};
use run::{Outcome, run};

// The service uses it too; an allocator is not what this measures.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Arguments {
    rounds: usize,
    duration: Duration,
    clients: usize,
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let mut wanted = Arguments { rounds: 5, duration: Duration::from_secs(10), clients: 64 };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
        match argument.as_str() {
            "--rounds" => wanted.rounds = value().parse().expect("a number of rounds"),
            "--seconds" => wanted.duration = Duration::from_secs_f64(value().parse().expect("seconds")),
            "--clients" => wanted.clients = value().parse().expect("a number of clients"),
            other => panic!("unknown argument '{other}'"),
        }
    }
    let named = std::env::var("CQL_NODES").expect("CQL_NODES names the cluster: HOST:PORT,…");
    let nodes: Vec<_> = named.split(',').map(str::to_owned).collect();
    let keyspace = format!("bench_{}", std::process::id());
    let mut options = Options::new(nodes, &keyspace);
    // Of one node by name: nothing makes fewer copies than 3 unasked.
    options.replication_factor = u32::try_from(options.nodes.len().min(3)).expect("few");
    migrate::apply(&options, &SystemClock).await.expect("a keyspace");
    let session = Arc::new(bare::connect(&options.nodes).await);
    measure(&wanted, &options, &session).await;
    session.query_unpaged(format!("DROP KEYSPACE {keyspace}"), &[]).await.expect("dropped");
}

async fn measure(wanted: &Arguments, options: &Options, session: &Arc<Session>) {
    let loops = Arc::new(bare::Loop::new(Arc::clone(session), options).await);
    let store = store::open(options.clone()).await;
    let service = service::Service::start(options);
    let clients = wanted.clients;
    let mut report = Report::default();
    report.line("cluster", format!("{} contact points, {clients} clients", options.nodes.len()));

    // First of all, so that plans, connections and caches are there.
    let warm = Duration::from_secs(8);
    for which in 0..3 {
        let prefix = format!("warm{which}");
        match which {
            0 => run(clients, warm, bare::accepts(&loops, &prefix)).await,
            1 => run(clients, warm, store::accepts(&store, &prefix)).await,
            _ => run(clients, warm, service.accepts(&prefix)).await,
        };
    }
    let mut rounds: [Vec<Outcome>; 3] = Default::default();
    let mut cpu = Vec::new();
    for round in 0..wanted.rounds {
        // Whoever is first one round is last the next.
        for turn in 0..3 {
            let which = (turn + round) % 3;
            let prefix = format!("r{round}");
            let before = service.cpu();
            let outcome = match which {
                0 => run(clients, wanted.duration, bare::accepts(&loops, &prefix)).await,
                1 => run(clients, wanted.duration, store::accepts(&store, &format!("store-{prefix}"))).await,
                _ => run(clients, wanted.duration, service.accepts(&prefix)).await,
            };
            if which == 2 {
                cpu.push((service.cpu() - before).as_secs_f64() * 1e6 / outcome.accepted() as f64);
            }
            report.progress(&format!("round {}, {}: {outcome}", round + 1, ["bare", "store", "service"][which]));
            assert!(outcome.accepted() > 0, "nothing was accepted");
            rounds[which].push(outcome);
        }
    }
    let [bare, store_rounds, service_rounds] = &rounds;
    let rates = |rounds: &[Outcome]| rounds.iter().map(Outcome::rate).collect::<Vec<_>>();
    let p99s = |rounds: &[Outcome]| rounds.iter().map(|outcome| outcome.percentile(0.99)).collect::<Vec<_>>();
    let failures = |rounds: &[Outcome]| rounds.iter().map(Outcome::failed).sum::<usize>();
    let p50 = median(&bare.iter().map(|outcome| outcome.percentile(0.5)).collect::<Vec<_>>());
    report.line(
        "bare loop",
        format!("{:.0}/s, p50 {p50:.1} ms, p99 {:.1} ms", median(&rates(bare)), median(&p99s(bare))),
    );
    for (name, rounds) in [("store", store_rounds), ("service over HTTP", service_rounds)] {
        report.ratio(&format!("accepts, {name} / bare"), &rates(rounds), &rates(bare), "goal: at least 0.9");
        let ratios: Vec<_> = p99s(rounds).iter().zip(p99s(bare)).map(|(own, bare)| own / bare).collect();
        let (own, base) = (median(&p99s(rounds)), median(&p99s(bare)));
        report.line(
            &format!("p99, {name} / bare"),
            format!("{:.2} ({own:.1} ms over {base:.1} ms; goal: at most 1.3)", median(&ratios)),
        );
    }
    report.line(
        "not answered in time",
        format!("bare {}, store {}, service {}", failures(bare), failures(store_rounds), failures(service_rounds)),
    );
    report.line("CPU of the service per accept", format!("{:.0} µs", median(&cpu)));
    duplicates(wanted, &loops, &store, &service, &mut report).await;
    report.print();
    service.stop();
    message_webhook::store::Lifecycle::close(&*store).await.expect("closed");
}

/// Messages that the process remembers, beside a lightweight transaction that is refused.
async fn duplicates(
    wanted: &Arguments,
    loops: &Arc<bare::Loop>,
    store: &Arc<store::Store>,
    service: &service::Service,
    report: &mut Report,
) {
    let known = 1_000;
    loops.fill("known", known).await;
    store::fill(store, "known-store", known).await;
    service.fill("known", known).await;
    let clients = wanted.clients;
    let (mut lwts, mut remembered, mut answered) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..wanted.rounds {
        let lwt = run(clients, wanted.duration / 2, bare::claims(loops, "known", known)).await;
        let memory = run(clients, wanted.duration / 10, store::duplicates(store, "known-store", known)).await;
        let http = run(clients, wanted.duration / 4, service.duplicates("known", known)).await;
        report.progress(&format!("duplicates: LWT {lwt}; remembered {memory}; over HTTP {http}"));
        lwts.push(lwt.rate());
        remembered.push(memory.rate());
        answered.push(http.rate());
    }
    report.ratio("duplicates from memory / LWT", &remembered, &lwts, "goal: at least 20");
    report.line("duplicates over HTTP", format!("{:.0}/s", median(&answered)));
}

//! What others notice when one tenant sends five times what the machine can take: `overload` in place of flags, as
//! `scripts/overload` does.
//!
//!     overload [--seconds S] [--times N] [--memory MIB] [--dir DIR]
//!
//! First how much the machine can take is measured, by as many connections as fill groups. Then for S seconds (60) one tenant sends
//! N times (5) as much over more connections than the server takes submissions at once, whether or not earlier ones are
//! answered, while another sends 50 a second and probes ask for health. Then the server is killed, started again, and asked for
//! what it had accepted. Each line says PASS or FAIL; it ends with 1 if any failed.
//!
//! The server has the first core; the flood, the other tenant and the probes share the second, where the flood gives way (nice
//! 19): on a machine of its own it would be in nobody's way. A latency counts from when its request was due.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::ExitCode,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use mio::{Events, Poll, Token};

use super::{
    CONNECTIONS, fresh_in,
    load::{Answer, Body, Load, Stop, Target, Template, connect, percentile, receive, send},
    pin_self,
    server::Service,
};

/// More than the server takes submissions at once by default, 4096.
const FLOOD_CONNECTIONS: usize = 6000;
/// The other tenant's, each with its share of its requests.
const OTHERS: u32 = 10;
const OTHERS_PERIOD: Duration = Duration::from_millis(200);
const HIGHEST_P99_MS: f64 = 100.0;
/// Of the speed before, and the time until then.
const BACK: f64 = 0.9;
const BACK_AFTER: Duration = Duration::from_secs(2);
/// Of the flood's accepted messages one in so many is asked for after the kill.
const SAMPLE: u64 = 97;

struct Options {
    seconds: f64,
    times: f64,
    memory_mib: u64,
    dir: PathBuf,
}

/// What the flood was answered.
#[derive(Default)]
struct Flood {
    sent: u64,
    accepted: u64,
    /// 429 or 503, with Retry-After.
    refused: u64,
    other: u64,
    /// Numbers of some of what was accepted.
    sample: Vec<u64>,
    elapsed: Duration,
}

/// What another tenant saw.
#[derive(Default)]
struct Seen {
    latencies: Vec<u32>,
    failed: u64,
}

/// Prints lines and knows whether one failed.
#[derive(Default)]
struct Verdict {
    failed: bool,
}

impl Verdict {
    fn line(&mut self, good: bool, name: &str, text: &str) {
        self.failed |= !good;
        println!("{}  {name:34}  {text}", if good { "PASS" } else { "FAIL" });
    }
}

pub fn run(arguments: &[&str], dir: PathBuf) -> ExitCode {
    let mut options = Options { seconds: 60.0, times: 5.0, memory_mib: 256, dir };
    for pair in arguments.chunks(2) {
        let [name, value] = pair else { panic!("{} needs a value", pair[0]) };
        match *name {
            "--seconds" => options.seconds = value.parse().expect("seconds"),
            "--times" => options.times = value.parse().expect("a number"),
            "--memory" => options.memory_mib = value.parse().expect("MiB"),
            "--dir" => options.dir = value.into(),
            other => panic!("unknown argument '{other}'"),
        }
    }
    pin_self();
    let mut verdict = Verdict::default();
    measure(&options, &mut verdict);
    if verdict.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn measure(options: &Options, verdict: &mut Verdict) {
    let dir = fresh_in(&options.dir, "overload");
    let service = Service::start(&dir);
    let other = service.another_key(&dir, "other");
    let full_speed = |prefix: &str| {
        let (body, stop) = (Body::unique(prefix), Stop::After(Duration::from_secs(3)));
        Load { target: service.target(), connections: CONNECTIONS, body, stop }.run().rate()
    };
    full_speed("warm");
    let most = full_speed("most");
    let resting = service.resident_mb();
    eprintln!("the machine takes {most:.0}/s; {:.0}/s for {} s", most * options.times, options.seconds);

    let over = AtomicBool::new(false);
    let (flood, seen, health) = thread::scope(|scope| {
        let over = &over;
        let others: Vec<_> = (0..OTHERS)
            .map(|number| {
                scope.spawn({
                    let other = &other;
                    move || work(other, number, over)
                })
            })
            .collect();
        let health = scope.spawn(|| probe(service.admin(), over));
        let flood = scope.spawn(|| {
            rustix::process::nice(19).expect("may give way");
            flood(service.target(), most * options.times, Duration::from_secs_f64(options.seconds))
        });
        let flood = flood.join();
        over.store(true, Ordering::Relaxed);
        let mut seen = Seen::default();
        for other in others {
            let one = other.join().expect("no panic");
            seen.latencies.extend(one.latencies);
            seen.failed += one.failed;
        }
        (flood.expect("a flood that reaches its end"), seen, health.join().expect("no panic"))
    });
    let ended = Instant::now();
    let peak = service.peak_mb();
    thread::sleep(BACK_AFTER.saturating_sub(ended.elapsed()));
    let after = full_speed("after");
    let last = Instant::now() + Duration::from_secs(1);
    while service.resident_mb() > resting + options.memory_mib / 4 && Instant::now() < last {
        thread::sleep(Duration::from_millis(50));
    }
    let left = service.resident_mb();

    let offered = flood.sent as f64 / flood.elapsed.as_secs_f64();
    let text = format!("{offered:.0}/s, {:.1} times {most:.0}/s", offered / most);
    // A generator that does not keep up is no fault of the server's, and yet nothing is shown then.
    verdict.line(offered >= most * options.times * 0.95, "offered by one tenant", &text);
    let rate = flood.accepted as f64 / flood.elapsed.as_secs_f64();
    println!("      {:34}  {} ({rate:.0}/s)", "accepted of these", flood.accepted);
    let text = format!("{}; {} were answered otherwise", flood.refused, flood.other);
    verdict.line(flood.other == 0, "refused by 429 or 503, Retry-After", &text);
    let text = format!("{} of {} failed", seen.failed, seen.latencies.len() as u64 + seen.failed);
    verdict.line(seen.failed == 0 && !seen.latencies.is_empty(), "another tenant's 50/s", &text);
    let p99 = percentile(&seen.latencies, 990);
    let text = format!(
        "{p99:.1} ms; median {:.1} ms, all below {:.1} ms (goal: {HIGHEST_P99_MS} ms)",
        percentile(&seen.latencies, 500),
        percentile(&seen.latencies, 1000)
    );
    verdict.line(p99 < HIGHEST_P99_MS, "its 99th percentile", &text);
    let (asked, unanswered, slowest) = health;
    let text = format!("{unanswered} of {asked} not answered by 200; the slowest took {} ms", slowest.as_millis());
    verdict.line(unanswered == 0 && asked > 0, "/livez and /readyz", &text);
    let text = format!("{resting} MiB before, {peak} at most (goal: {} more)", options.memory_mib);
    verdict.line(peak <= resting + options.memory_mib, "memory", &text);
    println!("      {:34}  {left} MiB", "memory afterwards");
    let text = format!("{after:.0}/s from 2 s after on, {:.2} of before (goal: {BACK})", after / most);
    verdict.line(after >= most * BACK, "full speed again", &text);

    service.kill();
    let service = Service::start(&dir);
    let lost = flood.sample.iter().filter(|number| !is_known(service.target(), "flood", **number)).count();
    let text = format!("{lost} of {} of the accepted are not there after a kill", flood.sample.len());
    verdict.line(lost == 0 && !flood.sample.is_empty(), "durable", &text);
}

/// Sends at `rate` for as long, over connections that are free; those that are not answered have to wait.
fn flood(target: &Target, rate: f64, duration: Duration) -> Flood {
    let mut poll = Poll::new().expect("epoll");
    let mut template = Template::new(target, "flood");
    let mut connections: Vec<_> = (0..FLOOD_CONNECTIONS).map(|number| connect(target, &poll, Token(number))).collect();
    let mut numbers = vec![0; FLOOD_CONNECTIONS];
    let mut free: Vec<usize> = (0..FLOOD_CONNECTIONS).collect();
    let mut events = Events::with_capacity(FLOOD_CONNECTIONS);
    let mut buffer = [0_u8; 16 * 1024];
    let mut flood = Flood::default();
    let begun = Instant::now();
    loop {
        let elapsed = begun.elapsed();
        if elapsed >= duration {
            break;
        }
        let due = (elapsed.as_secs_f64() * rate) as u64;
        // At most so many before answers are taken.
        for _ in 0..64 {
            let Some(number) = (flood.sent < due).then(|| free.pop()).flatten() else { break };
            numbers[number] = flood.sent;
            send(&mut connections[number], template.request(flood.sent), Instant::now());
            flood.sent += 1;
        }
        poll.poll(&mut events, Some(Duration::ZERO)).expect("epoll");
        for event in &events {
            let number = event.token().0;
            let Some(answer) = receive(&mut connections[number], &mut buffer) else { continue };
            free.push(number);
            match answer {
                Answer { ok: true, .. } => {
                    flood.accepted += 1;
                    if flood.accepted % SAMPLE == 0 {
                        flood.sample.push(numbers[number]);
                    }
                }
                Answer { refused: true, .. } => flood.refused += 1,
                Answer { .. } => flood.other += 1,
            }
        }
    }
    flood.elapsed = begun.elapsed();
    flood
}

/// One of the other tenant's senders, which sends in its turn until `over`.
fn work(target: &Target, number: u32, over: &AtomicBool) -> Seen {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut template = Template::of("other", target, "other");
    let mut stream = None;
    let mut seen = Seen::default();
    let mut due = Instant::now() + OTHERS_PERIOD * number / OTHERS;
    while !over.load(Ordering::Relaxed) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let request = template.request(NEXT.fetch_add(1, Ordering::Relaxed));
        match ask(&mut stream, target.addr, request) {
            Some(Answer { ok: true, .. }) => seen.latencies.push(due.elapsed().as_micros() as u32),
            _ => {
                seen.failed += 1;
                stream = None;
            }
        }
        due += OTHERS_PERIOD;
    }
    seen
}

/// One request on a connection that is kept.
fn ask(stream: &mut Option<TcpStream>, address: SocketAddr, request: &[u8]) -> Option<Answer> {
    let stream = match stream {
        Some(stream) => stream,
        None => {
            let new = TcpStream::connect(address).ok()?;
            new.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
            new.set_nodelay(true).ok()?;
            stream.insert(new)
        }
    };
    stream.write_all(request).ok()?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
        if let Some(answer) = Answer::parse(&bytes) {
            return Some(answer);
        }
    }
}

/// Asks for health until `over`: how often, how often in vain, and the longest that it took.
fn probe(admin: SocketAddr, over: &AtomicBool) -> (u64, u64, Duration) {
    let (mut asked, mut unanswered, mut slowest) = (0, 0, Duration::ZERO);
    while !over.load(Ordering::Relaxed) {
        for path in ["/livez", "/readyz"] {
            let begun = Instant::now();
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
            let answer = ask(&mut None, admin, request.as_bytes());
            asked += 1;
            unanswered += u64::from(!answer.is_some_and(|answer| answer.ok));
            slowest = slowest.max(begun.elapsed());
        }
        thread::sleep(Duration::from_millis(200));
    }
    (asked, unanswered, slowest)
}

/// Whether the message was accepted before.
fn is_known(target: &Target, prefix: &str, number: u64) -> bool {
    let mut template = Template::new(target, prefix);
    ask(&mut None, target.addr, template.request(number)).is_some_and(|answer| answer.duplicate)
}

//! The two servers, each a process of its own on the first core.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::load::Target;

const SERVER_CORE: &str = "0";
const LOAD_CORE: &str = "1";
const PROGRAM: &str = env!("CARGO_BIN_EXE_message-webhook");

/// Moves this process to the core of the load generator.
pub fn pin_self() {
    let pid = std::process::id().to_string();
    let status = Command::new("taskset").args(["-c", "-p", LOAD_CORE, &pid]).stdout(Stdio::null()).status();
    assert!(status.expect("taskset (util-linux)").success(), "two cores are needed");
}

/// A command on the server's core that is killed when this process dies, however it dies: a server that was left over
/// would take half of what the next run measures, and write into its directory.
fn pinned() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "taskset", "-c", SERVER_CORE]);
    command
}

pub struct Ceiling {
    process: Process,
    target: Target,
    grpc: Target,
}

pub struct Service {
    process: Process,
    target: Target,
    grpc: Target,
    admin: SocketAddr,
    started_in: Duration,
}

struct Process(Child);

impl Ceiling {
    pub fn start() -> Self {
        let addrs = [free_addr(), free_addr()];
        let program = std::env::current_exe().expect("this program");
        let process = Process::start(pinned().arg(program).arg("ceiling").args(addrs.map(|addr| addr.to_string())));
        wait_for(|| addrs.iter().all(|addr| TcpStream::connect(addr).is_ok()));
        let [target, grpc] = addrs.map(|addr| Target { addr, key: "k".repeat(70), tls: None });
        Self { process, target, grpc }
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    pub fn cpu(&self) -> Duration {
        self.process.cpu()
    }

    /// The bare service over gRPC.
    pub fn grpc(&self) -> &Target {
        &self.grpc
    }
}

impl Service {
    /// Starts the service on `dir`, with a key for org `bench` that is made before the first start.
    pub fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[])
    }

    /// As [`Service::start`], in an environment with `variables`.
    pub fn start_with(dir: &Path, variables: &[(&str, &str)]) -> Self {
        let key = fs::read_to_string(key_file(dir)).unwrap_or_else(|_| new_key(dir));
        let [http, grpc, admin] = [free_addr(), free_addr(), free_addr()];
        let mut command = pinned();
        command.args([PROGRAM, "serve", "--data-dir"]).arg(dir).envs(variables.iter().copied());
        for (flag, addr) in [("--http-addr", http), ("--grpc-addr", grpc), ("--admin-addr", admin)] {
            command.args([flag, &addr.to_string()]);
        }
        let log = fs::File::create(dir.with_extension("log")).expect("writable directory");
        let begun = Instant::now();
        let process = Process::start(command.stderr(log));
        wait_for(|| is_ready(admin));
        let grpc = Target { addr: grpc, key: key.clone(), tls: None };
        let target = Target { addr: http, key, tls: None };
        Self { process, target, grpc, admin, started_in: begun.elapsed() }
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The same service's gRPC port.
    pub fn grpc(&self) -> &Target {
        &self.grpc
    }

    /// Where probes ask.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// From now on clients speak TLS and trust the certificate in `cert`.
    pub fn trust(&mut self, cert: &Path) {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(cert).expect("a certificate")).expect("a certificate");
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        self.target.tls = Some(Arc::new(config));
    }

    /// A target for `org`, which has a new key.
    pub fn another_key(&self, dir: &Path, org: &str) -> Target {
        Target { key: create_key(dir, org), ..self.target.clone() }
    }

    /// From the start of the process to the first time that it said "ready".
    pub fn started_in(&self) -> Duration {
        self.started_in
    }

    pub fn cpu(&self) -> Duration {
        self.process.cpu()
    }

    pub fn resident_mb(&self) -> u64 {
        self.process.memory_mb("VmRSS:")
    }

    pub fn peak_mb(&self) -> u64 {
        self.process.memory_mb("VmHWM:")
    }

    /// Bytes that it handed to write calls so far, and those of pages that it had written to a disk.
    pub fn written(&self) -> (u64, u64) {
        written_by(self.process.0.id())
    }

    /// SIGKILL.
    pub fn kill(self) {
        drop(self.process);
    }

    /// Stops it as an operator does.
    pub fn stop(mut self) {
        let pid = self.process.0.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().expect("kill");
        let status = self.process.0.wait().expect("a child that ends");
        assert!(status.success(), "the service stopped with {status}");
    }
}

impl Process {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("setpriv and taskset (util-linux)"))
    }

    /// What all its threads have spent so far, in the kernel too.
    fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).expect("/proc");
        // After the name in brackets, which may hold anything: 12th and 13th from there (proc(5), utime and stime).
        let (_, fields) = stat.rsplit_once(") ").expect("a name in brackets");
        let ticks: u64 = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks")).sum();
        Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    fn memory_mb(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("/proc");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a known field");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
        kib / 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where the key of the store in `dir` is.
pub fn key_file(dir: &Path) -> PathBuf {
    dir.with_extension("key")
}

fn new_key(dir: &Path) -> String {
    // An empty directory is a new store; one that is not there is a mistake.
    fs::create_dir_all(dir).expect("writable directory");
    let key = create_key(dir, "bench");
    fs::write(key_file(dir), &key).expect("writable directory");
    key
}

/// A new key of `org` in the store in `dir`, whether a server runs on it or not.
fn create_key(dir: &Path, org: &str) -> String {
    let scopes = ["--scope", "submit", "--scope", "stream"];
    let key = Command::new(PROGRAM)
        .args(["keys", "create", "--org", org, "--env", "dev"])
        .args(scopes)
        .arg("--data-dir")
        .arg(dir)
        .output()
        .expect("the service's binary");
    assert!(key.status.success(), "no key: {}", String::from_utf8_lossy(&key.stderr));
    String::from_utf8(key.stdout).expect("a key is ASCII").trim().to_owned()
}

/// Bytes that a process handed to write calls, which sockets have others for, and those of pages that it had written to a
/// disk (proc(5), wchar and write_bytes).
pub fn written_by(pid: u32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).expect("/proc");
    let field = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a known field");
        line.trim().parse().expect("a number")
    };
    (field("wchar:"), field("write_bytes:"))
}

fn free_addr() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

fn is_ready(admin: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(admin) else { return false };
    let mut answer = String::new();
    let request = format!("GET /readyz HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.1 200")
}

fn wait_for(condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(60), "not ready after 60 s");
        thread::sleep(Duration::from_millis(1));
    }
}

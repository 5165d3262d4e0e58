//! The real program as a process.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{self, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{PATIENCE, ring::Keyspace, said, wait_until};

const ANY_PORT: &str = "127.0.0.1:0";
/// A command that waits for what never comes would hold up all the tests.
const LONGEST_COMMAND: Duration = Duration::from_secs(180);
const PROGRAM: &str = env!("CARGO_BIN_EXE_message-webhook");

/// A command of the program that knows nothing of the environment's settings.
pub fn command<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(PROGRAM);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MESSAGE_WEBHOOK_") || name.to_string_lossy().starts_with("OTEL_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// What a command did.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end.
pub fn cli<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Finished {
    finish(&mut command(arguments))
}

/// Runs `command` to its end; one that has none is killed, and then its code is `None`.
pub fn finish(command: &mut Command) -> Finished {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs");
    let pid = Pid::from_child(&child);
    let (ended, end) = mpsc::channel::<()>();
    let guard = std::thread::spawn(move || {
        if end.recv_timeout(LONGEST_COMMAND) == Err(RecvTimeoutError::Timeout) {
            // It may end at this moment; then there is nothing to kill.
            let _ = kill_process(pid, Signal::KILL);
        }
    });
    let output = child.wait_with_output().expect("the program runs");
    drop(ended);
    guard.join().expect("no panic");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    let finished = Finished { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
    said::keep("log", &finished.stderr);
    finished
}

/// `serve` in a process of its own; it is killed when this is dropped.
pub struct ServerProcess {
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    pub admin: SocketAddr,
    pub data_dir: PathBuf,
    child: Child,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    dir: Option<TempDir>,
}

/// How to start one.
pub struct Builder {
    dir: Option<TempDir>,
    data_dir: PathBuf,
    /// Where the program runs, when it is to choose the data directory.
    cwd: Option<PathBuf>,
    grpc_addr: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    open_files: Option<u32>,
    on_scylla: bool,
}

impl ServerProcess {
    /// A server with a new store, that is ready.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// How to start one with a new store.
    pub fn builder() -> Builder {
        let dir = TempDir::new().expect("a directory");
        let data_dir = dir.path().join("data");
        Builder {
            dir: Some(dir),
            data_dir,
            cwd: None,
            grpc_addr: ANY_PORT.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            open_files: None,
            on_scylla: false,
        }
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        // Not by a command, which would take its time.
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("a process");
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Waits until it has halted, as SIGSTOP makes it.
    pub fn wait_until_halted(&self) {
        let stat = format!("/proc/{}/stat", self.child.id());
        // After the name, which is in parentheses.
        let halted = || std::fs::read_to_string(&stat).is_ok_and(|text| text.contains(") T "));
        wait_until("the process to halt", halted);
    }

    /// Memory that it has now.
    pub fn resident_bytes(&self) -> usize {
        self.memory("VmRSS:")
    }

    /// Memory that it had at most so far.
    pub fn peak_bytes(&self) -> usize {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a process");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a known field");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number of kB") * 1024
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Finished {
        let give_up = Instant::now() + PATIENCE;
        let status: ExitStatus = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(Instant::now() < give_up, "the server has not ended\n{}", self.stderr());
            std::thread::sleep(Duration::from_millis(10));
        };
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader");
        }
        Finished { code: status.code(), stdout: self.stdout(), stderr: self.stderr() }
    }

    /// What it wrote so far.
    pub fn stdout(&self) -> String {
        self.stdout.lock().expect("no panic").clone()
    }

    /// What it logged so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().expect("no panic").clone()
    }

    /// Waits until a line of the log contains `text`.
    pub fn wait_for_log(&mut self, text: &str) {
        let give_up = Instant::now() + PATIENCE;
        while !self.stderr().contains(text) {
            assert!(Instant::now() < give_up && !self.has_ended(), "no '{text}' in\n{}", self.stderr());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Runs a command on this server's store.
    pub fn cli(&self, arguments: &[&str]) -> Finished {
        let data_dir = self.data_dir.to_str().expect("UTF-8");
        cli(arguments.iter().copied().chain(["--data-dir", data_dir]))
    }

    /// The directory that goes with the process; of a server in a given directory none.
    pub fn keep_dir(&mut self) -> TempDir {
        self.dir.take().expect("a directory of its own")
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if let Ok(log) = self.stderr.lock() {
            said::keep("log", &log);
        }
        // It may have ended; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Builder {
    /// Serves the store in `data_dir`.
    pub fn data_dir(mut self, data_dir: &Path) -> Self {
        self.data_dir = data_dir.to_path_buf();
        self
    }

    /// Runs `--demo` in `cwd` and lets it choose where its data are.
    pub fn demo_in(mut self, cwd: &Path) -> Self {
        self.data_dir = cwd.join("demo-data");
        self.cwd = Some(cwd.to_path_buf());
        self.arg("--demo")
    }

    /// Listens for gRPC there, where a client expects a server that was started again.
    pub fn grpc_addr(mut self, address: SocketAddr) -> Self {
        self.grpc_addr = address.to_string();
        self
    }

    /// Serves the store in `keyspace`.
    pub fn on_scylla(mut self, keyspace: &Keyspace) -> Self {
        self.on_scylla = true;
        self.arguments.push("--store=scylla".to_owned());
        self.arguments.extend(keyspace.flags());
        self
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl ToString) -> Self {
        self.arguments.push(argument.to_string());
        self
    }

    /// Another value for the argument that begins so.
    pub fn replace(mut self, prefix: &str, value: &str) -> Self {
        let argument = self.arguments.iter_mut().find(|argument| argument.starts_with(prefix));
        *argument.expect("an argument") = format!("{prefix}{value}");
        self
    }

    /// Adds an environment variable.
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.environment.push((name.into(), value.to_string()));
        self
    }

    /// The command.
    pub fn command(&self) -> Command {
        let data_dir = self.data_dir.to_str().expect("UTF-8");
        let mut command =
            command(["serve", "--http-addr", ANY_PORT, "--grpc-addr", &self.grpc_addr, "--admin-addr", ANY_PORT]);
        match &self.cwd {
            Some(cwd) => command.current_dir(cwd),
            // Its data are elsewhere.
            None if self.on_scylla => &mut command,
            None => command.args(["--data-dir", data_dir]),
        };
        // The addresses are read from the log; an argument of the test's own wins.
        if !self.arguments.iter().any(|argument| argument == "--log-format") {
            command.args(["--log-format", "json"]);
        }
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Lets it have no more open files than this.
    pub fn open_files(mut self, count: u32) -> Self {
        self.open_files = Some(count);
        self
    }

    /// Starts it and waits until it serves.
    pub fn start(self) -> ServerProcess {
        let mut command = self.command();
        if let Some(count) = self.open_files {
            let mut limited = Command::new("sh");
            limited.args(["-c", &format!("ulimit -n {count} && exec \"$0\" \"$@\""), PROGRAM]);
            limited.args(command.get_args()).stdin(Stdio::null());
            for (name, value) in command.get_envs() {
                match value {
                    Some(value) => limited.env(name, value),
                    None => limited.env_remove(name),
                };
            }
            command = limited;
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs");
        let (stdout, out) = follow(child.stdout.take().expect("piped"));
        let (stderr, err) = follow(child.stderr.take().expect("piped"));
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut server = ServerProcess {
            http: unknown,
            grpc: unknown,
            admin: unknown,
            data_dir: self.data_dir,
            child,
            stdout,
            stderr,
            readers: vec![out, err],
            dir: self.dir,
        };
        server.wait_for_log("http_addr");
        let log = server.stderr();
        let line = log.lines().find(|line| line.contains("http_addr")).expect("found above");
        // JSON has `"name":"value"`, the form for people `name=value`.
        let address = |name: &str| {
            let (_, rest) = line.split_once(name).expect("an address");
            let rest = rest.trim_start_matches(['"', ':', '=']);
            rest.split(['"', ' ']).next().expect("a word").parse().expect("an address")
        };
        (server.http, server.grpc, server.admin) = (address("http_addr"), address("grpc_addr"), address("admin_addr"));
        server
    }
}

/// Reads all that comes, line by line.
fn follow(stream: impl Read + Send + 'static) -> (Arc<Mutex<String>>, JoinHandle<()>) {
    let text = Arc::new(Mutex::new(String::new()));
    let reader = std::thread::spawn({
        let text = Arc::clone(&text);
        move || {
            let mut lines = BufReader::new(stream);
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|count| count > 0) {
                text.lock().expect("no panic").push_str(&line);
                line.clear();
            }
        }
    });
    (text, reader)
}

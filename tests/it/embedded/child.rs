//! This test binary once more as another process, which may be killed or hit a limit.

use std::{
    env,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use message_webhook::{
    domain::SystemClock,
    store::{
        MessageStore,
        embedded::{EmbeddedStore, Options},
    },
};

use super::tools::numbered;

const TASK: &str = "MESSAGE_WEBHOOK_TEST_TASK";
const DIR: &str = "MESSAGE_WEBHOOK_TEST_DIR";
const FIRST: &str = "MESSAGE_WEBHOOK_TEST_FIRST";

/// Bytes of each message of the task `load`.
pub const LOAD_BYTES: usize = 60_000;

/// A process that does `task` with the store in `dir`.
pub fn command(task: &str, dir: &Path) -> Command {
    // A file may reach its size limit: that must be an error of the write and not the end of the process.
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "embedded::child::entry", "--nocapture", "--test-threads=1"])
        .env(TASK, task)
        .env(DIR, dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// The same for the task `load`, whose first message has this number.
pub fn load(dir: &Path, first: usize) -> Command {
    let mut command = command("load", dir);
    command.env(FIRST, first.to_string());
    command
}

/// Runs it to its end and gives what it said.
pub fn output(mut command: Command) -> String {
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

/// Not a test: the other process begins here.
#[test]
fn entry() {
    let Ok(task) = env::var(TASK) else { return };
    let dir = env::var(DIR).unwrap();
    let options = match task.as_str() {
        // Everything happens often: memtables are written, tables compacted, journals sealed.
        "load" => Options { memtable_bytes: 512 * 1024, ..Options::new(dir) },
        _ => Options::new(dir),
    };
    let (store, report) = match EmbeddedStore::open(options, Arc::new(SystemClock)) {
        Ok(opened) => opened,
        Err(error) => return println!("\nrefused: {error}"),
    };
    println!("\nopened: {report}");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match task.as_str() {
        "open" => runtime.block_on(store.close()).unwrap(),
        "fill" => runtime.block_on(fill_to_the_limit(store)),
        "load" => runtime.block_on(submit_for_ever(Arc::new(store))),
        other => panic!("no such task: {other}"),
    }
}

async fn submit_for_ever(store: Arc<EmbeddedStore>) {
    let first: usize = env::var(FIRST).unwrap().parse().unwrap();
    let mut clients = Vec::new();
    for client in 0..32 {
        let store = Arc::clone(&store);
        clients.push(tokio::spawn(async move {
            for number in (first + client..).step_by(32) {
                store.submit(numbered(number, LOAD_BYTES)).await.unwrap();
                // Said only after it was acknowledged; a line is one write, so it is whole or not there.
                println!("acknowledged {number}");
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
}

async fn fill_to_the_limit(store: EmbeddedStore) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = Rlimit { current: Some(1024 * 1024), maximum: getrlimit(Resource::Fsize).maximum };
    setrlimit(Resource::Fsize, limit).unwrap();
    for number in 0..1000 {
        match store.submit(numbered(number, 50_000)).await {
            Ok(_) => println!("acknowledged {number}"),
            Err(error) => {
                println!("error {:?} {}", error.kind(), error.cause().unwrap());
                break;
            }
        }
    }
    println!("then {:?}", store.submit(numbered(5000, 1)).await.unwrap_err().kind());
    println!("check {:?}", store.check().await.unwrap_err().kind());
    println!("read {}", store.get(numbered(0, 50_000).key()).await.unwrap().is_some());
    println!("close fails: {}", store.close().await.is_err());
}

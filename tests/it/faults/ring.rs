//! A ring whose nodes may be hurt, and two processes of the service on it.

use std::{path::Path, process::Command};

use message_webhook::{protocol::grpc::v1::Environment, store::scylla::Options};

use crate::{
    history::clients::{Server, World},
    support::{
        ServerProcess,
        process::{self, Finished},
        ring::Keyspace,
    },
};

/// The ring that `FAULT_RING` names.
pub struct FaultRing(String);

impl FaultRing {
    /// The ring with every node up.
    pub fn mended() -> Self {
        let first = std::env::var("FAULT_RING").expect("FAULT_RING names a ring, as RING_FIRST does for scripts/ring");
        let ring = Self(first);
        ring.mend();
        ring
    }

    /// Brings back what is down or paused.
    pub fn mend(&self) {
        self.run(&["up", "3"]);
    }

    /// The contact points.
    pub fn nodes(&self) -> Vec<String> {
        self.run(&["nodes"]).trim().split(',').map(str::to_owned).collect()
    }

    /// SIGKILL.
    pub fn kill(&self, node: u8) {
        self.run(&["kill", &node.to_string()]);
    }

    /// Starts a killed node.
    pub fn start(&self, node: u8) {
        self.run(&["start", &node.to_string()]);
    }

    /// SIGSTOP.
    pub fn pause(&self, node: u8) {
        self.run(&["pause", &node.to_string()]);
    }

    /// SIGCONT.
    pub fn resume(&self, node: u8) {
        self.run(&["cont", &node.to_string()]);
    }

    fn run(&self, arguments: &[&str]) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/ring");
        let output = Command::new(script).args(arguments).env("RING_FIRST", &self.0).output().expect("scripts/ring");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "scripts/ring {arguments:?}: {stderr}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

/// Two processes of the service on one keyspace.
pub struct Replicas {
    processes: [ServerProcess; 2],
    pub worlds: Vec<World>,
    pub platform_key: String,
    _keyspace: Keyspace,
}

impl Replicas {
    /// On a keyspace of their own among `nodes`.
    pub async fn start(nodes: &[String]) -> Self {
        // The windows that operators have; a test's short ones are missed by a ring that is hurt.
        let usual = |options: &mut Options| {
            let defaults = Options::new(Vec::new(), String::new());
            (options.window, options.reference_window) = (defaults.window, defaults.reference_window);
        };
        let keyspace = Keyspace::new(nodes.to_vec(), usual).await;
        let flags = keyspace.flags();
        let key = |arguments: &[&str]| {
            let arguments = [&["keys", "create", "--store", "scylla"], arguments].concat();
            let created: Finished = process::finish(process::command(arguments).args(&flags));
            assert_eq!(created.code, Some(0), "{}", created.stderr);
            created.stdout.trim().to_owned()
        };
        let world = |org: &str, env: Environment, name: &str| World {
            org: org.into(),
            env,
            key: key(&["--org", org, "--env", name, "--scope", "submit", "--scope", "read"]),
        };
        let worlds = vec![world("acme", Environment::Dev, "dev"), world("acme", Environment::Prod, "prod")];
        let platform_key = key(&["--platform", "--scope", "stream"]);
        let start = || ServerProcess::builder().on_scylla(&keyspace).start();
        Self { processes: [start(), start()], worlds, platform_key, _keyspace: keyspace }
    }

    /// Where both are.
    pub fn both(&self) -> [Server; 2] {
        self.processes.each_ref().map(|process| Server { http: process.http, grpc: process.grpc })
    }

    /// Where both are, for clients.
    pub fn servers(&self) -> Vec<Server> {
        self.both().into()
    }
}

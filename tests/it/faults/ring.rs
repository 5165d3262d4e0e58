//! A ring whose nodes may be hurt.

use std::{path::Path, process::Command};

/// The ring that `FAULT_RING` names, as `RING_FIRST` does for scripts/ring.
#[derive(Clone)]
pub struct FaultRing(String);

impl FaultRing {
    /// The ring with every node up.
    pub async fn mended() -> Self {
        let ring = Self::named().expect("FAULT_RING names a ring, as RING_FIRST does for scripts/ring");
        ring.mend().await;
        ring
    }

    /// The ring, if one is named.
    pub fn named() -> Option<Self> {
        std::env::var("FAULT_RING").ok().filter(|name| !name.is_empty()).map(Self)
    }

    /// Brings back what is down or paused.
    pub async fn mend(&self) {
        self.run(&["up", "3"]).await;
    }

    /// The contact points.
    pub async fn nodes(&self) -> Vec<String> {
        self.run(&["nodes"]).await.trim().split(',').map(str::to_owned).collect()
    }

    /// SIGKILL.
    pub async fn kill(&self, node: u8) {
        self.run(&["kill", &node.to_string()]).await;
    }

    /// Starts a killed node.
    pub async fn start(&self, node: u8) {
        self.run(&["start", &node.to_string()]).await;
    }

    /// SIGSTOP.
    pub async fn pause(&self, node: u8) {
        self.run(&["pause", &node.to_string()]).await;
    }

    /// SIGCONT.
    pub async fn resume(&self, node: u8) {
        self.run(&["cont", &node.to_string()]).await;
    }

    async fn run(&self, arguments: &[&str]) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/ring");
        let mut command = Command::new(script);
        command.args(arguments).env("RING_FIRST", &self.0);
        let output =
            tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("scripts/ring");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "scripts/ring {arguments:?}: {stderr}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

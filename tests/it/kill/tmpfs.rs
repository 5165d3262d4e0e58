//! A disk that is full in earnest: a small file system in memory, where the system lets a test mount one.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::support::{ServerProcess, eventually, message, post};

const PATH: &str = "/acme/dev/v1/message-webhook";

/// Unmounted when it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(dir: &Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=192m", "tmpfs"]).arg(dir).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then(|| Self(dir.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // The server may still be going; a lazy unmount waits for it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_system_without_room_refuses_with_503_until_there_is_room_again() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mounted) = Mounted::new(dir.path()) else {
        println!("this system does not let a test mount a file system");
        return;
    };
    let server = ServerProcess::builder().data_dir(&mounted.0.join("data")).start();
    let created = server.cli(&["keys", "create", "--org", "acme", "--env", "dev"]);
    let key = created.stdout.trim();
    assert_eq!(post(server.http, PATH, key, message("first")).await.0, 200);

    let ballast = mounted.0.join("ballast");
    let mut file = File::create(&ballast).unwrap();
    while file.write_all(&[1; 64 * 1024]).is_ok() {}
    // What was laid out before may still be filled.
    let large =
        format!(r#"{{"from_id":"u","timestamp":"1672531200","message_body":"{}","message_sid":""#, "x".repeat(200_000));
    let mut sent = 0;
    eventually("a refusal", async || {
        sent += 1;
        let (status, _) = post(server.http, PATH, key, format!("{large}{sent}\"}}")).await;
        assert!(status == 200 || status == 503, "{status}");
        (status == 503).then_some(())
    })
    .await;
    assert_eq!(post(server.http, PATH, key, message("first")).await.1["duplicate"], true, "reads go on");

    fs::remove_file(&ballast).unwrap();
    eventually("acceptance", async || {
        let (status, _) = post(server.http, PATH, key, message("after")).await;
        (status == 200).then_some(())
    })
    .await;
    server.terminate();
    assert_eq!(server.wait().code, Some(0));
    drop(mounted);
}

//! Files that change while a server runs.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use message_webhook::tls::HTTP_1_1;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{BOTH, PATH, shake, text};
use crate::support::{
    ServerProcess,
    certs::{Authority, Pair},
    eventually, get, message, raw,
};

/// A Secret as Kubernetes mounts it: each file is a link into a directory that is a link, which is swapped.
struct Mount {
    dir: TempDir,
    versions: usize,
}

impl Mount {
    fn new(pair: &Pair) -> Self {
        let mut mount = Self { dir: TempDir::new().expect("a directory"), versions: 0 };
        mount.swap(pair);
        for name in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(name), mount.path(name)).expect("a link");
        }
        mount
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn swap(&mut self, pair: &Pair) {
        self.versions += 1;
        let version = format!("..2026_{}", self.versions);
        std::fs::create_dir(self.path(&version)).expect("made");
        pair.write(&self.path(&version));
        symlink(&version, self.path("..data_tmp")).expect("a link");
        std::fs::rename(self.path("..data_tmp"), self.path("..data")).expect("swapped");
        if self.versions > 1 {
            std::fs::remove_dir_all(self.path(&format!("..2026_{}", self.versions - 1))).expect("removed");
        }
    }

    fn serve(&self) -> (ServerProcess, String) {
        let builder = ServerProcess::builder().arg("--http-tls-cert-file").arg(text(&self.path("tls.crt")));
        let server = builder.arg("--http-tls-key-file").arg(text(&self.path("tls.key"))).start();
        let key = server.cli(&["keys", "create", "--org", "acme", "--env", "dev"]).stdout;
        (server, key.trim().to_owned())
    }
}

/// The certificate that a new connection is shown.
async fn shown(server: &ServerProcess, authority: &Authority) -> Vec<u8> {
    let stream = shake(server.http, authority.client_config(None, &[HTTP_1_1])).await.expect("shaken hands");
    stream.get_ref().1.peer_certificates().expect("a certificate")[0].to_vec()
}

/// The value of a series.
async fn metric(server: &ServerProcess, series: &str) -> f64 {
    let (_, text) = get(server.admin, "/metrics").await.expect("metrics");
    let line =
        text.lines().find_map(|line| line.strip_prefix(series)).unwrap_or_else(|| panic!("no {series} in {text}"));
    line.trim().parse().expect("a number")
}

const SUCCESSFUL: &str = "message_webhook_file_reload_successful{file=\"http_tls\"}";
const READ_AT: &str = "message_webhook_file_reload_success_timestamp_seconds{file=\"http_tls\"}";
const NOT_AFTER: &str = "message_webhook_tls_not_after_timestamp_seconds{listener=\"http\"}";

fn days_left(not_after: f64) -> f64 {
    (not_after - time::OffsetDateTime::now_utc().unix_timestamp() as f64) / 86_400.0
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_the_old_ones_go_on() {
    let authority = Authority::generate();
    let (old, new) = (authority.pair(&["localhost"], 10), authority.pair(&["localhost"], 20));
    let mut mount = Mount::new(&old);
    let (server, key) = mount.serve();
    assert_eq!(shown(&server, &authority).await, old.chain()[0].to_vec());
    assert!((9.0..=10.0).contains(&days_left(metric(&server, NOT_AFTER).await)));
    let read_at = metric(&server, READ_AT).await;
    let mut open = shake(server.http, authority.client_config(None, &[HTTP_1_1])).await.expect("shaken hands");

    mount.swap(&new);
    // As whoever renews certificates may ask servers to read them.
    server.signal("HUP");
    eventually("the new certificate", async || {
        (shown(&server, &authority).await == new.chain()[0].to_vec()).then_some(())
    })
    .await;
    assert!((19.0..=20.0).contains(&days_left(metric(&server, NOT_AFTER).await)));
    assert!(metric(&server, READ_AT).await > read_at);
    assert_eq!(metric(&server, SUCCESSFUL).await, 1.0);

    open.write_all(&raw::post(PATH, &key, message("sid"))).await.expect("sent");
    let mut answer = [0; 12];
    open.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[tokio::test]
async fn a_pair_that_does_not_fit_is_told_and_the_old_one_stays_until_there_is_a_good_one() {
    let authority = Authority::generate();
    let (old, new) = (authority.pair(&["localhost"], 10), authority.pair(&["localhost"], 20));
    let mut mount = Mount::new(&old);
    let (mut server, _) = mount.serve();
    mount.swap(&Pair { cert: new.cert.clone(), key: old.key.clone() });
    server.wait_for_log("the certificate's files are broken");
    assert_eq!(metric(&server, SUCCESSFUL).await, 0.0);
    assert_eq!(shown(&server, &authority).await, old.chain()[0].to_vec());
    assert!((9.0..=10.0).contains(&days_left(metric(&server, NOT_AFTER).await)));

    // Back as it was, which is good, too.
    mount.swap(&old);
    eventually("a good look", async || (metric(&server, SUCCESSFUL).await == 1.0).then_some(())).await;
    std::fs::remove_file(mount.path("..data")).expect("removed");
    eventually("files that are gone", async || (metric(&server, SUCCESSFUL).await == 0.0).then_some(())).await;
    assert_eq!(shown(&server, &authority).await, old.chain()[0].to_vec());
    mount.swap(&new);
    eventually("the new certificate", async || {
        (shown(&server, &authority).await == new.chain()[0].to_vec()).then_some(())
    })
    .await;
    assert_eq!(metric(&server, SUCCESSFUL).await, 1.0);
}

#[tokio::test]
async fn while_certificates_change_under_load_no_request_fails() {
    let authority = Arc::new(Authority::generate());
    let mut mount = Mount::new(&authority.server());
    let (server, key) = mount.serve();
    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..8 {
        let (authority, key, http) = (Arc::clone(&authority), key.clone(), server.http);
        let (over, answered) = (Arc::clone(&over), Arc::clone(&answered));
        senders.spawn(async move {
            // Half of them keep their connections, on HTTP/1.1 and HTTP/2; the others shake hands for each request.
            let alpn: &[&[u8]] = if sender % 4 < 2 { BOTH } else { &[HTTP_1_1] };
            let client = authority.http_client(alpn, if sender % 2 == 0 { 1 } else { 0 });
            let mut number = 0;
            while !over.load(Ordering::Relaxed) {
                number += 1;
                let answer = client.post(http.port(), PATH, &key, message(&format!("{sender}-{number}"))).await;
                assert_eq!(answer.expect("an answer").status, 200);
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for _ in 0..4 {
        let (next, before) = (authority.server(), answered.load(Ordering::Relaxed));
        mount.swap(&next);
        eventually("the certificate", async || {
            (shown(&server, &authority).await == next.chain()[0].to_vec()).then_some(())
        })
        .await;
        eventually("requests since", async || (answered.load(Ordering::Relaxed) > before + 50).then_some(())).await;
    }
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = senders.join_next().await {
        ended.expect("no request failed");
    }
}

#[tokio::test]
async fn a_keys_file_that_cannot_be_read_shows_in_the_metrics() {
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("keys.toml");
    std::fs::write(&file, "").expect("written");
    let server = ServerProcess::builder().arg("--keys-file").arg(text(&file)).start();
    let successful = "message_webhook_file_reload_successful{file=\"keys\"}";
    let read_at = "message_webhook_file_reload_success_timestamp_seconds{file=\"keys\"}";
    assert_eq!(metric(&server, successful).await, 1.0);
    let begun = metric(&server, read_at).await;
    std::fs::write(&file, "nonsense").expect("written");
    eventually("a broken file", async || (metric(&server, successful).await == 0.0).then_some(())).await;
    assert_eq!(metric(&server, read_at).await, begun, "what is in use is as old as before");
    std::fs::write(&file, "# good\n").expect("written");
    eventually("a good file", async || (metric(&server, successful).await == 1.0).then_some(())).await;
    assert!(metric(&server, read_at).await > begun);
}

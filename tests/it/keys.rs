//! Keys: made and ended on a stopped and on a running server, by commands, by callers and by a file.

use std::{path::Path, time::Duration};

use message_webhook::{
    domain::{Environment, KeyOwner, Scope},
    protocol::grpc::v1::{
        self, CreateKeyRequest, KeyScope, ListKeysRequest, RevokeKeyRequest, key_service_client::KeyServiceClient,
    },
};
use tempfile::TempDir;
use tonic::{Code, Request, transport::Channel};
use tonic_types::StatusExt;

use super::support::{ServerProcess, TestServer, cli, eventually, grpc, message, post, raw};

const PATH: &str = "/acme/dev/v1/message-webhook";
/// What the service promises.
const BITES_WITHIN: Duration = Duration::from_secs(5);

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn key_id(key: &str) -> &str {
    key.split('_').nth(2).expect("an id")
}

async fn status(server: &ServerProcess, key: &str) -> u16 {
    post(server.http, PATH, key, message("sid")).await.0
}

#[tokio::test]
async fn a_key_made_on_a_stopped_server_works_when_it_runs_and_one_revoked_there_does_not() {
    let dir = TempDir::new().expect("a directory");
    let data_dir = dir.path().join("new");
    let create = || cli(["keys", "create", "--data-dir", text(&data_dir), "--org", "acme", "--env", "dev"]);
    let nowhere = create();
    assert_eq!(nowhere.code, Some(1));
    assert!(nowhere.stderr.contains("--data-dir") && !data_dir.exists(), "{}", nowhere.stderr);
    // An empty directory is a new store.
    std::fs::create_dir(&data_dir).expect("made");
    let (first, second) = (create(), create());
    assert_eq!(first.code, Some(0), "{first:?}");
    let (first, second) = (first.stdout.trim(), second.stdout.trim());
    assert!(first.starts_with("mw_dev_") && !first.contains(char::is_whitespace), "the key stands alone: {first}");
    let revoked = cli(["keys", "revoke", key_id(second), "--data-dir", text(&data_dir)]);
    assert_eq!((revoked.code, revoked.stdout.as_str()), (Some(0), ""), "{revoked:?}");

    let server = ServerProcess::builder().data_dir(&data_dir).start();
    assert_eq!(status(&server, first).await, 200);
    assert_eq!(status(&server, second).await, 401);
}

#[tokio::test]
async fn keys_are_made_listed_and_revoked_on_a_running_server() {
    let server = ServerProcess::start();
    let created = server.cli(&["keys", "create", "--org", "acme", "--env", "dev", "--expires-in", "1h"]);
    assert_eq!(created.code, Some(0), "{created:?}");
    let key = created.stdout.trim();
    assert_eq!(status(&server, key).await, 200);

    let listed = server.cli(&["keys", "list", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).expect("JSON");
    assert_eq!(listed[0]["key_id"], key_id(key));
    assert_eq!((&listed[0]["org_id"], &listed[0]["env"]), (&"acme".into(), &"dev".into()));
    assert_eq!(listed[0]["scopes"], serde_json::json!(["submit"]));
    assert!(listed[0]["expires_at"].is_string() && listed[0]["revoked_at"].is_null());
    let table = server.cli(&["keys", "list"]).stdout;
    assert!(table.contains(key_id(key)) && table.contains("acme/dev") && table.contains("live"), "{table}");

    let revoked = std::time::Instant::now();
    assert_eq!(server.cli(&["keys", "revoke", key_id(key)]).code, Some(0));
    eventually("the key's end", async || (status(&server, key).await == 401).then_some(())).await;
    assert!(revoked.elapsed() < BITES_WITHIN);
    assert!(server.cli(&["keys", "list"]).stdout.contains("revoked 2"));

    let unknown = server.cli(&["keys", "revoke", "aaaaaaaaaaaa"]);
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.stderr.contains("no key with this id"), "{}", unknown.stderr);
}

#[tokio::test]
async fn a_key_with_a_rate_of_its_own_is_held_to_it_on_both_ports_and_shown_with_it() {
    let server = ServerProcess::builder().arg("--rate-limit-per-key=1/h").start();
    let created = server.cli(&["keys", "create", "--org", "acme", "--env", "dev", "--rate", "1/h", "--burst", "2"]);
    assert_eq!(created.code, Some(0), "{created:?}");
    let key = created.stdout.trim();
    let table = server.cli(&["keys", "list"]).stdout;
    assert!(table.contains("1/h burst 2"), "{table}");
    let listed = server.cli(&["keys", "list", "--json"]).stdout;
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed[0]["rate"], "1/h burst 2");

    let mut messages = grpc::client(server.grpc).await;
    messages.submit_message(grpc::with_key(key, grpc::submission("ada", "one"))).await.expect("the first");
    let second = raw::ask(server.http, raw::post(PATH, key, message("two"))).await;
    assert_eq!(second.status, 200, "as many as its burst, which is more than the setting leaves to others");
    let third = raw::ask(server.http, raw::post(PATH, key, message("three"))).await;
    assert_eq!((third.status, third.error_code().as_str()), (429, "rate_limited"));
    assert_eq!(third.header("ratelimit-policy"), Some("\"key\";q=2;w=7200"));
    assert!(third.header("ratelimit").is_some() && third.header("retry-after").is_some());
    let third = messages.submit_message(grpc::with_key(key, grpc::submission("ada", "three"))).await;
    let third = third.err().expect("its rate is used up");
    assert_eq!(third.code(), Code::ResourceExhausted);
    let details = third.get_error_details();
    assert!(details.retry_info().is_some() && details.quota_failure().is_some());
    let other = server.cli(&["keys", "create", "--org", "acme", "--env", "dev"]);
    assert_eq!(status(&server, other.stdout.trim()).await, 200);
}

#[tokio::test]
async fn a_browser_key_is_marked_in_its_text_and_works_from_its_pages_alone() {
    let dir = TempDir::new().expect("a directory");
    let make = |command: &str| {
        format!(
            "keys {command} --org acme --env dev --browser --origin https://shop.example --origin http://localhost:3000"
        )
    };
    let generated = cli(make("generate").split(' '));
    let (filed, entry) = generated.stdout.split_once("\n\n").expect("a key and its entry");
    let file = dir.path().join("keys.toml");
    std::fs::write(&file, entry).expect("written");
    let server = ServerProcess::builder().arg("--keys-file").arg(text(&file)).start();
    let command = make("create");
    let created = server.cli(&command.split(' ').collect::<Vec<_>>());
    assert_eq!(created.code, Some(0), "{created:?}");
    assert!(created.stderr.contains("pages of https://shop.example and http://localhost:3000"), "{}", created.stderr);
    let table = server.cli(&["keys", "list"]).stdout;
    for key in [filed, created.stdout.trim()] {
        let id = key.strip_prefix("mw_dev_b_").expect("marked").split('_').next().expect("an id");
        let row = table.lines().find(|row| row.starts_with(id)).expect("listed");
        assert!(row.ends_with("https://shop.example,http://localhost:3000"), "{row}");
        let sent = async |origin: Option<&str>| {
            let request = super::support::client().post(format!("http://{}{PATH}", server.http)).bearer_auth(key);
            let request = origin.into_iter().fold(request, |request, origin| request.header("origin", origin));
            request
                .header("content-type", "application/json")
                .body(message("sid"))
                .send()
                .await
                .expect("answered")
                .status()
        };
        assert_eq!(sent(Some("https://shop.example")).await, 200);
        assert_eq!(sent(Some("http://localhost:3000")).await, 200);
        assert_eq!(sent(Some("https://other.example")).await, 403);
        assert_eq!(sent(None).await, 403);
    }
}

#[tokio::test]
async fn budgets_under_a_browser_key_need_no_setting_and_know_clients_behind_a_proxy_apart() {
    const SHOP: &str = "https://shop.example";
    let made = |server: &ServerProcess| {
        let made = server.cli(&["keys", "create", "--org", "acme", "--env", "dev", "--browser", "--origin", SHOP]);
        made.stdout.trim().to_owned()
    };
    let sent = async |server: &ServerProcess, key: &str, from: &str| {
        let request = super::support::client().post(format!("http://{}{PATH}", server.http)).bearer_auth(key);
        let request = request.header("origin", SHOP).header("x-forwarded-for", from);
        request.header("content-type", "application/json").body(message("sid")).send().await.expect("answered").status()
    };
    let server = ServerProcess::start();
    let key = made(&server);
    let mut refused = false;
    for _ in 0..200 {
        refused |= sent(&server, &key, "198.51.100.1").await == 429;
    }
    assert!(refused, "one sender has a budget");

    let flags =
        ["--trusted-proxies=127.0.0.1", "--browser-rate-limit-per-address=1/h", "--browser-rate-limit-per-sender=0"];
    let server = flags.into_iter().fold(ServerProcess::builder(), |server, flag| server.arg(flag)).start();
    let key = made(&server);
    assert_eq!(sent(&server, &key, "198.51.100.1").await, 200);
    assert_eq!(sent(&server, &key, "198.51.100.1").await, 429);
    assert_eq!(sent(&server, &key, "198.51.100.2").await, 200);
}

#[test]
fn a_browser_key_that_cannot_be_is_refused_with_what_to_write_instead() {
    let generate = ["keys", "generate", "--org", "acme", "--env", "dev", "--browser"];
    for (wrong, told) in [
        (&[][..], "--origin"),
        (&["--origin", "https://shop.example/"], "write 'https://shop.example'"),
        (&["--origin", "https://shop.example/chat"], "write 'https://shop.example'"),
        (&["--origin", "https://SHOP.example:443"], "write 'https://shop.example'"),
        (&["--origin", "https://*.shop.example"], "write each of them"),
        (&["--origin", "shop.example"], "write scheme://host"),
        (&["--origin", "https://shop.example", "--scope", "read"], "For 'read' make another key"),
    ] {
        let refused = cli(generate.iter().chain(wrong));
        assert!(refused.code == Some(2) && refused.stderr.contains(told), "{wrong:?}: {refused:?}");
        assert_eq!(refused.stdout, "");
    }
    let platform = cli("keys generate --platform --browser --origin https://shop.example".split(' '));
    assert!(platform.code == Some(2) && platform.stderr.contains("--platform"), "{platform:?}");
    let alone = cli("keys generate --org acme --env dev --origin https://shop.example".split(' '));
    assert!(alone.code == Some(2) && alone.stderr.contains("--browser"), "{alone:?}");
}

#[tokio::test]
async fn who_asks_for_a_browser_key_and_forgets_half_of_it_gets_none() {
    let server = TestServer::start().await;
    let admin = server.key("acme", Environment::Dev, &[Scope::Admin, Scope::Submit, Scope::Read]).await;
    let mut keys = client(&server).await;
    let base = create("", v1::Environment::Unspecified, &[]);
    let origins = vec!["https://shop.example".to_owned()];
    let good = CreateKeyRequest { browser: true, origins: origins.clone(), ..base.clone() };
    let made = keys.create_key(with_key(&admin, good.clone())).await.expect("made").into_inner();
    let key = made.key.expect("a key");
    assert!(made.key_text.starts_with("mw_dev_b_") && key.browser && key.origins == origins);
    for (wrong, field) in [
        (CreateKeyRequest { browser: true, ..base.clone() }, "origins"),
        (CreateKeyRequest { origins, ..base }, "origins"),
        (CreateKeyRequest { origins: vec!["https://shop.example/chat".into()], ..good.clone() }, "origins"),
        (CreateKeyRequest { scopes: vec![KeyScope::Submit.into(), KeyScope::Read.into()], ..good.clone() }, "scopes"),
        (CreateKeyRequest { rate: "often".into(), ..good }, "rate"),
    ] {
        let status = keys.create_key(with_key(&admin, wrong)).await.err().expect("refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{}", status.message());
        let details = status.get_error_details();
        let fields: Vec<_> =
            details.bad_request().expect("told").field_violations.iter().map(|each| &each.field).collect();
        assert_eq!(fields, [field]);
    }
    let listed = keys.list_keys(with_key(&admin, ListKeysRequest::default())).await.expect("listed").into_inner();
    assert_eq!(listed.keys.len(), 2);
}

#[test]
fn what_is_no_rate_of_a_key_is_refused_with_what_would_be_one() {
    let generate = ["keys", "generate", "--org", "acme", "--env", "dev"];
    for (wrong, told) in [
        (&["--rate", "50/d"][..], "50/s"),
        (&["--rate", "0"], "50/s"),
        (&["--burst", "5"], "--rate"),
        (&["--rate", "5/s", "--burst", "0"], "--burst"),
        (&["--rate", "5/s", "--scope", "read"], "scope 'submit'"),
    ] {
        let refused = cli(generate.iter().chain(wrong));
        assert!(refused.code == Some(2) && refused.stderr.contains(told), "{wrong:?}: {refused:?}");
        assert_eq!(refused.stdout, "");
    }
}

#[test]
fn a_directory_that_is_not_there_is_told_and_not_made() {
    let dir = TempDir::new().expect("a directory");
    let data_dir = dir.path().join("absent");
    let create = ["keys", "create", "--org", "acme", "--env", "dev"];
    for arguments in [&["keys", "list"][..], &["keys", "revoke", "aaaaaaaaaaaa"], &create] {
        let missing = cli(arguments.iter().copied().chain(["--data-dir", text(&data_dir)]));
        assert_eq!(missing.code, Some(1));
        assert!(missing.stderr.contains("There is no store in"), "{}", missing.stderr);
    }
    assert!(!data_dir.exists());
}

#[cfg(unix)]
#[tokio::test]
async fn the_control_socket_is_its_owners_alone_and_a_dead_servers_is_replaced() {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    let mut server = ServerProcess::start();
    let socket = server.data_dir.join("control.sock");
    let metadata = std::fs::metadata(&socket).expect("a socket");
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);

    let dir = server.keep_dir();
    let data_dir = server.data_dir.clone();
    server.signal("KILL");
    assert_eq!(server.wait().code, None);
    assert!(socket.exists(), "a killed server leaves its socket");
    // On the stopped store first, then on the next server.
    assert_eq!(cli(["keys", "list", "--data-dir", text(&data_dir)]).code, Some(0));
    let server = ServerProcess::builder().data_dir(&data_dir).start();
    assert_eq!(server.cli(&["keys", "create", "--platform"]).code, Some(0));
    server.terminate();
    assert_eq!(server.wait().code, Some(0));
    assert!(!socket.exists(), "a server that ends in good order takes its socket with it");
    drop(dir);
}

#[cfg(target_os = "linux")]
#[test]
fn a_data_directory_with_a_path_too_long_for_sockets_works_too() {
    let dir = TempDir::new().expect("a directory");
    let data_dir = dir.path().join("d".repeat(120)).join("e".repeat(120));
    let server = ServerProcess::builder().data_dir(&data_dir).start();
    let created = server.cli(&["keys", "create", "--org", "acme", "--env", "dev"]);
    assert_eq!(created.code, Some(0), "{created:?}");
    assert!(server.stderr().contains("key created"), "the server made it");
}

#[tokio::test]
async fn keys_of_a_file_come_and_go_with_it_and_a_broken_file_changes_nothing() {
    let dir = TempDir::new().expect("a directory");
    let generate = "keys generate --org acme --env dev --scope submit --scope read --rate 500/min --burst 9";
    let generated = cli(generate.split(' '));
    assert_eq!(generated.code, Some(0), "{generated:?}");
    let (key, entry) = generated.stdout.split_once("\n\n").expect("a key and its entry");
    assert!(!entry.contains(key.rsplit('_').next().expect("a secret")));
    let file = dir.path().join("keys.toml");
    std::fs::write(&file, "").expect("written");
    let mut server = ServerProcess::builder().arg("--keys-file").arg(text(&file)).start();
    assert_eq!(status(&server, key).await, 401);

    // As Kubernetes does it: the name stays, what it leads to is swapped.
    let next = dir.path().join("next.toml");
    std::fs::write(&next, entry).expect("written");
    std::fs::rename(&next, &file).expect("swapped");
    eventually("the file's key", async || (status(&server, key).await == 200).then_some(())).await;
    let listed = server.cli(&["keys", "list"]).stdout;
    assert!(listed.contains(key_id(key)) && listed.contains("500/min burst 9"), "{listed}");
    let revoked = server.cli(&["keys", "revoke", key_id(key)]);
    assert!(revoked.code == Some(1) && revoked.stderr.contains("keys file"), "{revoked:?}");

    std::fs::write(&file, format!("{entry}\nnonsense")).expect("written");
    server.wait_for_log("the keys file is broken");
    assert_eq!(status(&server, key).await, 200);

    std::fs::write(&file, "").expect("written");
    let taken_out = std::time::Instant::now();
    eventually("the end of the file's key", async || (status(&server, key).await == 401).then_some(())).await;
    assert!(taken_out.elapsed() < BITES_WITHIN);
}

#[test]
fn a_broken_keys_file_at_the_start_is_an_error() {
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("keys.toml");
    std::fs::write(&file, "[[keys]]\nkey_id = 1\n").expect("written");
    let mut serve = ServerProcess::builder().arg("--keys-file").arg(text(&file)).command();
    let failed = super::support::process::finish(&mut serve);
    assert_eq!(failed.code, Some(1));
    assert!(failed.stderr.contains("is broken: entry 1: key_id must be"), "{}", failed.stderr);
}

async fn client(server: &TestServer) -> KeyServiceClient<Channel> {
    KeyServiceClient::connect(format!("http://{}", server.grpc)).await.expect("connected")
}

fn with_key<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().expect("ASCII"));
    request
}

fn create(org_id: &str, env: v1::Environment, scopes: &[KeyScope]) -> CreateKeyRequest {
    let scopes = scopes.iter().map(|scope| (*scope).into()).collect();
    CreateKeyRequest { org_id: org_id.into(), env: env.into(), platform: false, scopes, ..CreateKeyRequest::default() }
}

#[tokio::test]
async fn an_orgs_admin_key_manages_the_keys_of_its_org_and_env_and_grants_no_more_than_it_has() {
    let server = TestServer::start().await;
    let admin = server.key("acme", Environment::Dev, &[Scope::Admin, Scope::Submit]).await;
    let other = server.key("other", Environment::Dev, &[Scope::Submit]).await;
    let mut keys = client(&server).await;
    let unset = v1::Environment::Unspecified;

    let made = keys.create_key(with_key(&admin, create("", unset, &[]))).await.expect("made").into_inner();
    let key = made.key.expect("a key");
    assert!(key.org_id == "acme" && key.env() == v1::Environment::Dev && key.scopes().eq([KeyScope::Submit]));
    assert_eq!(post(server.http, PATH, &made.key_text, message("sid")).await.0, 200);

    let platform = CreateKeyRequest { platform: true, ..create("", unset, &[]) };
    for refused in [
        create("other", unset, &[]),
        create("", v1::Environment::Prod, &[]),
        create("", unset, &[KeyScope::Submit, KeyScope::Read]),
        platform,
    ] {
        let status = keys.create_key(with_key(&admin, refused.clone())).await.err().expect("refused");
        assert_eq!(status.code(), Code::PermissionDenied, "{}", status.message());
    }
    let listed = keys.list_keys(with_key(&admin, ListKeysRequest::default())).await.expect("listed").into_inner();
    assert_eq!(listed.keys.len(), 2);
    assert!(listed.keys.iter().all(|key| key.org_id == "acme"));
    let revoke = |key: &str| RevokeKeyRequest { key_id: key_id(key).into() };
    let status = keys.revoke_key(with_key(&admin, revoke(&other))).await.err().expect("another's");
    assert_eq!(status.code(), Code::NotFound);
    keys.revoke_key(with_key(&admin, revoke(&made.key_text))).await.expect("revoked");
    assert_eq!(post(server.http, PATH, &made.key_text, message("sid")).await.0, 401);
}

#[tokio::test]
async fn a_platform_admin_key_manages_all_keys_and_a_key_without_the_scope_none() {
    let server = TestServer::start().await;
    let admin = server.key_of(KeyOwner::Platform, &[Scope::Admin]).await;
    let submit = server.key("acme", Environment::Dev, &[Scope::Submit]).await;
    let mut keys = client(&server).await;
    let request = create("acme", v1::Environment::Prod, &[KeyScope::Read]);
    let made = keys.create_key(with_key(&admin, request)).await.expect("made").into_inner();
    assert!(made.key_text.starts_with("mw_prod_"));
    let listed = keys.list_keys(with_key(&admin, ListKeysRequest::default())).await.expect("listed").into_inner();
    assert_eq!(listed.keys.len(), 3);
    let nothing = keys.create_key(with_key(&admin, create("", v1::Environment::Unspecified, &[]))).await;
    assert_eq!(nothing.err().expect("names nobody").code(), Code::InvalidArgument);
    for result in [
        keys.list_keys(with_key(&submit, ListKeysRequest::default())).await.map(|_| ()),
        keys.create_key(with_key(&submit, create("", v1::Environment::Unspecified, &[]))).await.map(|_| ()),
        keys.revoke_key(with_key(&submit, RevokeKeyRequest::default())).await.map(|_| ()),
    ] {
        assert_eq!(result.expect_err("refused").code(), Code::PermissionDenied);
    }
    let nobody = keys.list_keys(ListKeysRequest::default()).await;
    assert_eq!(nobody.err().expect("no key").code(), Code::Unauthenticated);
}

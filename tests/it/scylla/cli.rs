//! `migrate` and `keys` on a keyspace that is not there yet, as an operator begins.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use message_webhook::{
    domain::SystemClock,
    store::scylla::{ConnectError, Options, migrate},
};
use scylla::client::session_builder::SessionBuilder;

use crate::support::{
    ServerProcess, get,
    leases::look,
    process::{self, Finished},
    ring::{self, Keyspace},
};

/// Runs a command of the program with the flags of `keyspace`.
fn run(keyspace: &Keyspace, arguments: &[&str]) -> Finished {
    process::finish(process::command(arguments.iter().copied()).args(keyspace.flags()))
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_makes_what_is_absent_and_says_so_and_the_second_time_nothing() {
    let Some(nodes) = ring::nodes() else { return };
    let keyspace = Keyspace::unmade(nodes, |_| {});
    let plan = run(&keyspace, &["migrate", "--plan"]);
    assert_eq!(plan.code, Some(0), "{plan:?}");
    assert!(
        plan.stdout.starts_with("CREATE KEYSPACE IF NOT EXISTS ") && plan.stdout.contains(".messages ("),
        "{plan:?}"
    );
    // A plan changes nothing, so there is no keyspace to find.
    let early = run(&keyspace, &["keys", "list", "--store", "scylla"]);
    assert!(early.code == Some(1) && early.stderr.contains("run 'message-webhook migrate'"), "{early:?}");

    let made = run(&keyspace, &["migrate"]);
    assert_eq!((made.code, &made.stdout), (Some(0), &plan.stdout), "{made:?}");
    let again = run(&keyspace, &["migrate"]);
    assert!(again.code == Some(0) && again.stdout.contains("is up to date"), "{again:?}");

    let key = run(&keyspace, &["keys", "create", "--org", "acme", "--env", "dev", "--store", "scylla"]);
    assert!(key.code == Some(0) && key.stdout.starts_with("mw_dev_"), "{key:?}");
    let id = key.stdout.split('_').nth(2).expect("an id").to_owned();
    let revoked = run(&keyspace, &["keys", "revoke", &id, "--store", "scylla"]);
    assert_eq!(revoked.code, Some(0), "{revoked:?}");
    let list = run(&keyspace, &["keys", "list", "--store", "scylla"]);
    assert!(list.stdout.contains(&id) && list.stdout.contains("revoked"), "{list:?}");
    assert!(!format!("{list:?}{revoked:?}").contains(key.stdout.trim()), "a key was shown again");
}

#[test]
fn a_keyspace_has_three_copies_of_each_row_unless_fewer_are_asked_for_by_name() {
    assert_eq!(Options::new(vec!["127.0.0.1".to_owned()], "webhook").replication_factor, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_waits_for_the_nodes_that_the_copies_need_and_makes_no_keyspace_before() {
    let Some(nodes) = ring::nodes() else { return };
    let count = u32::try_from(nodes.len()).expect("few");
    let keyspace = Keyspace::unmade(nodes, |options| options.replication_factor = count + 1);
    let options = keyspace.options();
    let refused = migrate::apply(&options, &SystemClock).await.expect_err("too few nodes");
    let ConnectError::TooFewNodes { wanted, joined, .. } = refused else { panic!("{refused:?}") };
    assert_eq!((wanted, joined), (count + 1, options.nodes.len()));
    let plan = migrate::plan(&options).await.expect("a plan");
    assert!(plan.to_string().starts_with("CREATE KEYSPACE"), "{plan}");
    assert!(plan.warnings.iter().any(|warning| warning.contains("copies of each row are wanted")), "{plan:?}");

    let mut command = process::command(["migrate"]);
    let mut waits = command.args(keyspace.flags()).stderr(Stdio::piped()).spawn().expect("the program runs");
    let mut said = String::new();
    BufReader::new(waits.stderr.take().expect("piped")).read_line(&mut said).expect("a line");
    waits.kill().and_then(|()| waits.wait()).expect("an end");
    assert!(said.contains("waiting up to") && said.contains("scylla_replication_factor"), "{said}");
    let session = SessionBuilder::new().known_nodes(&options.nodes).build().await.expect("a session");
    assert!(session.get_cluster_state().get_keyspace(&options.keyspace).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyspace_with_fewer_copies_than_wanted_is_told_at_every_migrate_and_start() {
    let Some(nodes) = ring::nodes() else { return };
    let copies = u32::try_from(nodes.len().min(3)).expect("few");
    let keyspace = Keyspace::unmade(nodes, |options| options.replication_factor = copies + 1);
    let fewer = Options { replication_factor: copies, ..keyspace.options() };
    migrate::apply(&fewer, &SystemClock).await.expect("a keyspace");
    let told = run(&keyspace, &["migrate"]);
    assert!(told.code == Some(0) && told.stderr.contains("nodetool repair"), "{told:?}");
    let server = ServerProcess::builder().on_scylla(&keyspace).start();
    let (_, metrics) = get(server.admin, "/metrics").await.expect("metrics");
    assert!(metrics.contains(&format!("message_webhook_store_replication_factor {copies}\n")), "{metrics}");
    assert!(server.stderr().contains("the keyspace has too few copies of each row"), "{}", server.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_on_keys_take_no_lease() {
    let Some(nodes) = ring::nodes() else { return };
    let keyspace = Keyspace::new(nodes, |_| {}).await;
    for _ in 0..2 {
        let key = run(&keyspace, &["keys", "create", "--org", "acme", "--env", "dev", "--store", "scylla"]);
        assert_eq!(key.code, Some(0), "{key:?}");
    }
    let options = keyspace.options();
    let session = SessionBuilder::new().known_nodes(&options.nodes).build().await.expect("a session");
    for slot in 0..i32::from(options.slots) {
        let lease = look(&session, &options.keyspace, slot).await.expect("a lease");
        assert_eq!((lease.epoch, lease.beat), (0, 0), "{lease:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_migrations_at_once_make_one_keyspace() {
    let Some(nodes) = ring::nodes() else { return };
    let keyspace = Keyspace::unmade(nodes, |_| {});
    let mut running: Vec<_> = (0..2)
        .map(|_| {
            let mut command = process::command(["migrate"]);
            std::thread::spawn({
                command.args(keyspace.flags());
                move || process::finish(&mut command)
            })
        })
        .collect();
    for each in running.drain(..) {
        let done = each.join().expect("no panic");
        assert_eq!(done.code, Some(0), "{done:?}");
    }
    let again = run(&keyspace, &["migrate", "--plan"]);
    assert!(again.stdout.contains("is up to date"), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_with_other_constants_than_the_keyspace_is_told_which() {
    let Some(nodes) = ring::nodes() else { return };
    let keyspace = Keyspace::new(nodes, |_| {}).await;
    let mut flags = keyspace.flags();
    flags.extend(["--retention=31d".to_owned()]);
    let arguments = ["keys", "list", "--store", "scylla"].map(str::to_owned).into_iter().chain(flags);
    let refused = process::cli(arguments);
    assert!(refused.code == Some(1) && refused.stderr.contains("retention"), "{refused:?}");
}

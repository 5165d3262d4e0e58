//! `migrate` that ends before it is done, runs beside another, or on a machine whose clock is wrong.

use std::{sync::Arc, time::Duration};

use message_webhook::{
    domain::SystemClock,
    store::{
        Lifecycle, MessageStore,
        scylla::{
            ConnectError, Options, ScyllaStore,
            migrate::{self, MigrationStep, Plan},
        },
    },
};
use scylla_proxy::{Condition, Reaction, RequestOpcode, RequestReaction};
use tokio::sync::mpsc::unbounded_channel;

use crate::{
    conformance::fixture::{TestClock, accepted, message},
    support::{
        ring::{self, Keyspace},
        wire::Wire,
    },
};

/// What changes something: each table and column, and each conditional write, which is prepared first.
fn changes() -> Condition {
    let has = |word: &str| Condition::BodyContainsCaseSensitive(word.as_bytes().into());
    let schema = Condition::RequestOpcode(RequestOpcode::Query).and(has("CREATE ").or(has("ALTER ")));
    let write = Condition::RequestOpcode(RequestOpcode::Prepare).and(has("INSERT INTO").or(has("UPDATE ")));
    schema.or(write)
}

/// Migrates behind `wire`, and ends as by a kill when it has changed `passed` things; whether it came to its own end before.
async fn migrate_until(wire: &mut Wire, options: &Options, passed: usize) -> bool {
    let behind = Options { nodes: wire.nodes(), ..options.clone() };
    let (tell, mut lost) = unbounded_channel();
    wire.heal();
    wire.on_requests(&changes(), &RequestReaction::drop_frame().with_feedback_when_performed(tell));
    wire.on_requests(&changes().and(Condition::TrueForLimitedTimes(passed)), &RequestReaction::noop());
    tokio::select! {
        migrated = migrate::apply(&behind, &SystemClock) => {
            migrated.expect("migrated");
            true
        }
        _ = lost.recv() => false,
    }
}

async fn plan(options: &Options) -> Plan {
    migrate::plan(options).await.expect("a plan")
}

fn changes_schema(plan: &Plan) -> bool {
    plan.steps
        .iter()
        .any(|step| matches!(step, MigrationStep::Keyspace(_) | MigrationStep::Table(_) | MigrationStep::Column(..)))
}

/// A server starts on the keyspace when it lacks nothing, and then accepts.
async fn assert_ready_or_refused(options: &Options, plan: &Plan, sid: &str) {
    match ScyllaStore::connect(options.clone(), Arc::new(SystemClock)).await {
        Ok(store) => {
            assert!(plan.steps.is_empty(), "a server started, and this was missing: {plan}");
            accepted(store.submit(message(sid)).await.expect("decided"));
            store.close().await.expect("closed");
        }
        Err(ConnectError::NotMigrated { .. }) => assert!(!plan.steps.is_empty(), "nothing was missing"),
        Err(error) => panic!("{error}, with {plan}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_is_killed_at_any_statement_leaves_nothing_that_a_server_starts_on_and_the_next_goes_on() {
    let Some(nodes) = ring::nodes() else { return };
    let mut wire = Wire::before(&nodes[0]).await;
    // Of the others the wire reaches none.
    let keyspace = Keyspace::unmade(nodes, |options| options.replication_factor = 1);
    let options = keyspace.options();
    let (mut kills, mut left) = (0, plan(&options).await);
    // Each run makes one thing more.
    while changes_schema(&left) {
        assert!(!migrate_until(&mut wire, &options, 1).await, "{left}");
        left = plan(&options).await;
        assert_ready_or_refused(&options, &left, &format!("m{kills}")).await;
        kills += 1;
    }
    for passed in 0.. {
        let is_done = migrate_until(&mut wire, &options, passed).await;
        left = plan(&options).await;
        assert_ready_or_refused(&options, &left, &format!("m{kills}")).await;
        kills += 1;
        if is_done {
            break;
        }
    }
    // A keyspace, nine tables, two columns, two leases, the settings, and a write to see that it can be done.
    assert!(left.steps.is_empty() && kills >= 16, "{kills}: {left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_migrations_at_once_one_is_killed_and_the_other_makes_the_keyspace() {
    let Some(nodes) = ring::nodes() else { return };
    let mut wire = Wire::before(&nodes[0]).await;
    let keyspace = Keyspace::unmade(nodes, |options| options.replication_factor = 1);
    let options = keyspace.options();
    let (is_done, other) = tokio::join!(migrate_until(&mut wire, &options, 11), migrate::apply(&options, &SystemClock));
    other.expect("migrated");
    let left = plan(&options).await;
    assert!(left.steps.is_empty(), "{is_done}: {left}");
    assert_ready_or_refused(&options, &left, "m").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_on_a_machine_with_a_wrong_clock_makes_a_keyspace_that_accepts_at_once() {
    let Some(nodes) = ring::nodes() else { return };
    let clock = TestClock::running();
    clock.turn_forward(Duration::from_hours(40 * 24));
    let keyspace = Keyspace::unmade(nodes, |_| {});
    let options = keyspace.options();
    migrate::apply(&options, &clock).await.expect("migrated");
    assert_ready_or_refused(&options, &plan(&options).await, "m").await;
}

//! Watches the rows of the resolver's leases while something happens to those who hold them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use scylla::{
    client::{session::Session, session_builder::SessionBuilder},
    statement::{Consistency, Statement},
};
use tokio::task::JoinHandle;

use super::ring::Keyspace;

/// A row, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub owner: String,
    pub epoch: i64,
    pub beat: i64,
    pub resolving_upto: i64,
    pub resolved_upto: i64,
}

/// What was seen of all slots.
#[derive(Debug, Default)]
pub struct Watched {
    pub looks: usize,
    /// Rows that were others than at the look before.
    pub changes: usize,
    /// By how much epochs went up, over all slots.
    pub takings: i64,
    /// What may never be, in words.
    pub faults: Vec<String>,
}

/// See the module. Reads at quorum, which never show an older state after a newer one, and do not contend with the owners.
pub struct LeaseWatch {
    is_done: Arc<AtomicBool>,
    watching: JoinHandle<Watched>,
}

impl LeaseWatch {
    /// Watches all slots of `keyspace`, as fast as the database answers.
    pub async fn start(keyspace: &Keyspace) -> Self {
        let options = keyspace.options();
        let session = SessionBuilder::new().known_nodes(&options.nodes).build().await.expect("a session");
        let is_done = Arc::new(AtomicBool::new(false));
        let watching = tokio::spawn({
            let is_done = Arc::clone(&is_done);
            async move {
                let (mut watched, mut last) = (Watched::default(), BTreeMap::<i32, Seen>::new());
                while !is_done.load(Ordering::SeqCst) {
                    for slot in 0..i32::from(options.slots) {
                        // While too few nodes are up there is nothing to see.
                        let Some(seen) = look(&session, &options.keyspace, slot).await else { continue };
                        watched.compare(slot, last.get(&slot), &seen);
                        last.insert(slot, seen);
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                watched
            }
        });
        Self { is_done, watching }
    }

    /// What was seen.
    pub async fn end(self) -> Watched {
        self.is_done.store(true, Ordering::SeqCst);
        let watched = self.watching.await.expect("no panic");
        println!(
            "leases: {} looks, {} changes, {} takings, {} faults",
            watched.looks,
            watched.changes,
            watched.takings,
            watched.faults.len()
        );
        watched
    }
}

/// The row of a slot; `None` when the database does not tell.
pub async fn look(session: &Session, keyspace: &str, slot: i32) -> Option<Seen> {
    let mut statement = Statement::new(format!(
        "SELECT owner, epoch, beat, resolving_upto, resolved_upto FROM {keyspace}.leases WHERE name = 'resolver' AND slot = {slot}"
    ));
    statement.set_consistency(Consistency::Quorum);
    let rows = session.query_unpaged(statement, &[]).await.ok()?.into_rows_result().ok()?;
    let row = rows.single_row::<(Option<String>, i64, i64, i64, i64)>().ok()?;
    let (owner, epoch, beat, resolving_upto, resolved_upto) = row;
    Some(Seen { owner: owner.unwrap_or_default(), epoch, beat, resolving_upto, resolved_upto })
}

impl Watched {
    fn compare(&mut self, slot: i32, before: Option<&Seen>, now: &Seen) {
        self.looks += 1;
        let Some(before) = before else { return };
        self.changes += usize::from(now != before);
        self.takings += now.epoch - before.epoch;
        let kept = [
            ("an epoch went back", now.epoch >= before.epoch),
            ("a beat went back", now.beat >= before.beat),
            ("the row changed without a beat", now.beat > before.beat || now == before),
            ("an owner took over without an epoch of its own", owners_agree(before, now)),
            ("resolved_upto went back", now.resolved_upto >= before.resolved_upto),
            ("resolving_upto went back", now.resolving_upto >= before.resolving_upto),
            ("more is resolved than was begun", now.resolved_upto <= now.resolving_upto),
        ];
        for (fault, _) in kept.iter().filter(|(_, is_kept)| !is_kept) {
            self.faults.push(format!("slot {slot}: {fault}: {before:?}, then {now:?}"));
        }
    }
}

/// Within an epoch there is one owner, until it gives the lease back.
fn owners_agree(before: &Seen, now: &Seen) -> bool {
    now.epoch > before.epoch || now.owner == before.owner || now.owner.is_empty()
}

#[test]
fn what_an_owner_of_an_old_epoch_would_do_to_a_lease_is_seen() {
    let row = Seen { owner: "b".into(), epoch: 2, beat: 9, resolving_upto: 70, resolved_upto: 60 };
    let faults = |now: Seen| {
        let mut watched = Watched::default();
        watched.compare(0, Some(&row), &now);
        watched.faults.len()
    };
    assert_eq!(faults(row.clone()), 0);
    assert_eq!(faults(Seen { beat: 10, resolved_upto: 70, ..row.clone() }), 0);
    assert_eq!(faults(Seen { owner: String::new(), beat: 10, ..row.clone() }), 0);
    assert_eq!(faults(Seen { owner: "c".into(), epoch: 3, beat: 11, ..row.clone() }), 0);
    // As owner "a" of epoch 1 would write it without a condition.
    assert!(faults(Seen { owner: "a".into(), epoch: 1, beat: 9, ..row.clone() }) > 0);
    assert_eq!(faults(Seen { owner: "a".into(), beat: 10, ..row.clone() }), 1);
    assert_eq!(faults(Seen { beat: 10, resolved_upto: 50, ..row.clone() }), 1);
    assert_eq!(faults(Seen { beat: 10, resolving_upto: 65, ..row.clone() }), 1);
    assert_eq!(faults(Seen { resolved_upto: 65, ..row.clone() }), 1);
}

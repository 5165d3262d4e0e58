//! The background: the mark, the memtables, retention. One thread each for what must not wait for the other.

use std::{
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use fjall::PersistMode;
use metrics::gauge;

use super::{engine::Engine, indexing, mark::MarkFile, queue::Order, retention, shared::Shared};
use crate::{domain::Error, telemetry::names};

/// Twice a second, so that the mark is never older than one, even on a slow disk.
const MARK_INTERVAL: Duration = Duration::from_millis(500);

/// Keeps the mark young; notices a full disk and an engine that gave up. Runs until the bell is closed.
pub fn keep_mark(shared: &Shared, engine: &Engine, mark: &MarkFile) {
    while shared.marking.sleep(MARK_INTERVAL) {
        watch_disk(shared);
        if shared.has_failed() {
            continue;
        }
        // Syncs nothing; it tells whether one of the engine's own threads failed, which no commit would until the next.
        if let Err(error) = engine.db.persist(PersistMode::Buffer) {
            shared.fail(format!("the storage engine stopped: {error}"));
        } else if let Err(error) = mark.write(shared, false) {
            // Without a young mark a loss after a crash would go unnoticed: nothing may be acknowledged then.
            shared.fail(format!("the mark could not be written: {error}"));
        }
    }
}

fn watch_disk(shared: &Shared) {
    let Ok(disk) = rustix::fs::statvfs(&shared.options.dir) else { return };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let is_full = free < shared.options.min_free_bytes;
    gauge!(names::STORE_DISK_FREE_BYTES).set(free as f64);
    gauge!(names::STORE_DISK_FULL).set(f64::from(u8::from(is_full)));
    gauge!(names::STORE_FAILED).set(f64::from(u8::from(shared.has_failed())));
    if shared.disk_full.swap(is_full, Ordering::Relaxed) != is_full {
        if is_full {
            tracing::error!(
                free,
                needed = shared.options.min_free_bytes,
                "the disk is nearly full: nothing is accepted"
            );
        } else {
            tracing::info!(free, "the disk has room again");
        }
    }
}

/// Rotates memtables and forgets what is past its retention. Runs until the bell is closed.
pub fn keep_house(shared: &Shared, engine: &Arc<Engine>) {
    let interval = shared.options.retention_interval;
    let mut due = Instant::now() + interval;
    while shared.upkeep.sleep(due.saturating_duration_since(Instant::now())) {
        flush_when_full(shared, engine);
        if Instant::now() >= due {
            due = Instant::now() + interval;
            if !shared.has_failed()
                && let Err(error) = retain(shared, || flush_when_full(shared, engine))
            {
                tracing::warn!(cause = ?error.cause(), "messages past their retention could not be forgotten");
            }
            shared.reclaiming.ring();
        }
    }
}

fn flush_when_full(shared: &Shared, engine: &Engine) {
    if shared.fullness(engine) >= 1.0 && !shared.has_failed() {
        if let Err(error) = flush(shared, engine) {
            shared.fail(format!("messages could not be written to tables: {error}"));
        }
        shared.rotated.ring();
    }
}

/// Gives back the space of what was forgotten. It may take long, so nothing else waits for it.
pub fn keep_space(shared: &Shared, engine: &Engine) {
    let mut compacted = shared.droppable.load(Ordering::Acquire);
    // An hour is as good as for ever: the bell tells when there is something to do.
    while shared.reclaiming.sleep(Duration::from_hours(1)) {
        if let Err(error) = retention::reclaim(shared, engine, &mut compacted) {
            tracing::warn!(cause = ?error.cause(), "the space of forgotten messages could not be given back");
        }
    }
}

/// Has the writer move the oldest retained sequence on; gives it back. Again and again until it has, `meanwhile` is done:
/// the writer may be waiting for a flush by this very thread.
pub fn retain(shared: &Shared, meanwhile: impl Fn()) -> Result<u64, Error> {
    let (reply, answer) = mpsc::channel();
    shared.queue.order(Order::Retain(reply))?;
    loop {
        match answer.recv_timeout(Duration::from_millis(100)) {
            Ok(oldest) => return oldest,
            Err(RecvTimeoutError::Timeout) => meanwhile(),
            Err(RecvTimeoutError::Disconnected) => return Err(super::queue::closed()),
        }
    }
}

/// Writes all that is in memory to tables: memtables, and then the index entries of what was accepted up to now.
///
/// Here and not by the engine's worker, which may be busy compacting for seconds while the memory fills up. It is told
/// all the same, finds nothing left to write, and does the rest of its work: it takes journals away that are not needed.
///
/// # Errors
/// When the engine cannot.
pub fn flush(shared: &Shared, engine: &Engine) -> fjall::Result<()> {
    let _turn = shared.flushing.lock();
    // Both first: a commit gets its number and is applied under the lock that a rotation takes. So all these are in
    // memtables that are rotated below, or in tables already.
    let (entries, commit) = (shared.unindexed.seal(), engine.db.seqno());
    for keyspace in engine.keyspaces() {
        keyspace.rotate_memtable()?;
    }
    for keyspace in engine.keyspaces() {
        engine.write_sealed(keyspace)?;
    }
    indexing::write(engine, &entries)?;
    // What was indexed already may have lain in memtables until now.
    let through = entries.last().unwrap_or_else(|| shared.recent.indexed());
    shared.flushed.fetch_max(through, Ordering::AcqRel);
    shared.flushed_commit.fetch_max(commit, Ordering::AcqRel);
    drop(entries);
    // Only now that the indexes have it may memory forget it.
    shared.recent.set_indexed(through);
    shared.unindexed.release();
    Ok(())
}

//! What goes on behind the writer's back. Two threads: one makes the next segment and the runs that the writer would wait
//! for; the other merges runs, removes what is past its retention, and checks what lies at rest.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use metrics::{counter, gauge};

use super::{
    disk::{Disk, is_bad_sector},
    index::{self, End, Entry, Recent, Run, RunError, RunKind, Span},
    log::{
        self, Log,
        prepare::Preparer,
        scan::{ScanError, scan},
        scrub::Scrubber,
        segment::sizes,
    },
    queue::Command,
    shared::{Shared, Stopped, Worker},
};
use crate::telemetry::names;

/// Between two looks at how far the present segment is filled.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// While nothing is accepted they may be longer.
const LOOK_IDLE: Duration = Duration::from_millis(500);
/// After something could not be done.
const PAUSE: Duration = Duration::from_secs(1);
/// Pieces of a mebibyte that are checked in a second.
const SCRUB_EVERY: Duration = Duration::from_millis(60);

/// How much less a processor's time these threads ask for than those that serve (nice(2)): sorting a segment's index takes tens of
/// milliseconds, and calls do not wait for it. What is due soon still gets its tenth of a busy processor.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

fn give_way() {
    // Of this thread alone; elsewhere it would be the whole process's. Without it all is slower under load, and nothing else.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "a thread in the background runs at the priority of all others");
    }
}

/// Makes the next segment and the runs of sealed ones, until the store is closed.
pub fn keep_ahead(shared: &Shared, mut preparer: Preparer) {
    give_way();
    let mut used = 0;
    while !shared.background.is_closed() {
        shared.set_working(Worker::Ahead, true);
        let did = step_ahead(shared, &mut preparer);
        shared.set_working(Worker::Ahead, false);
        watch_disk(shared);
        let before = std::mem::replace(&mut used, shared.used.load(Ordering::Relaxed));
        let pause = match (did, shared.preparation.has_problem()) {
            (true, _) => continue,
            (false, true) => PAUSE,
            (false, false) if before != used => LOOK_EVERY,
            (false, false) => LOOK_IDLE,
        };
        shared.preparation.wait(pause);
    }
}

/// One piece of that; whether there was something to do.
pub fn step_ahead(shared: &Shared, preparer: &mut Preparer) -> bool {
    if let Some(segment) = shared.view.to_cover() {
        let covered = cover(shared, segment);
        let problem = covered.as_ref().err().map(|error| format!("the index of a segment cannot be written: {error}"));
        if let Some(problem) = &problem {
            tracing::warn!(problem, "tried again in a second");
        }
        *shared.uncovered.lock() = problem;
        if covered.is_ok() {
            shared.preparation.note_change();
            return true;
        }
    }
    let had_problem = shared.preparation.has_problem();
    let did = preparer.step(f64::from_bits(shared.used.load(Ordering::Relaxed)));
    // Acceptance comes back by itself, also where nobody tries.
    if had_problem && did && !shared.preparation.has_problem() {
        shared.set_stopped(None);
    }
    did
}

/// Writes the runs of a sealed segment from memory.
fn cover(shared: &Shared, segment: u32) -> Result<(), RunError> {
    let runs = [RunKind::Ids, RunKind::Senders].map(|kind| {
        let (entries, end) = (shared.view.sorted(segment, kind), end_of(&shared.log, segment));
        write_run(shared.log.disk.as_ref(), &shared.identity, kind, segment, end, entries)
    });
    let [ids, senders] = runs;
    shared.view.cover(segment, [ids?, senders?]);
    Ok(())
}

/// Writes the run of one segment.
///
/// # Errors
/// [`RunError`]; no file is left behind.
pub fn write_run(
    disk: &dyn Disk,
    identity: &index::Identity,
    kind: RunKind,
    segment: u32,
    end: End,
    entries: Vec<Entry>,
) -> Result<Run, RunError> {
    let span = Span { from: segment, to: segment };
    let count = entries.len() as u64;
    Run::write(disk, identity, kind, span, end, count, &mut entries.into_iter().map(Ok))
}

/// The last frame of a sealed segment, as the next one names it.
pub fn end_of(log: &Log, segment: u32) -> End {
    let end = log.segment(segment.saturating_add(1)).map(|next| next.previous).unwrap_or_default();
    End { position: end.position.0, checksum: end.checksum }
}

fn watch_disk(shared: &Shared) {
    if let Ok(free) = shared.log.disk.free_bytes() {
        gauge!(names::STORE_DISK_FREE_BYTES).set(free as f64);
    }
    counter!(names::STORE_WRITTEN_BYTES_TOTAL).absolute(shared.log.disk.written_bytes());
    let is = |holds: bool| f64::from(u8::from(holds));
    gauge!(names::STORE_DISK_FULL).set(is(matches!(shared.stopped(), Some(Stopped::Full(_)))));
    gauge!(names::STORE_FAILED).set(is(shared.failure().is_some()));
}

/// Merges, removes and checks, until the store is closed.
pub fn maintain(shared: &Shared, mut scrubber: Scrubber) {
    give_way();
    let mut due = Instant::now() + shared.options.retention_interval;
    loop {
        shared.set_working(Worker::House, true);
        let stepped = step_house(shared, &mut scrubber);
        shared.set_working(Worker::House, false);
        let pause = match stepped {
            Ok(true) => SCRUB_EVERY,
            Ok(false) => due.saturating_duration_since(Instant::now()),
            Err(error) => {
                tracing::warn!(%error, "the index could not be kept in order; tried again in a second");
                PAUSE
            }
        };
        if !shared.background.sleep(pause) {
            return;
        }
        if Instant::now() >= due {
            due = Instant::now() + shared.options.retention_interval;
            // Closed since: the next turn sees it.
            let _ = shared.queue.command(Command::Age(None));
        }
    }
}

/// One piece of that; whether there may be more to do soon.
///
/// # Errors
/// What stood in the way; nothing is lost by it.
pub fn step_house(shared: &Shared, scrubber: &mut Scrubber) -> Result<bool, RunError> {
    remove_old(shared)?;
    if shared.is_index_suspect.swap(false, Ordering::Relaxed) {
        for kind in [RunKind::Ids, RunKind::Senders] {
            find_damaged(shared, &shared.view.runs(kind))?;
        }
    }
    for kind in [RunKind::Ids, RunKind::Senders] {
        if let Some(damaged) = shared.view.runs(kind).iter().find(|run| run.damage().is_some()) {
            rebuild(shared, damaged)?;
            return Ok(true);
        }
    }
    for kind in [RunKind::Ids, RunKind::Senders] {
        let runs = shared.view.runs(kind);
        let spans: Vec<Span> = runs.iter().map(|run| run.span()).collect();
        let Some(range) = index::plan(&spans, sizes().fan_out, longest(shared)) else { continue };
        let inputs = runs.get(range).unwrap_or_default();
        let place = log::Position::new(shared.oldest(), 0);
        let goes_on = || shared.set_working(Worker::House, true);
        match index::merge(shared.log.disk.as_ref(), &shared.identity, inputs, place.0, goes_on) {
            Ok(merged) => {
                shared.view.replace(vec![merged], inputs);
                for input in inputs {
                    remove(shared, &Run::name(kind, input.span()))?;
                }
            }
            Err(error) if is_damage(&error) => find_damaged(shared, inputs)?,
            Err(error) => return Err(error),
        }
        return Ok(true);
    }
    Ok(scrubber.step(shared))
}

/// How many segments a run may span: those of a quarter of the retention, so that no entry stays much longer than its
/// message.
fn longest(shared: &Shared) -> u32 {
    let since = shared.clock.age().saturating_sub(shared.retention_micros() / 4);
    let young = shared.log.headers(..).iter().filter(|header| header.stamp.age >= since).count();
    u32::try_from(young).unwrap_or(u32::MAX).max(1)
}

/// Removes the files of what is below the oldest segment that is kept.
fn remove_old(shared: &Shared) -> Result<(), RunError> {
    let oldest = shared.oldest();
    let gone = shared.log.forget(oldest);
    for number in &gone {
        // One that cannot be removed now is removed at the next start.
        let _ = remove(shared, &log::file_name(*number));
    }
    for run in shared.view.forget(oldest) {
        remove(shared, &Run::name(run.kind(), run.span()))?;
    }
    if !gone.is_empty() {
        shared.log.disk.sync_dir("log")?;
    }
    Ok(())
}

fn remove(shared: &Shared, name: &str) -> Result<(), RunError> {
    match shared.log.disk.remove(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Finds which of `runs` is damaged, and makes it anew.
pub fn find_damaged(shared: &Shared, runs: &[Arc<Run>]) -> Result<(), RunError> {
    for run in runs {
        for entry in run.entries() {
            if shared.background.is_closed() {
                return Ok(());
            }
            shared.set_working(Worker::House, true);
            match entry {
                Ok(_) => {}
                Err(error) if is_damage(&error) => {
                    rebuild(shared, run)?;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Whether a run's file is not what was written, or cannot be read: a bad sector of the disk.
pub fn is_damage(error: &RunError) -> bool {
    match error {
        RunError::Damaged(_) => true,
        RunError::Io(error) => is_bad_sector(error),
        RunError::Newer | RunError::Input(_) => false,
    }
}

/// Makes a damaged run anew, segment by segment: what the log says, and what its own whole pages still say. What neither
/// has is counted.
fn rebuild(shared: &Shared, run: &Arc<Run>) -> Result<(), RunError> {
    let (kind, span) = (run.kind(), run.span());
    tracing::warn!(kind = ?kind, from = span.from, to = span.to, "a damaged run of the index is made anew");
    let mut kept: HashMap<u32, Vec<Entry>> = HashMap::new();
    for entry in Run::salvage(shared.log.disk.as_ref(), &shared.identity, kind, span)? {
        kept.entry(log::Position(entry.position).segment()).or_default().push(entry);
    }
    let mut made = Vec::new();
    for segment in span.from.max(shared.oldest())..=span.to {
        shared.set_working(Worker::House, true);
        let mut entries = kept.remove(&segment).unwrap_or_default();
        if let Some(recent) = read_segment(&shared.log, segment)? {
            entries.extend(if kind == RunKind::Ids { recent.ids_sorted() } else { recent.senders_sorted() });
        }
        join(&shared.log, segment, &mut entries);
        let end = end_of(&shared.log, segment);
        made.push(write_run(shared.log.disk.as_ref(), &shared.identity, kind, segment, end, entries)?);
    }
    let is_replaced = span.from == span.to;
    shared.view.replace(made, std::slice::from_ref(run));
    // A run of one segment has the name of its successor.
    if is_replaced { Ok(()) } else { remove(shared, &Run::name(kind, span)) }
}

/// Puts entries from several sources in order; ids of messages that none of them has are counted.
pub fn join(log: &Log, segment: u32, entries: &mut Vec<Entry>) {
    entries.sort_unstable();
    entries.dedup();
    let (Some(here), Some(next)) = (log.segment(segment), log.segment(segment.saturating_add(1))) else { return };
    let missing = next.messages.saturating_sub(here.messages).saturating_sub(entries.len() as u64);
    if missing > 0 {
        counter!(names::STORE_FORGOTTEN_TOTAL).increment(missing);
        tracing::error!(segment, missing, "ids of messages are in neither the log nor the index any more");
    }
}

/// The entries of a segment, as far as its heads are whole.
pub fn read_segment(log: &Log, segment: u32) -> Result<Option<Recent>, RunError> {
    let Some(header) = log.segment(segment) else { return Ok(None) };
    let next = log.segment(segment.saturating_add(1)).map(|next| (next.previous, next.ordinal));
    match scan(log.file(segment)?, &header, next, &[]) {
        Ok(scanned) => Ok(Some(scanned.recent)),
        Err(ScanError::Newer) => Err(RunError::Newer),
        Err(ScanError::Io(error)) => Err(error.into()),
    }
}

//! Opening a store: the log is read and judged, mended where that costs nothing, its index completed, and the parts put
//! together. Without threads: [`super::EmbeddedStore`] has those, and the simulator steps the parts by itself.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::Arc,
};

use super::{
    background::{self, write_run},
    clock::StoreClock,
    disk::Disk,
    error::OpenError,
    index::{self, End, Entry, Identity, Run, RunError, RunKind, Span},
    log::{
        self, Log, Position, Stamp,
        frame::FrameKind,
        prepare::Preparer,
        reader::Window,
        recovery::{FindError, Finder, RecoveredLog},
        scrub::Scrubber,
        segment::{self, MAX_GAPS, SegmentHeader},
        writer::{AppendError, LogWriter},
    },
    options::{Mode, Options},
    report::{Left, OpenReport},
    sabotage::{Sabotage, is_planted},
    shared::Shared,
    state::State,
    view::View,
    writer::Writer,
};
use crate::domain::{Clock, Timestamp};

const KINDS: [RunKind; 2] = [RunKind::Ids, RunKind::Senders];

/// The parts of an open store.
pub struct Parts {
    /// What all have in common.
    pub shared: Arc<Shared>,
    /// The writer; a store that is only read has none.
    pub writer: Option<Writer>,
    /// What makes the next segment.
    pub preparer: Preparer,
    /// What checks the rest.
    pub scrubber: Scrubber,
    /// What was found.
    pub report: OpenReport,
}

/// Opens the store on `disk`, or makes one there.
///
/// # Errors
/// [`OpenError`].
pub fn open(disk: Arc<dyn Disk>, options: Options, clock: Arc<dyn Clock>) -> Result<Parts, OpenError> {
    Opener { disk, options, clock, mended: Vec::new() }.open()
}

struct Opener {
    disk: Arc<dyn Disk>,
    options: Options,
    clock: Arc<dyn Clock>,
    mended: Vec<String>,
}

/// The runs that are there.
#[derive(Default)]
struct Runs {
    whole: Vec<Run>,
    /// Those whose file cannot be opened.
    damaged: Vec<(RunKind, Span)>,
    /// Covered by wider ones, or of another log.
    obsolete: Vec<(RunKind, Span)>,
    /// What they say of a log that this one is not.
    lost: Vec<String>,
}

impl Runs {
    fn cover(&self, kind: RunKind, segment: u32) -> bool {
        self.whole.iter().any(|run| run.kind() == kind && has(run.span(), segment))
    }
}

fn has(span: Span, segment: u32) -> bool {
    (span.from..=span.to).contains(&segment)
}

impl Opener {
    fn open(mut self) -> Result<Parts, OpenError> {
        let began = std::time::Instant::now();
        let is_read = self.options.mode == Mode::Read;
        if !is_read {
            self.make_directories().map_err(|error| self.disk_error(error))?;
        }
        let Some(finder) = Finder::open(self.disk.as_ref()).map_err(|error| self.find_error(error))? else {
            if is_read {
                return Err(OpenError::Missing { dir: self.options.dir.clone() });
            }
            self.create()?;
            return self.open_found(Left::New, began);
        };
        drop(finder);
        self.open_found(Left::Unclean, began)
    }

    fn open_found(&mut self, left: Left, began: std::time::Instant) -> Result<Parts, OpenError> {
        let is_read = self.options.mode == Mode::Read;
        let finder = Finder::open(self.disk.as_ref()).map_err(|error| self.find_error(error))?;
        let Some(finder) = finder else { return Err(OpenError::Missing { dir: self.options.dir.clone() }) };
        let runs = if is_read { Runs::default() } else { self.open_runs(&finder)? };
        let covered = |segment| is_read || KINDS.iter().all(|kind| runs.cover(*kind, segment));
        let mut found = finder.judge(covered).map_err(|error| self.find_error(error))?;
        found.lost.extend(runs.lost.iter().cloned());
        if !found.lost.is_empty() && self.options.mode == Mode::Serve {
            return Err(OpenError::Damaged { dir: self.options.dir.clone(), missing: found.lost, can_accept: true });
        }
        self.mended.append(&mut found.told);
        let left = match (left, found.tail.last) {
            (Left::New, _) => Left::New,
            (_, Some(FrameKind::Closing)) => Left::Clean,
            _ => Left::Unclean,
        };
        if !is_read {
            self.sync_names().map_err(|error| self.disk_error(error))?;
            found.repair.write().map_err(|error| self.disk_error(error))?;
        }
        self.put_together(found, runs, left, began)
    }

    fn make_directories(&self) -> io::Result<()> {
        for dir in ["log", index::DIR] {
            self.disk.make_dir(dir)?;
            for name in self.disk.list(dir)?.iter().filter(|name| name.ends_with(".tmp")) {
                self.disk.remove(&format!("{dir}/{name}"))?;
            }
        }
        self.disk.sync_dir("")
    }

    /// The process before may have ended between giving a file its name and syncing the directory: what is acknowledged in a
    /// segment that was found there must not lose it with the power.
    fn sync_names(&self) -> io::Result<()> {
        if is_planted(Sabotage::NoDirectorySync) {
            return Ok(());
        }
        self.disk.sync_dir("log")?;
        self.disk.sync_dir(index::DIR)
    }

    fn create(&self) -> Result<(), OpenError> {
        let runs = self.disk.list(index::DIR).map_err(|error| self.disk_error(error))?;
        if runs.iter().any(|name| Run::parse_name(name).is_some()) {
            return Err(self.unusable("the log is missing, though there is an index of it".to_owned()));
        }
        let made = self.disk.random().and_then(|store| {
            let identity =
                segment::Identity { store, secret: super::checksum::Secret::from_bytes(self.disk.random()?) };
            let snapshot = State::new().snapshot();
            log::headers::create(self.disk.as_ref(), identity, self.options.largest_record, &snapshot)
        });
        made.map(drop).map_err(|error| self.disk_error(error))
    }

    fn open_runs(&self, finder: &Finder) -> Result<Runs, OpenError> {
        let identity = run_identity(finder.identity);
        let names = self.disk.list(index::DIR).map_err(|error| self.disk_error(error))?;
        let mut runs = Runs::default();
        for (kind, span) in names.iter().filter_map(|name| Run::parse_name(name)) {
            match Run::open(self.disk.as_ref(), &identity, kind, span) {
                Ok(run) => self.judge_run(finder, run, &mut runs),
                Err(RunError::Newer) => return Err(OpenError::Newer { dir: self.options.dir.clone() }),
                Err(error) if background::is_damage(&error) => runs.damaged.push((kind, span)),
                Err(error) => return Err(self.run_error(error)),
            }
        }
        // A damaged run, which answers slowly, makes no other one superfluous.
        let whole = runs.whole.iter().filter(|run| run.damage().is_none());
        let spans: Vec<_> = whole.map(|run| (run.kind(), run.span())).collect();
        let obsolete: Vec<_> = index::obsolete(&spans).into_iter().filter_map(|number| spans.get(number)).collect();
        runs.whole.retain(|run| {
            let is_obsolete = obsolete.contains(&&(run.kind(), run.span()));
            if is_obsolete {
                runs.obsolete.push((run.kind(), run.span()));
            }
            !is_obsolete
        });
        Ok(runs)
    }

    /// A run tells how far the log once came, and which log it was.
    fn judge_run(&self, finder: &Finder, run: Run, runs: &mut Runs) {
        let (span, end) = (run.span(), run.end());
        let next = finder.headers.get(&span.to.saturating_add(1));
        let is_ours =
            |next: &SegmentHeader| next.previous.position.0 == end.position && next.previous.checksum == end.checksum;
        if span.to >= finder.newest {
            runs.lost.push(format!("the index names segment {}, which is beyond the end of the log", span.to));
            runs.obsolete.push((run.kind(), span));
        } else if next.is_some_and(|next| !is_ours(next)) {
            runs.lost.push(format!("the index of segments {} to {} is of another log", span.from, span.to));
            runs.obsolete.push((run.kind(), span));
        } else {
            runs.whole.push(run);
        }
    }

    fn put_together(
        &mut self,
        mut found: RecoveredLog,
        mut runs: Runs,
        left: Left,
        began: std::time::Instant,
    ) -> Result<Parts, OpenError> {
        let is_read = self.options.mode == Mode::Read;
        let newest = found.tail.header.number;
        let end = Position::new(newest, found.tail.offset);
        let log = Arc::new(Log::new(Arc::clone(&self.disk), std::mem::take(&mut found.segments), found.identity, end));
        // After a seal or a loss the log goes on in another segment at once.
        let moves_on = !found.gaps.is_empty() || found.tail.last == Some(FrameKind::Seal);
        let mut indexed = 0;
        if !is_read {
            indexed =
                self.complete_index(&log, &mut found, &mut runs, moves_on).map_err(|error| self.run_error(error))?;
        }
        let clock = StoreClock::new(Arc::clone(&self.clock), last_stamp(left, found.stamp), self.options.trust_clock);
        let newest_record = (found.tail.last_record, found.tail.previous_records.checksum);
        let report = OpenReport {
            messages: found.tail.messages.saturating_sub(log.headers(..).first().map_or(0, |first| first.messages)),
            oldest: first_time(&log),
            newest: log.frame(found.tail.previous_records.position).ok().map(|frame| frame.stamp.wall),
            keys: found.state.keys(None).len(),
            left,
            indexed,
            mended: std::mem::take(&mut self.mended),
            lost: std::mem::take(&mut found.lost),
            took: began.elapsed(),
        };
        let recents = std::mem::take(&mut found.recents);
        let view = View::new(recents, std::mem::take(&mut runs.whole), end);
        let state = std::mem::take(&mut found.state);
        let shared = Arc::new(Shared::new(self.options.clone(), clock, Arc::clone(&log), view, state, newest_record));
        let mut preparer =
            Preparer::new(Arc::clone(&self.disk), Arc::clone(&shared.preparation), self.options.min_free_bytes);
        let writer = if is_read { None } else { Some(self.begin_writing(&shared, &mut preparer, found, moves_on)?) };
        let scrubber = Scrubber::new(&shared, left == Left::Unclean);
        Ok(Parts { shared, writer, preparer, scrubber, report: OpenReport { took: began.elapsed(), ..report } })
    }

    /// Writes the runs that are missing, and removes files that are of no use.
    fn complete_index(
        &self,
        log: &Log,
        found: &mut RecoveredLog,
        runs: &mut Runs,
        moves_on: bool,
    ) -> Result<u64, RunError> {
        let (identity, oldest, newest) = (run_identity(found.identity), found.state.oldest, found.tail.header.number);
        let mut kept: HashMap<(u32, bool), Vec<Entry>> = HashMap::new();
        for (kind, span) in &runs.damaged {
            for entry in Run::salvage(self.disk.as_ref(), &identity, *kind, *span)? {
                kept.entry((Position(entry.position).segment(), *kind == RunKind::Ids)).or_default().push(entry);
            }
        }
        let is_lossy = !found.gaps.is_empty();
        // Memory is for the segment that is written and one more; after a loss the run comes first.
        let in_memory = if is_lossy {
            newest.saturating_add(1)
        } else if moves_on {
            newest
        } else {
            newest.saturating_sub(1)
        };
        let mut indexed = 0;
        for segment in oldest..=newest {
            let has_kept = KINDS.iter().any(|kind| kept.contains_key(&(segment, *kind == RunKind::Ids)));
            let covers = KINDS.map(|kind| runs.cover(kind, segment));
            if covers == [true, true] || (segment >= in_memory && covers == [false, false] && !has_kept) {
                continue;
            }
            if log.segment(segment).is_none() || (segment == newest && !is_lossy) {
                continue;
            }
            let Some(recent) = background::read_segment(log, segment)? else { continue };
            for (kind, is_covered) in KINDS.into_iter().zip(covers) {
                if is_covered {
                    continue;
                }
                let mut entries = kept.remove(&(segment, kind == RunKind::Ids)).unwrap_or_default();
                entries.extend(if kind == RunKind::Ids { recent.ids_sorted() } else { recent.senders_sorted() });
                background::join(log, segment, &mut entries);
                let end = match segment == newest {
                    true => End { position: found.tail.previous.position.0, checksum: found.tail.previous.checksum },
                    false => background::end_of(log, segment),
                };
                runs.whole.push(write_run(self.disk.as_ref(), &identity, kind, segment, end, entries)?);
            }
            found.recents.retain(|recent| recent.segment() != segment);
            indexed += 1;
        }
        let is_made = |kind, span: Span| span.from == span.to && runs.cover(kind, span.from);
        let damaged = runs.damaged.iter().filter(|(kind, span)| !is_made(*kind, *span));
        for (kind, span) in damaged.chain(&runs.obsolete) {
            self.disk.remove(&Run::name(*kind, *span))?;
        }
        self.remove_old(log, oldest)?;
        Ok(indexed)
    }

    /// Files below the oldest segment: a process ended before it had removed them.
    fn remove_old(&self, log: &Log, oldest: u32) -> io::Result<()> {
        let old = |number: &u32| *number < oldest;
        let names = self.disk.list("log")?;
        for number in names.iter().filter_map(|name| log::number_of(name)).filter(old) {
            self.disk.remove(&log::file_name(number))?;
        }
        log.forget(oldest);
        Ok(())
    }

    fn begin_writing(
        &self,
        shared: &Arc<Shared>,
        preparer: &mut Preparer,
        mut found: RecoveredLog,
        moves_on: bool,
    ) -> Result<Writer, OpenError> {
        if let Some(next) = found.next.take() {
            shared.preparation.adopt(next);
        }
        if !found.gaps.is_empty() {
            // Not one byte of a broken segment is changed: it gets no seal.
            found.tail.last = Some(FrameKind::Seal);
            found.tail.header.gaps = gaps(&found);
        }
        if is_planted(Sabotage::IdleRestartMovesEnd) && found.tail.last == Some(FrameKind::Closing) {
            found.tail.previous.checksum ^= 1;
        }
        let snapshot = shared.state.write().snapshot();
        let largest = self.options.largest_record;
        let mut log = LogWriter::new(Arc::clone(&shared.log), Arc::clone(&shared.preparation), found.tail, largest);
        if moves_on {
            let stamp = shared.clock.stamp();
            loop {
                match log.roll(&snapshot, false, stamp) {
                    Ok(()) => break,
                    Err(AppendError::NotReady) if preparer.step(1.0) => {}
                    Err(AppendError::NoSpace(_)) => return Err(self.disk_error(io::ErrorKind::StorageFull.into())),
                    // The preparer has said why, or will at the next try.
                    Err(AppendError::NotReady) => {
                        return Err(self.disk_error(io::Error::other("the next segment cannot be made")));
                    }
                    Err(AppendError::NoSegment(why) | AppendError::Failed(why)) => {
                        return Err(self.disk_error(io::Error::other(why)));
                    }
                }
            }
            shared.view.begin(log.segment(), log.end());
            shared.publish(log.end(), log.newest());
        }
        Ok(Writer::new(Arc::clone(shared), log))
    }

    fn disk_error(&self, error: io::Error) -> OpenError {
        OpenError::disk(&self.options.dir, error)
    }

    fn run_error(&self, error: RunError) -> OpenError {
        match error {
            RunError::Io(error) => self.disk_error(error),
            RunError::Damaged(_) | RunError::Newer | RunError::Input(_) => {
                self.disk_error(io::Error::other(error.to_string()))
            }
        }
    }

    fn find_error(&self, error: FindError) -> OpenError {
        match error {
            FindError::Newer => OpenError::Newer { dir: self.options.dir.clone() },
            FindError::Unusable(why) => self.unusable(why),
            FindError::Io(error) => self.disk_error(error),
        }
    }

    fn unusable(&self, why: String) -> OpenError {
        OpenError::Damaged { dir: self.options.dir.clone(), missing: vec![why], can_accept: false }
    }
}

/// What runs are checked by.
pub fn run_identity(identity: segment::Identity) -> Identity {
    Identity { store: identity.store, seed: identity.secret.body(b"index") }
}

/// The gaps of the next header: those of the last and new ones. Where there are too many, the oldest become one.
fn gaps(found: &RecoveredLog) -> Vec<segment::Gap> {
    let mut gaps: BTreeMap<Position, segment::Gap> = BTreeMap::new();
    for gap in found.tail.header.gaps.iter().chain(&found.gaps) {
        gaps.insert(gap.from, *gap);
    }
    let oldest = Position::new(found.state.oldest, 0);
    let gaps: Vec<_> = gaps.into_values().filter(|gap| gap.from >= oldest).collect();
    let surplus = gaps.len().saturating_sub(MAX_GAPS);
    gaps.into_iter().skip(surplus).collect()
}

fn last_stamp(left: Left, stamp: Stamp) -> Option<Stamp> {
    // The first segment of a new store has no time.
    (left != Left::New && stamp != Stamp::ZERO).then_some(stamp)
}

fn first_time(log: &Log) -> Option<Timestamp> {
    let header = log.headers(..).into_iter().next()?;
    let file = log.file(header.number).ok()?;
    let mut window = Window::new(file, log.secret, header.number, log.end_of(&header));
    let first = window.next_header(header.first_frame()).ok()?.ok()??;
    Some(first.stamp.wall)
}

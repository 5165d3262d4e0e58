//! Opening a store, and what is demanded of it before it may serve.
//!
//! The engine is young, and by itself it takes what it finds for all there was: it cuts a journal off at the first
//! damage, reads each sealed journal on its own, and writes keyspaces to tables one by one. So after every start, and
//! with the [mark](super::mark) as the witness:
//!
//! - `messages` has no gap from the oldest retained sequence to the last one, and the last one is not below the mark nor
//!   below what an index knows. Tables prove it by their number of entries; only what is not in dense tables is scanned.
//! - Every index entry is there. Up to the mark's `flushed` all entries lay in synced tables. From there to the last
//!   sequence that both indexes know each is looked for, and what is missing is made again from its message: earlier
//!   versions wrote entries to the journal, and a hole in one may have taken them though the index's last sequence looks
//!   right. What is beyond that sequence was in memory only, and is made again as a matter of course.
//! - The keys' digest matches, and no mutation is missing.
//! - After an unclean stop, tables match the checksums in their manifest.
//!
//! Anything else that is missing ends the opening; `accept_loss` is the only way on.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::{Arc, atomic::AtomicU64},
    time::Instant,
};

use super::{
    engine::{Engine, Failure},
    error::OpenError,
    indexing, journals,
    keys::Digest,
    mark::{Mark, MarkFile},
    meta::Meta,
    options::Options,
    report::{Left, OpenReport},
    salvage,
    shared::{Found, Shared, StoreId},
    verify,
};
use crate::{
    domain::{Clock, Error, Timestamp},
    store::record::View,
};

const LOCK: &str = "lock";
const STORE: &str = "store";
/// The engine writes this file last when it makes a store.
const ENGINE_IS_MADE: &str = "version";

/// An open store whose threads are still to be started.
pub struct Opened {
    pub shared: Arc<Shared>,
    pub mark: Arc<MarkFile>,
    pub lock: File,
    pub keys: Digest,
    pub last_placed_at: Timestamp,
    pub report: OpenReport,
}

/// Opens the store in `options.dir`, or makes one.
pub fn open(options: Options, clock: Arc<dyn Clock>) -> Result<Opened, OpenError> {
    let began = Instant::now();
    let dir = options.dir.clone();
    let store_dir = dir.join(STORE);
    DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(|e| OpenError::not_writable(&dir, e))?;
    let lock = take_lock(&dir)?;
    let mark_file = MarkFile::new(&dir);
    let mut findings = Findings::default();
    let (mark, left) = read_mark(&dir, &store_dir, &mark_file, &mut findings)?;
    let copies = match left {
        Left::Unclean => journals::set_aside(&dir, &store_dir).map_err(|e| OpenError::not_writable(&dir, e))?,
        Left::New | Left::Clean => None,
    };
    let damaged = |missing: Vec<String>, can_accept| OpenError::Damaged {
        dir: dir.clone(),
        missing,
        copies: copies.clone(),
        can_accept,
    };
    let not_readable = |error| OpenError::not_writable(&store_dir, error);
    let journals = journals::examine(&store_dir, mark.flushed_commit).map_err(not_readable)?;
    if left == Left::Unclean {
        findings.0.extend(journals.iter().filter_map(journals::Journal::damage));
    }
    if !options.accept_loss && !findings.0.is_empty() {
        // Nothing is touched before the operator has decided.
        return Err(damaged(findings.0, true));
    }
    for journal in journals {
        journal.trim().map_err(not_readable)?;
    }
    let droppable = Arc::new(AtomicU64::new(0));
    let mut engine = open_engine(&store_dir, &options, &droppable, &damaged)?;
    let unreadable = |error: Error| damaged(vec![cause_of(&error)], false);

    let mut verified_bytes = 0;
    if left == Left::Unclean {
        let verified = verify::tables(&engine, options.verify_bytes).map_err(|e| OpenError::not_writable(&dir, e))?;
        verified_bytes = verified.bytes;
        if !verified.damaged.is_empty() {
            findings.0.extend(verified.damaged.iter().map(ToString::to_string));
            let can_accept = verified.damaged.iter().all(|table| table.is_replaceable(&engine));
            if !options.accept_loss || !can_accept {
                return Err(damaged(findings.0, can_accept));
            }
            salvage::replace_tables(&mut engine, &verified.damaged).map_err(unreadable)?;
        }
    }

    let mut meta = Meta::load(&engine).map_err(unreadable)?;
    let id = settle_id(&mark, &mut meta, left, &mut findings).map_err(|missing| damaged(vec![missing], false))?;
    let oldest = meta.oldest.max(mark.oldest);
    let span = verify::span(&engine, &mark, oldest).map_err(unreadable)?;
    let missing = verify::missing(&engine, oldest, span.expected, &meta.gaps).map_err(unreadable)?;
    for (first, last) in &missing {
        findings.0.push(match last - first {
            0 => format!("message {first} is missing"),
            _ => format!("{} messages, {first} to {last}, are missing", last - first + 1),
        });
        meta.gaps.add(*first, *last);
    }
    let mut keys = check_keys(&engine, &mark, &mut findings).map_err(unreadable)?;
    if !findings.0.is_empty() && !options.accept_loss {
        return Err(damaged(findings.0, true));
    }

    let mut last = span.expected;
    if !missing.is_empty() {
        last = salvage::skip_ahead(&mut meta.gaps, last);
    }
    meta.gaps.forget_below(oldest);
    meta.oldest = oldest;
    let whole = !findings.0.is_empty();
    if whole {
        keys = salvage::accept(&engine, keys, &meta, &mark).map_err(unreadable)?;
    } else if left == Left::New {
        meta.store(&engine).map_err(unreadable)?;
    }
    // After an accepted loss no index is trusted, and none that knows less than what once lay in its tables.
    let lags = span.indexes < mark.flushed;
    let (rebuilt, indexed) = if whole || lags {
        (verify::indexes(&engine, oldest, span.expected, Some(last), whole).map_err(unreadable)?, 0)
    } else {
        let known = span.indexes.min(last);
        let rebuilt = verify::indexes(&engine, mark.flushed.max(oldest.saturating_sub(1)) + 1, known, None, false);
        // The last message too, which is there however old it is: with it the indexes know how far the sequence came.
        let first = (known + 1).max(oldest.min(last));
        let indexed = if known < last { indexing::catch_up(&engine, first, last) } else { Ok(0) };
        (rebuilt.map_err(unreadable)?, indexed.map_err(unreadable)?)
    };

    let found = Found {
        id,
        last,
        oldest,
        flushed: match whole {
            true => 0,
            false if engine.has_indexes_in_tables() => last,
            false => mark.flushed,
        },
        flushed_commit: mark.flushed_commit,
        key_mutations: keys.mutations,
        gaps: meta.gaps,
    };
    let newest = placed_at(&engine, oldest.min(last), last, true).map_err(unreadable)?;
    let report = OpenReport {
        messages: (last + 1).saturating_sub(oldest).saturating_sub(found.gaps.count_from(oldest)),
        oldest: placed_at(&engine, oldest, last, false).map_err(unreadable)?,
        newest: placed_at(&engine, oldest, last, true).map_err(unreadable)?,
        keys: super::keys::list(&engine, None).map_err(unreadable)?.len(),
        left,
        rebuilt,
        indexed,
        verified_bytes,
        lost: findings.0,
        took: began.elapsed(),
    };
    droppable.store(oldest.min(last), std::sync::atomic::Ordering::Release);
    let shared = Arc::new(Shared::new(options, clock, engine, droppable, found));
    if whole || left == Left::New {
        // The store's own records are safe from any journal; and after a loss no journal may bring back, at a later
        // start, what was given up.
        let engine = shared.engine().map_err(unreadable)?;
        super::upkeep::flush(&shared, &engine).map_err(|error| unreadable(super::engine::failed(error)))?;
    }
    mark_file.write(&shared, false).map_err(|e| OpenError::not_writable(&dir, e))?;
    if let Some(copies) = &copies {
        journals::opened(&dir, copies).map_err(|e| OpenError::not_writable(&dir, e))?;
    }
    Ok(Opened {
        shared,
        mark: Arc::new(mark_file),
        lock,
        keys,
        last_placed_at: newest.unwrap_or(Timestamp::EPOCH),
        report: OpenReport { took: began.elapsed(), ..report },
    })
}

/// What is missing, a line each.
#[derive(Default)]
pub struct Findings(pub Vec<String>);

fn take_lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| OpenError::not_writable(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(OpenError::not_writable(&path, error)),
    }
}

/// What the mark says, or what there is to begin with.
fn read_mark(
    dir: &Path,
    store_dir: &Path,
    file: &MarkFile,
    findings: &mut Findings,
) -> Result<(Mark, Left), OpenError> {
    let not_writable = |error| OpenError::not_writable(dir, error);
    let has_engine = store_dir.join(ENGINE_IS_MADE).try_exists().map_err(not_writable)?;
    let has_files = match fs::read_dir(store_dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(not_writable(error)),
    };
    let mark = match file.load().map_err(not_writable)? {
        Some(Ok(mark)) => Some(mark),
        Some(Err(damage)) => {
            findings.0.push(format!("the file 'mark', which tells what must be there, cannot be used: {}", damage.0));
            None
        }
        None => {
            if has_files {
                findings.0.push("the file 'mark', which tells what must be there, is missing".to_owned());
            }
            None
        }
    };
    match mark {
        Some(mark) if has_engine => Ok((mark, if mark.clean { Left::Clean } else { Left::Unclean })),
        Some(mark) if mark.last == 0 && mark.key_mutations == 0 => {
            // Ended while it was made for the first time: nothing can have been accepted.
            if has_files {
                fs::remove_dir_all(store_dir).map_err(not_writable)?;
            }
            Ok((mark, Left::New))
        }
        Some(mark) => {
            findings.0.push("the files of the engine, in 'store', are missing".to_owned());
            Ok((mark, Left::Unclean))
        }
        None => {
            let mark = Mark {
                store: *uuid::Uuid::new_v4().as_bytes(),
                last: 0,
                oldest: 1,
                flushed: 0,
                flushed_commit: 0,
                key_mutations: 0,
                clean: false,
            };
            if has_files {
                return Ok((mark, Left::Unclean));
            }
            // Before the engine's files: these without a mark are a sign of damage.
            file.replace(mark).map_err(not_writable)?;
            Ok((mark, Left::New))
        }
    }
}

fn open_engine(
    store_dir: &Path,
    options: &Options,
    droppable: &Arc<AtomicU64>,
    damaged: &dyn Fn(Vec<String>, bool) -> OpenError,
) -> Result<Engine, OpenError> {
    let failure = match Engine::open(store_dir, options, droppable) {
        Ok(engine) => return Ok(engine),
        Err(failure) => failure,
    };
    let what = match failure {
        Failure::Engine(fjall::Error::Locked) => return Err(OpenError::Locked { dir: options.dir.clone() }),
        Failure::Engine(fjall::Error::InvalidVersion(Some(_))) => {
            return Err(OpenError::Newer { dir: options.dir.clone() });
        }
        Failure::Engine(fjall::Error::Io(error)) if is_about_access(&error) => {
            return Err(OpenError::not_writable(store_dir, error));
        }
        Failure::Engine(error) => format!("the engine cannot open its files: {error}"),
        Failure::Panic(text) => format!("the engine gave up on its files: {text}"),
    };
    Err(damaged(vec![what], false))
}

fn is_about_access(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    [PermissionDenied, ReadOnlyFilesystem, StorageFull, QuotaExceeded].contains(&error.kind())
}

/// The store's id, which the mark and the engine must agree on.
fn settle_id(mark: &Mark, meta: &mut Meta, left: Left, findings: &mut Findings) -> Result<StoreId, String> {
    match meta.store {
        Some(id) if id == mark.store => Ok(id),
        // Without a mark the findings say so already, and there is only one id.
        Some(id) if mark.last == 0 && !findings.0.is_empty() => Ok(id),
        Some(_) => Err("the file 'mark' belongs to another store".to_owned()),
        None => {
            if left != Left::New && mark.last > 0 {
                findings.0.push("the store's record of itself is missing".to_owned());
            }
            meta.store = Some(mark.store);
            Ok(mark.store)
        }
    }
}

fn check_keys(engine: &Engine, mark: &Mark, findings: &mut Findings) -> Result<Digest, Error> {
    let (stored, counted) = Digest::load(engine)?;
    if stored.mutations < mark.key_mutations {
        let lost = mark.key_mutations - stored.mutations;
        findings.0.push(format!("the last {lost} changes of API keys are missing"));
    } else if stored != counted {
        findings.0.push("API keys are missing, or changes of them".to_owned());
    }
    Ok(counted)
}

/// The time of the first or the last place between two sequences.
fn placed_at(engine: &Engine, first: u64, last: u64, newest: bool) -> Result<Option<Timestamp>, Error> {
    if first > last {
        return Ok(None);
    }
    let mut messages = engine.messages_between(first, last);
    let found = if newest { messages.next_back() } else { messages.next() };
    found
        .transpose()?
        .map(|(sequence, record)| View::read(sequence, &record).map(|view| view.placed_at).map_err(Error::internal))
        .transpose()
}

fn cause_of(error: &Error) -> String {
    error.cause().map_or_else(|| error.to_string(), ToString::to_string)
}

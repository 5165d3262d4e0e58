//! The engine's journals, looked at and laid aside before the engine opens them.
//!
//! The engine cuts a journal off at the first damage, and what stood behind would be gone for whoever has to find out
//! what was lost. So after an unclean stop the journals are kept aside as they were; the engine gets new files with the
//! commits that do not lie in tables yet. That also makes starts short: it replays some hundred thousand entries a
//! second, and by itself keeps journals of 64 MiB and more.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
};

use super::journal_format::{self, End, Examined};

const PREFIX: &str = "journals-";
/// Ends the name of copies whose store was opened after all.
const OPENED: &str = ".opened";
/// How many of those are kept beside the copies of a start that is under way or was refused.
const KEPT: usize = 1;
const CHUNK: usize = 64 * 1024;

/// One journal of the engine.
pub struct Journal {
    path: PathBuf,
    examined: Examined,
    is_last: bool,
}

/// Reads all journals in `store`, the oldest first; commits from number `first` on are wanted.
///
/// # Errors
/// When one cannot be read.
pub fn examine(store: &Path, first: u64) -> io::Result<Vec<Journal>> {
    let mut journals = Vec::new();
    for path in list(store)? {
        let examined = journal_format::examine(&path, first)?;
        journals.push(Journal { path, examined, is_last: false });
    }
    if let Some(last) = journals.last_mut() {
        last.is_last = true;
    }
    Ok(journals)
}

impl Journal {
    /// What is wrong with it. A torn end of the last journal is a commit that was never acknowledged; the others were
    /// synced as a whole.
    pub fn damage(&self) -> Option<String> {
        match self.examined.end {
            End::Whole => return None,
            End::Torn if self.is_last => return None,
            End::Torn | End::Damaged => {}
        }
        let name = self.path.file_name().unwrap_or_default().display();
        Some(format!("journal {name} is damaged from byte {} on", self.examined.wanted.end))
    }

    /// Puts a file with only the wanted commits in its place. The last journal stays even when it is empty: without any
    /// the engine would number its commits from 0 again.
    ///
    /// # Errors
    /// When the file cannot be made durable.
    pub fn trim(&self) -> io::Result<()> {
        let Range { start, end } = self.examined.wanted;
        if start == end && !self.is_last {
            return fs::remove_file(&self.path);
        }
        let next = self.path.with_extension("next");
        let mut from = File::open(&self.path)?;
        from.seek(SeekFrom::Start(start))?;
        let mut to = BufWriter::with_capacity(CHUNK, File::create(&next)?);
        io::copy(&mut from.take(end - start), &mut to)?;
        to.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&next, &self.path)
    }
}

/// Keeps the journals in `store` as they are in a new directory in `dir`, and removes all but the latest of these
/// directories. After an opening that was refused, the copies of that one stay the only ones, however often the opening is
/// tried again. `None` when there are no journals.
///
/// # Errors
/// When that cannot be made durable.
pub fn set_aside(dir: &Path, store: &Path) -> io::Result<Option<PathBuf>> {
    let refused = numbered(dir, |name| name.strip_prefix(PREFIX)?.parse().ok())?;
    if let Some((_, copies)) = refused.into_iter().next_back() {
        return Ok(Some(copies));
    }
    let journals = list(store)?;
    if journals.is_empty() {
        return Ok(None);
    }
    let mut opened = numbered(dir, |name| name.strip_prefix(PREFIX)?.strip_suffix(OPENED)?.parse().ok())?;
    let number = opened.last().map_or(1, |(number, _)| number + 1);
    // Room first: the disk may be nearly full.
    while opened.len() > KEPT {
        let (_, oldest) = opened.remove(0);
        fs::remove_dir_all(oldest)?;
    }
    // Under another name until it is complete.
    let unfinished = dir.join("journals.next");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    fs::create_dir(&unfinished)?;
    for journal in journals {
        if let Some(name) = journal.file_name() {
            let copy = unfinished.join(name);
            // A link takes neither time nor space, and nobody writes to that file again: see `trim`.
            if fs::hard_link(&journal, &copy).is_err() {
                copy_file(&journal, &copy)?;
            }
        }
    }
    File::open(&unfinished)?.sync_all()?;
    let copies = dir.join(format!("{PREFIX}{number}"));
    fs::rename(&unfinished, &copies)?;
    File::open(dir)?.sync_all()?;
    Ok(Some(copies))
}

/// Notes that the store of these copies was opened.
///
/// # Errors
/// When that cannot be made durable.
pub fn opened(dir: &Path, copies: &Path) -> io::Result<()> {
    let mut name = copies.as_os_str().to_owned();
    name.push(OPENED);
    fs::rename(copies, name)?;
    File::open(dir)?.sync_all()
}

fn list(store: &Path) -> io::Result<Vec<PathBuf>> {
    let found = numbered(store, |name| name.strip_suffix(".jnl")?.parse().ok())?;
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// The entries of `dir` in whose names `number` finds one, in the order of these; none when there is no such directory.
fn numbered(dir: &Path, number: impl Fn(&str) -> Option<u64>) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if let Some(number) = path.file_name().and_then(|name| number(name.to_str()?)) {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}

/// A journal is laid out in advance with 64 MiB of nothing: what is zero takes no space in the copy either.
fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let (mut from, mut to) = (File::open(from)?, File::create_new(to)?);
    let mut chunk = vec![0; CHUNK];
    let mut length = 0;
    loop {
        let count = from.read(&mut chunk)?;
        let Some(bytes) = chunk.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        if bytes.iter().any(|byte| *byte != 0) {
            to.seek(SeekFrom::Start(length))?;
            to.write_all(bytes)?;
        }
        length += count as u64;
    }
    to.set_len(length)?;
    to.sync_all()
}

//! Copies of the engine's journals, made after an unclean stop and before the engine opens: it cuts a journal off at
//! the first damage, and what stood behind would be gone for whoever has to find out what was lost.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

const PREFIX: &str = "journals-";
/// How many copies are kept, this start's included.
const KEPT: usize = 2;
const CHUNK: usize = 64 * 1024;

/// Copies the journals in `store` to a new directory in `dir`, and removes all but the latest copies. `None` when there
/// are none.
///
/// # Errors
/// When a copy cannot be made durable.
pub fn copy(dir: &Path, store: &Path) -> io::Result<Option<PathBuf>> {
    let journals = match list(store) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        journals => journals?,
    };
    if journals.is_empty() {
        return Ok(None);
    }
    let mut copies = copies(dir)?;
    let number = copies.last().map_or(1, |(number, _)| number + 1);
    let target = dir.join(format!("{PREFIX}{number}"));
    // Room first: the disk may be nearly full.
    while copies.len() >= KEPT {
        let (_, oldest) = copies.remove(0);
        fs::remove_dir_all(oldest)?;
    }
    fs::create_dir(&target)?;
    for journal in journals {
        if let Some(name) = journal.file_name() {
            copy_file(&journal, &target.join(name))?;
        }
    }
    File::open(&target)?.sync_all()?;
    File::open(dir)?.sync_all()?;
    Ok(Some(target))
}

/// The journals in `store`, the oldest first.
pub fn list(store: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(store)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok());
        if let Some(number) = number {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

fn copies(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_prefix(PREFIX)?.parse().ok());
        if let Some(number) = number {
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

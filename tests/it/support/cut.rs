//! A power cut: undoes what the preloaded library noted and no sync made durable.
//!
//! Sectors of 512 bytes are kept or lost one by one, each in any state that it had since its last sync. Of names (files
//! made, renamed, removed) the latest are lost, as on a file system that journals them in order. A file's new name is
//! durable by a sync of its directory alone. What a failed sync was to make durable stays in doubt until it is written
//! and synced again.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::FileExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use super::dice::Dice;

const MAGIC: u32 = 0x314a_5344;
const HEAD: usize = 56;
const SECTOR: u64 = 512;

/// What a cut took.
#[derive(Debug, Default)]
pub struct Undone {
    /// What was done to which name.
    pub names: Vec<String>,
    pub sectors: usize,
    /// Sectors that no sync covered and that stayed nevertheless.
    pub kept: usize,
}

/// One entry of the journal; what `a`, `b` and `c` are depends on its kind.
struct Entry<'a> {
    kind: u32,
    inode: u64,
    a: u64,
    b: u64,
    c: u64,
    first: &'a Path,
    second: &'a Path,
    data: &'a [u8],
}

/// What a sector held before a change that is not durable.
struct Before {
    /// The number of the change.
    change: usize,
    /// A sync of it failed: the next one makes it durable only after another change.
    lost: bool,
    /// `None` for zeros.
    bytes: Option<Box<[u8]>>,
}

#[derive(Default)]
struct FileState {
    durable_length: u64,
    sectors: BTreeMap<u64, Vec<Before>>,
}

enum Change {
    Made { path: PathBuf, inode: u64 },
    Renamed { from: PathBuf, to: PathBuf, inode: u64, replaced: PathBuf },
    Removed { path: PathBuf, grave: PathBuf },
    DirMade { path: PathBuf },
    DirRemoved { path: PathBuf },
}

impl Change {
    fn in_words(&self, dir: &Path) -> String {
        let short = |path: &Path| path.strip_prefix(dir).unwrap_or(path).display().to_string();
        match self {
            Change::Made { path, .. } => format!("made {}", short(path)),
            Change::Renamed { from, to, .. } => format!("renamed {} to {}", short(from), short(to)),
            Change::Removed { path, .. } | Change::DirRemoved { path } => format!("removed {}", short(path)),
            Change::DirMade { path } => format!("made directory {}", short(path)),
        }
    }
}

struct Name {
    number: usize,
    /// The directory whose sync makes it durable.
    dir: PathBuf,
    change: Change,
}

struct Sync {
    number: usize,
    length: u64,
}

/// What was done and is not durable.
#[derive(Default)]
struct Pending {
    files: HashMap<u64, FileState>,
    names: Vec<Name>,
    syncs: HashMap<u64, Sync>,
}

/// Undoes in `dir` what `journal` has; all of it, or as `dice` fall.
pub fn undo(dir: &Path, journal: &Path, mut dice: Option<&mut Dice>) -> Undone {
    let bytes = fs::read(journal).unwrap_or_default();
    let mut pending = Pending::default();
    for (number, entry) in entries(&bytes).enumerate() {
        pending.take(number, &entry);
    }
    let mut undone = Undone::default();
    let kept = dice.as_mut().map_or(0, |dice| roll(dice, pending.names.len() + 1));
    for name in pending.names.drain(kept..).rev() {
        undone.names.push(name.change.in_words(dir));
        undo_name(name.change);
    }
    let mut paths = Vec::new();
    walk(dir, &mut paths);
    // In one order, so that the same dice do the same.
    paths.sort();
    for path in paths {
        let inode = fs::metadata(&path).expect("there").ino();
        if let Some(file) = pending.files.get(&inode) {
            undo_file(&path, file, dice.as_deref_mut(), &mut undone);
        }
    }
    undone
}

fn roll(dice: &mut Dice, below: usize) -> usize {
    usize::try_from(dice.roll(below as u64)).expect("small")
}

/// The whole entries; the last may be cut off, and then what it announces was not done.
fn entries(bytes: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let head = rest.get(..HEAD)?;
        let small = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().expect("four"));
        let large = |at: usize| u64::from_ne_bytes(head[at..at + 8].try_into().expect("eight"));
        assert_eq!(small(0), MAGIC, "a journal of the library");
        let (first, second) = (small(40) as usize, small(44) as usize);
        let data = usize::try_from(large(48)).expect("a length");
        let body = rest.get(HEAD..HEAD + first + second + data)?;
        rest = &rest[HEAD + body.len()..];
        let path = |bytes| Path::new(OsStr::from_bytes(bytes));
        Some(Entry {
            kind: small(4),
            inode: large(8),
            a: large(16),
            b: large(24),
            c: large(32),
            first: path(&body[..first]),
            second: path(&body[first..first + second]),
            data: &body[first + second..],
        })
    })
}

impl Pending {
    fn take(&mut self, number: usize, entry: &Entry<'_>) {
        match entry.kind {
            1 | 2 => self.written(number, entry),
            3 => _ = self.file(entry),
            4 => _ = self.syncs.insert(entry.a, Sync { number, length: entry.b }),
            5 => {
                let sync = self.syncs.remove(&entry.a).expect("a sync that began");
                if entry.inode != 0 {
                    self.file_synced(entry.inode, &sync, entry.b == 1);
                } else if entry.b == 1 {
                    self.dir_synced(entry.first, &sync);
                }
            }
            6 => {
                // What was written to it is durable by its own syncs alone.
                self.files.insert(entry.inode, FileState::default());
                self.name(number, entry, Change::Made { path: entry.first.into(), inode: entry.inode });
            }
            7 => {
                let (from, to) = (entry.first.into(), entry.second.into());
                let replaced = Path::new(OsStr::from_bytes(entry.data)).into();
                self.name(number, entry, Change::Renamed { from, to, inode: entry.inode, replaced });
            }
            8 => {
                let grave = Path::new(OsStr::from_bytes(entry.data)).into();
                self.name(number, entry, Change::Removed { path: entry.first.into(), grave });
            }
            9 => self.name(number, entry, Change::DirMade { path: entry.first.into() }),
            10 => self.name(number, entry, Change::DirRemoved { path: entry.first.into() }),
            other => panic!("an entry of kind {other}"),
        }
    }

    fn file(&mut self, entry: &Entry<'_>) -> &mut FileState {
        let durable_length = entry.c;
        self.files.entry(entry.inode).or_insert_with(|| FileState { durable_length, ..FileState::default() })
    }

    fn written(&mut self, change: usize, entry: &Entry<'_>) {
        let file = self.file(entry);
        for (number, at) in (entry.a..entry.b).step_by(SECTOR as usize).enumerate() {
            let from = (number * SECTOR as usize).min(entry.data.len());
            let there = &entry.data[from..entry.data.len().min(from + SECTOR as usize)];
            let bytes = there.iter().any(|byte| *byte != 0).then(|| {
                let mut bytes = there.to_vec();
                bytes.resize(SECTOR as usize, 0);
                bytes.into_boxed_slice()
            });
            file.sectors.entry(at / SECTOR).or_default().push(Before { change, lost: false, bytes });
        }
    }

    fn file_synced(&mut self, inode: u64, sync: &Sync, well: bool) {
        let Some(file) = self.files.get_mut(&inode) else { return };
        file.sectors.retain(|_, befores| {
            let covered = befores.iter().take_while(|before| before.change < sync.number).count();
            let is_written = befores[..covered].iter().any(|before| !before.lost);
            if well && is_written {
                befores.drain(..covered);
            } else if !well {
                befores[..covered].iter_mut().for_each(|before| before.lost = true);
            }
            !befores.is_empty()
        });
        if well {
            file.durable_length = sync.length;
        }
    }

    fn dir_synced(&mut self, dir: &Path, sync: &Sync) {
        self.names.retain(|name| name.number > sync.number || name.dir != dir);
    }

    fn name(&mut self, number: usize, entry: &Entry<'_>, change: Change) {
        // Of a renaming that of the new name: a store renames within one directory.
        let path = if entry.second.as_os_str().is_empty() { entry.first } else { entry.second };
        let dir = path.parent().expect("below a directory").to_owned();
        self.names.push(Name { number, dir, change });
    }
}

/// A kill may have come between the note and the deed, and others may have changed names since: so each is looked at.
fn undo_name(change: Change) {
    let is = |path: &Path, inode| fs::symlink_metadata(path).is_ok_and(|found| found.ino() == inode);
    match change {
        Change::Made { path, inode } => {
            if is(&path, inode) {
                fs::remove_file(path).expect("removable");
            }
        }
        Change::Renamed { from, to, inode, replaced } => {
            if is(&to, inode) {
                fs::rename(&to, from).expect("renamed");
            }
            if !replaced.as_os_str().is_empty() && !to.exists() {
                fs::hard_link(replaced, to).expect("kept among the graves");
            }
        }
        Change::Removed { path, grave } => {
            if !path.exists() {
                fs::hard_link(grave, path).expect("kept among the graves");
            }
        }
        Change::DirMade { path } => {
            if path.exists() {
                fs::remove_dir_all(path).expect("removable");
            }
        }
        Change::DirRemoved { path } => {
            if !path.exists() {
                fs::create_dir(path).expect("a directory");
            }
        }
    }
}

fn undo_file(path: &Path, file: &FileState, mut dice: Option<&mut Dice>, undone: &mut Undone) {
    let length = fs::metadata(path).expect("there").len();
    let open = fs::File::options().write(true).open(path).expect("writable");
    let mut needed = file.durable_length;
    if length < needed && dice.as_mut().is_some_and(|dice| roll(dice, 2) == 0) {
        needed = length;
    }
    for (number, befores) in &file.sectors {
        let at = number * SECTOR;
        let chosen = dice.as_mut().map_or(0, |dice| roll(dice, befores.len() + 1));
        if let Some(before) = befores.get(chosen) {
            undone.sectors += 1;
            // What lies behind the end is cut off below.
            let bytes = before.bytes.as_deref().unwrap_or(&[0; SECTOR as usize]);
            open.write_all_at(bytes, at).expect("written");
            if chosen > 0 {
                needed = needed.max(length.min(at + SECTOR));
            }
        } else {
            undone.kept += 1;
            needed = needed.max(length.min(at + SECTOR));
        }
    }
    // A length may be durable without what was written there.
    if dice.is_some_and(|dice| roll(dice, 2) == 0) {
        needed = needed.max(length);
    }
    open.set_len(needed).expect("cut");
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let entry = entry.expect("an entry");
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            walk(&entry.path(), found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}

//! The mark: a small file beside the engine that says what must be there, however the process ended.
//!
//! ```text
//! magic "MWMARK"   6 bytes
//! version   u16    1
//! store     16 bytes   the store's id
//! last      u64    every sequence up to this one was acknowledged or may have been
//! oldest    u64    nothing below this sequence is retained
//! flushed   u64    all index entries up to this sequence lie in tables
//! commit    u64    all commits of the engine below this number lie in tables
//! mutations u64    of keys
//! clean     u8     1 after an orderly stop
//! checksum  u64    XXH3-64 over everything above
//! ```
//!
//! Numbers are big endian. `last` is at most a second old while the process runs and exact after an orderly stop.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use super::shared::{Shared, StoreId};
use crate::store::record::{Damaged, Reader};

const MAGIC: &[u8; 6] = b"MWMARK";
const VERSION: u16 = 1;
const FILE: &str = "mark";
const NEXT: &str = "mark.next";

/// What a mark says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub store: StoreId,
    pub last: u64,
    pub oldest: u64,
    pub flushed: u64,
    pub flushed_commit: u64,
    pub key_mutations: u64,
    pub clean: bool,
}

impl Mark {
    /// Its bytes.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = [MAGIC.as_slice(), &VERSION.to_be_bytes(), &self.store].concat();
        for number in [self.last, self.oldest, self.flushed, self.flushed_commit, self.key_mutations] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.push(self.clean.into());
        let sum = xxh3_64(&bytes);
        bytes.extend_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// Reads what [`Mark::to_bytes`] gave.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn read(bytes: &[u8]) -> Result<Self, Damaged> {
        let (body, sum) = bytes.split_last_chunk().ok_or(Damaged("it is too short"))?;
        if xxh3_64(body) != u64::from_be_bytes(*sum) {
            return Err(Damaged("its checksum does not match"));
        }
        let mut reader = Reader(body);
        if reader.array()? != *MAGIC || u16::from_be_bytes(reader.array()?) != VERSION {
            return Err(Damaged("its version is unknown"));
        }
        let store = reader.array()?;
        let mut number = || reader.array().map(u64::from_be_bytes);
        let (last, oldest, flushed) = (number()?, number()?, number()?);
        let (flushed_commit, key_mutations) = (number()?, number()?);
        let clean = reader.byte()? == 1;
        Ok(Self { store, last, oldest, flushed, flushed_commit, key_mutations, clean })
    }
}

/// The mark of one store.
pub struct MarkFile {
    dir: PathBuf,
    written: Mutex<Option<Mark>>,
}

impl MarkFile {
    /// The mark in `dir`, which need not be there yet.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), written: Mutex::new(None) }
    }

    /// What the file says; `None` when there is no file.
    ///
    /// # Errors
    /// A file that cannot be read; the inner one for a file that is damaged.
    pub fn load(&self) -> io::Result<Option<Result<Mark, Damaged>>> {
        match fs::read(self.dir.join(FILE)) {
            Ok(bytes) => Ok(Some(Mark::read(&bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes what `shared` knows, unless the file says so already.
    ///
    /// # Errors
    /// When the file cannot be made durable.
    pub fn write(&self, shared: &Shared, clean: bool) -> io::Result<()> {
        // The lock is taken first: of two writers the later one must not write the older state.
        let mut written = self.written.lock();
        let mark = Mark {
            store: shared.id,
            last: shared.durable(),
            oldest: shared.oldest.load(Ordering::Acquire),
            flushed: shared.flushed.load(Ordering::Acquire),
            flushed_commit: shared.flushed_commit.load(Ordering::Acquire),
            key_mutations: shared.key_mutations.load(Ordering::Acquire),
            clean,
        };
        if *written != Some(mark) {
            self.replace(mark)?;
            *written = Some(mark);
        }
        Ok(())
    }

    /// Replaces the file: after a crash at any moment there is the old one or the new one.
    ///
    /// # Errors
    /// When the file cannot be made durable.
    pub fn replace(&self, mark: Mark) -> io::Result<()> {
        let next = self.dir.join(NEXT);
        let mut file = File::create(&next)?;
        file.write_all(&mark.to_bytes())?;
        file.sync_all()?;
        fs::rename(&next, self.dir.join(FILE))?;
        File::open(&self.dir)?.sync_all()
    }
}

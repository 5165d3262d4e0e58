//! What stands in a run, and what it is called.
//!
//! The header's payload, little endian:
//!
//! | bytes | |
//! |---|---|
//! | 0..8 | `mwh-run` and a line feed |
//! | 8..10 | the version, 1; what stands before and this never move |
//! | 10 | 1 `ids`, 2 `senders` |
//! | 11..16 | 0 |
//! | 16..32 | the store's id |
//! | 32..40 | first and last segment |
//! | 40..48 | entries |
//! | 48..56 | words of the filter |
//! | 56..72 | position and checksum of the last frame |
//!
//! Which pages each part has follows from the two numbers.

use std::{cmp::Ordering, fmt, io, ops::Range};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{
    super::disk::DiskFile,
    page::{self, PAGE, PAYLOAD, Part},
};

/// The directory of runs.
pub const DIR: &str = "index";

const MAGIC: [u8; 8] = *b"mwh-run\n";
const VERSION: u16 = 1;
/// Bytes of an entry.
pub const ENTRY: usize = 24;
/// Entries of every page but the last.
pub const ENTRIES_A_PAGE: u64 = (PAYLOAD / ENTRY) as u64;
const WORDS_A_PAGE: u64 = PAYLOAD as u64 / 8;

/// The first 16 bytes of a SHA-256.
pub type Hash = [u8; 16];

/// That the record at `position` has `hash`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Of its key, or of its sender.
    pub hash: Hash,
    /// In the log: 32 bits segment, 32 bits offset.
    pub position: u64,
}

/// What a run's hashes are of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RunKind {
    /// Of keys of messages: uniform, mostly one entry each, mostly looked up in vain.
    Ids = 1,
    /// Of senders: any number of entries each.
    Senders = 2,
}

/// What is the same for all runs of a store. The seed is secret, so this has no `Debug`.
#[derive(Clone, Copy)]
pub struct Identity {
    /// The store's id.
    pub store: [u8; 16],
    /// Of all checksums.
    pub seed: u64,
}

/// Segments, both inclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// The first.
    pub from: u32,
    /// The last.
    pub to: u32,
}

/// The last frame of a run's last segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// Where it is.
    pub position: u64,
    /// What its header has.
    pub checksum: u64,
}

/// What a run could not do.
#[derive(Debug)]
pub enum RunError {
    /// The disk said so.
    Io(io::Error),
    /// The file is not what was written.
    Damaged(&'static str),
    /// A later version of this program wrote it.
    Newer,
    /// What a run was to be made of makes none: an error of the caller.
    Input(&'static str),
}

impl fmt::Display for RunError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(to, "cannot read or write a run of the index: {error}"),
            Self::Damaged(what) => write!(to, "a run of the index is damaged: {what}"),
            Self::Newer => to.write_str("a run of the index was written by a later version"),
            Self::Input(what) => write!(to, "cannot make a run of the index: {what}"),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Damaged(_) | Self::Newer | Self::Input(_) => None,
        }
    }
}

impl From<io::Error> for RunError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Span {
    /// How many segments.
    pub fn segments(self) -> u64 {
        (u64::from(self.to) + 1).saturating_sub(u64::from(self.from))
    }
}

impl RunKind {
    /// In the file's name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ids => "ids",
            Self::Senders => "senders",
        }
    }
}

impl Ord for Entry {
    /// By hash, byte by byte, and then by position. As numbers: runs are sorted and merged by this.
    fn cmp(&self, other: &Self) -> Ordering {
        let [a, b] = [self, other].map(|entry| (u128::from_be_bytes(entry.hash), entry.position));
        a.cmp(&b)
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Entry {
    /// As it stands in a page.
    pub fn encode(self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        // A hash is shorter than an entry.
        let (hash, position) = bytes.split_at_mut(size_of::<Hash>());
        hash.copy_from_slice(&self.hash);
        position.copy_from_slice(&self.position.to_le_bytes());
        bytes
    }

    /// Of what stands in a page.
    pub fn decode(bytes: &[u8; ENTRY]) -> Self {
        let [hash @ .., a, b, c, d, e, f, g, h] = *bytes;
        Self { hash, position: u64::from_le_bytes([a, b, c, d, e, f, g, h]) }
    }
}

/// The first 8 bytes, in the order of hashes.
pub fn prefix(hash: &Hash) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// What the first page says.
pub struct Header {
    /// How many there are.
    pub entries: u64,
    /// As many as were made room for, which may be more than `entries` need.
    pub filter_words: u64,
    /// What the run reaches to.
    pub end: End,
}

impl Header {
    /// The payload of the first page.
    pub fn encode(&self, identity: &Identity, kind: RunKind, span: Span) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend([kind as u8, 0, 0, 0, 0, 0]);
        bytes.extend(identity.store);
        bytes.extend([span.from, span.to].iter().flat_map(|segment| segment.to_le_bytes()));
        let numbers = [self.entries, self.filter_words, self.end.position, self.end.checksum];
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        bytes
    }

    /// Reads and verifies the first page.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn read(file: &dyn DiskFile, identity: &Identity, seed: u64) -> Result<Self, RunError> {
        let mut bytes = [0; PAGE];
        let length = file.read_at(&mut bytes, 0)?;
        let (part, mut rest) = page::check(bytes.get(..length).unwrap_or_default(), seed, 0)?;
        if part != Part::Header || take(&mut rest)? != MAGIC {
            return Err(RunError::Damaged("the first page is no header"));
        }
        match u16::from_le_bytes(take(&mut rest)?) {
            VERSION => {}
            later if later > VERSION => return Err(RunError::Newer),
            _ => return Err(RunError::Damaged("there is no such version")),
        }
        // Kind and segments are in the seed already.
        let _kind: [u8; 6] = take(&mut rest)?;
        if take(&mut rest)? != identity.store {
            return Err(RunError::Damaged("it is of another store"));
        }
        let _segments: [u8; 8] = take(&mut rest)?;
        let mut number = || take(&mut rest).map(u64::from_le_bytes);
        let (entries, filter_words) = (number()?, number()?);
        Ok(Self { entries, filter_words, end: End { position: number()?, checksum: number()? } })
    }

    /// The numbers of the pages of entries, of the filter and of the directory.
    ///
    /// # Errors
    /// [`RunError::Damaged`], of numbers that no file can have.
    pub fn layout(&self) -> Result<[Range<u32>; 3], RunError> {
        let pages = self.entries.div_ceil(ENTRIES_A_PAGE);
        let (filter, directory) = (self.filter_words.div_ceil(WORDS_A_PAGE), pages.div_ceil(WORDS_A_PAGE));
        // Each is far from the end of u64.
        let ends = [1 + pages, 1 + pages + filter, 1 + pages + filter + directory].map(u32::try_from);
        let [Ok(pages), Ok(filter), Ok(directory)] = ends else {
            return Err(RunError::Damaged("the header's numbers are beyond any file"));
        };
        Ok([1..pages, pages..filter, filter..directory])
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], RunError> {
    let (taken, left) = rest.split_first_chunk().ok_or(RunError::Damaged("the header is too short"))?;
    *rest = left;
    Ok(*taken)
}

/// The seed of a run's checksums and filter: a file under another's name is damage.
pub fn file_seed(identity: &Identity, kind: RunKind, span: Span) -> u64 {
    let mut bytes = vec![kind as u8];
    bytes.extend([span.from, span.to].iter().flat_map(|segment| segment.to_le_bytes()));
    xxh3_64_with_seed(&bytes, identity.seed)
}

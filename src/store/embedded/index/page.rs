//! Pages of 4 KiB, of which a run is made, each with its own checksum.
//!
//! | bytes | |
//! |---|---|
//! | 0..8 | XXH3-64 of the rest, seeded by the file |
//! | 8..12 | the page's number in the file |
//! | 12 | its part |
//! | 13 | 0 |
//! | 14..16 | bytes of payload |
//! | 16..4096 | the payload, zeros behind it |
//!
//! All numbers are little endian. The number stands under the checksum and the seed is the file's, so a page that is
//! found at another's place, or in another file, is damage.

use std::{ops::Range, sync::Arc};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{super::disk::DiskFile, format::RunError};

/// Bytes of a page.
pub const PAGE: usize = 4096;
/// Bytes of a page for what it is there for: 170 entries, or 510 words.
pub const PAYLOAD: usize = PAGE - 16;
/// Pages that are read or written at a time by whoever goes through a file: 256 KiB.
const CHUNK: usize = 64;
/// Bytes after which what was written is synced, so that the log's own syncs never wait behind a whole file.
const SYNC_EVERY: usize = 4 << 20;

/// What a page has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Part {
    /// The first page: what the file is.
    Header = 1,
    /// Entries in order.
    Entries = 2,
    /// Words of the filter.
    Filter = 3,
    /// Words of the directory.
    Directory = 4,
}

/// The part and the payload of the page `number`, which `bytes` are.
///
/// # Errors
/// [`RunError::Damaged`].
pub fn check(bytes: &[u8], seed: u64, number: u32) -> Result<(Part, &[u8]), RunError> {
    let (checksum, body) = bytes.split_first_chunk().ok_or(RunError::Damaged("the file is cut short"))?;
    if body.len() != PAGE - 8 {
        return Err(RunError::Damaged("the file is cut short"));
    }
    if u64::from_le_bytes(*checksum) != xxh3_64_with_seed(body, seed) {
        return Err(RunError::Damaged("the checksum of a page does not match"));
    }
    let Some(([a, b, c, d, part, _, low, high], payload)) = body.split_first_chunk() else {
        return Err(RunError::Damaged("the file is cut short"));
    };
    if u32::from_le_bytes([*a, *b, *c, *d]) != number {
        return Err(RunError::Damaged("a page is at another's place"));
    }
    let part = [Part::Header, Part::Entries, Part::Filter, Part::Directory].into_iter().find(|is| *is as u8 == *part);
    let length = usize::from(u16::from_le_bytes([*low, *high]));
    part.zip(payload.get(..length)).ok_or(RunError::Damaged("a page has no such part or length"))
}

/// Puts the page behind `out`. `payload` must be at most [`PAYLOAD`] bytes.
pub fn seal(out: &mut Vec<u8>, seed: u64, number: u32, part: Part, payload: &[u8]) {
    let mut body = Vec::with_capacity(PAGE - 8);
    body.extend(number.to_le_bytes());
    body.extend([part as u8, 0]);
    // At most PAYLOAD.
    body.extend((payload.len() as u16).to_le_bytes());
    body.extend(payload);
    body.resize(PAGE - 8, 0);
    out.extend(xxh3_64_with_seed(&body, seed).to_le_bytes());
    out.extend(body);
}

/// Where the page `number` begins.
pub fn offset(number: u32) -> u64 {
    u64::from(number) * PAGE as u64
}

/// Reads pages one after another, 256 KiB at a time.
pub struct Reader {
    file: Arc<dyn DiskFile>,
    seed: u64,
    pages: Range<u32>,
    chunk: Vec<u8>,
    /// Where the next page begins in `chunk`.
    at: usize,
    /// How many pages are read at a time.
    step: usize,
}

impl Reader {
    /// Of these pages of a file.
    pub fn new(file: Arc<dyn DiskFile>, seed: u64, pages: Range<u32>) -> Self {
        Self { file, seed, pages, chunk: Vec::new(), at: 0, step: CHUNK }
    }

    /// Part and payload of the next page; `None` behind the last one. An error is of that page alone: the next call
    /// goes on behind it.
    pub fn next_page(&mut self) -> Option<Result<(Part, &[u8]), RunError>> {
        let left = self.pages.len();
        let number = self.pages.next()?;
        if self.at >= self.chunk.len() {
            let mut read = self.fill(number, left.min(self.step));
            if read.is_err() {
                // One bad sector fails the whole read: from here on each page speaks for itself.
                self.step = 1;
                read = self.fill(number, 1);
            }
            if let Err(error) = read {
                return Some(Err(error));
            }
        }
        let page = self.chunk.get(self.at..).unwrap_or_default();
        self.at += PAGE;
        Some(check(page.get(..PAGE).unwrap_or(page), self.seed, number))
    }

    /// The words of these pages, if all of them are of `part`.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn words(mut self, part: Part) -> Result<Vec<u64>, RunError> {
        // Not more than the file may have, whatever a header says.
        let size = self.file.size()?.min(offset(self.pages.end).saturating_sub(offset(self.pages.start)));
        let mut words = Vec::with_capacity(size as usize / 8);
        while let Some(page) = self.next_page() {
            match page? {
                (is, payload) if is == part => {
                    words.extend(payload.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)));
                }
                _ => return Err(RunError::Damaged("a page is of another part")),
            }
        }
        Ok(words)
    }

    /// Nothing more is read.
    pub fn stop(&mut self) {
        self.pages = 0..0;
    }

    fn fill(&mut self, number: u32, pages: usize) -> Result<(), RunError> {
        self.at = 0;
        self.chunk.resize(pages * PAGE, 0);
        let read = self.file.read_at(&mut self.chunk, offset(number));
        self.chunk.truncate(*read.as_ref().unwrap_or(&0));
        Ok(read.map(drop)?)
    }
}

/// Writes pages one after another, 256 KiB at a time.
pub struct Writer {
    file: Arc<dyn DiskFile>,
    seed: u64,
    /// Of the page that is being filled.
    number: u32,
    payload: Vec<u8>,
    chunk: Vec<u8>,
    /// Where `chunk` goes.
    at: u64,
    unsynced: usize,
}

impl Writer {
    /// Into `file`, from its page 1 on.
    pub fn new(file: Arc<dyn DiskFile>, seed: u64) -> Self {
        let chunk = Vec::with_capacity(CHUNK * PAGE);
        Self { file, seed, number: 1, payload: Vec::with_capacity(PAYLOAD), chunk, at: offset(1), unsynced: 0 }
    }

    /// Adds an item, at most [`PAYLOAD`] bytes, to the page, or begins a new one for it.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn put(&mut self, part: Part, item: &[u8]) -> Result<(), RunError> {
        if self.payload.len() + item.len() > PAYLOAD {
            self.end_page(part)?;
        }
        self.payload.extend_from_slice(item);
        Ok(())
    }

    /// Adds words, and ends their part.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn put_words(&mut self, part: Part, words: impl Iterator<Item = u64>) -> Result<(), RunError> {
        for word in words {
            self.put(part, &word.to_le_bytes())?;
        }
        self.end_page(part)
    }

    /// Ends a page that has something, so that the next part begins with its own.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn end_page(&mut self, part: Part) -> Result<(), RunError> {
        if self.payload.is_empty() {
            return Ok(());
        }
        seal(&mut self.chunk, self.seed, self.number, part, &self.payload);
        self.number = self.number.checked_add(1).ok_or(RunError::Input("too many entries"))?;
        self.payload.clear();
        if self.chunk.len() >= CHUNK * PAGE { self.flush() } else { Ok(()) }
    }

    /// Writes the first page, which is last because it has what is only known now, and syncs everything.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn finish(mut self, header: &[u8]) -> Result<(), RunError> {
        self.flush()?;
        seal(&mut self.chunk, self.seed, 0, Part::Header, header);
        self.file.write_at(&self.chunk, 0)?;
        Ok(self.file.sync()?)
    }

    fn flush(&mut self) -> Result<(), RunError> {
        self.file.write_at(&self.chunk, self.at)?;
        self.at += self.chunk.len() as u64;
        self.unsynced += self.chunk.len();
        self.chunk.clear();
        if self.unsynced >= SYNC_EVERY {
            self.file.sync()?;
            self.unsynced = 0;
        }
        Ok(())
    }
}

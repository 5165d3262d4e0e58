//! A sorted array of (hash, position) over whole segments, in a file that never changes.
//!
//! | pages | |
//! |---|---|
//! | 0 | the header, written last |
//! | 1.. | entries, 170 a page, by hash and position: hash 16 bytes, position u64 |
//! | then, of `ids` | a Bloom filter, 12 bits an entry, as u64 words |
//! | then | the directory: the first 8 bytes of the first hash of each page of entries, as u64 words |
//!
//! All numbers are little endian. Filter and directory are held in memory, 12.4 bits an entry, so a look-up reads one
//! page, and none where the filter knows that there is nothing. Where one hash fills more pages than one (a busy
//! sender), it halves among these. Both only make look-ups fast: a run whose filter or directory is damaged answers
//! right without it.

use std::{ops::Range, sync::Arc};

use super::{
    super::disk::{Disk, DiskFile},
    filter::Filter,
    format::{
        DIR, ENTRIES_A_PAGE, ENTRY, End, Entry, Hash, Header, Identity, RunError, RunKind, Span, file_seed, prefix,
    },
    page::{self, PAGE, Part, Reader, Writer},
};

/// The bytes of the entries of a page.
type Page = Vec<[u8; ENTRY]>;

/// An open run. Reads need no lock.
pub struct Run {
    file: Arc<dyn DiskFile>,
    kind: RunKind,
    span: Span,
    /// Of the file's checksums and filter.
    seed: u64,
    end: End,
    entries: u64,
    pages: Range<u32>,
    #[cfg_attr(not(test), expect(dead_code, reason = "what a run costs is held by a test"))]
    bytes: u64,
    filter: Option<Filter>,
    /// A word for each page of entries; none if it is damaged.
    directory: Vec<u64>,
    damage: Option<&'static str>,
}

impl Run {
    /// The file's name on the disk.
    pub fn name(kind: RunKind, span: Span) -> String {
        format!("{DIR}/{}-{:08}-{:08}.run", kind.word(), span.from, span.to)
    }

    /// What a file is, by its name in [`DIR`]; `None` if it is no run, as a `.tmp` is none.
    pub fn parse_name(file_name: &str) -> Option<(RunKind, Span)> {
        let mut parts = file_name.strip_suffix(".run")?.split('-');
        let word = parts.next()?;
        let kind = [RunKind::Ids, RunKind::Senders].into_iter().find(|kind| kind.word() == word)?;
        let span = Span { from: parts.next()?.parse().ok()?, to: parts.next()?.parse().ok()? };
        // One name for one file: no sign, no zero more or less.
        let same = Self::name(kind, span).strip_prefix(DIR)?.strip_prefix('/')? == file_name;
        (same && span.from <= span.to).then_some((kind, span))
    }

    /// Makes a run of `entries`, which must ascend and be of segments in `span`; at most `count`, which its filter is
    /// made for. [`DIR`] must be there. Durable when this returns; an older run of the same name is replaced. Memory:
    /// the filter, the directory and 256 KiB.
    ///
    /// # Errors
    /// [`RunError`], also one that `entries` gives. Then nothing is there, or, if only the last sync failed, all of it.
    pub fn write(
        disk: &dyn Disk,
        identity: &Identity,
        kind: RunKind,
        span: Span,
        end: End,
        count: u64,
        entries: &mut dyn Iterator<Item = Result<Entry, RunError>>,
    ) -> Result<Self, RunError> {
        let name = Self::name(kind, span);
        let temporary = format!("{name}.tmp");
        let make = || {
            let seed = file_seed(identity, kind, span);
            let file = disk.create(&temporary)?;
            let mut writer = Writer::new(Arc::clone(&file), seed);
            let mut filter = (kind == RunKind::Ids).then(|| Filter::new(count, seed));
            let mut directory = Vec::new();
            let mut last = None;
            let mut written = 0;
            for entry in entries {
                let entry = entry?;
                if last.replace(entry).is_some_and(|last| last >= entry) {
                    return Err(RunError::Input("entries are out of order"));
                }
                if !(span.from..=span.to).contains(&((entry.position >> 32) as u32)) {
                    return Err(RunError::Input("an entry is of another segment"));
                }
                if written == count {
                    return Err(RunError::Input("there are more entries than were announced"));
                }
                if written % ENTRIES_A_PAGE == 0 {
                    directory.push(prefix(&entry.hash));
                }
                if let Some(filter) = &mut filter {
                    filter.insert(&entry.hash);
                }
                writer.put(Part::Entries, &entry.encode())?;
                written += 1;
            }
            writer.end_page(Part::Entries)?;
            writer.put_words(Part::Filter, filter.iter().flat_map(Filter::words))?;
            writer.put_words(Part::Directory, directory.iter().copied())?;
            let filter_words = filter.as_ref().map_or(0, |filter| filter.bytes() as u64 / 8);
            let header = Header { entries: written, filter_words, end };
            let [pages, _, directory_pages] = header.layout()?;
            writer.finish(&header.encode(identity, kind, span))?;
            disk.rename(&temporary, &name)?;
            let bytes = page::offset(directory_pages.end);
            Ok(Self { file, kind, span, seed, end, entries: written, pages, bytes, filter, directory, damage: None })
        };
        let made = make();
        if made.is_err() {
            // One that stays is removed at the next start.
            let _ = disk.remove(&temporary);
        }
        let run = made?;
        disk.sync_dir(DIR)?;
        Ok(run)
    }

    /// Opens a run that is there, and verifies its header, filter and directory. Without the latter two, see
    /// [`Run::damage`], it works, with more reads.
    ///
    /// # Errors
    /// [`RunError`]; [`RunError::Damaged`] also if it is another store's. [`Run::salvage`] may still read it.
    pub fn open(disk: &dyn Disk, identity: &Identity, kind: RunKind, span: Span) -> Result<Self, RunError> {
        let file = disk.open(&Self::name(kind, span))?;
        let seed = file_seed(identity, kind, span);
        let header = Header::read(file.as_ref(), identity, seed)?;
        let [pages, filter, directory] = header.layout()?;
        let Header { entries, filter_words, end } = header;
        let bytes = page::offset(directory.end);
        let words = |pages, part| Reader::new(Arc::clone(&file), seed, pages).words(part).ok();
        let filter = words(filter, Part::Filter).filter(|words| words.len() as u64 == filter_words);
        let directory = words(directory, Part::Directory).filter(|words| words.len() == pages.len());
        let damage = match (&filter, &directory) {
            (None, _) => Some("the filter is damaged"),
            (_, None) => Some("the directory is damaged"),
            _ if file.size()? != bytes => Some("the file has another length"),
            _ => None,
        };
        let filter = filter.and_then(|words| Filter::of_words(&words, seed));
        let directory = directory.unwrap_or_default();
        Ok(Self { kind, span, seed, end, entries, pages, bytes, filter, directory, damage, file })
    }

    /// The greatest position with `hash`. One read for ids, and none for most that it does not have.
    ///
    /// # Errors
    /// [`RunError`], if a page that it needs cannot be read or is damaged.
    pub fn newest(&self, hash: &Hash) -> Result<Option<u64>, RunError> {
        Ok(self.newest_below(hash, u64::MAX, 1)?.pop())
    }

    /// At most `limit` positions with `hash` below `below`, the greatest first.
    ///
    /// # Errors
    /// [`RunError`], if a page that it needs cannot be read or is damaged.
    pub fn newest_below(&self, hash: &Hash, below: u64, limit: usize) -> Result<Vec<u64>, RunError> {
        let mut found = Vec::new();
        let Some(position) = below.checked_sub(1).filter(|_| limit > 0 && self.may_have(hash)) else {
            return Ok(found);
        };
        let sought = Entry { hash: *hash, position };
        let Some((mut index, mut page)) = self.locate(&sought)? else { return Ok(found) };
        loop {
            let (before, _) = page.split_at(page.partition_point(|entry| Entry::decode(entry) <= sought));
            for entry in before.iter().rev().map(Entry::decode) {
                if entry.hash != *hash {
                    return Ok(found);
                }
                found.push(entry.position);
                if found.len() >= limit {
                    return Ok(found);
                }
            }
            // This page begins with the hash: the one before may end with it.
            let Some(previous) = index.checked_sub(1) else { return Ok(found) };
            index = previous;
            page = self.page(index)?;
        }
    }

    /// Every entry in order, 256 KiB at a time, each page verified. Ends after an error.
    pub fn entries(&self) -> Entries {
        let reader = Reader::new(Arc::clone(&self.file), self.seed, self.pages.clone());
        Entries { reader, page: Vec::new().into_iter() }
    }

    /// What can still be read of a run, also of one that cannot be opened.
    ///
    /// # Errors
    /// [`RunError::Io`] if there is no such file; [`RunError::Newer`].
    pub fn salvage(disk: &dyn Disk, identity: &Identity, kind: RunKind, span: Span) -> Result<Salvage, RunError> {
        let file = disk.open(&Self::name(kind, span))?;
        let seed = file_seed(identity, kind, span);
        let pages = match Header::read(file.as_ref(), identity, seed).and_then(|header| header.layout()) {
            Ok([entries, _, _]) => entries,
            Err(RunError::Newer) => return Err(RunError::Newer),
            // Pages vouch for themselves.
            Err(_) => 1..u32::try_from(file.size()?.div_ceil(PAGE as u64)).unwrap_or(u32::MAX),
        };
        Ok(Salvage { reader: Reader::new(file, seed, pages), page: Vec::new().into_iter(), bad_pages: 0 })
    }

    /// What its hashes are of.
    pub fn kind(&self) -> RunKind {
        self.kind
    }

    /// The segments that it covers.
    pub fn span(&self) -> Span {
        self.span
    }

    /// The last frame that it covers.
    pub fn end(&self) -> End {
        self.end
    }

    /// Entries.
    pub fn len(&self) -> u64 {
        self.entries
    }

    /// Whether it has no entries.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Bytes of the file.
    #[cfg(test)]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes in memory of the filter.
    #[cfg(test)]
    pub fn filter_bytes(&self) -> usize {
        self.filter.as_ref().map_or(0, Filter::bytes)
    }

    /// Bytes in memory of the directory.
    #[cfg(test)]
    pub fn directory_bytes(&self) -> usize {
        self.directory.len() * 8
    }

    /// What was damaged when it was opened and does not stop it. Writing it again, alone or in a merge, heals it.
    pub fn damage(&self) -> Option<&'static str> {
        self.damage
    }

    fn may_have(&self, hash: &Hash) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.may_have(hash))
    }

    /// The last page whose first entry is not above `sought`, and its index among the pages of entries.
    fn locate(&self, sought: &Entry) -> Result<Option<(u32, Page)>, RunError> {
        let first = prefix(&sought.hash);
        let (mut low, mut high) = if self.directory.is_empty() {
            (0, self.pages.len() as u32)
        } else {
            // There are no more pages than a u32 has numbers. Only pages that begin with the same 8 bytes leave a
            // choice.
            let low = self.directory.partition_point(|word| *word < first) as u32;
            (low.saturating_sub(1), self.directory.partition_point(|word| *word <= first) as u32)
        };
        let mut found = None;
        // The last one first: it is the answer for whoever wants the newest.
        let mut probe = high.saturating_sub(1);
        while low < high {
            let page = self.page(probe)?;
            if page.first().is_some_and(|entry| Entry::decode(entry) <= *sought) {
                found = Some((probe, page));
                low = probe + 1;
            } else {
                high = probe;
            }
            probe = low + high.saturating_sub(low) / 2;
        }
        Ok(found)
    }

    /// The entries of a page, at least one.
    fn page(&self, index: u32) -> Result<Page, RunError> {
        let number = self.pages.start.saturating_add(index);
        let mut bytes = [0; PAGE];
        let length = self.file.read_at(&mut bytes, page::offset(number))?;
        match page::check(bytes.get(..length).unwrap_or_default(), self.seed, number)? {
            (Part::Entries, payload) if payload.len() >= ENTRY => Ok(payload.as_chunks().0.to_vec()),
            _ => Err(RunError::Damaged("a page is of another part")),
        }
    }
}

/// See [`Run::entries`].
pub struct Entries {
    reader: Reader,
    page: std::vec::IntoIter<[u8; ENTRY]>,
}

impl Iterator for Entries {
    type Item = Result<Entry, RunError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.page.next() {
                return Some(Ok(Entry::decode(&entry)));
            }
            let error = match self.reader.next_page()? {
                Ok((Part::Entries, payload)) => {
                    self.page = payload.as_chunks().0.to_vec().into_iter();
                    continue;
                }
                Ok(_) => RunError::Damaged("a page is of another part"),
                Err(error) => error,
            };
            self.reader.stop();
            return Some(Err(error));
        }
    }
}

/// See [`Run::salvage`]. Gives the entries of good pages in order.
pub struct Salvage {
    reader: Reader,
    page: std::vec::IntoIter<[u8; ENTRY]>,
    bad_pages: u64,
}

impl Salvage {
    /// Pages that were passed over so far; each had up to 170 entries. Where the header is damaged too, pages that were
    /// cut off are not among them, and some of the filter may be.
    #[cfg(test)]
    pub fn bad_pages(&self) -> u64 {
        self.bad_pages
    }
}

impl Iterator for Salvage {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        loop {
            if let Some(entry) = self.page.next() {
                return Some(Entry::decode(&entry));
            }
            match self.reader.next_page()? {
                Ok((Part::Entries, payload)) => self.page = payload.as_chunks().0.to_vec().into_iter(),
                Ok(_) => self.reader.stop(),
                Err(_) => self.bad_pages += 1,
            }
        }
    }
}

//! What is demanded of a log before the store may serve, and what is mended on the way.
//!
//! Nothing is written before all has been read and judged. Then, in this order: the last frame, for which nothing vouches
//! yet, is written again with equal bytes and synced, because a page cache that survived a failed sync may hold what the
//! disk does not; zeros go over what was torn, and over where the next frames' headers will be, whatever is read there; and
//! only then anything else. A crash in the middle of that is followed by the same again.

use std::{collections::BTreeMap, io, sync::Arc};

use super::{
    Link, PAGE, Position, Stamp, file_name,
    frame::FrameKind,
    headers::{header_by_frames, is_zero, read_header, read_snapshot},
    number_of,
    prepare::Prepared,
    reader::Window,
    scan::{Scan, ScanError, scan},
    segment::{self, Gap, Identity, SegmentHeader},
    writer::{Tail, begin},
};
use crate::store::embedded::{
    disk::{Disk, DiskFile},
    index::Recent,
    sabotage::{Sabotage, is_planted},
    state::{Change, State},
};

/// A log that was read and judged. Nothing is written yet.
pub struct RecoveredLog {
    /// What all segments have in common.
    pub identity: Identity,
    /// The headers by number; a damaged one is made up from its neighbours.
    pub segments: BTreeMap<u32, SegmentHeader>,
    /// The entries of what no run covers, by segment, in order.
    pub recents: Vec<Recent>,
    /// The small state.
    pub state: State,
    /// Where the log goes on.
    pub tail: Tail,
    /// The stamp of the last frame.
    pub stamp: Stamp,
    /// A segment of zeros, or one that was begun and has no frame.
    pub next: Option<Prepared>,
    /// What is to be written before anything else.
    pub repair: Repair,
    /// What was acknowledged and is missing, a line each.
    pub lost: Vec<String>,
    /// The same as stretches of the log.
    pub gaps: Vec<Gap>,
    /// What was mended and costs nothing, a line each.
    pub told: Vec<String>,
}

/// See the module.
#[derive(Default)]
pub struct Repair {
    /// The last frame's file, place and bytes.
    again: Option<(Arc<dyn DiskFile>, u32, Vec<u8>)>,
    /// A header and a snapshot that no frame vouches for.
    header: Option<(Arc<dyn DiskFile>, SegmentHeader, Vec<u8>)>,
    /// Where zeros go.
    zero: Option<(Arc<dyn DiskFile>, u32, u32)>,
}

impl Repair {
    /// Writes it.
    ///
    /// # Errors
    /// What the disk says; the same may be tried again.
    pub fn write(&self) -> io::Result<()> {
        if is_planted(Sabotage::NoSecondWriting) {
            return Ok(());
        }
        if let Some((file, header, snapshot)) = &self.header {
            begin(file.as_ref(), header, snapshot)?;
        }
        if let Some((file, at, bytes)) = &self.again {
            file.write_at(bytes, u64::from(*at))?;
            file.sync()?;
        }
        if let Some((file, from, to)) = &self.zero {
            file.write_at(&vec![0; to.saturating_sub(*from) as usize], u64::from(*from))?;
            file.sync()?;
        }
        Ok(())
    }
}

/// The segments of a log, whose headers were read.
pub struct Finder {
    files: BTreeMap<u32, Arc<dyn DiskFile>>,
    /// By number.
    pub headers: BTreeMap<u32, SegmentHeader>,
    /// The newest with a header.
    pub newest: u32,
    /// What they have in common.
    pub identity: Identity,
    lost: Vec<String>,
    gaps: Vec<Gap>,
}

/// Why a log cannot be judged, and no consent leads past it.
#[derive(Debug)]
pub enum FindError {
    /// It was written by a later program.
    Newer,
    /// What is wrong.
    Unusable(String),
    /// What the disk says.
    Io(io::Error),
}

impl From<ScanError> for FindError {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Newer => FindError::Newer,
            ScanError::Io(error) => FindError::Io(error),
        }
    }
}

impl From<io::Error> for FindError {
    fn from(error: io::Error) -> Self {
        FindError::Io(error)
    }
}

impl Finder {
    /// Reads the headers of all segments; `None` where there is no log.
    ///
    /// # Errors
    /// [`FindError`].
    pub fn open(disk: &dyn Disk) -> Result<Option<Self>, FindError> {
        let names = disk.list("log")?;
        let (mut files, mut headers) = (BTreeMap::new(), BTreeMap::new());
        for number in names.iter().filter_map(|name| number_of(name)) {
            let file = disk.open(&file_name(number))?;
            if let Some(header) = read_header(file.as_ref(), number)? {
                headers.insert(number, header);
            }
            files.insert(number, file);
        }
        let Some(newest_file) = files.keys().next_back().copied() else { return Ok(None) };
        let unusable = |why: String| Err(FindError::Unusable(why));
        let Some((mut newest, last)) = headers.last_key_value().map(|(number, header)| (*number, header.clone()))
        else {
            return unusable("no segment of the log has a header that can be read".to_owned());
        };
        let identity = last.identity;
        if headers.values().any(|header| header.identity != identity) {
            return unusable("the directory has segments of several stores".to_owned());
        }
        // Both copies of a header may be damaged where frames follow: what is in them is not given up for that.
        let behind: Vec<u32> = files.range(newest.saturating_add(1)..).map(|(number, _)| *number).collect();
        for number in behind {
            let Some(header) =
                files.get(&number).map(|file| header_by_frames(file, number, &last)).transpose()?.flatten()
            else {
                break;
            };
            headers.insert(number, header);
            newest = number;
        }
        if newest_file > newest.saturating_add(1) {
            return unusable(format!("the headers of segments {} to {newest_file} cannot be read", newest + 1));
        }
        Ok(Some(Self { files, headers, newest, identity, lost: Vec::new(), gaps: Vec::new() }))
    }

    fn lose(&mut self, gaps: &[Gap]) {
        for gap in gaps {
            let at = format!("segment {} from byte {}", gap.from.segment(), gap.from.offset());
            self.lost.push(match gap.lost {
                0 => format!("{at}: nobody can tell how many records"),
                1 => format!("{at}: 1 record"),
                lost => format!("{at}: {lost} records"),
            });
            self.gaps.push(*gap);
        }
    }

    /// Reads what no run covers, and judges it. Nothing is written.
    ///
    /// # Errors
    /// [`FindError`].
    pub fn judge(mut self, is_covered: impl Fn(u32) -> bool) -> Result<RecoveredLog, FindError> {
        let newest = self.newest;
        let accepted = self.headers.get(&newest).map(|header| header.gaps.clone()).unwrap_or_default();
        let (mut state, base) = self.snapshot(newest)?;
        let mut scans = self.read_from(base, &accepted)?;
        // Before anything is missed: of removals that were not synced the disk may have undone any.
        let oldest = scans.values().flat_map(|scan| &scan.changes).filter_map(Change::oldest).max();
        let oldest = oldest.unwrap_or(0).max(state.oldest).max(1);
        self.drop_below(oldest);
        let whole = self.headers.len();
        self.make_up_headers(oldest, newest, &accepted)?;
        if self.headers.len() != whole {
            scans.clear();
        }
        let first = self.headers.keys().next().copied().unwrap_or(newest);
        let (mut recents, mut told, mut tail) = (Vec::new(), Vec::new(), None);
        for number in first..=newest {
            // What a run covers is read only for the changes of state behind the snapshot.
            if is_covered(number) && number < base {
                continue;
            }
            let (Some(header), Some(file)) = (self.headers.get(&number).cloned(), self.files.get(&number)) else {
                continue;
            };
            let scanned = match scans.remove(&number) {
                Some(scanned) => scanned,
                None => scan(Arc::clone(file), &header, self.closed_by(number), &accepted)?,
            };
            if number >= base {
                scanned.changes.iter().cloned().for_each(|change| state.apply(change));
            }
            if !is_covered(number) || number == newest {
                let gaps = scanned.lost.clone();
                self.lose(&gaps);
            }
            if scanned.mended > 0 {
                told.push(format!("{} frames without records were damaged in segment {number}", scanned.mended));
            }
            if number == newest {
                tail = Some(scanned);
            } else if !is_covered(number) && number.saturating_add(1) == newest {
                // The entries of older ones are read again when their runs are written: memory is for two segments.
                recents.push(scanned.recent);
            }
        }
        // The newest segment is always read.
        let Some(tail) = tail else { return Err(FindError::Io(io::Error::other("the newest segment was not read"))) };
        self.finish(tail, recents, state, told)
    }

    /// Reads the segments that have a header, from `base` on.
    fn read_from(&self, base: u32, accepted: &[Gap]) -> Result<BTreeMap<u32, Scan>, ScanError> {
        let mut scans = BTreeMap::new();
        for (number, header) in self.headers.range(base..) {
            let Some(file) = self.files.get(number) else { continue };
            scans.insert(*number, scan(Arc::clone(file), header, self.closed_by(*number), accepted)?);
        }
        Ok(scans)
    }

    /// What the segment after `number` says of its end.
    fn closed_by(&self, number: u32) -> Option<(Link, u64)> {
        self.headers.get(&number.saturating_add(1)).map(|next| (next.previous, next.ordinal))
    }

    /// The newest snapshot that is whole, and its segment.
    fn snapshot(&self, newest: u32) -> Result<(State, u32), ScanError> {
        for (number, header) in self.headers.range(..=newest).rev() {
            let Some(file) = self.files.get(number) else { continue };
            let bytes = read_snapshot(file.as_ref(), header)?;
            if let Some(bytes) = bytes {
                return match State::from_snapshot(&bytes) {
                    Ok(state) => Ok((state, *number)),
                    Err(_) => Err(ScanError::Newer),
                };
            }
        }
        Ok((State::default(), 1))
    }

    /// Segments below `oldest` are past their retention; a process ended before it had removed them.
    fn drop_below(&mut self, oldest: u32) {
        self.headers.retain(|number, _| *number >= oldest);
        self.files.retain(|number, _| *number >= oldest);
    }

    /// What is known of a segment without a header, from those around it; and what is missing between the first and the
    /// newest.
    fn make_up_headers(&mut self, first: u32, newest: u32, accepted: &[Gap]) -> Result<(), ScanError> {
        for number in first..newest {
            if self.headers.contains_key(&number) {
                continue;
            }
            let from = Position::new(number, 0);
            let to = Position::new(number.saturating_add(1), 0);
            let Some(next) = self.headers.range(number..).next().map(|(_, header)| header.clone()) else { continue };
            let before = self.headers.get(&number.wrapping_sub(1)).cloned();
            if self.files.contains_key(&number) {
                let base = before.clone().unwrap_or_else(|| next.clone());
                let before = before.as_ref().map_or(0, |before| before.ordinal);
                let (size, first) = self.first_frame(number)?;
                // What the first frame says of the one before. Without it nothing is named, so that a loss is: the next
                // segment names another end.
                let (previous, ordinal) = first.unwrap_or((Link::default(), before));
                // What is in the segment before expires no later than what the next one says of this one.
                let newest_expiry = next.newest_expiry;
                let made_up = SegmentHeader { number, snapshot: 0, size, previous, ordinal, newest_expiry, ..base };
                self.headers.insert(number, made_up);
            } else if !accepted.iter().any(|gap| gap.from == from) {
                // Nothing was written before the first one; of others nobody can tell.
                let before = before.map(|before| before.ordinal).or((number == 1).then_some(0));
                let lost = before.map_or(0, |before| next.ordinal.saturating_sub(before));
                self.lose(&[Gap { from, to, lost }]);
            }
        }
        Ok(())
    }

    /// The length of a segment's file, and what its first frame says of the one before and of how many records there were.
    fn first_frame(&self, number: u32) -> Result<(u32, Option<(Link, u64)>), ScanError> {
        let Some(file) = self.files.get(&number) else { return Ok((0, None)) };
        let size = file.size()?.min(u64::from(u32::MAX)) as u32;
        let found =
            Window::new(Arc::clone(file), self.identity.secret, number, size).next_header(segment::SNAPSHOT)??;
        let first = found.filter(|found| found.previous.position.segment() < number);
        Ok((size, first.map(|first| (first.previous, first.ordinal))))
    }

    fn finish(
        mut self,
        scanned: Scan,
        mut recents: Vec<Recent>,
        mut state: State,
        mut told: Vec<String>,
    ) -> Result<RecoveredLog, FindError> {
        let newest = self.newest;
        let missing = || FindError::Io(io::ErrorKind::NotFound.into());
        let header = self.headers.get(&newest).cloned().ok_or_else(missing)?;
        let file = self.files.get(&newest).cloned().ok_or_else(missing)?;
        let is_sealed = scanned.last.is_some_and(|last| last.kind == FrameKind::Seal);
        let next = self.next_segment(newest, is_sealed, &header)?;
        let mut repair = Repair::default();
        let stamp = scanned.last.map_or(header.stamp, |last| last.stamp);
        match &scanned.last {
            Some(last) => {
                let mut bytes = vec![0; last.length as usize];
                file.read_at(&mut bytes, u64::from(last.position.offset()))?;
                repair.again = Some((Arc::clone(&file), last.position.offset(), bytes));
            }
            None => {
                let snapshot = match read_snapshot(file.as_ref(), &header)? {
                    Some(snapshot) => snapshot,
                    // As it was: the state that all before it comes to.
                    None => state.snapshot(),
                };
                repair.header = Some((Arc::clone(&file), header.clone(), snapshot));
            }
        }
        if !is_sealed && self.gaps.is_empty() {
            let reach = scanned.end.next_multiple_of(PAGE).saturating_add(PAGE).max(scanned.torn.unwrap_or_default());
            repair.zero = Some((Arc::clone(&file), scanned.end, reach.min(header.size)));
            if scanned.torn.is_some() {
                told.push("the last frame was torn; nobody was told that it is kept".to_owned());
            }
        }
        let tail = Tail {
            offset: scanned.end,
            previous: scanned.last.map_or(header.previous, |last| last.link()),
            last: scanned.last.map(|last| last.kind),
            previous_records: scanned.last_records.map_or(header.previous_records, |(link, _)| link),
            last_record: scanned.last_records.map_or(header.last_record, |(_, record)| record),
            ordinal: scanned.ordinal,
            messages: header.messages.saturating_add(scanned.messages),
            records: u32::try_from(scanned.records).unwrap_or(u32::MAX),
            newest_expiry: scanned.newest_expiry,
            first_age: scanned.first_age,
            header: header.clone(),
            file,
        };
        recents.push(scanned.recent);
        state.oldest = state.oldest.max(1);
        Ok(RecoveredLog {
            identity: header.identity,
            segments: self.headers,
            recents,
            state,
            tail,
            stamp,
            next,
            repair,
            lost: self.lost,
            gaps: self.gaps,
            told,
        })
    }

    /// The file after the newest segment, if it can be the next one.
    fn next_segment(
        &mut self,
        newest: u32,
        is_sealed: bool,
        header: &SegmentHeader,
    ) -> Result<Option<Prepared>, ScanError> {
        let number = newest.saturating_add(1);
        let lose = |found: &mut Self| {
            found.lose(&[Gap { from: Position::new(number, 0), to: Position::new(number, 0), lost: 0 }]);
        };
        let Some(file) = self.files.get(&number).cloned() else {
            if is_sealed {
                // A seal is written when the next segment is there.
                lose(self);
            }
            return Ok(None);
        };
        let size = file.size()?.min(u64::from(u32::MAX)) as u32;
        let mut window = Window::new(Arc::clone(&file), header.identity.secret, number, size);
        let is_begun = if is_sealed { window.next_header(0)??.is_some() } else { !is_zero(&mut window, size)? };
        if is_begun {
            lose(self);
            return Ok(None);
        }
        Ok(Some(Prepared { number, file, size }))
    }
}

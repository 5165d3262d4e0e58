//! Headers of segments on the disk: making the first, and reading what is there.

use std::{io, sync::Arc};

use super::{
    Link, PAGE, Position, Stamp, file_name,
    prepare::unfinished_name,
    reader::Window,
    recovery::FindError,
    scan::ScanError,
    segment::{self, Identity, NoHeader, SegmentHeader},
    writer::begin,
};
use crate::store::embedded::{
    disk::{Disk, DiskFile},
    sabotage::{Sabotage, is_planted},
};

/// The first segment of a new store, which is durable when this returns.
///
/// # Errors
/// What the disk says.
pub fn create(disk: &dyn Disk, identity: Identity, largest_record: u32, snapshot: &[u8]) -> io::Result<SegmentHeader> {
    let size = segment::least_size(largest_record, snapshot.len() as u32);
    let header = SegmentHeader {
        number: 1,
        identity,
        size,
        largest: segment::largest_frame(size, largest_record),
        previous: Link::default(),
        previous_records: Link::default(),
        last_record: Position::default(),
        ordinal: 0,
        messages: 0,
        stamp: Stamp::ZERO,
        newest_expiry: 0,
        snapshot: snapshot.len() as u32,
        snapshot_checksum: identity.secret.checksum(Position::new(1, segment::SNAPSHOT).0, snapshot),
        gaps: Vec::new(),
    };
    let unfinished = unfinished_name(1);
    let file = disk.create(&unfinished)?;
    file.write_at(&vec![0; size as usize], 0)?;
    begin(file.as_ref(), &header, snapshot)?;
    disk.rename(&unfinished, &file_name(1))?;
    if !is_planted(Sabotage::NoDirectorySync) {
        disk.sync_dir("log")?;
    }
    Ok(header)
}

/// The header on one of the first two pages.
pub fn read_header(file: &dyn DiskFile, number: u32) -> Result<Option<SegmentHeader>, FindError> {
    let mut is_newer = false;
    for page in [0, u64::from(PAGE)] {
        let mut bytes = vec![0; PAGE as usize];
        let read = file.read_at(&mut bytes, page)?;
        bytes.truncate(read);
        match SegmentHeader::read(&bytes) {
            Ok(header) if header.number == number => return Ok(Some(header)),
            Ok(_) | Err(NoHeader::Absent) => {}
            Err(NoHeader::Newer) => is_newer = true,
        }
    }
    if is_newer { Err(FindError::Newer) } else { Ok(None) }
}

/// The header of a segment behind `last` both copies of which are damaged, as far as its first frame tells; `None` where
/// there is no frame.
pub fn header_by_frames(
    file: &Arc<dyn DiskFile>,
    number: u32,
    last: &SegmentHeader,
) -> Result<Option<SegmentHeader>, ScanError> {
    let size = file.size()?.min(u64::from(u32::MAX)) as u32;
    let mut window = Window::new(Arc::clone(file), last.identity.secret, number, size);
    let Some(first) = window.next_header(segment::SNAPSHOT)?? else { return Ok(None) };
    Ok(Some(SegmentHeader {
        number,
        size,
        largest: segment::largest_frame(size, last.largest),
        previous: first.previous,
        ordinal: first.ordinal,
        stamp: first.stamp,
        // Until the next segment tells, nothing before this one has expired.
        newest_expiry: u64::MAX,
        snapshot: 0,
        ..last.clone()
    }))
}

/// Whether there is nothing in a file.
pub fn is_zero(window: &mut Window, size: u32) -> io::Result<bool> {
    let mut at = 0;
    while at < size {
        let bytes = window.get(at, 64 * 1024)?;
        if bytes.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at = at.saturating_add((bytes.len() as u32).max(1));
    }
    Ok(true)
}

/// The bytes of a segment's snapshot, if they are whole.
pub fn read_snapshot(file: &dyn DiskFile, header: &SegmentHeader) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; header.snapshot as usize];
    let read = file.read_at(&mut bytes, u64::from(segment::SNAPSHOT))?;
    let place = Position::new(header.number, segment::SNAPSHOT).0;
    let is_whole = read == bytes.len() && header.identity.secret.checksum(place, &bytes) == header.snapshot_checksum;
    Ok((is_whole && !bytes.is_empty()).then_some(bytes))
}

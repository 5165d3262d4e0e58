//! Reads the engine's journals as they lie on the disk, before the engine does and cuts them off at the first damage.
//!
//! A journal is a row of commits: `1`, items u32, number u64; the items; `3`, XXH3-64 over the items, `FJL\x03`. An item
//! is `2`, type u8, compression u8, keyspace u64, lengths of key u16, value u32 and stored value u32, key, value; or
//! `4`, keyspace u64. Numbers are little endian. Behind the last commit there are zeros: the space laid out in advance.
//!
//! The one honest reason for anything else is a commit that a crash tore: only pages of it reached the disk. No commit
//! can follow that one, for the next begins when the one before is synced. So where a whole commit stands behind the
//! damage, something that was synced is damaged.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    ops::Range,
    path::Path,
};

use xxhash_rust::xxh3::Xxh3;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const MAGIC: [u8; 4] = *b"FJL\x03";
/// Bytes of a start, and of an end.
const FRAME: usize = 13;
/// Bytes of an item behind its tag and before its key: type, compression, keyspace, three lengths.
const ITEM_HEAD: usize = 1 + 1 + 8 + 2 + 4 + 4;

/// How a journal ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As it should.
    Whole,
    /// With a commit that was torn.
    Torn,
    /// Damaged, with whole commits behind.
    Damaged,
}

/// What is in a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// How it ends.
    pub end: End,
    /// From the first commit that is asked for to where the whole commits end, in bytes.
    pub wanted: Range<u64>,
}

/// Reads the journal at `path`; of its commits those from number `first` on are wanted.
///
/// # Errors
/// When the file cannot be read.
pub fn examine(path: &Path, first: u64) -> io::Result<Examined> {
    let mut file = File::open(path)?;
    let wanted = commits(&mut BufReader::with_capacity(256 * 1024, &file), first)?;
    file.seek(SeekFrom::Start(wanted.end))?;
    let end = match without_leading_zeros(file)? {
        rest if rest.is_empty() => End::Whole,
        rest if has_commit(&rest) => End::Damaged,
        _ => End::Torn,
    };
    Ok(Examined { end, wanted })
}

/// What is left of `file`, from about its first byte on that is not zero.
fn without_leading_zeros(mut file: File) -> io::Result<Vec<u8>> {
    const CHUNK: usize = 64 * 1024;
    let (mut chunk, zeros) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        let count = file.read(&mut chunk)?;
        if count == 0 {
            return Ok(Vec::new());
        }
        if chunk.get(..count) != zeros.get(..count) {
            chunk.truncate(count);
            file.read_to_end(&mut chunk)?;
            return Ok(chunk);
        }
    }
}

/// Of the whole commits that follow each other from the beginning: where the first from number `first` on begins, and
/// where the last ends.
fn commits(reader: &mut impl Read, first: u64) -> io::Result<Range<u64>> {
    let (mut end, mut begin) = (0, None);
    let mut buffer = Vec::new();
    while let Some((number, length)) = commit(reader, &mut buffer)? {
        if begin.is_none() && number >= first {
            begin = Some(end);
        }
        end += length;
    }
    Ok(begin.unwrap_or(end)..end)
}

/// Number and length of the commit at the reader's place, if there is a whole one.
fn commit(reader: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<Option<(u64, u64)>> {
    let Some(start) = array::<FRAME>(reader)? else { return Ok(None) };
    let [START, i0, i1, i2, i3, number @ ..] = start else { return Ok(None) };
    let items = u32::from_le_bytes([i0, i1, i2, i3]);
    let mut hasher = Xxh3::new();
    let mut length = 2 * FRAME as u64;
    for _ in 0..items {
        buffer.clear();
        let Some([tag]) = array(reader)? else { return Ok(None) };
        buffer.push(tag);
        let (head, body) = match tag {
            ITEM => {
                let Some(head) = array::<ITEM_HEAD>(reader)? else { return Ok(None) };
                buffer.extend_from_slice(&head);
                (ITEM_HEAD, body_of(&head))
            }
            CLEAR => (0, 8),
            _ => return Ok(None),
        };
        // `take` and not a buffer of that size: a damaged length may say 4 GiB.
        if reader.by_ref().take(body).read_to_end(buffer)? as u64 != body {
            return Ok(None);
        }
        hasher.update(buffer);
        length += 1 + head as u64 + body;
    }
    let Some(end) = array::<FRAME>(reader)? else { return Ok(None) };
    Ok(is_end(&end, hasher.digest()).then_some((u64::from_le_bytes(number), length)))
}

fn body_of(head: &[u8; ITEM_HEAD]) -> u64 {
    let [.., k0, k1, _, _, _, _, v0, v1, v2, v3] = *head;
    u64::from(u16::from_le_bytes([k0, k1])) + u64::from(u32::from_le_bytes([v0, v1, v2, v3]))
}

fn is_end(end: &[u8; FRAME], checksum: u64) -> bool {
    let mut expected = [END; FRAME];
    let (_, rest) = expected.split_at_mut(1);
    let (sum, magic) = rest.split_at_mut(8);
    sum.copy_from_slice(&checksum.to_le_bytes());
    magic.copy_from_slice(&MAGIC);
    *end == expected
}

/// Whether a whole commit begins anywhere in `bytes`.
fn has_commit(bytes: &[u8]) -> bool {
    let could_begin = |place: &usize| {
        bytes.get(*place) == Some(&START) && bytes.get(place + FRAME).is_some_and(|tag| [ITEM, CLEAR].contains(tag))
    };
    let mut buffer = Vec::new();
    (0..bytes.len()).filter(could_begin).any(|place| {
        let mut rest = bytes.get(place..).unwrap_or_default();
        // A slice cannot fail to be read.
        matches!(commit(&mut rest, &mut buffer), Ok(Some(_)))
    })
}

fn array<const N: usize>(reader: &mut impl Read) -> io::Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    match reader.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

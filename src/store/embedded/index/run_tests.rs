use std::collections::BTreeMap;

use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use super::{
    format::{End, Entry, Hash, Identity, RunError, RunKind, Span, file_seed},
    page::{self, PAGE, Part},
    run::Run,
    test_disk::TestDisk,
};

pub const IDENTITY: Identity = Identity { store: *b"the first store!", seed: 0x5eed };
pub const SPAN: Span = Span { from: 3, to: 9 };
pub const END: End = End { position: 9 << 32 | 4096, checksum: 77 };

/// Uniform, as ids are.
pub fn hash(number: u64) -> Hash {
    xxh3_128_with_seed(&number.to_le_bytes(), 1).to_be_bytes()
}

pub fn position(number: u64) -> u64 {
    (u64::from(SPAN.from) << 32) + number * 16
}

/// `count` entries; entry `n` has the hash number `key(n)`.
pub fn entries(count: u64, key: impl Fn(u64) -> u64) -> Vec<Entry> {
    let mut entries: Vec<_> = (0..count).map(|n| Entry { hash: hash(key(n)), position: position(n) }).collect();
    entries.sort_unstable();
    entries
}

pub fn write_to(disk: &TestDisk, kind: RunKind, entries: &[Entry]) -> Result<Run, RunError> {
    let mut all = entries.iter().copied().map(Ok);
    Run::write(disk, &IDENTITY, kind, SPAN, END, entries.len() as u64, &mut all)
}

pub fn written(kind: RunKind, entries: &[Entry]) -> (TestDisk, Run) {
    let disk = TestDisk::default();
    let run = write_to(&disk, kind, entries).unwrap();
    (disk, run)
}

pub fn opened(disk: &TestDisk, kind: RunKind) -> Result<Run, RunError> {
    Run::open(disk, &IDENTITY, kind, SPAN)
}

/// Of each hash the positions, descending.
pub fn model(entries: &[Entry]) -> BTreeMap<Hash, Vec<u64>> {
    let mut model = BTreeMap::<Hash, Vec<u64>>::new();
    for entry in entries.iter().rev() {
        model.entry(entry.hash).or_default().push(entry.position);
    }
    model
}

/// That each answer is the right one, or an error where these are allowed; gives how many errors there were.
pub fn assert_right(run: &Run, entries: &[Entry], errors_allowed: bool) -> usize {
    let model = model(entries);
    let mut errors = 0;
    let absent = (0..20).map(|n| hash(n + 1_000_000)).chain([[0; 16], [0xff; 16]]);
    for hash in model.keys().copied().chain(absent) {
        let all = model.get(&hash).map_or(&[][..], Vec::as_slice);
        let middle = all.get(all.len() / 2).copied().unwrap_or(7);
        match run.newest(&hash) {
            Ok(found) => assert_eq!(found, all.first().copied()),
            Err(error) => errors += usize::from(is_damage(&error, errors_allowed)),
        }
        for (below, limit) in [(u64::MAX, 3), (middle, 2), (middle + 1, 400), (u64::MAX, usize::MAX), (0, 9), (5, 0)] {
            let expected: Vec<_> = all.iter().copied().filter(|position| *position < below).take(limit).collect();
            match run.newest_below(&hash, below, limit) {
                Ok(found) => assert_eq!(found, expected),
                Err(error) => errors += usize::from(is_damage(&error, errors_allowed)),
            }
        }
    }
    let mut read = Vec::new();
    for entry in run.entries() {
        match entry {
            Ok(entry) => read.push(entry),
            Err(error) => errors += usize::from(is_damage(&error, errors_allowed)),
        }
    }
    assert!(entries.starts_with(&read));
    assert!(errors_allowed || read == entries);
    errors
}

pub fn is_damage(error: &RunError, allowed: bool) -> bool {
    assert!(allowed && matches!(error, RunError::Damaged(_)), "{error}");
    true
}

/// That a damaged file of `kind`, if it opens at all, gives right answers or says so, and that salvage gives nothing
/// else than what was written.
pub fn assert_never_wrong(disk: &TestDisk, kind: RunKind, entries: &[Entry]) {
    match opened(disk, kind) {
        Ok(run) => {
            let errors = assert_right(&run, entries, true);
            let salvaged = Run::salvage(disk, &IDENTITY, kind, SPAN).unwrap().count();
            assert_eq!(salvaged == entries.len(), errors == 0);
        }
        Err(error) => assert!(is_damage(&error, true)),
    }
    let mut salvage = Run::salvage(disk, &IDENTITY, kind, SPAN).unwrap();
    let salvaged: Vec<_> = salvage.by_ref().collect();
    assert!(salvaged.is_sorted());
    assert!(salvaged.iter().all(|entry| entries.binary_search(entry).is_ok()));
    let missing = entries.len() - salvaged.len();
    assert!(
        missing as u64 <= salvage.bad_pages() * 170 || !disk.bytes(&Run::name(kind, SPAN)).len().is_multiple_of(PAGE)
    );
}

pub fn ids(count: u64) -> Vec<Entry> {
    entries(count, |n| n)
}

/// One sender with half of all, some with a few, many with one.
pub fn senders(count: u64) -> Vec<Entry> {
    entries(count, |n| match n % 4 {
        0 | 1 => 0,
        2 => 1 + n % 7,
        _ => 100 + n,
    })
}

#[test]
fn every_look_up_is_right_whatever_the_number_of_entries() {
    for count in [0, 1, 2, 169, 170, 171, 340, 341, 1_000, 5_000] {
        for (kind, all) in [(RunKind::Ids, ids(count)), (RunKind::Senders, senders(count))] {
            let (disk, run) = written(kind, &all);
            assert_right(&run, &all, false);
            let run = opened(&disk, kind).unwrap();
            assert_right(&run, &all, false);
            assert_eq!((run.damage(), run.len(), run.is_empty()), (None, count, count == 0));
            assert_eq!((run.kind(), run.span(), run.end()), (kind, SPAN, END));
            assert_eq!(run.bytes(), disk.bytes(&Run::name(kind, SPAN)).len() as u64);
            assert_eq!(disk.names(), [Run::name(kind, SPAN)]);
        }
    }
}

#[test]
fn of_equal_hashes_the_greatest_position_counts() {
    let (_, run) = written(RunKind::Ids, &entries(600, |n| n % 3));
    assert_eq!(run.newest(&hash(1)).unwrap(), Some(position(598)));
    assert_eq!(run.newest_below(&hash(1), position(598), 2).unwrap(), [position(595), position(592)]);
}

#[test]
fn a_look_up_of_an_id_reads_one_page_and_mostly_none_where_it_is_absent() {
    let all = ids(100_000);
    let (disk, _) = written(RunKind::Ids, &all);
    let run = opened(&disk, RunKind::Ids).unwrap();
    disk.reads();
    for entry in all.iter().step_by(7) {
        run.newest(&entry.hash).unwrap();
        assert_eq!(disk.reads(), 1);
    }
    for n in 0..100_000 {
        assert_eq!(run.newest(&hash(1_000_000 + n)).unwrap(), None);
    }
    let reads = disk.reads();
    assert!((250..550).contains(&reads), "{reads} of 100,000");
}

#[test]
fn a_list_of_a_busy_sender_reads_few_pages() {
    let all = entries(200_000, |n| n / 190_000 * n);
    let (disk, run) = written(RunKind::Senders, &all);
    disk.reads();
    run.newest_below(&hash(0), u64::MAX, 50).unwrap();
    assert!(disk.reads() <= 2);
    for below in (0..190_000).step_by(997) {
        assert_eq!(run.newest_below(&hash(0), position(below), 50).unwrap().len() as u64, below.min(50));
        let reads = disk.reads();
        assert!(reads <= 14, "{reads}");
    }
}

#[test]
fn a_file_is_hardly_larger_than_its_entries_and_so_is_its_part_in_memory() {
    let count = 200_000;
    for (kind, most) in [(RunKind::Ids, 25.73), (RunKind::Senders, 24.20)] {
        let (_, run) = written(kind, &ids(count));
        let a_entry = run.bytes() as f64 / count as f64;
        assert!(a_entry < most, "{a_entry}");
        let filter_bits = run.filter_bytes() as u64 * 8;
        assert_eq!(filter_bits.div_ceil(count), if kind == RunKind::Ids { 13 } else { 0 });
        assert!(run.directory_bytes() as u64 * 8 * 2 < count);
    }
}

#[test]
fn a_run_is_written_in_short_writes_with_syncs_between_and_is_durable_at_the_end() {
    let (disk, _) = written(RunKind::Ids, &ids(200_000));
    let (longest_write, most_unsynced) = disk.most();
    assert!(longest_write <= 256 << 10 && most_unsynced <= (4 << 20) + (256 << 10));
    assert!(disk.is_durable());
}

#[test]
fn an_error_of_any_call_leaves_no_run_or_the_whole_one() {
    let all = ids(20_000);
    for call in 1.. {
        let disk = TestDisk::default();
        disk.fail(call);
        let written = write_to(&disk, RunKind::Ids, &all);
        if !disk.failed() {
            assert!(call > 7 && written.is_ok());
            break;
        }
        assert!(matches!(written.map(drop), Err(RunError::Io(_))));
        match disk.names().as_slice() {
            [] => {}
            [one] => {
                assert_eq!(*one, Run::name(RunKind::Ids, SPAN));
                assert_right(&opened(&disk, RunKind::Ids).unwrap(), &all, false);
            }
            more => panic!("{more:?}"),
        }
    }
}

#[test]
fn what_makes_no_run_is_refused_and_leaves_no_file() {
    let [a, b] = [Entry { hash: [1; 16], position: position(1) }, Entry { hash: [1; 16], position: position(2) }];
    let before = Entry { hash: [0; 16], ..a };
    let (early, late) = (Entry { position: 2 << 32, ..a }, Entry { position: 10 << 32, ..b });
    for wrong in [vec![b, a], vec![a, a], vec![a, before], vec![early], vec![a, late]] {
        let disk = TestDisk::default();
        assert!(matches!(write_to(&disk, RunKind::Senders, &wrong), Err(RunError::Input(_))));
        assert!(disk.names().is_empty());
    }
    let disk = TestDisk::default();
    let more = Run::write(&disk, &IDENTITY, RunKind::Ids, SPAN, END, 1, &mut [a, b].into_iter().map(Ok));
    assert!(matches!(more.map(drop), Err(RunError::Input(_))));
    let mut failing = [Ok(a), Err(RunError::Damaged("planted"))].into_iter();
    let failed = Run::write(&disk, &IDENTITY, RunKind::Ids, SPAN, END, 9, &mut failing);
    assert!(matches!(failed.map(drop), Err(RunError::Damaged("planted"))));
    assert!(disk.names().is_empty());
}

#[test]
fn an_older_run_of_the_same_name_is_replaced() {
    let (disk, _) = written(RunKind::Ids, &ids(10));
    write_to(&disk, RunKind::Ids, &ids(20)).unwrap();
    assert_eq!(opened(&disk, RunKind::Ids).unwrap().len(), 20);
}

#[test]
fn names_sort_by_segment_and_are_read_again_only_as_they_are_written() {
    let name = Run::name(RunKind::Ids, Span { from: 1, to: 8 });
    assert_eq!(name, "index/ids-00000001-00000008.run");
    for kind in [RunKind::Ids, RunKind::Senders] {
        for span in [SPAN, Span { from: 0, to: u32::MAX }, Span { from: 4, to: 4 }] {
            assert_eq!(Run::parse_name(Run::name(kind, span).strip_prefix("index/").unwrap()), Some((kind, span)));
        }
    }
    for other in [
        "",
        "ids-00000001-00000008.run.tmp",
        "ids-00000001-00000008",
        "ids-1-8.run",
        "ids-+0000001-00000008.run",
        "ids-00000008-00000001.run",
        "ids-00000001-00000008-00000009.run",
        "ids-00000001.run",
        "keys-00000001-00000008.run",
        "index/ids-00000001-00000008.run",
        "ids-99999999999-99999999999.run",
    ] {
        assert_eq!(Run::parse_name(other), None, "{other}");
    }
}

#[test]
fn a_run_under_another_name_or_of_another_store_is_damaged() {
    let (disk, _) = written(RunKind::Ids, &ids(500));
    let bytes = disk.bytes(&Run::name(RunKind::Ids, SPAN));
    let other = Span { from: 3, to: 10 };
    disk.put(&Run::name(RunKind::Senders, SPAN), bytes.clone());
    disk.put(&Run::name(RunKind::Ids, other), bytes);
    for (identity, kind, span) in [
        (Identity { store: *b"another store!!!", ..IDENTITY }, RunKind::Ids, SPAN),
        (Identity { seed: 1, ..IDENTITY }, RunKind::Ids, SPAN),
        (IDENTITY, RunKind::Senders, SPAN),
        (IDENTITY, RunKind::Ids, other),
    ] {
        assert!(matches!(Run::open(&disk, &identity, kind, span), Err(RunError::Damaged(_))));
    }
    assert!(matches!(Run::open(&disk, &IDENTITY, RunKind::Ids, Span { from: 0, to: 0 }), Err(RunError::Io(_))));
}

#[test]
fn a_run_of_a_later_version_is_not_called_damaged() {
    let (disk, _) = written(RunKind::Ids, &ids(5));
    let name = Run::name(RunKind::Ids, SPAN);
    let seed = file_seed(&IDENTITY, RunKind::Ids, SPAN);
    let bytes = disk.bytes(&name);
    let (_, header) = page::check(&bytes[..PAGE], seed, 0).unwrap();
    let mut later = header.to_vec();
    later[8] = 2;
    let mut page = Vec::new();
    page::seal(&mut page, seed, 0, Part::Header, &later);
    page.extend_from_slice(&bytes[PAGE..]);
    disk.put(&name, page);
    assert!(matches!(opened(&disk, RunKind::Ids), Err(RunError::Newer)));
    assert!(matches!(Run::salvage(&disk, &IDENTITY, RunKind::Ids, SPAN), Err(RunError::Newer)));
}

#[test]
fn any_zeroed_or_exchanged_page_is_noticed() {
    for (kind, all) in [(RunKind::Ids, ids(900)), (RunKind::Senders, senders(900))] {
        let (disk, run) = written(kind, &all);
        let name = Run::name(kind, SPAN);
        let whole = disk.bytes(&name);
        let pages = run.bytes() as usize / PAGE;
        for page in 0..pages {
            let mut bytes = whole.clone();
            bytes[page * PAGE..(page + 1) * PAGE].fill(0);
            disk.put(&name, bytes);
            assert_never_wrong(&disk, kind, &all);
            let noticed =
                opened(&disk, kind).map_or(true, |run| run.damage().is_some() || assert_right(&run, &all, true) > 0);
            assert!(noticed, "page {page}");
            for other in [(page + 1) % pages, (page + pages - 1) % pages] {
                let mut bytes = whole.clone();
                bytes.copy_within(other * PAGE..(other + 1) * PAGE, page * PAGE);
                disk.put(&name, bytes);
                assert_never_wrong(&disk, kind, &all);
            }
        }
    }
}

#[test]
fn a_run_without_its_filter_or_directory_answers_right_and_says_so() {
    let all = ids(3_000);
    let (disk, run) = written(RunKind::Ids, &all);
    let name = Run::name(RunKind::Ids, SPAN);
    let whole = disk.bytes(&name);
    let pages = whole.len() / PAGE;
    assert_eq!(run.bytes(), whole.len() as u64);
    for (page, damage) in [(pages - 2, "the filter is damaged"), (pages - 1, "the directory is damaged")] {
        let mut bytes = whole.clone();
        bytes[page * PAGE + 99] ^= 4;
        disk.put(&name, bytes);
        let run = opened(&disk, RunKind::Ids).unwrap();
        assert_eq!(run.damage(), Some(damage));
        assert_right(&run, &all, false);
    }
    let mut longer = whole;
    longer.push(0);
    disk.put(&name, longer);
    let run = opened(&disk, RunKind::Ids).unwrap();
    assert_eq!(run.damage(), Some("the file has another length"));
    assert_right(&run, &all, false);
}

#[test]
fn a_page_that_verifies_as_another_part_or_has_another_length_is_damage() {
    let all = ids(900);
    let (disk, run) = written(RunKind::Ids, &all);
    let name = Run::name(RunKind::Ids, SPAN);
    let whole = disk.bytes(&name);
    let seed = file_seed(&IDENTITY, RunKind::Ids, SPAN);
    let last = run.bytes() as usize / PAGE - 1;
    let (_, words) = page::check(&whole[last * PAGE..], seed, last as u32).unwrap();
    for (part, payload) in [(Part::Filter, words), (Part::Directory, &words[8..]), (Part::Directory, &[])] {
        let mut bytes = whole[..last * PAGE].to_vec();
        page::seal(&mut bytes, seed, last as u32, part, payload);
        disk.put(&name, bytes);
        let run = opened(&disk, RunKind::Ids).unwrap();
        assert_eq!(run.damage(), Some("the directory is damaged"));
        assert_right(&run, &all, false);
    }
}

#[test]
fn what_is_whole_can_be_salvaged_without_the_header() {
    for (kind, all) in [(RunKind::Ids, ids(20_000)), (RunKind::Senders, senders(20_000))] {
        let (disk, _) = written(kind, &all);
        let name = Run::name(kind, SPAN);
        let mut bytes = disk.bytes(&name);
        bytes[50] ^= 1;
        disk.put(&name, bytes.clone());
        assert!(opened(&disk, kind).is_err());
        let mut salvage = Run::salvage(&disk, &IDENTITY, kind, SPAN).unwrap();
        assert_eq!(salvage.by_ref().collect::<Vec<_>>(), all);
        assert_eq!(salvage.bad_pages(), 0);
        bytes[3 * PAGE..5 * PAGE].fill(0);
        disk.put(&name, bytes);
        let mut salvage = Run::salvage(&disk, &IDENTITY, kind, SPAN).unwrap();
        let expected = [&all[..340], &all[680..]].concat();
        assert_eq!(salvage.by_ref().collect::<Vec<_>>(), expected);
        assert_eq!(salvage.bad_pages(), 2);
    }
}

#[test]
fn a_sector_that_cannot_be_read_costs_its_page_alone() {
    let all = ids(20_000);
    let (disk, run) = written(RunKind::Ids, &all);
    disk.make_unreadable(10 * PAGE as u64 + 600);
    let mut salvage = Run::salvage(&disk, &IDENTITY, RunKind::Ids, SPAN).unwrap();
    assert_eq!(salvage.by_ref().count(), all.len() - 170);
    assert_eq!(salvage.bad_pages(), 1);
    assert!(matches!(run.newest(&all[9 * 170].hash), Err(RunError::Io(_))));
    assert_eq!(run.entries().filter(Result::is_err).count(), 1);
    assert_eq!(run.entries().take_while(Result::is_ok).count(), 9 * 170);
}

#[test]
fn any_flipped_bit_of_the_header_is_noticed() {
    let (disk, _) = written(RunKind::Ids, &ids(10));
    let name = Run::name(RunKind::Ids, SPAN);
    let whole = disk.bytes(&name);
    for bit in 0..PAGE * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        disk.put(&name, bytes);
        assert!(matches!(opened(&disk, RunKind::Ids), Err(RunError::Damaged(_))));
    }
}

/// The bytes of version 1, which must never change: a filter whose bits are elsewhere denies ids that are there.
#[test]
fn the_bytes_of_a_run_are_those_of_version_1() {
    let sums = [(RunKind::Ids, ids(2_000)), (RunKind::Senders, senders(2_000))].map(|(kind, all)| {
        let (disk, _) = written(kind, &all);
        xxh3_64(&disk.bytes(&Run::name(kind, SPAN)))
    });
    assert_eq!(sums, [0x57b4_f872_da6b_7c8f, 0x755a_50f5_5bd5_18bb], "{sums:#x?}");
}

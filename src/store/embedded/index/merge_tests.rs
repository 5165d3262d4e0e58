use std::{collections::BTreeSet, sync::Arc};

use proptest::prelude::*;

use super::{
    format::{End, Entry, RunError, RunKind, Span},
    merge::{Merged, merge, obsolete, plan},
    run::Run,
    run_tests::{IDENTITY, hash},
    test_disk::TestDisk,
};

fn spans(lengths: &[u32]) -> Vec<Span> {
    let mut next = 1;
    let span = |length: &u32| {
        next += length;
        Span { from: next - length, to: next - 1 }
    };
    lengths.iter().map(span).collect()
}

/// Runs after `segments` single ones were made and merged as planned, their greatest number, and the segments written.
fn live(segments: u32, longest: u32) -> (Vec<Span>, usize, u64) {
    let (mut runs, mut most, mut written) = (Vec::new(), 0, 0);
    for segment in 1..=segments {
        runs.push(Span { from: segment, to: segment });
        written += 1;
        while let Some(range) = plan(&runs, 8, longest) {
            let merged = Span { from: runs[range.start].from, to: runs[range.end - 1].to };
            assert!(merged.segments() <= u64::from(longest) && range.len() >= 2);
            written += merged.segments();
            runs.splice(range, [merged]);
        }
        most = most.max(runs.len());
    }
    (runs, most, written)
}

#[test]
fn eight_neighbours_of_a_tier_become_one_the_oldest_first() {
    let plan = |lengths: &[u32]| plan(&spans(lengths), 8, u32::MAX);
    assert_eq!(plan(&[]), None);
    assert_eq!(plan(&[1; 7]), None);
    assert_eq!(plan(&[1; 8]), Some(0..8));
    assert_eq!(plan(&[1; 20]), Some(0..8));
    assert_eq!(plan(&[8, 1, 1, 1, 1, 1, 1, 1, 1]), Some(1..9));
    assert_eq!(plan(&[8, 9, 10, 63, 8, 8, 8, 8, 1]), Some(0..8));
    assert_eq!(plan(&[64, 8, 8, 8, 8, 8, 8, 8, 1, 1, 1, 1, 1, 1, 1]), None);
}

#[test]
fn runs_with_segments_between_them_that_no_run_covers_are_no_neighbours() {
    let mut runs = spans(&[1; 12]);
    runs.remove(3);
    assert_eq!(plan(&runs, 8, u32::MAX), Some(3..11));
    runs.remove(8);
    assert_eq!(plan(&runs, 8, u32::MAX), None);
}

#[test]
fn a_tier_keeps_at_most_seven_runs_and_an_entry_is_written_once_a_tier() {
    for segments in [7, 8, 63, 64, 511, 512, 5_000] {
        let (runs, most, written) = live(segments, u32::MAX);
        let tiers = segments.ilog(8) + 1;
        assert!(most <= 7 * tiers as usize + 1, "{most} runs of {segments} segments");
        assert!(written <= u64::from(segments * tiers), "{written} of {segments} segments");
        assert_eq!((runs[0].from, runs[runs.len() - 1].to), (1, segments));
        assert!(runs.windows(2).all(|pair| pair[0].to + 1 == pair[1].from));
    }
}

#[test]
fn no_run_is_longer_than_allowed_and_there_are_few_all_the_same() {
    for longest in [1, 2, 5, 7, 8, 9, 17, 40, 60, 63, 64, 65, 200, 500, 511, 1_000] {
        let segments = longest * 4;
        let (_, most, written) = live(segments, longest);
        let tiers = longest.ilog(8) as usize + 1;
        assert!(most <= 7 * tiers + 9, "{most} runs of {segments} segments, at most {longest} each");
        assert!(written <= u64::from(segments) * (tiers as u64 + 1), "{written} of {segments}, {longest}");
    }
}

#[test]
fn a_plan_of_nonsense_is_no_plan() {
    let span = |from, to| Span { from, to };
    let nonsense = [span(9, 1), span(2, 1), span(2, 0), span(u32::MAX, u32::MAX), span(0, u32::MAX)];
    for fan_out in [0, 1, 2, usize::MAX] {
        for longest in [0, 1, u32::MAX] {
            assert_eq!(plan(&nonsense, fan_out, longest), None);
        }
    }
}

#[test]
fn runs_that_a_wider_one_of_their_kind_covers_are_obsolete() {
    let run = |kind, from, to| (kind, Span { from, to });
    let (ids, senders) = (RunKind::Ids, RunKind::Senders);
    let runs = [
        run(ids, 1, 8),
        run(ids, 1, 1),
        run(ids, 8, 8),
        run(ids, 8, 9),
        run(senders, 2, 3),
        run(senders, 3, 3),
        run(ids, 9, 9),
    ];
    assert_eq!(obsolete(&runs), [1, 2, 5, 6]);
    assert!(obsolete(&runs[..1]).is_empty());
    // In the same order, and one is enough.
    assert_eq!(obsolete(&[run(ids, 1, 2), run(ids, 1, 3), run(ids, 1, 4)]), [0, 1]);
}

/// A run of one segment with these records: (hash, offset).
fn run(disk: &TestDisk, kind: RunKind, segment: u32, records: &[(u64, u32)]) -> Arc<Run> {
    let entry = |(key, offset): &(u64, u32)| Entry {
        hash: hash(*key),
        position: u64::from(segment) << 32 | u64::from(*offset),
    };
    let entries: BTreeSet<_> = records.iter().map(entry).collect();
    let span = Span { from: segment, to: segment };
    let end = End { position: u64::from(segment) << 32 | 1 << 20, checksum: u64::from(segment) };
    let count = entries.len() as u64;
    Arc::new(Run::write(disk, &IDENTITY, kind, span, end, count, &mut entries.into_iter().map(Ok)).unwrap())
}

fn all(run: &Run) -> Vec<Entry> {
    run.entries().map(Result::unwrap).collect()
}

#[test]
fn a_merge_leaves_out_what_is_below_the_oldest() {
    let disk = TestDisk::default();
    let runs = [
        run(&disk, RunKind::Ids, 4, &[(1, 16), (2, 32)]),
        run(&disk, RunKind::Ids, 5, &[(1, 16), (3, 32)]),
        run(&disk, RunKind::Ids, 6, &[]),
    ];
    let merged = merge(&disk, &IDENTITY, &runs, 5 << 32, || ()).unwrap();
    assert_eq!((merged.len(), merged.span()), (2, Span { from: 4, to: 6 }));
    assert_eq!(merged.end(), runs[2].end());
    assert_eq!(merged.newest(&hash(1)).unwrap(), Some(5 << 32 | 16));
    assert_eq!(merged.newest(&hash(2)).unwrap(), None);
    assert_eq!(merged.newest(&hash(3)).unwrap(), Some(5 << 32 | 32));
    // What is at the oldest is kept.
    assert_eq!(merge(&disk, &IDENTITY, &runs, 5 << 32 | 16, || ()).unwrap().len(), 2);
    assert_eq!(merge(&disk, &IDENTITY, &runs, 5 << 32 | 17, || ()).unwrap().len(), 1);
    let merged = merge(&disk, &IDENTITY, &runs, 5 << 32, || ()).unwrap();
    // The inputs are there until the caller lets them go.
    assert_eq!(disk.names().len(), 4);
    let opened = Run::open(&disk, &IDENTITY, RunKind::Ids, merged.span()).unwrap();
    assert_eq!((all(&opened), opened.damage()), (all(&merged), None));
}

#[test]
fn what_are_no_neighbours_is_not_merged() {
    let disk = TestDisk::default();
    let ids = |segment| run(&disk, RunKind::Ids, segment, &[(1, 16)]);
    let senders = run(&disk, RunKind::Senders, 2, &[(1, 16)]);
    for inputs in [vec![], vec![ids(1), ids(3)], vec![ids(2), ids(1)], vec![ids(1), ids(1)], vec![ids(1), senders]] {
        assert!(matches!(merge(&disk, &IDENTITY, &inputs, 0, || ()), Err(RunError::Input(_))));
    }
}

#[test]
fn a_damaged_page_stops_a_merge_and_what_can_be_salvaged_goes_on_with_the_log() {
    let disk = TestDisk::default();
    let records: Vec<_> = (0..1_000).map(|n| (u64::from(n), n * 16)).collect();
    let good = run(&disk, RunKind::Ids, 1, &records);
    let expected = all(&run(&disk, RunKind::Ids, 2, &records));
    let span = Span { from: 2, to: 2 };
    let name = Run::name(RunKind::Ids, span);
    let mut bytes = disk.bytes(&name);
    bytes[4096 * 3 + 20] ^= 1;
    disk.put(&name, bytes);
    let bad = Arc::new(Run::open(&disk, &IDENTITY, RunKind::Ids, span).unwrap());
    let names = disk.names();
    let merged = merge(&disk, &IDENTITY, &[good, Arc::clone(&bad)], 0, || ());
    assert!(matches!(merged.map(drop), Err(RunError::Damaged(_))));
    assert_eq!(disk.names(), names);
    // As the caller makes it anew: the log has every second one, among them those of the bad page.
    let mut salvage = Run::salvage(&disk, &IDENTITY, RunKind::Ids, span).unwrap();
    let log =
        expected.iter().enumerate().filter(|(n, _)| n % 2 == 0 || (340..510).contains(n)).map(|(_, entry)| *entry);
    let sources: Vec<Box<dyn Iterator<Item = Result<Entry, RunError>>>> =
        vec![Box::new(salvage.by_ref().map(Ok)), Box::new(log.map(Ok))];
    let mut entries = Merged::new(sources).unwrap();
    let anew = Run::write(&disk, &IDENTITY, RunKind::Ids, span, bad.end(), 1_000, &mut entries).unwrap();
    drop(entries);
    assert_eq!(salvage.bad_pages(), 1);
    assert_eq!(all(&anew), expected);
}

#[test]
fn nothing_comes_after_the_error_of_a_source() {
    let entry = |key| Entry { hash: [key; 16], position: 1 };
    let good = vec![Ok(entry(1)), Ok(entry(3)), Ok(entry(5))];
    let bad = vec![Ok(entry(2)), Err(RunError::Newer), Ok(entry(4))];
    let mut merged = Merged::new(vec![good.into_iter(), bad.into_iter()]).unwrap();
    assert_eq!(merged.next().unwrap().unwrap(), entry(1));
    assert!(matches!(merged.next(), Some(Err(RunError::Newer))));
    assert!(merged.next().is_none());
    assert!(matches!(Merged::new(vec![[Err(RunError::Newer)].into_iter()]).map(drop), Err(RunError::Newer)));
}

#[test]
fn a_merge_of_one_run_heals_its_filter() {
    let disk = TestDisk::default();
    let records: Vec<_> = (0..1_000).map(|n| (u64::from(n), n * 16)).collect();
    let expected = all(&run(&disk, RunKind::Ids, 7, &records));
    let name = Run::name(RunKind::Ids, Span { from: 7, to: 7 });
    let whole = disk.bytes(&name);
    let mut bytes = whole.clone();
    let filter = bytes.len() - 4096 - 1;
    bytes[filter] ^= 1;
    disk.put(&name, bytes);
    let hurt = Arc::new(Run::open(&disk, &IDENTITY, RunKind::Ids, Span { from: 7, to: 7 }).unwrap());
    assert!(hurt.damage().is_some());
    assert_eq!(all(&merge(&disk, &IDENTITY, &[hurt], 0, || ()).unwrap()), expected);
    assert_eq!(disk.bytes(&name), whole);
}

#[test]
fn an_error_of_any_call_of_a_merge_leaves_the_inputs_and_no_part_of_a_run() {
    let records: Vec<_> = (0..1_000).map(|n| (u64::from(n), n * 16)).collect();
    for call in 1.. {
        let disk = TestDisk::default();
        let runs = [1, 2, 3].map(|segment| run(&disk, RunKind::Ids, segment, &records));
        let span = Span { from: 1, to: 3 };
        disk.fail(call);
        let merged = merge(&disk, &IDENTITY, &runs, 0, || ());
        if !disk.failed() {
            assert!(call > 5 && merged.is_ok());
            break;
        }
        // A read of several pages that fails is tried page by page.
        if merged.is_err() {
            assert!(disk.names().iter().all(|name| name.ends_with(".run")));
        }
        if let Ok(run) = Run::open(&disk, &IDENTITY, RunKind::Ids, span) {
            assert_eq!(all(&run).len(), 3_000);
        }
        assert!(runs.iter().all(|run| all(run).len() == 1_000));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_merge_has_what_its_inputs_have(
        segments in prop::collection::vec(prop::collection::vec((0_u64..300, 0_u32..5_000), 0..400), 1..9),
        oldest in 0_u64..9 << 32,
        is_ids: bool,
    ) {
        let disk = TestDisk::default();
        let kind = if is_ids { RunKind::Ids } else { RunKind::Senders };
        let runs: Vec<_> = segments.iter().zip(0..).map(|(records, n)| run(&disk, kind, n, records)).collect();
        let mut expected: Vec<_> = runs.iter().flat_map(|run| all(run)).collect();
        expected.retain(|entry| entry.position >= oldest);
        expected.sort_unstable();
        let merged = merge(&disk, &IDENTITY, &runs, oldest, || ()).unwrap();
        prop_assert_eq!(&all(&merged), &expected);
        for entry in &expected {
            let newest = expected.iter().filter(|other| other.hash == entry.hash).map(|other| other.position).max();
            prop_assert_eq!(merged.newest(&entry.hash).unwrap(), newest);
        }
    }

    #[test]
    fn merged_sources_come_in_order_and_each_entry_once(
        sources in prop::collection::vec(prop::collection::btree_set((0_u8..20, 0_u64..20), 0..60), 0..6),
    ) {
        let entry = |(key, position): &(u8, u64)| Entry { hash: [*key; 16], position: *position };
        let expected: BTreeSet<_> = sources.iter().flatten().map(entry).collect();
        let merged = Merged::new(sources.iter().map(|source| source.iter().map(entry).map(Ok)).collect()).unwrap();
        prop_assert!(merged.map(Result::unwrap).eq(expected));
    }
}

use proptest::prelude::*;

use super::{
    super::disk::Disk,
    format::{Entry, Hash, Header, RunError, RunKind, file_seed},
    page::{self, PAGE, PAYLOAD, Part},
    run::Run,
    run_tests::*,
    test_disk::TestDisk,
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bits_and_cut_files_never_give_a_wrong_answer(
        is_ids: bool,
        count in 0_u64..800,
        flips in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        cut in prop::option::weighted(0.3, any::<prop::sample::Index>()),
    ) {
        let (kind, all) = if is_ids { (RunKind::Ids, ids(count)) } else { (RunKind::Senders, senders(count)) };
        let (disk, _) = written(kind, &all);
        let name = Run::name(kind, SPAN);
        let mut bytes = disk.bytes(&name);
        for flip in flips {
            let bit = flip.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        let cut_to = cut.map(|cut| cut.index(bytes.len()));
        bytes.truncate(cut_to.unwrap_or(usize::MAX));
        disk.put(&name, bytes);
        match (cut_to, opened(&disk, kind)) {
            // How much was cut off is not known without a header.
            (Some(_), Err(error)) => prop_assert!(is_damage(&error, true)),
            _ => assert_never_wrong(&disk, kind, &all),
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_run(bytes in prop::collection::vec(any::<u8>(), 0..3 * PAGE)) {
        let disk = TestDisk::default();
        disk.put(&Run::name(RunKind::Ids, SPAN), bytes);
        prop_assert!(matches!(opened(&disk, RunKind::Ids), Err(RunError::Damaged(_))));
        prop_assert_eq!(Run::salvage(&disk, &IDENTITY, RunKind::Ids, SPAN).unwrap().count(), 0);
    }

    /// As if somebody had the seed: what verifies need not make sense.
    #[test]
    fn pages_that_verify_and_make_no_sense_do_no_harm(
        is_ids: bool,
        numbers in (any::<u64>(), any::<u64>(), 0_u64..2_000, 0_u64..2_000, any::<bool>()),
        pages in prop::collection::vec((2_u8..5, prop::collection::vec(any::<u8>(), 0..=PAYLOAD)), 0..5),
        hashes in prop::collection::vec(any::<Hash>(), 1..5),
    ) {
        let kind = if is_ids { RunKind::Ids } else { RunKind::Senders };
        let seed = file_seed(&IDENTITY, kind, SPAN);
        let (large, larger, small, smaller, is_small) = numbers;
        let (entries, filter_words) = if is_small { (small, smaller) } else { (large, larger) };
        let mut bytes = Vec::new();
        let header = Header { entries, filter_words, end: END };
        page::seal(&mut bytes, seed, 0, Part::Header, &header.encode(&IDENTITY, kind, SPAN));
        for ((part, payload), number) in pages.iter().zip(1..) {
            let part = [Part::Entries, Part::Filter, Part::Directory][usize::from(part - 2)];
            page::seal(&mut bytes, seed, number, part, payload);
        }
        let disk = TestDisk::default();
        disk.put(&Run::name(kind, SPAN), bytes);
        if let Ok(run) = opened(&disk, kind) {
            for hash in &hashes {
                let _ = (run.newest(hash), run.newest_below(hash, u64::MAX, 1_000));
            }
            let _ = run.entries().count();
        }
        // With a header that says so, more pages are looked for than any disk could have.
        let _ = Run::salvage(&disk, &IDENTITY, kind, SPAN).unwrap().take(2_000).count();
    }

    #[test]
    fn any_entries_are_found(
        keys in prop::collection::vec((0_u8..40, 0_u8..3), 0..700),
        is_ids: bool,
    ) {
        // Hashes that share their first 8 bytes, too.
        let hash = |(tail, head): (u8, u8)| { let mut hash = [head; 16]; hash[15] = tail; hash };
        let mut all: Vec<_> =
            keys.iter().zip(0..).map(|(key, n)| Entry { hash: hash(*key), position: position(n) }).collect();
        all.sort_unstable();
        let kind = if is_ids { RunKind::Ids } else { RunKind::Senders };
        let (disk, _) = written(kind, &all);
        assert_right(&opened(&disk, kind).unwrap(), &all, false);
        prop_assert!(disk.list("index").unwrap().iter().all(|name| Run::parse_name(name).is_some()));
    }
}

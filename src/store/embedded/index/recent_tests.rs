use proptest::prelude::*;

use super::{
    format::{Entry, Hash},
    recent::Recent,
    run_tests::hash,
};

fn position(number: usize) -> u64 {
    7 << 32 | (number as u64 * 48 + 128)
}

fn of(records: &[(Hash, Hash)]) -> Recent {
    let mut recent = Recent::new(7);
    for (number, (id, sender)) in records.iter().enumerate() {
        recent.insert(*id, *sender, position(number));
    }
    recent
}

/// The positions of a sender below one, descending.
fn expected(records: &[(Hash, Hash)], sender: &Hash, below: u64, limit: usize) -> Vec<u64> {
    let all = records.iter().enumerate().filter(|(_, record)| record.1 == *sender).map(|(number, _)| position(number));
    all.rev().filter(|position| *position < below).take(limit).collect()
}

#[test]
fn nothing_is_found_in_nothing() {
    let recent = Recent::new(7);
    assert_eq!((recent.newest(&[1; 16]), recent.len(), recent.is_empty()), (None, 0, true));
    assert!(recent.newest_of(&[1; 16], u64::MAX, 9).is_empty());
    assert!(recent.ids_sorted().is_empty() && recent.senders_sorted().is_empty());
}

#[test]
fn each_record_of_many_blocks_is_found_by_id_and_by_sender() {
    let records: Vec<_> = (0..20_000).map(|n| (hash(n), hash(1_000_000 + n % 100))).collect();
    let recent = of(&records);
    assert_eq!((recent.len(), recent.is_empty(), recent.segment()), (20_000, false, 7));
    for (number, (id, _)) in records.iter().enumerate() {
        assert_eq!(recent.newest(id), Some(position(number)));
    }
    for sender in (0..101).map(|n| hash(1_000_000 + n)) {
        for (below, limit) in
            [(u64::MAX, 7), (u64::MAX, 1_000), (position(8_000), 50), (position(8_000) + 1, 50), (0, 9)]
        {
            assert_eq!(recent.newest_of(&sender, below, limit), expected(&records, &sender, below, limit));
        }
    }
}

#[test]
fn what_a_run_is_made_of_is_sorted_and_whole() {
    let records: Vec<_> = (0..5_000).map(|n| (hash(n % 4_000), hash(n % 9))).collect();
    let recent = of(&records);
    for (sorted, hash) in [
        (recent.ids_sorted(), (|record| record.0) as fn(&(Hash, Hash)) -> Hash),
        (recent.senders_sorted(), |record| record.1),
    ] {
        let mut expected: Vec<_> = records
            .iter()
            .enumerate()
            .map(|(number, record)| Entry { hash: hash(record), position: position(number) })
            .collect();
        expected.sort_unstable();
        assert_eq!(sorted, expected);
    }
}

#[test]
fn a_record_needs_no_more_than_60_bytes() {
    let records: Vec<_> = (0..150_000).map(|n| (hash(n), hash(n + 1_000_000))).collect();
    let mut recent = Recent::with_room(7, records.len());
    let room = recent.bytes();
    for (number, (id, sender)) in records.iter().enumerate() {
        recent.insert(*id, *sender, position(number));
    }
    assert!(room > 0 && recent.bytes() - room < 41 * records.len(), "the tables grew");
    assert_eq!(recent.bytes(), room + of(&records).bytes() - room);
    let bytes = recent.bytes() as f64 / recent.len() as f64;
    assert!(bytes <= 60.0, "{bytes}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn answers_are_those_of_a_plain_list(
        records in prop::collection::vec((0_u8..60, 0_u8..6), 0..300),
        below in 0_usize..310,
        limit in 0_usize..40,
    ) {
        let records: Vec<_> = records.into_iter().map(|(id, sender)| ([id; 16], [sender; 16])).collect();
        let recent = of(&records);
        for id in 0..61 {
            let newest = records.iter().rposition(|record| record.0 == [id; 16]).map(position);
            prop_assert_eq!(recent.newest(&[id; 16]), newest);
        }
        for sender in (0..7).map(|sender| [sender; 16]) {
            for below in [position(below), position(below) - 1, u64::MAX] {
                let found = recent.newest_of(&sender, below, limit);
                prop_assert_eq!(found, expected(&records, &sender, below, limit));
            }
        }
    }
}

//! SIGKILL under load, again and again, in the middle of everything the engine does.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    time::{Duration, Instant},
};

use super::{child, tools::*};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_before_a_kill_is_there_once() {
    let dir = tempdir();
    let mut acknowledged = BTreeSet::new();
    let (mut was_sealed, mut was_flushed) = (false, false);
    for round in 0..6_u64 {
        let first = acknowledged.last().map_or(0, |last| last + 1000);
        let mut process = child::load(dir.path(), first).spawn().unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
        let begun = |line: &String| line.starts_with("opened") || line.starts_with("refused");
        let opened = said.by_ref().map(Result::unwrap).find(begun).unwrap();
        assert!(opened.starts_with("opened"), "{opened}");
        let end = Instant::now() + Duration::from_millis(150 + 150 * round);
        let reader = std::thread::spawn(move || {
            said.map_while(Result::ok)
                .filter_map(|line| line.strip_prefix("acknowledged ")?.parse().ok())
                .collect::<Vec<usize>>()
        });
        while Instant::now() < end {
            was_sealed |= journals(dir.path()).len() > 1;
            was_flushed |= !tables(dir.path(), 1).is_empty();
            std::thread::sleep(Duration::from_millis(5));
        }
        process.kill().unwrap();
        process.wait().unwrap();
        let new = reader.join().unwrap();
        assert!(!new.is_empty(), "round {round}");
        acknowledged.extend(new);
        let (store, report) = open(dir.path()).await;
        assert!(report.messages >= acknowledged.len() as u64, "{report}");
        assert_complete(&store, acknowledged.iter().copied(), child::LOAD_BYTES).await;
    }
    assert!(was_flushed, "no memtable was ever written to a table");
    // A journal is sealed after 64 MB.
    assert!(was_sealed || acknowledged.len() * child::LOAD_BYTES < 128_000_000, "no journal was ever sealed");
}

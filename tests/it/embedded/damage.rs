//! A disk that does not keep what was written: nothing that was acknowledged is lost without a word.

use std::path::Path;

use message_webhook::{
    domain::{Error, Kind},
    store::{
        Cursor, FeedFrom, FeedOrder, FeedStart, FeedStore, Lifecycle, MessageStore, Outcome, TransferStore,
        embedded::{EmbeddedStore, Left, Mode, Options},
    },
};

use super::tools::*;
use crate::conformance::fixture::{
    PATIENCE, follow_after, message_saying, page_after, place_of, read_feed, sender, up_to,
};

/// A store of three groups, as a kill right after the last answer leaves it.
async fn killed() -> tempfile::TempDir {
    killed_after(async |store| {
        for number in 0..3 {
            fill(store, number..number + 1, 300).await;
        }
    })
    .await
}

/// A store in which something was done, as a kill right after it leaves it.
async fn killed_after(work: impl AsyncFn(&EmbeddedStore)) -> tempfile::TempDir {
    for _ in 0..20 {
        let dir = tempdir();
        let (store, _) = open(dir.path()).await;
        work(&store).await;
        let killed = as_killed(dir.path());
        store.close().await.unwrap();
        // On a slow machine a second went by, and a quiet frame vouches for the last group: then again.
        let path = segment(killed.path(), 1);
        let last = *frames(&path).last().unwrap();
        if read(&path, last + 4, 1) == [1] {
            return killed;
        }
    }
    panic!("this machine is too slow to copy a store within a second");
}

#[tokio::test]
async fn a_cursor_that_somebody_made_up_is_refused_and_nothing_is_called_lost() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    let begun = [place_of(&store, FeedStart::Start).await, place_of(&store, FeedStart::Now).await];
    fill(&store, 0..3, 300).await;
    fill(&store, 3..6, 300).await;
    let (items, _) = read_feed(&store, place_of(&store, FeedStart::Start).await, 100).await;
    let mut refused = 0;
    for (item, bit) in items.iter().flat_map(|item| (0..24).map(move |bit| (item, bit))) {
        let mut bytes = item.cursor.0.clone();
        // Of the position, which ends there.
        bytes[9 - bit / 8] ^= 1 << (bit % 8);
        if let Err(error) = page_after(&store, &Cursor(bytes), up_to(1)).await {
            assert_eq!(error.kind(), Kind::CursorExpired, "bit {bit}: {error}");
            refused += 1;
        }
    }
    assert!(refused > items.len() * 20, "{refused} of {}", items.len() * 24);
    // Of another kind, at the same position: where no frame has begun, too.
    let given = begun.iter().chain(items.iter().map(|item| &item.cursor));
    for (cursor, kind) in given.flat_map(|cursor| (0..=u8::MAX).map(move |kind| (cursor, kind))) {
        let mut bytes = cursor.0.clone();
        bytes[1] = kind;
        if let Err(error) = page_after(&store, &Cursor(bytes), up_to(1)).await {
            assert!([Kind::CursorExpired, Kind::InvalidArgument].contains(&error.kind()), "kind {kind}: {error}");
        }
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_torn_last_group_that_nobody_was_told_of_is_new_again() {
    // The last frame's end is missing, as a power cut before its sync leaves it.
    let dir = killed().await;
    let path = segment(dir.path(), 1);
    let last = *frames(&path).last().unwrap();
    write(&path, last + FRAME_HEADER + HEAD + 64, &[0; 400]);
    let (store, report) = open(dir.path()).await;
    assert_eq!((report.left, report.messages), (Left::Unclean, 2), "{report}");
    assert_complete(&store, 0..2, 300).await;
    assert!(matches!(store.submit(numbered(2, 300)).await.unwrap(), Outcome::Accepted(_)));
    store.close().await.unwrap();
    let (store, _) = open(dir.path()).await;
    assert_complete(&store, 0..3, 300).await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_text_that_looks_like_a_frame_makes_no_torn_end_a_damage() {
    // What any client can know of the format, at every alignment.
    let text: String = (0..64).map(|shift| format!("{}MWfr\u{1}\u{1}\0\0", "x".repeat(shift % 16))).collect();
    let dir = killed_after(async |store| {
        fill(store, 0..1, 300).await;
        store.submit(message_saying("fake", &text)).await.unwrap();
    })
    .await;
    let path = segment(dir.path(), 1);
    // The last bytes of that very message are missing.
    let end = std::fs::read(&path).unwrap().iter().rposition(|byte| *byte != 0).unwrap() as u64;
    write(&path, end - 40, &[0; 41]);
    let (store, report) = open(dir.path()).await;
    assert_eq!(report.messages, 1, "{report}");
    assert!(report.lost.is_empty());
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_damaged_group_behind_which_others_were_acknowledged_is_refused_and_told() {
    // The header, a head, and both.
    for at in [20, FRAME_HEADER + 20] {
        let dir = killed().await;
        let path = segment(dir.path(), 1);
        flip(&path, FIRST_FRAME + at);
        let before = std::fs::read(&path).unwrap();
        let text = refusal(dir.path()).await;
        assert!(text.contains("segment 1 from byte 12288: 1 record"), "{text}");
        assert!(text.contains("--accept-loss") && text.contains("export"), "{text}");
        assert!(std::fs::read(&path).unwrap() == before, "changed");
        // What can be read is still given away.
        let (store, report) = open_for(dir.path(), Mode::Read).await;
        assert!(!report.lost.is_empty());
        assert_eq!(store.export(None, up_to(100)).await.unwrap().messages.len(), 2);
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_damaged_content_stops_nothing_and_its_id_stays_known() {
    let dir = killed().await;
    flip(&segment(dir.path(), 1), FIRST_FRAME + FRAME_HEADER + HEAD + 60);
    let (store, report) = open(dir.path()).await;
    assert_eq!(report.messages, 3);
    let lost = numbered(0, 300);
    match store.submit(lost.clone()).await.unwrap() {
        Outcome::Duplicate { fingerprint: None, .. } => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(kind(store.get(lost.key()).await), Kind::DataLoss);
    // A list goes on past it; the feed stops, and says where to go on.
    let listed = store.list(&sender("user"), None, up_to(10)).await.unwrap();
    assert_eq!(listed.messages.len(), 2);
    assert_eq!(store.export(None, up_to(10)).await.unwrap().messages.len(), 2);
    let mut follower = store.follow(FeedFrom::Start(FeedStart::Start), FeedOrder::Fast).await.unwrap();
    let error = follower.next(up_to(10)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::DataLoss);
    let cursor = cursor_in(&error);
    let rest = follow_after(&store, &cursor).await.unwrap().next(up_to(10)).await.unwrap();
    assert_eq!(rest.items.len(), 2);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_damaged_head_in_a_segment_with_runs_stops_nothing_and_its_id_stays_known() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    fill(&store, 0..1500, 1000).await;
    until("runs of the first segment", || runs(dir.path()).len() >= 2).await;
    store.close().await.unwrap();
    // A head in the middle of a group, and the header of another group.
    let path = segment(dir.path(), 1);
    let groups = frames(&path);
    // How many callers' messages a group has is the writer's decision, and stands in its header.
    let bytes = std::fs::read(&path).unwrap();
    let records = |group: usize| u32::from_le_bytes(bytes[groups[group] as usize + 12..][..4].try_into().unwrap());
    let first = (1..groups.len()).find(|group| records(*group) > 3).unwrap();
    let second = (first + 2..groups.len()).find(|group| records(*group) > 3).unwrap();
    let in_second = records(second) as usize;
    flip(&path, groups[first] + FRAME_HEADER + 3 * (HEAD + 1136));
    flip(&path, groups[second] + 50);
    let (store, report) = open(dir.path()).await;
    assert!(report.lost.is_empty(), "{report}");
    let mut lost = 0;
    for number in 0..1500 {
        let sent = numbered(number, 1000);
        assert!(matches!(store.submit(sent.clone()).await.unwrap(), Outcome::Duplicate { .. }), "{number}");
        match store.get(sent.key()).await {
            Ok(Some(message)) => assert_eq!(message.content, *sent.content()),
            Ok(None) => panic!("{number} is absent"),
            Err(error) => {
                assert_eq!(error.kind(), Kind::DataLoss);
                lost += 1;
            }
        }
    }
    assert_eq!(lost, 1, "the head alone; a frame's header is not needed to find its records");
    // The feed says it, and goes on behind each loss until all that is whole was given.
    let (mut given, mut losses) = (0, 0);
    let mut follower = store.follow(FeedFrom::Start(FeedStart::Start), FeedOrder::Fast).await.unwrap();
    loop {
        match follower.next(up_to(1000)).await {
            Ok(page) if page.items.is_empty() => break,
            Ok(page) => given += page.items.len(),
            Err(error) => {
                assert_eq!(error.kind(), Kind::DataLoss);
                losses += 1;
                follower = follow_after(&store, &cursor_in(&error)).await.unwrap();
            }
        }
    }
    assert_eq!(losses, 2);
    // A damaged header takes its group from the feed.
    assert_eq!(given, 1500 - 1 - in_second);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_damaged_page_of_the_index_never_says_absent() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    fill(&store, 0..3000, 1000).await;
    until("runs of two segments", || runs(dir.path()).len() >= 4).await;
    store.close().await.unwrap();
    for name in runs(dir.path()) {
        let copy = as_killed(dir.path());
        flip(&copy.path().join("index").join(name), 4096 + 100);
        let (store, _) = open(copy.path()).await;
        for number in 0..3000 {
            match store.submit(numbered(number, 1000)).await {
                Ok(Outcome::Duplicate { .. }) => {}
                Ok(Outcome::Accepted(_)) => panic!("{number} accepted twice"),
                Err(error) => assert_eq!(error.kind(), Kind::StoreUnavailable),
            }
        }
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_log_without_its_newest_segment_is_refused() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    fill(&store, 0..3000, 1000).await;
    store.close().await.unwrap();
    // The newest with frames; the one that is made ahead has none.
    let all = (1..).take_while(|number| segment(dir.path(), *number).exists());
    let newest = all.filter(|number| !frames(&segment(dir.path(), *number)).is_empty()).last().unwrap();
    assert!(newest > 2);
    for number in [newest, newest - 1, 1] {
        let copy = as_killed(dir.path());
        std::fs::remove_file(segment(copy.path(), number)).unwrap();
        let ahead = segment(copy.path(), newest + 1);
        if ahead.exists() {
            std::fs::remove_file(ahead).unwrap();
        }
        let text = refusal(copy.path()).await;
        assert!(text.contains(&format!("segment {number} ")), "{text}");
    }
}

#[tokio::test]
async fn both_headers_of_the_newest_segment_may_be_gone_while_its_messages_are_there() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    fill(&store, 0..2000, 1000).await;
    store.close().await.unwrap();
    let all = (1..).take_while(|number| segment(dir.path(), *number).exists());
    let newest = all.filter(|number| !frames(&segment(dir.path(), *number)).is_empty()).last().unwrap();
    write(&segment(dir.path(), newest), 0, &[0; 8192]);
    for mode in [Mode::Read, Mode::AcceptLoss, Mode::Serve] {
        let (store, report) = open_for(dir.path(), mode).await;
        assert!(report.lost.is_empty(), "{report}");
        if mode != Mode::Read {
            assert_complete(&store, 0..2000, 1000).await;
        }
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_damaged_page_of_the_index_is_made_anew_when_a_look_up_meets_it() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    fill(&store, 0..3000, 1000).await;
    until("runs of two segments", || runs(dir.path()).len() >= 4).await;
    store.close().await.unwrap();
    let name = runs(dir.path()).into_iter().find(|name| name.starts_with("ids-")).unwrap();
    flip(&dir.path().join("index").join(name), 4096 + 100);
    let (store, _) = open(dir.path()).await;
    for number in 0..3000 {
        let begun = std::time::Instant::now();
        while let Err(error) = store.submit(numbered(number, 1000)).await.map(|outcome| {
            assert!(matches!(outcome, Outcome::Duplicate { .. }), "{number} accepted twice");
        }) {
            assert_eq!(error.kind(), Kind::StoreUnavailable);
            assert!(begun.elapsed() < PATIENCE, "{number} stays unknown");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_log_that_is_gone_while_its_index_is_there_is_no_new_store() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    fill(&store, 0..2500, 1000).await;
    until("a run", || !runs(dir.path()).is_empty()).await;
    store.close().await.unwrap();
    std::fs::remove_dir_all(dir.path().join("log")).unwrap();
    for mode in [Mode::Serve, Mode::AcceptLoss] {
        let opened = try_open(Options { mode, ..Options::new(dir.path()) }).await;
        assert!(opened.err().unwrap().to_string().contains("the log is missing"));
    }
}

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> Kind {
    result.unwrap_err().kind()
}

/// The cursor in the text of a loss.
pub fn cursor_in(error: &Error) -> message_webhook::store::Cursor {
    let text = error.public_message();
    message_webhook::store::Cursor::parse(text.split('\'').nth(1).unwrap()).unwrap()
}

#[test]
fn a_segment_is_named_as_the_documents_say() {
    assert!(segment(Path::new("data"), 7).ends_with("log/0000000007.log"));
}

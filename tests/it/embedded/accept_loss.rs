//! What is left when the operator goes on with `--accept-loss`.

use std::{collections::BTreeSet, fs, path::Path};

use message_webhook::store::{
    FeedStart, MessageStore, Outcome,
    embedded::{EmbeddedStore, Left},
};

use super::tools::*;
use crate::conformance::fixture::{key, new_key, page_after, place_of, read_feed, sender, sid, sids, up_to};

const BYTES: usize = 500;

/// What of the messages is left; each is found everywhere or nowhere.
async fn left(store: &EmbeddedStore, messages: usize) -> BTreeSet<usize> {
    let start = place_of(store, FeedStart::Start).await;
    let (fed, _) = read_feed(store, start, 50).await;
    let fed: BTreeSet<_> = sids(&fed).into_iter().map(str::to_owned).collect();
    let listed = store.list(&sender("user"), None, up_to(10_000)).await.unwrap().messages;
    let listed: BTreeSet<_> = listed.iter().map(|message| sid(message).to_owned()).collect();
    assert_eq!(fed, listed);
    let mut left = BTreeSet::new();
    for number in 0..messages {
        let kept = store.get(&key(&format!("m{number}"))).await.unwrap();
        assert_eq!(kept.is_some(), fed.contains(&format!("m{number}")), "m{number}");
        if let Some(kept) = kept {
            assert_eq!(kept.content, *numbered(number, BYTES).content());
            left.insert(number);
        }
    }
    left
}

/// Goes on with a damaged store; afterwards it is as good as any other.
async fn go_on(dir: &Path, messages: usize) -> BTreeSet<usize> {
    let (store, report) = accept_loss(dir).await;
    assert!(report.to_string().contains(", LOST: "), "{report}");
    let kept = left(&store, messages).await;
    let lost: Vec<_> = (0..messages).filter(|number| !kept.contains(number)).collect();
    for number in &lost {
        assert!(matches!(store.submit(numbered(*number, BYTES)).await.unwrap(), Outcome::Accepted(_)));
    }
    fill(&store, messages..messages + 20, BYTES).await;
    drop(store);
    // The loss was accepted once and for all.
    for close in [true, false] {
        let (store, report) = open(dir).await;
        assert_eq!(report.messages, messages as u64 + 20, "{report}");
        assert_complete(&store, 0..messages + 20, BYTES).await;
        if close {
            store.close().await.unwrap();
        }
    }
    let (_, report) = open(dir).await;
    assert_eq!(report.left, Left::Unclean);
    kept
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_hole_in_the_journal_what_stood_before_it_is_left() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    fill(&store, 0..200, BYTES).await;
    eventually("the mark knows all", || marked(dir.path()) == 200).await;
    drop(store);
    let journal = &journals(dir.path())[0];
    let length = content_length(journal);
    punch(journal, length / 2..length / 2 + 4096);
    let kept = go_on(dir.path(), 200).await;
    assert!((60..140).contains(&kept.len()), "{}", kept.len());
    assert_eq!(kept, (0..kept.len()).collect());
    // The journals lie where the error said.
    let copies = files(dir.path(), |path| path.contains("/journals-") && path.ends_with(".jnl"));
    assert!(!copies.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_hole_in_a_table_of_messages_all_its_other_messages_are_left() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    fill(&store, 0..300, BYTES).await;
    store.flush_now().unwrap();
    fill(&store, 300..320, BYTES).await;
    drop(store);
    let table = &tables(dir.path(), 1)[0];
    let length = fs::metadata(table).unwrap().len() as usize;
    punch(table, length / 2..length / 2 + 1000);
    let kept = go_on(dir.path(), 320).await;
    assert!((270..320).contains(&kept.len()), "{}", kept.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_hole_in_a_table_of_an_index_every_message_is_left() {
    for keyspace in [2, 3] {
        let dir = tempdir();
        let (store, _) = open(dir.path()).await;
        fill(&store, 0..300, BYTES).await;
        store.flush_now().unwrap();
        fill(&store, 300..320, BYTES).await;
        drop(store);
        let table = &tables(dir.path(), keyspace)[0];
        let length = fs::metadata(table).unwrap().len() as usize;
        punch(table, length / 8..length / 8 + 500);
        assert_eq!(go_on(dir.path(), 320).await.len(), 320);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_mark_every_message_is_left() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    fill(&store, 0..50, BYTES).await;
    drop(store);
    fs::remove_file(dir.path().join("mark")).unwrap();
    assert_eq!(go_on(dir.path(), 50).await.len(), 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_who_saw_what_was_lost_misses_nothing_that_is_accepted_later() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    fill(&store, 0..100, BYTES).await;
    eventually("the mark knows all", || marked(dir.path()) == 100).await;
    let seen = place_of(&store, FeedStart::Now).await;
    let start = place_of(&store, FeedStart::Start).await;
    let early = page_after(&store, &start, up_to(3)).await.unwrap().next;
    drop(store);
    let journal = &journals(dir.path())[0];
    let length = content_length(journal);
    punch(journal, length / 2..length);
    refusal(dir.path()).await;
    let (store, _) = accept_loss(dir.path()).await;
    fill(&store, 500..510, BYTES).await;
    let (items, _) = read_feed(&store, seen, 4).await;
    assert_eq!(sids(&items), (500..510).map(|number| format!("m{number}")).collect::<Vec<_>>());
    let (items, _) = read_feed(&store, early, 7).await;
    assert_eq!(sids(&items).first(), Some(&"m3"));
    assert_eq!(sids(&items).last(), Some(&"m509"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_are_left_go_on_and_lost_ones_are_said() {
    let dir = tempdir();
    let (store, _) = open(dir.path()).await;
    let (first, second) = (new_key("acme"), new_key("acme"));
    store.create_key(first.clone()).await.unwrap();
    let before = content_length(&journals(dir.path())[0]);
    store.create_key(second.clone()).await.unwrap();
    drop(store);
    let journal = &journals(dir.path())[0];
    punch(journal, before..content_length(journal));
    let (store, report) = accept_loss(dir.path()).await;
    assert!(report.to_string().contains("LOST: the last 1 changes of API keys are missing"), "{report}");
    assert_eq!(store.key(&first.id).await.unwrap(), Some(first));
    assert_eq!(store.key(&second.id).await.unwrap(), None);
    let third = new_key("acme");
    store.create_key(third.clone()).await.unwrap();
    drop(store);
    let (store, _) = open(dir.path()).await;
    assert_eq!(store.key(&third.id).await.unwrap(), Some(third));
}

//! Out of one store and into another.

use std::{collections::BTreeSet, time::Duration};

use message_webhook::{
    domain::{Clock, Kind, Message, NewMessage, TraceParent},
    store::{
        FeedFrom, FeedStart, FeedStore, ImportInto, Imported, MessageStore, Outcome, PageLimit, PageToken,
        TransferStore,
    },
};

use super::{names, submit_numbered};
use crate::conformance::fixture::*;

const SILENT: ImportInto = ImportInto::Messages;
const LOUD: ImportInto = ImportInto::MessagesAndFeed;
const DAY: Duration = Duration::from_hours(24);

/// `message`, as it was accepted so long ago.
fn aged(f: &impl Fixture, message: NewMessage, age: Duration) -> Message {
    message.into_message(f.clock().now().saturating_sub(age))
}

async fn import(f: &impl Fixture, messages: &[Message], into: ImportInto) -> Vec<Imported> {
    f.store().import(messages.to_vec(), into).await.unwrap()
}

/// Everything, in pages of `page` messages.
async fn export_all(f: &impl Fixture, page: usize) -> Vec<Message> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = f.store().export(after.as_ref(), up_to(page)).await.unwrap();
        all.extend(page.messages);
        after = Some(page.next);
        if page.is_last {
            return all;
        }
    }
}

pub async fn an_imported_message_keeps_its_acceptance_and_is_known_to_its_sender(f: impl Fixture) {
    submit_numbered(&f, 0..1).await;
    for into in [SILENT, LOUD] {
        let sent = message_saying(&format!("old-{into:?}"), "Hello");
        let old = aged(&f, sent.clone(), 10 * DAY);
        assert_eq!(import(&f, std::slice::from_ref(&old), into).await, [Imported::Taken]);
        assert_eq!(f.store().get(sent.key()).await.unwrap(), Some(old.clone()));
        let (first, fingerprint) = duplicate(f.store().submit(sent.clone()).await.unwrap());
        assert_eq!(first.accepted_at, old.accepted_at);
        assert_eq!(first.duplicates_until, old.accepted_at.saturating_add(RETENTION));
        assert!(fingerprint.unwrap().matches(sent.fingerprint()));
        let listed = f.store().list(&sender("user"), None, up_to(10)).await.unwrap();
        assert!(listed.messages.contains(&old), "{into:?}");
    }
    // What is accepted afterwards is accepted now, whatever was imported.
    let acceptance = accepted(f.store().submit(message("new")).await.unwrap());
    assert!(f.clock().now().as_micros() - acceptance.accepted_at.as_micros() < 60_000_000);
}

pub async fn the_trace_context_of_a_submission_is_kept_wherever_its_message_is_read(f: impl Fixture) {
    let context: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
    let other: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-b7ad6b7169203331-00".parse().unwrap();
    accepted(f.store().submit(message("traced").traced(Some(context))).await.unwrap());
    // A duplicate's is not kept, and it is no part of the content.
    let (_, fingerprint) = duplicate(f.store().submit(message("traced").traced(Some(other))).await.unwrap());
    assert!(fingerprint.unwrap().matches(message("traced").fingerprint()));
    let imported = aged(&f, message("imported").traced(Some(other)), DAY);
    assert_eq!(import(&f, std::slice::from_ref(&imported), LOUD).await, [Imported::Taken]);
    let contexts = |messages: Vec<Message>| -> BTreeSet<_> {
        messages
            .into_iter()
            .map(|message| (message.key.sid.as_str().to_owned(), message.traceparent.unwrap().to_string()))
            .collect()
    };
    let kept: BTreeSet<_> = [("traced", context), ("imported", other)]
        .map(|(sid, kept)| (key(sid).sid.as_str().to_owned(), kept.to_string()))
        .into();
    let mut found = Vec::new();
    for sid in ["traced", "imported"] {
        found.extend(f.store().get(&key(sid)).await.unwrap());
    }
    assert_eq!(contexts(found), kept);
    let listed = f.store().list(&sender("user"), None, up_to(10)).await.unwrap();
    assert_eq!(contexts(listed.messages), kept);
    assert_eq!(contexts(export_all(&f, 10).await), kept);
    for order in ORDERS {
        let mut follower = f.store().follow(FeedFrom::Start(FeedStart::Start), order).await.unwrap();
        let items = take(&mut *follower, 2).await;
        assert_eq!(contexts(items.into_iter().map(|item| item.message).collect()), kept, "{order:?}");
    }
}

pub async fn the_feed_has_imported_messages_only_if_that_is_wanted(f: impl Fixture) {
    submit_numbered(&f, 0..1).await;
    let silent: Vec<_> = (0..40).map(|number| aged(&f, message(&format!("silent{number}")), 3 * DAY)).collect();
    let loud: Vec<_> = (0..2).map(|number| aged(&f, message(&format!("loud{number}")), 2 * DAY)).collect();
    assert_eq!(import(&f, &silent, SILENT).await, vec![Imported::Taken; 40]);
    assert_eq!(import(&f, &loud, LOUD).await, vec![Imported::Taken; 2]);
    submit_numbered(&f, 1..2).await;
    f.settle().await;
    let start = place_of(&**f.store(), FeedStart::Start).await;
    for limit in [up_to(100), up_to(1), PageLimit { messages: 100, bytes: 300 }] {
        let mut follower = follow_after(&**f.store(), &start).await.unwrap();
        let mut items = Vec::new();
        loop {
            let page = follower.next(limit).await.unwrap();
            if page.items.is_empty() {
                break;
            }
            items.extend(page.items);
        }
        assert_eq!(sids(&items), ["m0", "loud0", "loud1", "m1"]);
        assert_eq!(items[1].message, loud[0]);
    }
}

pub async fn an_import_that_is_repeated_changes_nothing_and_what_is_there_stays(f: impl Fixture) {
    let old = aged(&f, message_saying("m1", "one"), DAY);
    assert_eq!(import(&f, &[old.clone(), old.clone()], SILENT).await, [Imported::Taken, Imported::Present]);
    assert_eq!(import(&f, std::slice::from_ref(&old), LOUD).await, [Imported::Present]);
    // Neither another time nor another content replaces it.
    let later = Message { accepted_at: old.accepted_at.saturating_add(Duration::from_secs(1)), ..old.clone() };
    let other = Message { content: message_saying("m1", "two").content().clone(), ..old.clone() };
    assert_eq!(import(&f, &[later, other], SILENT).await, [Imported::Conflict; 2]);
    assert_eq!(f.store().get(&key("m1")).await.unwrap(), Some(old));
    submit_numbered(&f, 2..3).await;
    let kept = f.store().get(&key("m2")).await.unwrap();
    assert_eq!(import(&f, &[aged(&f, message("m2"), DAY)], LOUD).await, [Imported::Conflict]);
    assert_eq!(f.store().get(&key("m2")).await.unwrap(), kept);
    f.settle().await;
    let start = place_of(&**f.store(), FeedStart::Start).await;
    assert_eq!(sids(&read_feed(&**f.store(), start, 10).await.0), ["m2"]);
}

pub async fn an_imported_message_lives_for_what_was_left_of_its_retention(f: impl Fixture) {
    submit_numbered(&f, 0..1).await;
    let hour = Duration::from_hours(1);
    let almost = [false, true].map(|to_feed| aged(&f, message(&format!("almost-{to_feed}")), RETENTION - hour));
    let past = aged(&f, message("past"), RETENTION + hour);
    assert_eq!(import(&f, &[almost[0].clone(), past.clone()], SILENT).await, [Imported::Taken, Imported::Expired]);
    assert_eq!(import(&f, &[almost[1].clone(), past.clone()], LOUD).await, [Imported::Taken, Imported::Expired]);
    assert!(f.store().get(&past.key).await.unwrap().is_none());
    for there in [true, false] {
        for old in &almost {
            assert_eq!(f.store().get(&old.key).await.unwrap().is_some(), there);
            let listed = f.store().list(&sender("user"), None, up_to(10)).await.unwrap();
            assert_eq!(listed.messages.contains(old), there);
            assert_eq!(export_all(&f, 10).await.contains(old), there);
        }
        f.clock().advance(hour);
    }
    // What is younger is still there, and the feed goes on over what is gone.
    assert!(f.store().get(&key("m0")).await.unwrap().is_some());
    f.settle().await;
    let start = place_of(&**f.store(), FeedStart::Start).await;
    assert_eq!(sids(&read_feed(&**f.store(), start, 10).await.0), ["m0"]);
}

pub async fn imports_race_with_submissions_and_each_sid_is_accepted_once(f: impl Fixture) {
    let sids: Vec<String> = (0..60).map(|number| format!("m{number}")).collect();
    let old: Vec<_> = sids.iter().map(|sid| aged(&f, message(sid), DAY)).collect();
    let submitting = async {
        let mut accepted = Vec::new();
        for sid in &sids {
            accepted.push(matches!(f.store().submit(message(sid)).await.unwrap(), Outcome::Accepted(_)));
        }
        accepted
    };
    let importing = async {
        let mut taken = Vec::new();
        for some in old.chunks(7) {
            taken.extend(import(&f, some, LOUD).await.into_iter().map(|imported| imported == Imported::Taken));
        }
        taken
    };
    let (accepted, taken) = tokio::join!(submitting, importing);
    for (number, sid) in sids.iter().enumerate() {
        assert!(accepted[number] != taken[number], "{sid}");
        let kept = f.store().get(&key(sid)).await.unwrap().unwrap();
        assert_eq!(kept.accepted_at == old[number].accepted_at, taken[number], "{sid}");
    }
    f.settle().await;
    let start = place_of(&**f.store(), FeedStart::Start).await;
    let (items, _) = read_feed(&**f.store(), start, 10).await;
    let fed: BTreeSet<_> = items.iter().map(|item| item.message.key.sid.as_str()).collect();
    assert_eq!((items.len(), fed.len()), (60, 60));
}

pub async fn an_export_has_everything_that_is_kept_page_by_page(f: impl Fixture) {
    assert_eq!(export_all(&f, 10).await, []);
    submit_numbered(&f, 0..30).await;
    let silent: Vec<_> = (0..10).map(|number| aged(&f, message(&format!("silent{number}")), DAY)).collect();
    import(&f, &silent, SILENT).await;
    for page in [1, 7, 1000] {
        let all = export_all(&f, page).await;
        let sids: BTreeSet<_> = all.iter().map(|message| message.key.sid.as_str()).collect();
        assert_eq!((all.len(), sids.len()), (40, 40), "pages of {page}");
        assert!(silent.iter().all(|silent| all.contains(silent)));
        for message in &all {
            assert_eq!(f.store().get(&message.key).await.unwrap().as_ref(), Some(message));
        }
    }
    // By bytes, too: a message that is larger comes alone.
    let page = f.store().export(None, PageLimit { messages: 100, bytes: 1 }).await.unwrap();
    assert_eq!((page.messages.len(), page.is_last), (1, false));
    // A place is good after a restart.
    let f = f.reopen().await;
    let (mut rest, mut after) = (page.messages, page.next);
    loop {
        let page = f.store().export(Some(&after), up_to(9)).await.unwrap();
        rest.extend(page.messages);
        after = page.next;
        if page.is_last {
            break;
        }
    }
    assert_eq!(rest.len(), 40);
}

pub async fn an_export_imported_elsewhere_makes_the_same_store<F: Fixture>(f: F) {
    submit_numbered(&f, 0..20).await;
    let all = export_all(&f, 6).await;
    let other = F::new().await;
    for page in all.chunks(6) {
        assert_eq!(import(&other, page, LOUD).await, vec![Imported::Taken; page.len()]);
    }
    let mut again = export_all(&other, 100).await;
    let mut all = all;
    for each in [&mut all, &mut again] {
        each.sort_by(|a, b| a.key.sid.as_str().cmp(b.key.sid.as_str()));
    }
    assert_eq!(again, all);
    other.settle().await;
    let start = place_of(&**other.store(), FeedStart::Start).await;
    assert_eq!(read_feed(&**other.store(), start, 10).await.0.len(), 20);
    // Without the feed each message is where its acceptance puts it.
    let silent = F::new().await;
    import(&silent, &export_all(&f, 100).await, SILENT).await;
    let listed = silent.store().list(&sender("user"), None, up_to(100)).await.unwrap();
    assert_eq!(names(&listed.messages), (0..20).rev().map(|number| format!("m{number}")).collect::<Vec<_>>());
}

pub async fn a_place_of_another_export_or_of_nobody_is_refused<F: Fixture>(f: F) {
    let other = F::new().await;
    submit_numbered(&f, 0..3).await;
    submit_numbered(&other, 0..3).await;
    let foreign = other.store().export(None, up_to(1)).await.unwrap().next;
    for place in [foreign, PageToken([].into()), PageToken([7; 26].into()), PageToken([0; 64].into())] {
        let error = f.store().export(Some(&place), up_to(1)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
    }
}

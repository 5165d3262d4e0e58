//! The promises, each as a function over any store: messages and the store's life here, the feed and the keys beside.

mod feed;
mod keys;
mod transfer;

use std::{sync::Arc, time::Duration};

use message_webhook::{
    domain::{Environment, FromId, Kind, NewMessage, Timestamp},
    store::{
        FeedFrom, FeedOrder, FeedStart, FeedStore, ImportInto, KeyStore, Lifecycle, MessageStore, Outcome, PageToken,
        TransferStore,
    },
};

use super::fixture::*;

/// Makes a test of every promise for the fixture type that is named.
macro_rules! conformance_suite {
    ($fixture:ty) => {
        $crate::conformance::behaviours::conformance_suite!(@tests $fixture:
            an_accepted_message_is_read_back_as_it_was_sent,
            every_form_of_message_is_kept_exactly,
            the_times_of_an_acceptance_are_the_clocks_and_the_retentions,
            a_repetition_is_a_duplicate_with_the_first_acceptance,
            a_duplicate_tells_the_fingerprint_of_what_was_accepted_first,
            a_thousand_concurrent_submissions_of_one_sid_are_accepted_once,
            repetitions_race_with_new_messages_and_each_is_accepted_once,
            orgs_and_environments_do_not_see_each_other,
            an_unknown_message_is_none_and_no_error,
            a_submission_goes_on_when_its_future_is_dropped,
            a_list_shows_the_newest_first_page_by_page,
            pages_do_not_shift_when_messages_arrive,
            a_list_is_of_one_sender_in_one_org_and_environment,
            a_token_of_another_store_or_of_nobody_is_refused,
            the_feed_is_in_the_order_of_acceptance_and_complete,
            the_feed_goes_on_from_any_items_cursor,
            a_page_keeps_to_its_limits,
            a_message_larger_than_the_byte_limit_comes_alone,
            the_feed_begins_at_the_start_now_or_a_time,
            the_feed_finds_a_time_though_the_clock_went_back,
            an_empty_feed_gives_an_empty_page_to_go_on_from,
            a_cursor_of_another_store_or_of_nobody_is_refused,
            a_cursor_is_at_most_64_bytes,
            a_page_of_no_messages_only_checks_the_place,
            a_fast_reader_finds_all_that_was_accepted_before_it_began,
            a_reader_repeats_nothing_by_itself_in_either_order,
            the_cursors_of_one_order_are_good_in_the_other,
            a_reader_of_the_feed_is_woken_by_a_message,
            a_duplicate_is_not_in_the_feed,
            a_cursor_before_expired_messages_is_expired_and_no_gap_is_silent,
            a_cursor_at_the_newest_message_never_expires,
            an_expired_message_is_absent_everywhere,
            an_expired_sid_is_accepted_anew,
            what_is_forgotten_stays_absent_and_what_is_not_stays,
            a_message_lives_to_the_end_of_its_retention,
            messages_keys_and_cursors_outlive_a_close,
            an_imported_message_keeps_its_acceptance_and_is_known_to_its_sender,
            the_feed_has_imported_messages_only_if_that_is_wanted,
            an_import_that_is_repeated_changes_nothing_and_what_is_there_stays,
            an_imported_message_lives_for_what_was_left_of_its_retention,
            imports_race_with_submissions_and_each_sid_is_accepted_once,
            the_trace_context_of_a_submission_is_kept_wherever_its_message_is_read,
            an_export_has_everything_that_is_kept_page_by_page,
            an_export_imported_elsewhere_makes_the_same_store,
            a_place_of_another_export_or_of_nobody_is_refused,
            a_created_key_is_found_and_listed,
            a_key_keeps_its_own_rate_and_origins,
            a_key_cannot_be_created_twice,
            a_revocation_keeps_its_first_time,
            the_use_of_keys_is_noted,
            a_closed_store_says_so_in_every_method,
            a_close_finishes_what_was_submitted,
            a_close_wakes_the_readers_of_the_feed,
            an_open_store_is_healthy,
        );
    };
    (@tests $fixture:ty: $($promise:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                use $crate::conformance::fixture::Fixture;
                if <$fixture>::is_there() {
                    $crate::conformance::behaviours::$promise(<$fixture>::new().await).await;
                }
            }
        )+
    };
}
pub(crate) use conformance_suite;
pub use feed::*;
pub use keys::*;
pub use transfer::*;

pub async fn an_accepted_message_is_read_back_as_it_was_sent(f: impl Fixture) {
    let sent = message_saying("m1", "Here is my meal, this is gruyere cheese btw.");
    let acceptance = accepted(f.store().submit(sent.clone()).await.unwrap());
    let read = f.store().get(&key("m1")).await.unwrap().unwrap();
    assert_eq!(read, sent.into_message(acceptance.accepted_at));
}

pub async fn every_form_of_message_is_kept_exactly(f: impl Fixture) {
    let long = "x".repeat(255);
    let large = "ä".repeat(128 * 1024);
    let forms = [
        (None, None),
        (Some(""), None),
        (Some("\0 any \u{10FFFF} text \r\n"), Some(image())),
        (Some(large.as_str()), None),
        (None, Some(audio())),
    ];
    for (number, (body, media)) in forms.into_iter().enumerate() {
        let mut content = content("user", body);
        // As long as can be.
        content.from_id = FromId::new(&*long).unwrap();
        content.body = body.map(str::to_owned);
        content.media = media;
        content.timestamp = Timestamp::parse("9999-12-31T23:59:59.999999Z").unwrap();
        let key = key_of(&"o".repeat(63), Environment::Prod, &format!("{number}{}", "s".repeat(254 - PLANTED.len())));
        let sent = NewMessage::new(key.clone(), content);
        let acceptance = accepted(f.store().submit(sent.clone()).await.unwrap());
        let expected = sent.into_message(acceptance.accepted_at);
        assert_eq!(f.store().get(&key).await.unwrap().as_ref(), Some(&expected));
        let listed = f.store().list(&expected.sender(), None, up_to(1)).await.unwrap();
        assert_eq!(listed.messages, std::slice::from_ref(&expected));
        f.settle().await;
        let cursor = place_of(&**f.store(), FeedStart::Start).await;
        let (items, _) = read_feed(&**f.store(), cursor, 100).await;
        assert_eq!(items.last().unwrap().message, expected);
    }
}

pub async fn the_times_of_an_acceptance_are_the_clocks_and_the_retentions(f: impl Fixture) {
    use message_webhook::domain::Clock;
    // A clock that stands still leaves one value.
    let before = f.clock().now();
    let acceptance = accepted(f.store().submit(message("m1")).await.unwrap());
    assert!((before..=f.clock().now()).contains(&acceptance.accepted_at), "{acceptance:?}");
    assert_eq!(acceptance.duplicates_until, acceptance.accepted_at.saturating_add(RETENTION));
}

pub async fn a_repetition_is_a_duplicate_with_the_first_acceptance(f: impl Fixture) {
    let first = accepted(f.store().submit(message("m1")).await.unwrap());
    for _ in 0..3 {
        f.clock().advance(Duration::from_secs(60));
        let (known, _) = duplicate(f.store().submit(message("m1")).await.unwrap());
        assert_eq!(known, first);
    }
}

pub async fn a_duplicate_tells_the_fingerprint_of_what_was_accepted_first(f: impl Fixture) {
    let (original, other) = (message_saying("m1", "one"), message_saying("m1", "two"));
    accepted(f.store().submit(original.clone()).await.unwrap());
    let (_, known) = duplicate(f.store().submit(other.clone()).await.unwrap());
    let known = known.unwrap();
    assert!(known.matches(original.fingerprint()) && !known.matches(other.fingerprint()));
    let kept = f.store().get(&key("m1")).await.unwrap().unwrap();
    assert_eq!(kept.content.body.as_ref(), original.content().body.as_ref());
}

pub async fn a_thousand_concurrent_submissions_of_one_sid_are_accepted_once(f: impl Fixture) {
    let submissions: Vec<_> = (0..1000)
        .map(|_| {
            let store = Arc::clone(f.store());
            tokio::spawn(async move { store.submit(message("m1")).await.unwrap() })
        })
        .collect();
    let mut outcomes = Vec::new();
    for submission in submissions {
        outcomes.push(submission.await.unwrap());
    }
    let (accepted, duplicates): (Vec<_>, Vec<_>) =
        outcomes.into_iter().partition(|outcome| matches!(outcome, Outcome::Accepted(_)));
    assert_eq!((accepted.len(), duplicates.len()), (1, 999));
    f.settle().await;
    let cursor = place_of(&**f.store(), FeedStart::Start).await;
    assert_eq!(read_feed(&**f.store(), cursor, 10).await.0.len(), 1);
}

pub async fn repetitions_race_with_new_messages_and_each_is_accepted_once(f: impl Fixture) {
    let submissions: Vec<_> = (0..2000)
        .map(|number| {
            let store = Arc::clone(f.store());
            let sid = format!("m{}", number % 500);
            tokio::spawn(async move { matches!(store.submit(message(&sid)).await.unwrap(), Outcome::Accepted(_)) })
        })
        .collect();
    let mut accepted = 0;
    for submission in submissions {
        accepted += usize::from(submission.await.unwrap());
    }
    assert_eq!(accepted, 500);
    f.settle().await;
    let cursor = place_of(&**f.store(), FeedStart::Start).await;
    let (items, _) = read_feed(&**f.store(), cursor, 64).await;
    let mut kept = sids(&items);
    kept.sort_unstable();
    kept.dedup();
    assert_eq!((items.len(), kept.len()), (500, 500));
}

pub async fn orgs_and_environments_do_not_see_each_other(f: impl Fixture) {
    let worlds = [
        ("acme", Environment::Dev),
        ("acme", Environment::Prod),
        ("ACME", Environment::Dev),
        ("acm", Environment::Dev),
    ];
    for (org, env) in worlds {
        assert!(f.store().get(&key_of(org, env, "m1")).await.unwrap().is_none());
        accepted(f.store().submit(message_of(org, env, "user", "m1")).await.unwrap());
    }
    for (org, env) in worlds {
        let read = f.store().get(&key_of(org, env, "m1")).await.unwrap().unwrap();
        assert_eq!(read.key, key_of(org, env, "m1"));
        let page = f.store().list(&sender_of(org, env, "user"), None, up_to(10)).await.unwrap();
        assert_eq!(page.messages, [read]);
    }
}

pub async fn an_unknown_message_is_none_and_no_error(f: impl Fixture) {
    accepted(f.store().submit(message("m1")).await.unwrap());
    assert!(f.store().get(&key("m2")).await.unwrap().is_none());
    let page = f.store().list(&sender("nobody"), None, up_to(10)).await.unwrap();
    assert!(page.messages.is_empty() && page.next.is_none());
}

pub async fn a_submission_goes_on_when_its_future_is_dropped(f: impl Fixture) {
    let mut before = f.store().follow(FeedFrom::Start(FeedStart::Now), FeedOrder::Fast).await.unwrap();
    {
        let mut submission = Box::pin(f.store().submit(message("m1")));
        // Polled once, so that it is under way, and then dropped.
        let polled = std::future::poll_fn(|context| {
            std::task::Poll::Ready(submission.as_mut().poll(context).map(Result::unwrap))
        });
        let _ = polled.await;
    }
    assert_eq!(sids(&take(&mut *before, 1).await), ["m1"]);
    assert!(f.store().get(&key("m1")).await.unwrap().is_some());
    duplicate(f.store().submit(message("m1")).await.unwrap());
}

async fn submit_numbered(f: &impl Fixture, numbers: std::ops::Range<usize>) {
    for number in numbers {
        accepted(f.store().submit(message(&format!("m{number}"))).await.unwrap());
    }
}

fn names(messages: &[message_webhook::domain::Message]) -> Vec<&str> {
    messages.iter().map(sid).collect()
}

pub async fn a_list_shows_the_newest_first_page_by_page(f: impl Fixture) {
    submit_numbered(&f, 0..7).await;
    let first = f.store().list(&sender("user"), None, up_to(3)).await.unwrap();
    assert_eq!(names(&first.messages), ["m6", "m5", "m4"]);
    let second = f.store().list(&sender("user"), first.next.as_ref(), up_to(3)).await.unwrap();
    assert_eq!(names(&second.messages), ["m3", "m2", "m1"]);
    let third = f.store().list(&sender("user"), second.next.as_ref(), up_to(3)).await.unwrap();
    assert_eq!(names(&third.messages), ["m0"]);
    assert_eq!(third.next, None);
    let exact = f.store().list(&sender("user"), second.next.as_ref(), up_to(1)).await.unwrap();
    assert_eq!((names(&exact.messages), exact.next), (vec!["m0"], None));
}

pub async fn pages_do_not_shift_when_messages_arrive(f: impl Fixture) {
    submit_numbered(&f, 0..6).await;
    let first = f.store().list(&sender("user"), None, up_to(3)).await.unwrap();
    submit_numbered(&f, 6..20).await;
    let second = f.store().list(&sender("user"), first.next.as_ref(), up_to(3)).await.unwrap();
    assert_eq!(names(&second.messages), ["m2", "m1", "m0"]);
}

pub async fn a_list_is_of_one_sender_in_one_org_and_environment(f: impl Fixture) {
    let senders = [
        ("acme", Environment::Dev, "user"),
        ("acme", Environment::Dev, "use"),
        ("acme", Environment::Prod, "user"),
        ("other", Environment::Dev, "user"),
    ];
    for round in 0..3 {
        for (number, (org, env, from)) in senders.into_iter().enumerate() {
            let sid = format!("{round}-{number}");
            accepted(f.store().submit(message_of(org, env, from, &sid)).await.unwrap());
        }
    }
    for (number, (org, env, from)) in senders.into_iter().enumerate() {
        let page = f.store().list(&sender_of(org, env, from), None, up_to(100)).await.unwrap();
        assert_eq!(names(&page.messages), [2, 1, 0].map(|round| format!("{round}-{number}")));
    }
}

pub async fn a_token_of_another_store_or_of_nobody_is_refused<F: Fixture>(f: F) {
    let other = F::new().await;
    submit_numbered(&f, 0..3).await;
    submit_numbered(&other, 0..3).await;
    let foreign = other.store().list(&sender("user"), None, up_to(1)).await.unwrap().next.unwrap();
    let cursor = place_of(&**f.store(), FeedStart::Now).await;
    for token in [foreign, PageToken([].into()), PageToken([7; 26].into()), PageToken(cursor.0)] {
        let error = f.store().list(&sender("user"), Some(&token), up_to(1)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
    }
}

pub async fn an_expired_message_is_absent_everywhere(f: impl Fixture) {
    submit_numbered(&f, 0..3).await;
    f.clock().advance(RETENTION);
    for forgotten in [false, true] {
        if forgotten {
            f.forget_expired().await;
        }
        assert!(f.store().get(&key("m1")).await.unwrap().is_none(), "forgotten: {forgotten}");
        let page = f.store().list(&sender("user"), None, up_to(10)).await.unwrap();
        assert!(page.messages.is_empty() && page.next.is_none(), "forgotten: {forgotten}");
        f.settle().await;
        let start = place_of(&**f.store(), FeedStart::Start).await;
        assert!(page_after(&**f.store(), &start, up_to(10)).await.unwrap().items.is_empty(), "forgotten: {forgotten}");
    }
}

pub async fn an_expired_sid_is_accepted_anew<F: Fixture>(f: F) {
    if F::REMEMBERS_LONGER {
        return an_expired_sid_is_a_duplicate_of_nothing_that_can_be_read(f).await;
    }
    for forgotten in [false, true, false] {
        let sent = message_saying("m1", &format!("forgotten: {forgotten}"));
        let acceptance = accepted(f.store().submit(sent.clone()).await.unwrap());
        assert_eq!(f.store().get(&key("m1")).await.unwrap().unwrap(), sent.into_message(acceptance.accepted_at));
        let (known, _) = duplicate(f.store().submit(message("m1")).await.unwrap());
        assert_eq!(known, acceptance);
        f.clock().advance(RETENTION);
        if forgotten {
            f.forget_expired().await;
        }
    }
    accepted(f.store().submit(message("m1")).await.unwrap());
    f.forget_expired().await;
    // What was forgotten was the older message and not its successor's entry.
    assert!(f.store().get(&key("m1")).await.unwrap().is_some());
    duplicate(f.store().submit(message("m1")).await.unwrap());
}

async fn an_expired_sid_is_a_duplicate_of_nothing_that_can_be_read(f: impl Fixture) {
    let first = accepted(f.store().submit(message("m1")).await.unwrap());
    f.clock().advance(RETENTION);
    for _ in 0..2 {
        let (known, _) = duplicate(f.store().submit(message("m1")).await.unwrap());
        assert_eq!(known, first);
    }
    assert!(f.store().get(&key("m1")).await.unwrap().is_none());
}

pub async fn what_is_forgotten_stays_absent_and_what_is_not_stays(f: impl Fixture) {
    submit_numbered(&f, 0..100).await;
    f.clock().advance(RETENTION / 2);
    submit_numbered(&f, 100..200).await;
    f.clock().advance(RETENTION / 2);
    f.forget_expired().await;
    let f = f.reopen().await;
    for number in 0..200 {
        let found = f.store().get(&key(&format!("m{number}"))).await.unwrap();
        assert_eq!(found.is_some(), number >= 100, "m{number}");
    }
    let page = f.store().list(&sender("user"), None, up_to(1000)).await.unwrap();
    assert_eq!(page.messages.len(), 100);
    f.settle().await;
    let start = place_of(&**f.store(), FeedStart::Start).await;
    assert_eq!(read_feed(&**f.store(), start, 30).await.0.len(), 100);
}

pub async fn a_message_lives_to_the_end_of_its_retention<F: Fixture>(f: F) {
    accepted(f.store().submit(message("m1")).await.unwrap());
    f.clock().advance(RETENTION - F::AIM);
    f.forget_expired().await;
    assert!(f.store().get(&key("m1")).await.unwrap().is_some());
    duplicate(f.store().submit(message("m1")).await.unwrap());
}

pub async fn messages_keys_and_cursors_outlive_a_close(f: impl Fixture) {
    submit_numbered(&f, 0..5).await;
    let record = new_key("acme");
    f.store().create_key(record.clone()).await.unwrap();
    f.settle().await;
    let start = place_of(&**f.store(), FeedStart::Start).await;
    let items = page_after(&**f.store(), &start, up_to(3)).await.unwrap().items;
    let token = f.store().list(&sender("user"), None, up_to(2)).await.unwrap().next;
    let f = f.reopen().await;
    duplicate(f.store().submit(message("m4")).await.unwrap());
    assert_eq!(sids(&read_feed(&**f.store(), items[2].cursor.clone(), 10).await.0), ["m3", "m4"]);
    let page = f.store().list(&sender("user"), token.as_ref(), up_to(2)).await.unwrap();
    assert_eq!(names(&page.messages), ["m2", "m1"]);
    assert_eq!(f.store().key(&record.id).await.unwrap(), Some(record));
    submit_numbered(&f, 5..6).await;
    f.settle().await;
    let (items, _) = read_feed(&**f.store(), start, 10).await;
    assert_eq!(sids(&items).last(), Some(&"m5"));
}

pub async fn a_closed_store_says_so_in_every_method(f: impl Fixture) {
    submit_numbered(&f, 0..1).await;
    let cursor = place_of(&**f.store(), FeedStart::Start).await;
    let record = new_key("acme");
    f.store().create_key(record.clone()).await.unwrap();
    let mut follower = follow_after(&**f.store(), &cursor).await.unwrap();
    f.store().close().await.unwrap();
    let store = f.store();
    let at = Timestamp::EPOCH;
    let errors = [
        store.submit(message("m0")).await.map(drop).unwrap_err(),
        store.submit(message("m1")).await.map(drop).unwrap_err(),
        store.get(&key("m0")).await.map(drop).unwrap_err(),
        store.list(&sender("user"), None, up_to(1)).await.map(drop).unwrap_err(),
        follow_after(&**store, &cursor).await.map(drop).unwrap_err(),
        store.follow(FeedFrom::Start(FeedStart::Now), FeedOrder::Fast).await.map(drop).unwrap_err(),
        follower.next(up_to(1)).await.map(drop).unwrap_err(),
        follower.grown().await.unwrap_err(),
        store.create_key(new_key("acme")).await.unwrap_err(),
        store.key(&record.id).await.map(drop).unwrap_err(),
        store.keys(None).await.map(drop).unwrap_err(),
        store.revoke_key(&record.id, at).await.map(drop).unwrap_err(),
        store.touch_keys(vec![(record.id.clone(), at)]).await.unwrap_err(),
        store.export(None, up_to(1)).await.map(drop).unwrap_err(),
        store
            .import(vec![message("m2").into_message(Timestamp::EPOCH)], ImportInto::Messages)
            .await
            .map(drop)
            .unwrap_err(),
        store.check().await.unwrap_err(),
    ];
    for (number, error) in errors.iter().enumerate() {
        assert_eq!(error.kind(), Kind::StoreUnavailable, "{number}: {error:?}");
    }
    // A second close finds nothing to do.
    store.close().await.unwrap();
}

pub async fn a_close_finishes_what_was_submitted(f: impl Fixture) {
    let submissions: Vec<_> = (0..500)
        .map(|number| {
            let store = Arc::clone(f.store());
            tokio::spawn(async move { (number, store.submit(message(&format!("m{number}"))).await) })
        })
        .collect();
    tokio::task::yield_now().await;
    f.store().close().await.unwrap();
    let mut accepted = Vec::new();
    for submission in submissions {
        match submission.await.unwrap() {
            (number, Ok(_)) => accepted.push(number),
            (_, Err(error)) => assert_eq!(error.kind(), Kind::StoreUnavailable),
        }
    }
    let f = f.reopen().await;
    for number in accepted {
        assert!(f.store().get(&key(&format!("m{number}"))).await.unwrap().is_some(), "m{number}");
    }
}

pub async fn a_close_wakes_the_readers_of_the_feed(f: impl Fixture) {
    let mut readers = Vec::new();
    for order in ORDERS {
        let mut follower = f.store().follow(FeedFrom::Start(FeedStart::Now), order).await.unwrap();
        // It returns, or finds the store closed if it came later.
        readers.push(tokio::spawn(async move {
            while follower.grown().await.is_ok() && follower.next(up_to(1)).await.is_ok() {}
        }));
    }
    tokio::task::yield_now().await;
    f.store().close().await.unwrap();
    for reader in readers {
        tokio::time::timeout(PATIENCE, reader).await.unwrap().unwrap();
    }
}

pub async fn an_open_store_is_healthy(f: impl Fixture) {
    f.store().check().await.unwrap();
    submit_numbered(&f, 0..1).await;
    f.store().check().await.unwrap();
}

//! The feed and its cursors.

use std::{collections::BTreeSet, time::Duration};

use message_webhook::{
    domain::{Kind, Timestamp},
    store::{Cursor, FeedFrom, FeedOrder, FeedStart, FeedStore, MessageStore, PageLimit},
};

use super::{names, submit_numbered};
use crate::conformance::fixture::*;

/// Submits, and waits until it can be read in order.
async fn fill(f: &impl Fixture, numbers: std::ops::Range<usize>) {
    submit_numbered(f, numbers).await;
    f.settle().await;
}

pub async fn the_feed_is_in_the_order_of_acceptance_and_complete(f: impl Fixture) {
    fill(&f, 0..50).await;
    let start = place_of(&**f.store(), FeedStart::Start).await;
    for page in [1, 7, 50, 1000] {
        let (items, _) = read_feed(&**f.store(), start.clone(), page).await;
        assert_eq!(sids(&items), (0..50).map(|number| format!("m{number}")).collect::<Vec<_>>());
    }
}

pub async fn the_feed_goes_on_from_any_items_cursor(f: impl Fixture) {
    fill(&f, 0..10).await;
    let start = place_of(&**f.store(), FeedStart::Start).await;
    let (items, end) = read_feed(&**f.store(), start, 4).await;
    for (number, item) in items.iter().enumerate() {
        let (rest, _) = read_feed(&**f.store(), item.cursor.clone(), 3).await;
        assert_eq!(sids(&rest), sids(&items[number + 1..]));
    }
    fill(&f, 10..12).await;
    assert_eq!(sids(&read_feed(&**f.store(), end, 4).await.0), ["m10", "m11"]);
}

pub async fn a_page_keeps_to_its_limits(f: impl Fixture) {
    for number in 0..10 {
        let body = "x".repeat(1000);
        accepted(f.store().submit(message_saying(&format!("m{number}"), &body)).await.unwrap());
    }
    f.settle().await;
    let start = place_of(&**f.store(), FeedStart::Start).await;
    assert_eq!(page_after(&**f.store(), &start, up_to(4)).await.unwrap().items.len(), 4);
    let page = page_after(&**f.store(), &start, PageLimit { messages: 100, bytes: 5000 }).await.unwrap();
    assert!((1..=5).contains(&page.items.len()), "{}", page.items.len());
    let (rest, _) = read_feed(&**f.store(), page.next, 100).await;
    assert_eq!(page.items.len() + rest.len(), 10);
}

pub async fn a_message_larger_than_the_byte_limit_comes_alone(f: impl Fixture) {
    for sid in ["m0", "m1"] {
        accepted(f.store().submit(message_saying(sid, &"x".repeat(10_000))).await.unwrap());
    }
    f.settle().await;
    let mut cursor = place_of(&**f.store(), FeedStart::Start).await;
    for sid in ["m0", "m1"] {
        let page = page_after(&**f.store(), &cursor, PageLimit { messages: 100, bytes: 100 }).await.unwrap();
        assert_eq!(sids(&page.items), [sid]);
        cursor = page.next;
    }
}

pub async fn the_feed_begins_at_the_start_now_or_a_time<F: Fixture>(f: F) {
    use message_webhook::domain::Clock;
    let mut times = Vec::new();
    for number in 0..9 {
        if number % 3 == 0 {
            f.clock().advance(Duration::from_secs(60));
        }
        times.push(f.clock().now());
        fill(&f, number..number + 1).await;
    }
    let after = |start| {
        let f = &f;
        async move {
            let cursor = place_of(&**f.store(), start).await;
            read_feed(&**f.store(), cursor, 100).await.0.len()
        }
    };
    assert_eq!(after(FeedStart::Start).await, 9);
    assert_eq!(after(FeedStart::Now).await, 0);
    assert_eq!(after(FeedStart::Time(times[0])).await, 9);
    assert_eq!(after(FeedStart::Time(Timestamp::EPOCH)).await, 9);
    assert_eq!(after(FeedStart::Time(times[3])).await, 6);
    assert_eq!(after(FeedStart::Time(times[5].saturating_add(F::AIM))).await, 3);
    assert_eq!(after(FeedStart::Time(times[8].saturating_add(F::AIM))).await, 0);
}

pub async fn the_feed_finds_a_time_though_the_clock_went_back<F: Fixture>(f: F) {
    if F::CURSORS_ARE_TIMES {
        // Nothing is resolved until the clock has come to where it was.
        return;
    }
    use message_webhook::domain::Clock;
    fill(&f, 0..3).await;
    let high = f.clock().now();
    f.clock().turn_back(Duration::from_secs(3600));
    fill(&f, 3..6).await;
    let cursor = place_of(&**f.store(), FeedStart::Time(high)).await;
    let (items, _) = read_feed(&**f.store(), cursor, 100).await;
    // All of them were accepted at or after that time: a store's time never goes back.
    assert_eq!(items.len(), 6);
    assert!(items.iter().all(|item| item.message.accepted_at >= high));
}

pub async fn an_empty_feed_gives_an_empty_page_to_go_on_from(f: impl Fixture) {
    for start in [FeedStart::Start, FeedStart::Now, FeedStart::Time(Timestamp::EPOCH)] {
        let cursor = place_of(&**f.store(), start).await;
        let page = page_after(&**f.store(), &cursor, up_to(10)).await.unwrap();
        assert!(page.items.is_empty());
        assert!(page_after(&**f.store(), &page.next, up_to(10)).await.unwrap().items.is_empty());
    }
    let cursor = place_of(&**f.store(), FeedStart::Start).await;
    let next = page_after(&**f.store(), &cursor, up_to(10)).await.unwrap().next;
    fill(&f, 0..2).await;
    assert_eq!(sids(&page_after(&**f.store(), &next, up_to(10)).await.unwrap().items), ["m0", "m1"]);
}

pub async fn a_cursor_of_another_store_or_of_nobody_is_refused<F: Fixture>(f: F) {
    let other = F::new().await;
    fill(&f, 0..3).await;
    fill(&other, 0..3).await;
    let foreign = place_of(&**other.store(), FeedStart::Now).await;
    let token = f.store().list(&sender("user"), None, up_to(1)).await.unwrap().next.unwrap();
    for cursor in [foreign, Cursor([].into()), Cursor([7; 26].into()), Cursor([0; 64].into()), Cursor(token.0)] {
        let error = page_after(&**f.store(), &cursor, up_to(1)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
    }
}

pub async fn a_cursor_is_at_most_64_bytes(f: impl Fixture) {
    fill(&f, 0..1).await;
    for start in [FeedStart::Start, FeedStart::Now, FeedStart::Time(Timestamp::EPOCH)] {
        let cursor = place_of(&**f.store(), start).await;
        let page = page_after(&**f.store(), &cursor, up_to(10)).await.unwrap();
        assert!(page.items.iter().map(|item| &item.cursor).chain([&cursor, &page.next]).all(|c| c.0.len() <= 64));
    }
}

pub async fn a_page_of_no_messages_only_checks_the_place(f: impl Fixture) {
    fill(&f, 0..3).await;
    for start in [FeedStart::Start, FeedStart::Time(Timestamp::EPOCH)] {
        let cursor = place_of(&**f.store(), start).await;
        let page = page_after(&**f.store(), &cursor, up_to(0)).await.unwrap();
        assert!(page.items.is_empty());
        assert_eq!(read_feed(&**f.store(), page.next, 100).await.0.len(), 3);
    }
    let page = f.store().list(&sender("user"), None, up_to(0)).await.unwrap();
    assert!(page.messages.is_empty());
    let page = f.store().list(&sender("user"), page.next.as_ref(), up_to(9)).await.unwrap();
    assert_eq!(names(&page.messages), ["m2", "m1", "m0"]);
    let error = page_after(&**f.store(), &Cursor([7; 26].into()), up_to(0)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument);
}

pub async fn a_fast_reader_finds_all_that_was_accepted_before_it_began(f: impl Fixture) {
    for round in 0..3 {
        submit_numbered(&f, round * 5..(round + 1) * 5).await;
        let start = FeedFrom::Start(FeedStart::Start);
        let mut follower = f.store().follow(start, FeedOrder::Fast).await.unwrap();
        let (items, _) = read_on(&mut *follower, 4).await;
        let found: BTreeSet<_> = sids(&items).into_iter().map(str::to_owned).collect();
        assert_eq!(found, (0..(round + 1) * 5).map(|number| format!("m{number}")).collect());
        assert_eq!(items.len(), found.len());
    }
}

pub async fn a_reader_repeats_nothing_by_itself_in_either_order(f: impl Fixture) {
    let mut followers = Vec::new();
    for order in ORDERS {
        followers.push(f.store().follow(FeedFrom::Start(FeedStart::Now), order).await.unwrap());
    }
    let mut seen = vec![Vec::new(); followers.len()];
    for round in 0..4 {
        submit_numbered(&f, round * 10..(round + 1) * 10).await;
        if round % 2 == 0 {
            f.settle().await;
        }
        for (follower, seen) in followers.iter_mut().zip(&mut seen) {
            seen.extend(take(&mut **follower, 10).await);
        }
    }
    f.settle().await;
    for (mut follower, mut seen) in followers.into_iter().zip(seen) {
        seen.extend(read_on(&mut *follower, 10).await.0);
        let mut seen = sids(&seen);
        seen.sort_unstable();
        let mut expected: Vec<_> = (0..40).map(|number| format!("m{number}")).collect();
        expected.sort_unstable();
        assert_eq!(seen, expected);
    }
}

pub async fn the_cursors_of_one_order_are_good_in_the_other(f: impl Fixture) {
    fill(&f, 0..6).await;
    for (first, second) in [(FeedOrder::Fast, FeedOrder::Ordered), (FeedOrder::Ordered, FeedOrder::Fast)] {
        let mut follower = f.store().follow(FeedFrom::Start(FeedStart::Start), first).await.unwrap();
        let begun = take(&mut *follower, 3).await;
        let last = stands_at(&mut *follower).await;
        let places = begun.iter().map(|item| item.cursor.clone()).chain([last]);
        for (place, delivered) in places.zip([1, 2, 3, 3]) {
            let mut other = f.store().follow(FeedFrom::Cursor(place), second).await.unwrap();
            let (rest, _) = read_on(&mut *other, 10).await;
            let mut all: BTreeSet<_> = sids(&rest).into_iter().collect();
            all.extend(sids(&begun[..delivered]));
            assert_eq!(all.len(), 6);
        }
    }
}

pub async fn a_reader_of_the_feed_is_woken_by_a_message(f: impl Fixture) {
    for (round, start) in [FeedStart::Start, FeedStart::Now].into_iter().enumerate() {
        for order in ORDERS {
            let mut follower = f.store().follow(FeedFrom::Start(start.clone()), order).await.unwrap();
            read_on(&mut *follower, 10).await;
            let reader = tokio::spawn(async move { take(&mut *follower, 1).await });
            let sid = format!("{round}-{order:?}");
            accepted(f.store().submit(message(&sid)).await.unwrap());
            assert_eq!(sids(&reader.await.unwrap()), [sid]);
            // An ordered reader of the next round must not find this one.
            f.settle().await;
        }
    }
}

pub async fn a_duplicate_is_not_in_the_feed(f: impl Fixture) {
    submit_numbered(&f, 0..1).await;
    let mut follower = f.store().follow(FeedFrom::Start(FeedStart::Now), FeedOrder::Fast).await.unwrap();
    duplicate(f.store().submit(message("m0")).await.unwrap());
    let mut reader = tokio::spawn(async move { take(&mut *follower, 1).await });
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut reader).await.is_err());
    submit_numbered(&f, 1..2).await;
    assert_eq!(sids(&reader.await.unwrap()), ["m1"]);
}

pub async fn a_cursor_before_expired_messages_is_expired_and_no_gap_is_silent<F: Fixture>(f: F) {
    fill(&f, 0..2).await;
    let start = place_of(&**f.store(), FeedStart::Start).await;
    let items = page_after(&**f.store(), &start, up_to(10)).await.unwrap().items;
    let (after_m0, after_m1) = (&items[0].cursor, &items[1].cursor);
    f.clock().advance(RETENTION / 2);
    fill(&f, 2..4).await;
    f.clock().advance(RETENTION / 2);
    for forgotten in [false, true] {
        if forgotten {
            f.forget_expired().await;
        }
        let error = page_after(&**f.store(), after_m0, up_to(10)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::CursorExpired, "forgotten: {forgotten}");
        if F::CURSORS_ARE_TIMES {
            let error = page_after(&**f.store(), after_m1, up_to(10)).await.unwrap_err();
            assert_eq!(error.kind(), Kind::CursorExpired, "forgotten: {forgotten}");
        } else {
            // Nothing after this one is missing.
            let (rest, _) = read_feed(&**f.store(), after_m1.clone(), 10).await;
            assert_eq!(sids(&rest), ["m2", "m3"], "forgotten: {forgotten}");
        }
        for start in [FeedStart::Start, FeedStart::Time(Timestamp::EPOCH)] {
            let cursor = place_of(&**f.store(), start).await;
            assert_eq!(sids(&read_feed(&**f.store(), cursor, 10).await.0), ["m2", "m3"], "forgotten: {forgotten}");
        }
    }
}

pub async fn a_cursor_at_the_newest_message_never_expires<F: Fixture>(f: F) {
    fill(&f, 0..2).await;
    let now = place_of(&**f.store(), FeedStart::Now).await;
    f.clock().advance(RETENTION * 2);
    f.forget_expired().await;
    if F::CURSORS_ARE_TIMES {
        // Whether something was after it nobody knows any more.
        let error = page_after(&**f.store(), &now, up_to(10)).await.unwrap_err();
        return assert_eq!(error.kind(), Kind::CursorExpired);
    }
    assert!(page_after(&**f.store(), &now, up_to(10)).await.unwrap().items.is_empty());
    fill(&f, 2..3).await;
    assert_eq!(sids(&read_feed(&**f.store(), now, 10).await.0), ["m2"]);
}

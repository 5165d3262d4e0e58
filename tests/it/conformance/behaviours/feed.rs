//! The feed and its cursors.

use std::{sync::Arc, time::Duration};

use message_webhook::{
    domain::{Kind, Timestamp},
    store::{Cursor, FeedStart, MessageStore, PageLimit},
};

use super::{PATIENCE, names, submit_numbered};
use crate::conformance::fixture::*;

pub async fn the_feed_is_in_the_order_of_acceptance_and_complete(f: impl Fixture) {
    submit_numbered(&f, 0..50).await;
    let start = f.store().feed_cursor(FeedStart::Start).await.unwrap();
    for page in [1, 7, 50, 1000] {
        let (items, _) = read_feed(&**f.store(), start.clone(), page).await;
        assert_eq!(sids(&items), (0..50).map(|number| format!("m{number}")).collect::<Vec<_>>());
    }
}

pub async fn the_feed_goes_on_from_any_items_cursor(f: impl Fixture) {
    submit_numbered(&f, 0..10).await;
    let start = f.store().feed_cursor(FeedStart::Start).await.unwrap();
    let (items, end) = read_feed(&**f.store(), start, 4).await;
    for (number, item) in items.iter().enumerate() {
        let (rest, _) = read_feed(&**f.store(), item.cursor.clone(), 3).await;
        assert_eq!(sids(&rest), sids(&items[number + 1..]));
    }
    submit_numbered(&f, 10..12).await;
    assert_eq!(sids(&read_feed(&**f.store(), end, 4).await.0), ["m10", "m11"]);
}

pub async fn a_page_keeps_to_its_limits(f: impl Fixture) {
    for number in 0..10 {
        let body = "x".repeat(1000);
        accepted(f.store().submit(message_saying(&format!("m{number}"), &body)).await.unwrap());
    }
    let start = f.store().feed_cursor(FeedStart::Start).await.unwrap();
    assert_eq!(f.store().feed(&start, up_to(4)).await.unwrap().items.len(), 4);
    let page = f.store().feed(&start, PageLimit { messages: 100, bytes: 5000 }).await.unwrap();
    assert!((1..=5).contains(&page.items.len()), "{}", page.items.len());
    let (rest, _) = read_feed(&**f.store(), page.next, 100).await;
    assert_eq!(page.items.len() + rest.len(), 10);
}

pub async fn a_message_larger_than_the_byte_limit_comes_alone(f: impl Fixture) {
    for sid in ["m0", "m1"] {
        accepted(f.store().submit(message_saying(sid, &"x".repeat(10_000))).await.unwrap());
    }
    let mut cursor = f.store().feed_cursor(FeedStart::Start).await.unwrap();
    for sid in ["m0", "m1"] {
        let page = f.store().feed(&cursor, PageLimit { messages: 100, bytes: 100 }).await.unwrap();
        assert_eq!(sids(&page.items), [sid]);
        cursor = page.next;
    }
}

pub async fn the_feed_begins_at_the_start_now_or_a_time(f: impl Fixture) {
    use message_webhook::domain::Clock;
    let mut times = Vec::new();
    for number in 0..9 {
        if number % 3 == 0 {
            f.clock().advance(Duration::from_secs(10));
        }
        times.push(f.clock().now());
        submit_numbered(&f, number..number + 1).await;
    }
    let after = |start| {
        let f = &f;
        async move {
            let cursor = f.store().feed_cursor(start).await.unwrap();
            read_feed(&**f.store(), cursor, 100).await.0.len()
        }
    };
    assert_eq!(after(FeedStart::Start).await, 9);
    assert_eq!(after(FeedStart::Now).await, 0);
    assert_eq!(after(FeedStart::Time(times[0])).await, 9);
    assert_eq!(after(FeedStart::Time(Timestamp::EPOCH)).await, 9);
    assert_eq!(after(FeedStart::Time(times[3])).await, 6);
    assert_eq!(after(FeedStart::Time(times[3].saturating_add(Duration::from_micros(1)))).await, 3);
    assert_eq!(after(FeedStart::Time(times[8].saturating_add(Duration::from_secs(1)))).await, 0);
}

pub async fn the_feed_finds_a_time_though_the_clock_went_back(f: impl Fixture) {
    use message_webhook::domain::Clock;
    submit_numbered(&f, 0..3).await;
    let high = f.clock().now();
    f.clock().turn_back(Duration::from_secs(3600));
    submit_numbered(&f, 3..6).await;
    let cursor = f.store().feed_cursor(FeedStart::Time(high)).await.unwrap();
    let (items, _) = read_feed(&**f.store(), cursor, 100).await;
    // All of them were accepted at or after that time: a store's time never goes back.
    assert_eq!(items.len(), 6);
    assert!(items.iter().all(|item| item.message.accepted_at >= high));
}

pub async fn an_empty_feed_gives_an_empty_page_to_go_on_from(f: impl Fixture) {
    for start in [FeedStart::Start, FeedStart::Now, FeedStart::Time(Timestamp::EPOCH)] {
        let cursor = f.store().feed_cursor(start).await.unwrap();
        let page = f.store().feed(&cursor, up_to(10)).await.unwrap();
        assert!(page.items.is_empty());
        assert!(f.store().feed(&page.next, up_to(10)).await.unwrap().items.is_empty());
    }
    let cursor = f.store().feed_cursor(FeedStart::Start).await.unwrap();
    let next = f.store().feed(&cursor, up_to(10)).await.unwrap().next;
    submit_numbered(&f, 0..2).await;
    assert_eq!(sids(&f.store().feed(&next, up_to(10)).await.unwrap().items), ["m0", "m1"]);
}

pub async fn a_cursor_of_another_store_or_of_nobody_is_refused<F: Fixture>(f: F) {
    let other = F::new().await;
    submit_numbered(&f, 0..3).await;
    submit_numbered(&other, 0..3).await;
    let foreign = other.store().feed_cursor(FeedStart::Now).await.unwrap();
    let token = f.store().list(&sender("user"), None, up_to(1)).await.unwrap().next.unwrap();
    for cursor in [foreign, Cursor([].into()), Cursor([7; 26].into()), Cursor([0; 64].into()), Cursor(token.0)] {
        let error = f.store().feed(&cursor, up_to(1)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
        let error = f.store().feed_grown(&cursor).await.unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
    }
}

pub async fn a_cursor_is_at_most_64_bytes(f: impl Fixture) {
    submit_numbered(&f, 0..1).await;
    for start in [FeedStart::Start, FeedStart::Now, FeedStart::Time(Timestamp::EPOCH)] {
        let cursor = f.store().feed_cursor(start).await.unwrap();
        let page = f.store().feed(&cursor, up_to(10)).await.unwrap();
        assert!(page.items.iter().map(|item| &item.cursor).chain([&cursor, &page.next]).all(|c| c.0.len() <= 64));
    }
}

pub async fn a_page_of_no_messages_only_checks_the_place(f: impl Fixture) {
    submit_numbered(&f, 0..3).await;
    for start in [FeedStart::Start, FeedStart::Time(Timestamp::EPOCH)] {
        let cursor = f.store().feed_cursor(start).await.unwrap();
        let page = f.store().feed(&cursor, up_to(0)).await.unwrap();
        assert!(page.items.is_empty());
        assert_eq!(read_feed(&**f.store(), page.next, 100).await.0.len(), 3);
    }
    let page = f.store().list(&sender("user"), None, up_to(0)).await.unwrap();
    assert!(page.messages.is_empty());
    let page = f.store().list(&sender("user"), page.next.as_ref(), up_to(9)).await.unwrap();
    assert_eq!(names(&page.messages), ["m2", "m1", "m0"]);
    let error = f.store().feed(&Cursor([7; 26].into()), up_to(0)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument);
}

pub async fn a_reader_of_the_feed_is_woken_by_a_message(f: impl Fixture) {
    for (round, start) in [FeedStart::Start, FeedStart::Now].into_iter().enumerate() {
        let cursor = f.store().feed_cursor(start).await.unwrap();
        let reader = {
            let (store, cursor) = (Arc::clone(f.store()), cursor.clone());
            tokio::spawn(async move { store.feed_grown(&cursor).await })
        };
        submit_numbered(&f, round..round + 1).await;
        tokio::time::timeout(PATIENCE, reader).await.unwrap().unwrap().unwrap();
        // Now that there is something, it returns at once.
        tokio::time::timeout(PATIENCE, f.store().feed_grown(&cursor)).await.unwrap().unwrap();
    }
}

pub async fn a_reader_of_the_feed_is_not_woken_without_a_message(f: impl Fixture) {
    submit_numbered(&f, 0..1).await;
    let cursor = f.store().feed_cursor(FeedStart::Now).await.unwrap();
    duplicate(f.store().submit(message("m0")).await.unwrap());
    let store = Arc::clone(f.store());
    let mut reader = tokio::spawn(async move { store.feed_grown(&cursor).await });
    // It may be woken for nothing now and then, but a page must then be empty; this store's promise is stricter.
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut reader).await.is_err());
    submit_numbered(&f, 1..2).await;
    tokio::time::timeout(PATIENCE, reader).await.unwrap().unwrap().unwrap();
}

pub async fn a_cursor_before_expired_messages_is_expired_and_no_gap_is_silent(f: impl Fixture) {
    submit_numbered(&f, 0..2).await;
    let start = f.store().feed_cursor(FeedStart::Start).await.unwrap();
    let items = f.store().feed(&start, up_to(10)).await.unwrap().items;
    let (after_m0, after_m1) = (&items[0].cursor, &items[1].cursor);
    f.clock().advance(RETENTION / 2);
    submit_numbered(&f, 2..4).await;
    f.clock().advance(RETENTION / 2);
    for forgotten in [false, true] {
        if forgotten {
            f.forget_expired().await;
        }
        let error = f.store().feed(after_m0, up_to(10)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::CursorExpired, "forgotten: {forgotten}");
        // Nothing after this one is missing.
        let (rest, _) = read_feed(&**f.store(), after_m1.clone(), 10).await;
        assert_eq!(sids(&rest), ["m2", "m3"], "forgotten: {forgotten}");
        for start in [FeedStart::Start, FeedStart::Time(Timestamp::EPOCH)] {
            let cursor = f.store().feed_cursor(start).await.unwrap();
            assert_eq!(sids(&read_feed(&**f.store(), cursor, 10).await.0), ["m2", "m3"], "forgotten: {forgotten}");
        }
    }
}

pub async fn a_cursor_at_the_newest_message_never_expires(f: impl Fixture) {
    submit_numbered(&f, 0..2).await;
    let now = f.store().feed_cursor(FeedStart::Now).await.unwrap();
    f.clock().advance(RETENTION * 2);
    f.forget_expired().await;
    assert!(f.store().feed(&now, up_to(10)).await.unwrap().items.is_empty());
    submit_numbered(&f, 2..3).await;
    assert_eq!(sids(&read_feed(&**f.store(), now, 10).await.0), ["m2"]);
}

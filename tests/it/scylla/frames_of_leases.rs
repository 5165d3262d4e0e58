//! Frames of CQL about leases, and of what the resolver finishes, that are lost, late, or errors: the resolving goes on, and
//! no mark goes back.

use std::time::Duration;

use message_webhook::{
    domain::Kind,
    store::{
        FeedFrom, FeedOrder, FeedStart, FeedStore, Lifecycle, MessageStore, Outcome,
        scylla::{Options, ScyllaStore},
    },
};
use scylla::errors::WriteType;
use scylla_proxy::{Condition, Reaction, RequestReaction};
use tokio::sync::mpsc::unbounded_channel;

use super::frames::{Behind, CLAIM, DECISION, FEED, SENDER, errors};
use crate::{
    conformance::fixture::{PATIENCE, accepted, key, message, place_of, read_feed, read_on, sids},
    support::{
        eventually,
        leases::{LeaseWatch, Watched},
        wire::Answer,
    },
};

const RENEW: &[&str] = &["leases SET beat"];
const TAKE: &[&str] = &["leases SET owner", "epoch = ? AND beat"];
const GIVE: &[&str] = &["leases SET owner", "AND owner = ?"];
const LEASE: &[&[u8]] = &[b"[applied]", b"leases"];

/// Longer than the store waits for an answer.
const LATE: Duration = Duration::from_secs(4);

fn one_slot(options: &mut Options) {
    (options.shards, options.slots) = (1, 1);
}

/// What may become of a statement that is not carried out, or late.
fn lost() -> Vec<RequestReaction> {
    let mut reactions =
        vec![RequestReaction::delay(LATE), RequestReaction::drop_frame(), RequestReaction::drop_connection()];
    reactions.extend(errors(WriteType::Cas).into_iter().take(1).map(RequestReaction::forge_with_error));
    reactions
}

/// What may become of the answer to a statement that was carried out.
fn unheard() -> Vec<Answer> {
    let mut answers = vec![Answer::Lost, Answer::Broken];
    answers.extend(errors(WriteType::Cas).into_iter().take(1).map(Answer::Error));
    answers
}

fn once(condition: &Condition) -> Condition {
    condition.clone().and(Condition::TrueForLimitedTimes(1))
}

async fn settle(store: &ScyllaStore) {
    // Its connection may be one that was just broken.
    eventually("everything to be resolved", async || store.settle().await.ok()).await;
}

/// Submits a message, whatever the wire does to leases, and waits until it is resolved.
async fn goes_on(behind: &mut Behind, sid: &str) {
    accepted(behind.store.submit(message(sid)).await.unwrap_or_else(|error| panic!("{sid}: {error:?}")));
    settle(&behind.store).await;
    behind.wire.heal();
}

#[track_caller]
fn assert_kept(watched: &Watched, takings: i64) {
    assert!(watched.faults.is_empty() && watched.takings >= takings, "{watched:#?}");
}

/// The feed in order has these, each once.
async fn assert_delivered(store: &ScyllaStore, expected: &[String]) {
    let start = place_of(store, FeedStart::Start).await;
    let (items, _) = read_feed(store, start, 100).await;
    let mut delivered = sids(&items);
    delivered.retain(|sid| expected.iter().any(|expected| expected == sid));
    assert_eq!(delivered, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_becomes_of_a_renewal_the_resolving_goes_on() {
    let Some(mut behind) = Behind::new(one_slot).await else { return };
    settle(&behind.store).await;
    let watch = LeaseWatch::start(&behind.keyspace).await;
    let mut expected = vec!["first".to_owned()];
    let renewals = behind.wire.requests_of(RENEW);
    for (number, reaction) in lost().iter().enumerate() {
        behind.wire.on_requests(&once(&renewals), reaction);
        expected.push(format!("request {number}"));
        goes_on(&mut behind, &format!("request {number}")).await;
    }
    for (number, answer) in unheard().iter().enumerate() {
        behind.wire.on_answers(LEASE, 1, answer);
        expected.push(format!("answer {number}"));
        goes_on(&mut behind, &format!("answer {number}")).await;
    }
    assert_kept(&watch.end().await, 0);
    assert_delivered(&behind.store, &expected).await;
    behind.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_becomes_of_a_taking_the_lease_has_one_owner_who_goes_on() {
    let Some(mut behind) = Behind::new(one_slot).await else { return };
    let watch = LeaseWatch::start(&behind.keyspace).await;
    let takings = behind.wire.requests_of(TAKE);
    // Each needs two changes of hands; the rest of the cases is those of the renewal.
    let (lost, unheard) = (&lost()[..2], &unheard()[..2]);
    let cases = lost.len() + unheard.len();
    for case in 0..cases {
        let holder = behind.beside().await;
        behind.store.close().await.expect("closed");
        settle(&holder).await;
        behind.store = behind.another().await;
        match lost.get(case) {
            Some(reaction) => behind.wire.on_requests(&once(&takings), reaction),
            None => behind.wire.on_answers(LEASE, 1, &unheard[case - lost.len()]),
        }
        holder.close().await.expect("closed");
        goes_on(&mut behind, &format!("taking {case}")).await;
    }
    // Each time from the one to the other, and back.
    assert_kept(&watch.end().await, 2 * i64::try_from(cases).expect("few"));
    behind.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_not_given_back_is_taken_when_it_stood_still() {
    let Some(mut behind) = Behind::new(one_slot).await else { return };
    let watch = LeaseWatch::start(&behind.keyspace).await;
    let givings = behind.wire.requests_of(GIVE);
    let mut closed = Vec::new();
    // The late one arrives when another has the lease, which it must not take away.
    for (number, reaction) in
        [RequestReaction::delay(Duration::from_secs(14)), RequestReaction::drop_frame()].iter().enumerate()
    {
        settle(&behind.store).await;
        let holder = behind.beside().await;
        behind.wire.on_requests(&once(&givings), reaction);
        tokio::time::timeout(PATIENCE, behind.store.close()).await.expect("in time").expect("closed");
        accepted(holder.submit(message(&format!("giving {number}"))).await.expect("decided"));
        settle(&holder).await;
        behind.wire.heal();
        let next = behind.another().await;
        // Its connection stays, with what is still on the way.
        closed.push(std::mem::replace(&mut behind.store, next));
        holder.close().await.expect("closed");
    }
    settle(&behind.store).await;
    // Carried out, and not heard of: the lease is free at once.
    let holder = behind.beside().await;
    behind.wire.on_answers(LEASE, 1, &Answer::Lost);
    behind.store.close().await.expect("closed");
    settle(&holder).await;
    assert_kept(&watch.end().await, 5);
    holder.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_submission_left_half_done_is_finished_once_whatever_becomes_of_the_statements() {
    let Some(mut behind) = Behind::new(|options| {
        one_slot(options);
        // Over before the resolver looks at the attempt, and before a second claim.
        options.deadline = Duration::from_millis(1400);
    })
    .await
    else {
        return;
    };
    let mut expected = vec!["first".to_owned()];
    let from = FeedFrom::Start(FeedStart::Start);
    let mut follower = behind.store.follow(from, FeedOrder::Ordered).await.expect("a reader");
    let claims = behind.wire.requests_of(CLAIM);
    for case in 0..lost().len() + unheard().len() + 2 {
        let mut sid = format!("case {case}");
        let (claim_lost, unheard_from) = (lost().len(), lost().len() + unheard().len());
        if let Some(reaction) = lost().get(case) {
            behind.wire.on_requests(&once(&claims), reaction);
        } else if case < unheard_from {
            behind.wire.on_answers(DECISION, 1, &unheard()[case - claim_lost]);
        } else {
            // The references that the resolver makes good: the second writing of each.
            let references = behind.wire.requests_of([FEED, SENDER][case - unheard_from]);
            behind.wire.on_requests(&once(&references), &RequestReaction::drop_frame());
            behind.wire.on_requests(&once(&references), &RequestReaction::noop());
        }
        // Before all others: the submission's own claim does not arrive, and nobody tries again.
        let (tell, mut dropped) = unbounded_channel();
        let drop = RequestReaction::drop_frame().with_feedback_when_performed(tell);
        behind.wire.on_requests(&once(&claims), &drop);
        loop {
            let error = behind.store.submit(message(&sid)).await.expect_err("unclear");
            assert_eq!(error.kind(), Kind::StoreUnavailable, "{sid}: {error:?}");
            if dropped.try_recv().is_ok() {
                break;
            }
            // On a slow machine it may not even come to a claim.
            sid.push('+');
        }
        eventually("the resolver", async || behind.store.get(&key(&sid)).await.ok().flatten()).await;
        settle(&behind.store).await;
        behind.wire.heal();
        let again = behind.store.submit(message(&sid)).await.expect("decided");
        assert!(matches!(again, Outcome::Duplicate { .. }), "{sid}: {again:?}");
        expected.push(sid);
    }
    settle(&behind.store).await;
    assert_delivered(&behind.store, &expected).await;
    // Nor has one who followed all the time passed any of them before it was finished.
    let mut followed = Vec::new();
    eventually("the reader who followed", async || {
        followed.extend(read_on(&mut *follower, 100).await.0);
        let wanted = |sid: &&str| expected.iter().any(|expected| expected == sid);
        (sids(&followed).into_iter().filter(wanted).collect::<Vec<_>>() == expected).then_some(())
    })
    .await;
    behind.end().await;
}

//! A model of how a message is accepted, resolved and delivered on a database with lightweight transactions, and every
//! world it can come to.
//!
//! Two flights of one message (two replicas, or a sender and its retry), two resolvers, one reader, three attempts. Time is
//! nobody's: clocks say what they like, anyone pauses for any time before any step, and leases are taken from the living. So
//! the model shows that windows and time-outs are no part of why the protocol is right. A reference may be on a minority
//! of the replicas, where a scan sees it or does not; a statement without an answer takes effect later, or never.
//!
//! Left out: the two references of an attempt are one here, and buckets, shards, erasure and expiry are not in it.

mod properties;
mod protocol;
mod state;

use std::{collections::BTreeSet, time::Instant};

use stateright::{Checker, HasDiscoveries, Model};

use self::{
    properties::{DELIVERABLE, NEVER_BACK, NEVER_OLD, ONCE},
    protocol::Variant,
};

#[test]
fn the_protocol_holds_in_every_world_it_can_come_to() {
    let began = Instant::now();
    let checker = Variant::Protocol.checker().threads(2).spawn_bfs().join();
    println!(
        "Protocol: {} worlds, {} steps, {:?}",
        checker.unique_state_count(),
        checker.state_count(),
        began.elapsed()
    );
    checker.assert_properties();
    assert!(checker.unique_state_count() > 100_000, "the model has lost most of its worlds");
}

/// Finds the shortest way in which `variant` breaks `property`.
fn breaks(variant: Variant, property: &'static str) {
    let wanted = HasDiscoveries::AllOf(BTreeSet::from([property]));
    let checker = variant.checker().finish_when(wanted).spawn_bfs().join();
    let way = checker.discovery(property);
    println!("{variant:?}: {} worlds", checker.unique_state_count());
    let way = way.unwrap_or_else(|| panic!("{variant:?} keeps the promise: {property}"));
    way.into_actions().iter().for_each(|step| println!("    {step:?}"));
}

#[test]
fn a_message_is_lost_when_consumers_drop_what_has_no_claim() {
    breaks(Variant::ConsumersDropWhatHasNoClaim, DELIVERABLE);
}

#[test]
fn a_message_is_lost_without_the_check_after_the_references() {
    breaks(Variant::NoCheck, DELIVERABLE);
}

#[test]
fn a_message_is_lost_when_the_check_comes_before_the_acknowledgements() {
    breaks(Variant::CheckBeforeAcknowledgements, DELIVERABLE);
}

#[test]
fn a_message_is_lost_when_a_deposed_resolver_acts_on_a_fresh_scan() {
    breaks(Variant::DeposedResolverActsOnAFreshScan, DELIVERABLE);
}

#[test]
fn a_message_is_lost_when_a_resolver_claims_without_renewing_its_lease() {
    breaks(Variant::NoSecondRenewal, DELIVERABLE);
}

#[test]
fn a_message_is_lost_when_the_resolver_does_not_write_a_reference_again() {
    breaks(Variant::ReferencesAreNotWrittenAgain, DELIVERABLE);
}

#[test]
fn a_message_is_lost_when_the_scan_comes_before_the_publication() {
    breaks(Variant::ScanBeforePublication, DELIVERABLE);
}

#[test]
fn a_message_is_lost_when_a_resolver_scans_after_an_unclear_publication() {
    breaks(Variant::ScanAfterAnUnclearPublication, DELIVERABLE);
}

#[test]
fn a_message_is_lost_when_a_reader_trusts_rows_that_it_read_before_the_mark() {
    breaks(Variant::ReaderTrustsEarlierRows, DELIVERABLE);
}

#[test]
fn a_mark_goes_back_when_lease_statements_have_no_beat_in_their_condition() {
    breaks(Variant::NoBeatInTheConditions, NEVER_BACK);
}

#[test]
fn a_past_epoch_takes_effect_when_lease_statements_have_no_condition() {
    breaks(Variant::NoConditionsOnTheLease, NEVER_OLD);
}

#[test]
fn a_message_is_processed_twice_when_the_claim_has_no_condition() {
    breaks(Variant::NoConditionOnTheClaim, ONCE);
}

#[test]
fn a_message_is_lost_when_a_plain_read_repairs_nothing() {
    breaks(Variant::NoReadRepair, DELIVERABLE);
}

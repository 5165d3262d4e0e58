//! The checker on histories made by hand: it accepts what may happen, and finds each fault by its name.

use super::{
    checker::{Rule, check},
    record::{Answer, Content, History, Key, LookUp, Moment, Shown, Submission},
};

fn key() -> Key {
    Key { org: "acme".into(), env: "dev".into(), sid: "m1".into() }
}

fn content(text: &str) -> Content {
    Content { from_id: "u".into(), text: text.into() }
}

fn processed() -> Answer {
    Answer::Processed { accepted_at: "noon".into() }
}

fn already() -> Answer {
    Answer::Already { accepted_at: "noon".into(), payload_matches: false }
}

fn sent(text: &str, began: Moment, ended: Moment, answer: Answer) -> Submission {
    Submission { key: key(), content: content(text), began, ended, answer }
}

fn shown(text: &str) -> Shown {
    Shown { content: content(text), accepted_at: "noon".into() }
}

fn looked_up(began: Moment, ended: Moment, found: Option<Shown>) -> LookUp {
    LookUp { key: key(), began, ended, found }
}

fn history(submissions: Vec<Submission>, look_ups: Vec<LookUp>, feed: &[&str]) -> History {
    History { submissions, look_ups, feeds: vec![feed.iter().map(|text| (key(), shown(text))).collect()] }
}

#[track_caller]
fn assert_faults(history: &History, expected: &[Rule]) {
    let faults: Vec<Rule> = check(history).into_iter().map(|fault| fault.rule).collect();
    assert_eq!(faults, expected, "{history:?}");
}

#[test]
fn what_may_happen_is_no_fault() {
    let clear = vec![sent("a", 0, 5, already()), sent("b", 1, 4, processed()), sent("c", 6, 7, already())];
    assert_faults(&history(clear, vec![looked_up(8, 9, Some(shown("b")))], &["b", "b"]), &[]);
    // The answer "processed" was lost; a look-up at the same time may miss it.
    let lost = vec![sent("a", 0, 3, Answer::Unclear), sent("b", 2, 9, already())];
    assert_faults(
        &history(lost.clone(), vec![looked_up(8, 9, None), looked_up(10, 11, Some(shown("a")))], &["a"]),
        &[],
    );
    // A 503 may be accepted, or not.
    let unclear = vec![sent("a", 0, 3, Answer::Unclear)];
    assert_faults(&history(unclear.clone(), vec![], &["a"]), &[]);
    assert_faults(&history(unclear, vec![], &[]), &[]);
    assert_faults(&history(vec![sent("a", 0, 3, Answer::Refused)], vec![looked_up(4, 5, None)], &[]), &[]);
}

#[test]
fn two_answers_processed_are_found() {
    let twice = vec![sent("a", 0, 5, processed()), sent("b", 1, 6, processed())];
    assert_faults(&history(twice, vec![], &["a"]), &[Rule::ProcessedTwice]);
}

#[test]
fn processed_after_the_message_was_known_is_found() {
    let lost = sent("a", 0, 1, Answer::Unclear);
    let again = vec![lost, sent("b", 2, 3, already()), sent("c", 4, 5, processed())];
    assert_faults(&history(again, vec![], &["c"]), &[Rule::ProcessedAgain]);
}

#[test]
fn already_processed_before_anything_could_be_accepted_is_found() {
    let never = vec![sent("a", 0, 1, already())];
    assert_faults(&history(never, vec![], &[]), &[Rule::AlreadyOfNothing, Rule::NotDelivered]);
    let early = vec![sent("a", 0, 1, already()), sent("b", 2, 3, Answer::Unclear)];
    assert_faults(&history(early, vec![], &["b"]), &[Rule::AlreadyOfNothing]);
    let refused = vec![sent("a", 0, 1, Answer::Refused), sent("b", 2, 3, already())];
    assert_faults(&history(refused, vec![], &["a"]), &[Rule::AlreadyOfNothing, Rule::FromNowhere, Rule::OtherContent]);
}

#[test]
fn already_processed_of_what_is_not_durable_is_found() {
    let early = vec![sent("a", 0, 9, Answer::Unclear), sent("b", 1, 2, already())];
    assert_faults(&history(early.clone(), vec![looked_up(3, 4, None)], &["a"]), &[Rule::NotThere]);
    assert_faults(&history(early, vec![], &[]), &[Rule::NotDelivered]);
}

#[test]
fn a_message_that_vanishes_between_two_look_ups_is_found() {
    let look_ups = vec![looked_up(2, 3, Some(shown("a"))), looked_up(4, 5, None)];
    assert_faults(&history(vec![sent("a", 0, 1, Answer::Unclear)], look_ups, &["a"]), &[Rule::NotThere]);
}

#[test]
fn an_accepted_message_that_is_not_delivered_is_found() {
    assert_faults(&history(vec![sent("a", 0, 1, processed())], vec![], &[]), &[Rule::NotDelivered]);
}

#[test]
fn a_message_that_one_reader_of_two_did_not_get_is_found() {
    let mut one = history(vec![sent("a", 0, 1, processed())], vec![], &["a"]);
    assert_faults(&one, &[]);
    one.feeds.push(Vec::new());
    assert_faults(&one, &[Rule::NotDelivered]);
}

#[test]
fn a_message_that_nobody_sent_is_found() {
    assert_faults(&history(vec![], vec![], &["a"]), &[Rule::FromNowhere, Rule::OtherContent]);
}

#[test]
fn a_content_that_was_not_the_accepted_one_is_found() {
    let two = vec![sent("a", 0, 5, processed()), sent("b", 1, 6, already())];
    assert_faults(&history(two.clone(), vec![], &["b"]), &[Rule::OtherContent]);
    assert_faults(&history(two, vec![], &["a", "b"]), &[Rule::OtherContent]);
}

#[test]
fn a_wrong_word_on_the_payload_is_found() {
    let matches = Answer::Already { accepted_at: "noon".into(), payload_matches: true };
    let two = vec![sent("a", 0, 5, processed()), sent("b", 1, 6, matches)];
    assert_faults(&history(two, vec![], &["a"]), &[Rule::WrongMatch]);
}

#[test]
fn different_times_of_one_acceptance_are_found() {
    let later = Answer::Already { accepted_at: "one o'clock".into(), payload_matches: false };
    let two = vec![sent("a", 0, 5, processed()), sent("b", 1, 6, later)];
    assert_faults(&history(two, vec![], &["a"]), &[Rule::TimesDiffer]);
}

#[test]
fn an_internal_error_is_found() {
    assert_faults(&history(vec![sent("a", 0, 1, Answer::Bug)], vec![], &["a"]), &[Rule::Bug]);
}

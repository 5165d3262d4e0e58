//! Finds in a history what no store that keeps its word could have done.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::record::{Answer, Content, History, Key, LookUp, Moment, Shown, Submission};

/// What was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Two submissions of one key were answered "processed".
    ProcessedTwice,
    /// "Processed" to a submission that began when the message was already known to be accepted.
    ProcessedAgain,
    /// "Already processed" when no submission could have been accepted yet.
    AlreadyOfNothing,
    /// Answers and readers give different times of acceptance.
    TimesDiffer,
    /// A look-up found nothing after an answer, or another look-up, that spoke of the message.
    NotThere,
    /// An accepted message did not come to every reader.
    NotDelivered,
    /// A message came that nobody sent, or that was refused.
    FromNowhere,
    /// A content was shown that is not that of the submission which was accepted.
    OtherContent,
    /// `payload_matches` was not true to the contents.
    WrongMatch,
    /// 500, whose meaning is a bug.
    Bug,
}

/// One finding.
#[derive(Debug)]
pub struct Fault {
    pub rule: Rule,
    pub key: Key,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.rule, self.key)
    }
}

/// All that was said of one key.
#[derive(Default)]
struct Story<'a> {
    submissions: Vec<&'a Submission>,
    look_ups: Vec<&'a LookUp>,
    /// By reader.
    feeds: Vec<Vec<&'a Shown>>,
}

/// The faults of `history`, each rule once a key.
pub fn check(history: &History) -> Vec<Fault> {
    let mut stories = BTreeMap::<&Key, Story<'_>>::new();
    let new = || Story { feeds: vec![Vec::new(); history.feeds.len()], ..Story::default() };
    for submission in &history.submissions {
        stories.entry(&submission.key).or_insert_with(new).submissions.push(submission);
    }
    for look_up in &history.look_ups {
        stories.entry(&look_up.key).or_insert_with(new).look_ups.push(look_up);
    }
    for (reader, feed) in history.feeds.iter().enumerate() {
        for (key, shown) in feed {
            stories.entry(key).or_insert_with(new).feeds[reader].push(shown);
        }
    }
    let faults = stories
        .iter()
        .flat_map(|(key, story)| story.broken().into_iter().map(|rule| Fault { rule, key: (*key).clone() }));
    faults.collect()
}

impl Story<'_> {
    fn broken(&self) -> BTreeSet<Rule> {
        let mut broken = BTreeSet::new();
        let mut demand = |rule, kept: bool| {
            if !kept {
                broken.insert(rule);
            }
        };
        demand(Rule::ProcessedTwice, self.processed().count() <= 1);
        // From here on everyone must know of it.
        let known = self.known_from();
        demand(Rule::ProcessedAgain, self.processed().all(|it| known.is_none_or(|known| it.began <= known)));
        demand(
            Rule::NotThere,
            self.look_ups.iter().all(|it| it.found.is_some() || known.is_none_or(|known| it.began <= known)),
        );
        for it in &self.submissions {
            if let Answer::Already { .. } = it.answer {
                demand(Rule::AlreadyOfNothing, self.may_be_accepted().any(|other| other.began < it.ended));
            }
            demand(Rule::Bug, it.answer != Answer::Bug);
        }
        demand(Rule::TimesDiffer, self.times().len() <= 1);
        demand(Rule::NotDelivered, known.is_none() || self.feeds.iter().all(|feed| !feed.is_empty()));
        demand(Rule::FromNowhere, self.shown().next().is_none() || self.may_be_accepted().next().is_some());
        let contents = self.possible_contents();
        demand(Rule::OtherContent, self.shown().all(|shown| contents.contains(&shown.content)));
        // Where answers leave it open whose content was accepted, what was shown first says so.
        let certain = contents.first().filter(|_| contents.len() == 1).copied();
        if let Some(accepted) = certain.or_else(|| self.shown().map(|shown| &shown.content).next()) {
            demand(Rule::OtherContent, self.shown().all(|shown| shown.content == *accepted));
            demand(
                Rule::WrongMatch,
                self.submissions.iter().all(|it| match it.answer {
                    Answer::Already { payload_matches, .. } => payload_matches == (it.content == *accepted),
                    Answer::Processed { .. } | Answer::Refused | Answer::Unclear | Answer::Bug => true,
                }),
            );
        }
        broken
    }

    fn processed(&self) -> impl Iterator<Item = &Submission> {
        self.submissions.iter().copied().filter(|it| matches!(it.answer, Answer::Processed { .. }))
    }

    fn may_be_accepted(&self) -> impl Iterator<Item = &Submission> {
        self.submissions.iter().copied().filter(|it| it.answer.may_have_accepted())
    }

    /// When the first answer ended that speaks of the message.
    fn known_from(&self) -> Option<Moment> {
        let told = self.submissions.iter().filter(|it| it.answer.accepted_at().is_some()).map(|it| it.ended);
        let found = self.look_ups.iter().filter(|it| it.found.is_some()).map(|it| it.ended);
        told.chain(found).min()
    }

    fn shown(&self) -> impl Iterator<Item = &Shown> {
        self.look_ups.iter().filter_map(|it| it.found.as_ref()).chain(self.feeds.iter().flatten().copied())
    }

    fn times(&self) -> BTreeSet<&str> {
        let told = self.submissions.iter().filter_map(|it| it.answer.accepted_at());
        told.chain(self.shown().map(|shown| shown.accepted_at.as_str())).collect()
    }

    /// Of the one that was told so, else of all that may have been accepted.
    fn possible_contents(&self) -> BTreeSet<&Content> {
        let processed: BTreeSet<_> = self.processed().map(|it| &it.content).collect();
        if processed.is_empty() { self.may_be_accepted().map(|it| &it.content).collect() } else { processed }
    }
}

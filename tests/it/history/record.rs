//! What was asked and what was answered, by everyone, in the order of one clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Instant,
};

use parking_lot::Mutex;

/// What identifies a message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub org: String,
    pub env: String,
    pub sid: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.org, self.env, self.sid)
    }
}

/// What tells the submissions of one key apart: no two have the same text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Content {
    pub from_id: String,
    pub text: String,
}

/// A moment of the history's clock.
pub type Moment = u64;

/// What a submission was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// "Processed".
    Processed { accepted_at: String },
    /// "Already processed".
    Already { accepted_at: String, payload_matches: bool },
    /// Certainly not accepted, as 400 says and 429.
    Refused,
    /// Accepted or not, now or later: 503, a time-out, a broken connection.
    Unclear,
    /// 500, which is for bugs.
    Bug,
}

impl Answer {
    /// When the message was accepted, by an answer that says it was.
    pub fn accepted_at(&self) -> Option<&str> {
        match self {
            Self::Processed { accepted_at } | Self::Already { accepted_at, .. } => Some(accepted_at),
            Self::Refused | Self::Unclear | Self::Bug => None,
        }
    }

    /// Whether this submission may be the one that was accepted.
    pub fn may_have_accepted(&self) -> bool {
        match self {
            Self::Processed { .. } | Self::Unclear | Self::Bug => true,
            Self::Already { .. } | Self::Refused => false,
        }
    }
}

/// A submission with its answer.
#[derive(Debug, Clone)]
pub struct Submission {
    pub key: Key,
    pub content: Content,
    pub began: Moment,
    pub ended: Moment,
    pub answer: Answer,
}

/// A message as the service showed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub content: Content,
    pub accepted_at: String,
}

/// A clear answer to a look-up.
#[derive(Debug, Clone)]
pub struct LookUp {
    pub key: Key,
    pub began: Moment,
    pub ended: Moment,
    /// `None`: not found.
    pub found: Option<Shown>,
}

/// All of it.
#[derive(Debug, Default)]
pub struct History {
    pub submissions: Vec<Submission>,
    pub look_ups: Vec<LookUp>,
    /// What each reader got: those that followed from the beginning on, and the last that began at the start of the feed
    /// after all else had ended. Who followed may have passed a place where a fresh reader finds a message.
    pub feeds: Vec<Vec<(Key, Shown)>>,
}

/// What concurrent clients write down.
pub struct Recorder {
    began: Instant,
    history: Mutex<History>,
}

impl Recorder {
    pub fn new() -> Self {
        Self { began: Instant::now(), history: Mutex::default() }
    }

    pub fn now(&self) -> Moment {
        u64::try_from(self.began.elapsed().as_nanos()).expect("a short test")
    }

    pub fn submitted(&self, key: Key, content: Content, began: Moment, answer: Answer) {
        let ended = self.now();
        self.history.lock().submissions.push(Submission { key, content, began, ended, answer });
    }

    pub fn looked_up(&self, key: Key, began: Moment, found: Option<Shown>) {
        let ended = self.now();
        self.history.lock().look_ups.push(LookUp { key, began, ended, found });
    }

    /// The keys that a reader must get.
    pub fn accepted(&self) -> Vec<Key> {
        let history = self.history.lock();
        let accepted = history.submissions.iter().filter(|each| each.answer.accepted_at().is_some());
        accepted.map(|each| each.key.clone()).collect()
    }

    pub fn finish(&self, feeds: Vec<Vec<(Key, Shown)>>) -> History {
        History { feeds, ..std::mem::take(&mut *self.history.lock()) }
    }
}

impl History {
    /// How many of what.
    pub fn summary(&self) -> String {
        let mut counts = BTreeMap::<&str, usize>::new();
        for submission in &self.submissions {
            let answer = match submission.answer {
                Answer::Processed { .. } => "'processed'",
                Answer::Already { .. } => "'Already processed'",
                Answer::Refused => "refused",
                Answer::Unclear => "unclear",
                Answer::Bug => "500",
            };
            *counts.entry(answer).or_default() += 1;
        }
        let counts: Vec<_> = counts.into_iter().map(|(answer, count)| format!("{count} {answer}")).collect();
        let (submissions, look_ups) = (self.submissions.len(), self.look_ups.len());
        let deliveries: Vec<_> = self.feeds.iter().map(|feed| feed.len().to_string()).collect();
        let (counts, deliveries) = (counts.join(", "), deliveries.join(" + "));
        format!("{submissions} submissions ({counts}), {look_ups} look-ups, {deliveries} deliveries")
    }

    /// The figures by which a run is known. Lost is what was told as accepted and did not come to every reader; double is
    /// what was "processed" twice.
    pub fn counts(&self) -> String {
        let (mut sent, mut known, mut processed) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::<_, usize>::new());
        for submission in &self.submissions {
            sent.insert(&submission.key);
            if submission.answer.accepted_at().is_some() {
                known.insert(&submission.key);
            }
            if let Answer::Processed { .. } = submission.answer {
                *processed.entry(&submission.key).or_default() += 1;
            }
        }
        let feeds: Vec<BTreeSet<&Key>> =
            self.feeds.iter().map(|feed| feed.iter().map(|(key, _)| key).collect()).collect();
        let delivered = feeds.last().map_or(0, BTreeSet::len);
        let lost = known.iter().filter(|key| !feeds.iter().all(|feed| feed.contains(**key))).count();
        let double = processed.values().filter(|times| **times > 1).count();
        let (messages, acknowledged) = (sent.len(), known.len());
        format!(
            "{messages} messages sent, {acknowledged} acknowledged, {delivered} delivered, {lost} lost, {double} double"
        )
    }
}

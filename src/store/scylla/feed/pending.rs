//! The references above the position of the feed that a process has met, and what is known of each.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    domain::{Message, MessageKey},
    store::scylla::{
        scan::{Attempt, Reference},
        ticks::Ticks,
    },
};

/// So many references are held; of more there is no room until the position moves on.
const MOST: usize = 250_000;
/// So many bytes of messages are held for readers in order; of more they are read again.
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// A claim that is not there yet is looked for again after this, and after twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What is known of a reference.
#[derive(Debug)]
enum State {
    /// Nothing: its claim was looked for so many times. Without a time, it is being looked for.
    Undecided { key: MessageKey, tries: u32, due: Option<Instant> },
    /// It is the message's. The message is kept where readers in order wait for it and there is room.
    Accepted { key: MessageKey, message: Option<Arc<Message>>, bytes: usize },
    /// It is the message's, which nobody can read.
    Lost(MessageKey),
    /// It is nobody's.
    Dead,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Pending {
    known: BTreeMap<Attempt, State>,
    due: BTreeSet<(Instant, Attempt)>,
    bytes: usize,
}

/// A message among them.
#[derive(Debug, Clone)]
pub struct Settled {
    /// Its attempt.
    pub attempt: Attempt,
    /// Its key.
    pub key: MessageKey,
    /// The message, if it is kept, and the size of its record.
    pub message: Option<(Arc<Message>, usize)>,
}

impl Pending {
    /// Takes in a reference; whether it was unknown. Where `must` is not set and there is no room, it is not taken in.
    pub fn insert(&mut self, reference: Reference, now: Instant, must: bool) -> bool {
        if self.known.contains_key(&reference.attempt) || (!must && self.is_full()) {
            return false;
        }
        let known = State::Undecided { key: reference.key, tries: 0, due: Some(now) };
        self.due.insert((now, reference.attempt));
        self.known.insert(reference.attempt, known);
        true
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether there is no room for more.
    pub fn is_full(&self) -> bool {
        self.known.len() >= MOST
    }

    /// When the next claim should be looked for.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Up to `most` references whose claims should be looked for now. Each must be handed to [`Pending::accept`],
    /// [`Pending::discard`] or [`Pending::postpone`].
    pub fn take_due(&mut self, now: Instant, most: usize) -> Vec<(Attempt, MessageKey)> {
        let mut taken = Vec::new();
        while taken.len() < most {
            let Some((due, attempt)) = self.due.first().copied().filter(|(due, _)| *due <= now) else { break };
            self.due.remove(&(due, attempt));
            if let Some(State::Undecided { key, due, .. }) = self.known.get_mut(&attempt) {
                *due = None;
                taken.push((attempt, key.clone()));
            }
        }
        taken
    }

    /// The reference has no claim yet, or none was found out: look again later.
    pub fn postpone(&mut self, attempt: Attempt, now: Instant) {
        if let Some(State::Undecided { tries, due, .. }) = self.known.get_mut(&attempt)
            && due.is_none()
        {
            let next = now + FIRST_PAUSE.saturating_mul(1 << (*tries).min(16)).min(LONGEST_PAUSE);
            *tries = tries.saturating_add(1);
            *due = Some(next);
            self.due.insert((next, attempt));
        }
    }

    /// The reference is its message's; whether that is news. The message is kept if `keep` and there is room.
    pub fn accept(&mut self, attempt: Attempt, message: &Arc<Message>, bytes: usize, keep: bool) -> bool {
        match self.known.get(&attempt) {
            Some(State::Accepted { .. } | State::Lost(_)) => return false,
            Some(State::Undecided { due: Some(due), .. }) => {
                self.due.remove(&(*due, attempt));
            }
            Some(State::Undecided { due: None, .. } | State::Dead) | None => {}
        }
        let keep = keep && self.bytes < MOST_BYTES;
        self.bytes += if keep { bytes } else { 0 };
        let (key, message) = (message.key.clone(), keep.then(|| Arc::clone(message)));
        self.known.insert(attempt, State::Accepted { key, message, bytes });
        true
    }

    /// The reference is nobody's, or its message was erased.
    pub fn discard(&mut self, attempt: Attempt) {
        if let Some(known @ State::Undecided { .. }) = self.known.get_mut(&attempt)
            && let State::Undecided { due, .. } = std::mem::replace(known, State::Dead)
            && let Some(due) = due
        {
            self.due.remove(&(due, attempt));
        }
    }

    /// The reference is its message's, which nobody can read.
    pub fn lose(&mut self, attempt: Attempt, key: &MessageKey) {
        match self.known.insert(attempt, State::Lost(key.clone())) {
            Some(State::Undecided { due: Some(due), .. }) => {
                self.due.remove(&(due, attempt));
            }
            Some(State::Accepted { message: Some(_), bytes, .. }) => self.bytes = self.bytes.saturating_sub(bytes),
            Some(
                State::Undecided { due: None, .. }
                | State::Accepted { message: None, .. }
                | State::Lost(_)
                | State::Dead,
            )
            | None => {}
        }
    }

    /// What nobody can read of the messages up to `upto`, in order.
    pub fn lost_upto(&self, upto: Ticks) -> Vec<(Attempt, MessageKey)> {
        let lost = |(attempt, known): (&Attempt, &State)| match known {
            State::Lost(key) => Some((*attempt, key.clone())),
            State::Undecided { .. } | State::Accepted { .. } | State::Dead => None,
        };
        self.known.range(..Attempt::after(upto)).filter_map(lost).collect()
    }

    /// A message was erased that was accepted before.
    pub fn forget(&mut self, attempt: Attempt) {
        if let Some(known @ State::Accepted { .. }) = self.known.get_mut(&attempt)
            && let State::Accepted { message: Some(_), bytes, .. } = std::mem::replace(known, State::Dead)
        {
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }

    /// The references up to `upto` of which nothing is known.
    pub fn undecided_upto(&self, upto: Ticks) -> Vec<(Attempt, MessageKey)> {
        let undecided = |(attempt, known): (&Attempt, &State)| match known {
            State::Undecided { key, .. } => Some((*attempt, key.clone())),
            State::Accepted { .. } | State::Lost(_) | State::Dead => None,
        };
        self.known.range(..Attempt::after(upto)).filter_map(undecided).collect()
    }

    /// The messages up to `upto`, in order.
    pub fn settled_upto(&self, upto: Ticks) -> Vec<Settled> {
        let settled = |(attempt, known): (&Attempt, &State)| match known {
            State::Accepted { key, message, bytes } => Some(Settled {
                attempt: *attempt,
                key: key.clone(),
                message: message.as_ref().map(|message| (Arc::clone(message), *bytes)),
            }),
            State::Undecided { .. } | State::Lost(_) | State::Dead => None,
        };
        self.known.range(..Attempt::after(upto)).filter_map(settled).collect()
    }

    /// How far towards `upto` the position may be moved at once, so that the messages that must be read again for readers in order
    /// have about `room` bytes.
    pub fn within(&self, upto: Ticks, room: usize) -> Ticks {
        let (mut bytes, mut before) = (0_usize, None);
        for (attempt, known) in self.known.range(..Attempt::after(upto)) {
            if let State::Accepted { message: None, bytes: more, .. } = known {
                bytes = bytes.saturating_add(*more);
                // Not between two of one time; and one at least.
                if bytes > room
                    && let Some(before) = before.filter(|before| *before < attempt.ticks)
                {
                    return before;
                }
            }
            before = Some(attempt.ticks);
        }
        upto
    }

    /// Forgets everything up to `upto`: the position has moved there.
    pub fn advance(&mut self, upto: Ticks) {
        let rest = self.known.split_off(&Attempt::after(upto));
        for (attempt, known) in std::mem::replace(&mut self.known, rest) {
            match known {
                State::Undecided { due: Some(due), .. } => {
                    self.due.remove(&(due, attempt));
                }
                State::Accepted { message: Some(_), bytes, .. } => self.bytes = self.bytes.saturating_sub(bytes),
                State::Undecided { due: None, .. }
                | State::Accepted { message: None, .. }
                | State::Lost(_)
                | State::Dead => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::domain::{Content, Environment, FromId, MessageSid, NewMessage, OrgId, Timestamp};

    fn key(number: i64) -> MessageKey {
        MessageKey {
            org: OrgId::new("acme").expect("valid"),
            env: Environment::Dev,
            sid: MessageSid::new(format!("m{number}")).expect("valid"),
        }
    }

    fn message(number: i64) -> Arc<Message> {
        let from_id = FromId::new("user").expect("valid");
        let content = Content { from_id, timestamp: Timestamp::EPOCH, body: None, media: None };
        Arc::new(NewMessage::new(key(number), content).into_message(Timestamp::EPOCH))
    }

    fn attempt(ticks: Ticks) -> Attempt {
        Attempt { ticks, id: Uuid::from_u128(7) }
    }

    fn reference(ticks: Ticks) -> Reference {
        Reference { shard: 0, attempt: attempt(ticks), key: key(ticks) }
    }

    #[test]
    fn a_claim_is_looked_for_at_once_and_then_ever_more_rarely() {
        let (mut pending, mut now) = (Pending::default(), Instant::now());
        assert!(pending.insert(reference(1), now, false));
        assert!(!pending.insert(reference(1), now, false));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            assert_eq!(pending.take_due(now, 10), [(attempt(1), key(1))]);
            assert_eq!((pending.take_due(now, 10), pending.next_due()), (Vec::new(), None));
            pending.postpone(attempt(1), now);
            let due = pending.next_due().expect("to be looked for");
            pauses.push((due - now).as_millis());
            now = due;
        }
        assert_eq!(pauses, [25, 50, 100, 200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn when_it_is_full_only_what_must_be_known_is_taken_in() {
        let (mut pending, now) = (Pending::default(), Instant::now());
        for ticks in 0..MOST as i64 {
            assert!(pending.insert(reference(ticks), now, false));
        }
        assert!(!pending.insert(reference(-1), now, false));
        assert!(pending.insert(reference(-1), now, true));
        pending.advance(0);
        assert!(pending.insert(reference(MOST as i64), now, false));
    }

    #[test]
    fn the_position_moves_by_as_much_as_there_is_room_for_and_by_one_message_at_least() {
        let mut pending = Pending::default();
        for ticks in [1, 2, 2, 3, 9] {
            pending.accept(
                Attempt { id: Uuid::from_u128(pending.known.len() as u128), ..attempt(ticks) },
                &message(ticks),
                100,
                false,
            );
        }
        pending.accept(attempt(5), &message(5), 1_000, true);
        // Those of one time are not parted, and what is kept is not counted.
        assert_eq!(
            [0, 99, 100, 200, 300, 399, 400, 500].map(|room| pending.within(20, room)),
            [1, 1, 1, 2, 2, 2, 5, 20]
        );
        assert_eq!(pending.within(4, 400), 4);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(Ticks),
        Take,
        Postpone(Ticks),
        Accept(Ticks, bool),
        Discard(Ticks),
        Lose(Ticks),
        Advance(Ticks),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..30i64).prop_map(Step::Insert),
            1 => Just(Step::Take),
            2 => (0..30i64).prop_map(Step::Postpone),
            2 => (0..30i64, any::<bool>()).prop_map(|(ticks, keep)| Step::Accept(ticks, keep)),
            1 => (0..30i64).prop_map(Step::Discard),
            1 => (0..30i64).prop_map(Step::Lose),
            1 => (0..30i64).prop_map(Step::Advance),
        ]
    }

    proptest! {
        #[test]
        fn each_message_is_news_once_and_nothing_is_lost_or_counted_twice(
            steps in proptest::collection::vec(step(), 0..150)
        ) {
            let (mut pending, mut now) = (Pending::default(), Instant::now());
            let (mut accepted, mut lost) = (BTreeSet::new(), BTreeSet::new());
            for step in steps {
                now += Duration::from_millis(30);
                match step {
                    Step::Insert(ticks) => {
                        pending.insert(reference(ticks), now, false);
                    }
                    Step::Take => drop(pending.take_due(now, 2)),
                    Step::Postpone(ticks) => pending.postpone(attempt(ticks), now),
                    Step::Accept(ticks, keep) => {
                        let news = pending.accept(attempt(ticks), &message(ticks), 100, keep);
                        prop_assert_eq!(news, !lost.contains(&ticks) && accepted.insert(ticks));
                    }
                    Step::Discard(ticks) => pending.discard(attempt(ticks)),
                    Step::Lose(ticks) => {
                        pending.lose(attempt(ticks), &key(ticks));
                        accepted.remove(&ticks);
                        lost.insert(ticks);
                    }
                    Step::Advance(upto) => {
                        pending.advance(upto);
                        accepted = accepted.split_off(&(upto + 1));
                        lost = lost.split_off(&(upto + 1));
                    }
                }
                let settled = pending.settled_upto(100);
                prop_assert_eq!(
                    settled.iter().map(|settled| settled.attempt.ticks).collect::<Vec<_>>(),
                    accepted.iter().copied().collect::<Vec<_>>()
                );
                prop_assert_eq!(
                    pending.lost_upto(100).into_iter().map(|(attempt, _)| attempt.ticks).collect::<BTreeSet<_>>(),
                    lost.clone()
                );
                let kept = settled.iter().filter(|settled| settled.message.is_some()).count();
                prop_assert_eq!(pending.bytes, kept * 100);
                // Whatever waits to be looked for is undecided, and is there once.
                let undecided: BTreeSet<_> =
                    pending.undecided_upto(100).into_iter().map(|(attempt, _)| attempt).collect();
                prop_assert!(pending.due.iter().all(|(_, attempt)| undecided.contains(attempt)));
                let waiting = pending.known.values().filter(|known| matches!(known, State::Undecided { due: Some(_), .. }));
                prop_assert_eq!(waiting.count(), pending.due.len());
            }
        }
    }
}

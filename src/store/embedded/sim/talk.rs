//! What is sent, and what is heard.

use std::time::Duration;

use tokio::sync::oneshot;

use super::{
    disk::Trouble,
    life::{Queued, Reply},
    oracle::{Checked, Sent},
    story::{MINUTE, Story, Waits, tell},
};
use crate::{
    domain::{Error, Kind, Message},
    store::{
        ImportInto, Outcome,
        embedded::{
            import,
            submit::{self, Submission},
        },
    },
};

impl Story {
    pub fn new_message(&mut self) -> usize {
        let length = self.rng.pick(&[20, 20, 200, 700, 1600, 3000, 7000]);
        let number = self.oracle.sent.len();
        let text = format!("{number:07} ").repeat(length / 8);
        let (sender, sent_at) = (self.rng.index(super::oracle::SENDERS), self.rng.below(1 << 40) as i64);
        self.oracle.sent.push(Sent { sender, text, sent_at, in_feed: true, known: None });
        number
    }

    pub fn old_message(&mut self) -> usize {
        let sent = self.oracle.sent.len();
        if sent == 0 {
            return self.new_message();
        }
        // The latest often: those are in question after a crash.
        let among = if self.rng.percent(60) { sent.min(6) } else { sent };
        sent - 1 - self.rng.index(among)
    }

    pub fn send(&mut self) {
        for _ in 0..1 + self.rng.below(4) {
            let number = if self.rng.percent(70) { self.new_message() } else { self.old_message() };
            self.submit(number, None);
        }
    }

    /// The same message twice, with so much between that the first may have left memory.
    pub fn send_twice(&mut self) {
        let number = self.new_message();
        self.submit(number, None);
        for _ in 0..self.rng.below(40) {
            let other = self.new_message();
            self.submit(other, None);
        }
        self.submit(number, None);
    }

    /// A full disk refuses a frame, a voucher is written for the one before, and the power goes in the middle of that.
    pub fn refuse_and_vouch(&mut self) {
        if !self.plot.has_full_disks || self.plot.trouble == 0 || self.disk.is_full() {
            return;
        }
        for is_refused in [false, true] {
            let number = self.new_message();
            self.submit(number, None);
            if is_refused {
                tell!(self, "a frame is refused");
                self.disk.plan(0, Trouble::NoSpace);
            }
            self.with(|life, _| life.write(1));
        }
        self.tally.faults += 2;
        let after = self.rng.pick(&[0, 1, 1, 1, 2]);
        self.disk.plan(after, Trouble::Kill);
        self.disk.keep_what_was_between();
        self.is_cut_next = true;
        self.with(|life, _| life.quiet());
    }

    pub fn submit(&mut self, number: usize, import: Option<submit::Import>) {
        let Some(life) = &self.life else { return };
        let message = self.oracle.message(number);
        let submission = Submission::new(&life.shared, message, import);
        self.queue(number, true, submission);
    }

    pub fn queue(&mut self, number: usize, in_feed: bool, submission: Box<Submission>) {
        let Some(life) = &self.life else { return };
        let answer = match submit::queue(&life.shared, submission, None) {
            Ok(Queued::Waits(answer)) => answer,
            Ok(Queued::Known(outcome)) => {
                let (told, answer) = oneshot::channel();
                let _ = told.send(Reply::Decided(Ok(outcome)));
                answer
            }
            Err(error) => {
                let (told, answer) = oneshot::channel();
                let _ = told.send(Reply::Decided(Err(error)));
                answer
            }
        };
        self.waits.push(Waits { number, in_feed, answer });
    }

    pub fn hear(&mut self) -> Checked {
        let mut left = Vec::new();
        for mut waits in std::mem::take(&mut self.waits) {
            match waits.answer.try_recv() {
                Ok(Reply::Decided(Ok(outcome))) => self.heard(&waits, outcome)?,
                Ok(Reply::Decided(Err(error))) => self.heard_error(waits.number, &error)?,
                Ok(Reply::Again(submission)) => {
                    let there = std::mem::take(&mut self.waits);
                    self.queue(waits.number, waits.in_feed, submission);
                    left.append(&mut self.waits);
                    self.waits = there;
                }
                Err(oneshot::error::TryRecvError::Empty) => left.push(waits),
                Err(oneshot::error::TryRecvError::Closed) => {}
            }
        }
        self.waits = left;
        Ok(())
    }

    pub fn heard(&mut self, waits: &Waits, outcome: Outcome) -> Checked {
        let number = waits.number;
        match outcome {
            Outcome::Accepted(acceptance) => {
                tell!(self, "m{number}: accepted at {}", acceptance.accepted_at);
                self.tally.accepted += 1;
                self.oracle.accepted(number, acceptance.accepted_at, waits.in_feed)
            }
            Outcome::Duplicate { first, fingerprint } => {
                tell!(self, "m{number}: duplicate of {}", first.accepted_at);
                self.tally.duplicates += 1;
                let message = self.oracle.message(number);
                match fingerprint {
                    Some(fingerprint) if fingerprint.matches(message.fingerprint()) => {}
                    None if self.oracle.is_damaged => return Ok(()),
                    _ => return Err(format!("m{number} is a duplicate of another content")),
                }
                self.oracle.duplicate(number, first.accepted_at)
            }
        }
    }

    pub fn heard_error(&mut self, number: usize, error: &Error) -> Checked {
        tell!(self, "m{number}: {:?} {}", error.kind(), error.cause().map_or(String::new(), ToString::to_string));
        match error.kind() {
            Kind::DiskFull => {
                // A voucher for what was accepted before may come right behind a refusal.
                if self.rng.percent(50) {
                    self.with(|life, _| life.quiet());
                }
                Ok(())
            }
            Kind::StoreUnavailable => Ok(()),
            Kind::DataLoss if self.oracle.is_damaged => Ok(()),
            kind => Err(format!("m{number}: {kind:?}: {}", error.cause().map_or(String::new(), ToString::to_string))),
        }
    }

    pub fn import(&mut self) {
        let number = if self.rng.percent(80) { self.new_message() } else { self.old_message() };
        let passed = self.rng.below(8 * 60 * MINUTE);
        let in_feed = self.rng.percent(50);
        let Some(life) = &self.life else { return };
        let now = life.shared.clock.stamp().wall;
        let accepted_at = now.saturating_sub(Duration::from_micros(passed));
        let (message, sent) = (self.oracle.message(number), &mut self.oracle.sent[number]);
        sent.in_feed &= in_feed;
        let Message { key, content, traceparent, .. } = message.into_message(accepted_at);
        let message = Message { key, content, traceparent, accepted_at };
        let into = if in_feed { ImportInto::MessagesAndFeed } else { ImportInto::Messages };
        let Ok(arrivals) = import::arrive(&life.shared, vec![message], into, None) else { return };
        for arrival in arrivals {
            let queued = arrival.into_queued();
            tell!(self, "m{number}: imported, of {accepted_at}");
            let answer = match queued {
                Some(Queued::Waits(answer)) => answer,
                Some(Queued::Known(_)) | None => continue,
            };
            self.waits.push(Waits { number, in_feed, answer });
        }
    }
}

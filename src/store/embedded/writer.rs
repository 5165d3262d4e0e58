//! The one writer: takes what waits, decides it, makes it durable as one frame with one sync, then answers.
//!
//! A submission was looked up by its caller first, in everything that was durable then. So the writer looks only at what was
//! accepted since, in memory: in the group itself, which it decides, and in what is published, where it sends the submission
//! back to be looked up anew. It reads nothing from the disk.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use hashbrown::HashMap;
use tokio::sync::oneshot;

use super::{
    building::Building,
    index::Hash,
    log::{
        Position, Stamp,
        frame::{FRAME_HEADER, HEAD, align},
        prepare::BEGINS,
        writer::{AppendError, Class, LogWriter},
    },
    meters::Meters,
    queue::{Command, Expectation, Gathering, Work},
    sabotage::{Sabotage, is_planted},
    shared::{Shared, Stopped, Worker, disk_full},
    state::Change,
    submit::{Reply, Submission, Waiting, answer},
    view::Since,
};
use crate::{
    domain::{Error, KeyId, KeyRecord, Kind, Timestamp, ViolationCode},
    store::Outcome,
};

/// After so long without a new frame an empty one vouches for the last.
const QUIET_AFTER: Duration = Duration::from_secs(1);
/// A group gathers no longer than this, however many may come.
const PATIENCE: Duration = Duration::from_micros(2500);
/// When it tries to gather more than the last one had, it tries no longer after such a time in which none came.
const PAUSE: Duration = Duration::from_micros(300);
/// Keys whose last use one record tells.
const USED_AT_A_TIME: usize = 1000;
/// Between two looks at whether the next segment is there.
const LOOK_EVERY: Duration = Duration::from_millis(100);

type Answers = Vec<(oneshot::Sender<Reply>, Reply)>;

/// See the module.
pub struct Writer {
    shared: Arc<Shared>,
    log: LogWriter,
    work: Work,
    /// What was taken from the queue and is not decided.
    pending: VecDeque<Waiting>,
    frame: Vec<u8>,
    meters: Meters,
    expectation: Expectation,
}

/// What [`Writer::step`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stepped {
    /// There is nothing left to do.
    Idle,
    /// A group was decided.
    Decided,
    /// A group waits for the next segment.
    Blocked,
}

impl Writer {
    /// A writer that goes on where `log` stands.
    pub fn new(shared: Arc<Shared>, log: LogWriter) -> Self {
        let (work, pending, frame) = (Work::default(), VecDeque::new(), Vec::new());
        Self { shared, log, work, pending, frame, meters: Meters::new(), expectation: Expectation::default() }
    }

    /// Works until the queue is closed and empty, then closes the log.
    pub fn run(mut self) {
        loop {
            let gathering = Gathering {
                enough: self.expectation.enough().min(self.shared.options.group_messages),
                patience: PATIENCE,
                pause: if self.expectation.is_trying() { PAUSE } else { PATIENCE },
                idle: match self.log.wants_voucher() || self.shared.stopped().is_some() {
                    true => QUIET_AFTER,
                    false => Duration::from_hours(1),
                },
            };
            let mut work = std::mem::take(&mut self.work);
            self.shared.queue.gather(&mut work, gathering);
            self.work = work;
            let is_quiet = self.work.submissions.is_empty() && self.work.commands.is_empty() && !self.work.closed;
            if is_quiet {
                self.expectation.gathered(0);
                self.be_quiet();
                continue;
            }
            self.expectation.gathered(self.work.submissions.len());
            self.take_over();
            while !self.pending.is_empty() {
                if self.step() == Stepped::Blocked {
                    self.shared.preparation.wait(LOOK_EVERY);
                }
            }
            if self.work.closed {
                self.end();
                return;
            }
        }
    }

    /// Takes what waits now, without waiting for it, and executes commands.
    pub fn poll(&mut self) {
        let mut work = std::mem::take(&mut self.work);
        self.shared.queue.take(&mut work);
        self.work = work;
        self.take_over();
    }

    fn take_over(&mut self) {
        self.pending.extend(self.work.submissions.drain(..));
        for command in std::mem::take(&mut self.work.commands) {
            self.execute(command);
        }
    }

    /// Decides one group of what was taken.
    pub fn step(&mut self) -> Stepped {
        let largest = self.log.largest_frame() as usize;
        let (mut length, mut count) = (FRAME_HEADER, 0);
        for waiting in self.pending.iter().take(self.shared.options.group_messages.max(1)) {
            let span = HEAD + align(waiting.submission.body.len());
            if count > 0 && length + span > largest {
                break;
            }
            length += span;
            count += 1;
        }
        if count == 0 {
            return Stepped::Idle;
        }
        let refusal = match self.shared.check_acceptance() {
            Ok(()) if length > self.shared.options.largest_record.max(self.log.largest_frame()) as usize => {
                Some(too_large())
            }
            // Made for smaller messages than are taken now; the next segment is not.
            Ok(()) if length > largest => match self.roll(true) {
                Ok(()) | Err(AppendError::NotReady) => return Stepped::Blocked,
                Err(error) => Some(self.refuse(error)),
            },
            Ok(()) => match self.make_room(length, count, Class::Message) {
                Ok(()) => None,
                Err(AppendError::NotReady) => return Stepped::Blocked,
                Err(error) => Some(self.refuse(error)),
            },
            Err(refusal) => Some(refusal),
        };
        let group: Vec<Waiting> = self.pending.drain(..count).collect();
        let bytes = group.iter().map(|waiting| waiting.submission.bytes()).sum();
        match refusal {
            None => self.accept(group),
            Some(refusal) => {
                let refusals = group.into_iter().map(|waiting| (waiting.reply, Err(again(&refusal))));
                answer(refusals.map(|(reply, what)| (reply, Reply::Decided(what))).collect(), None);
            }
        }
        self.shared.queue.decided(count, bytes);
        Stepped::Decided
    }

    /// Decides a group for which there is room, makes it durable and answers it.
    fn accept(&mut self, group: Vec<Waiting>) {
        let stamp = match self.stamp() {
            Ok(stamp) => stamp,
            Err(error) => return refuse_all(group, &error),
        };
        let runtime = group.iter().find_map(|waiting| waiting.runtime.clone());
        let mut building = Building::new(std::mem::take(&mut self.frame), &self.log);
        let (mut decided, mut now): (Answers, Answers) = (Vec::with_capacity(group.len()), Vec::new());
        let mut spans = Vec::new();
        // What this group accepts, by the hash of its key.
        let mut accepted: HashMap<Hash, (Timestamp, usize)> = HashMap::with_capacity(group.len());
        let mut members: Vec<Box<Submission>> = Vec::with_capacity(group.len());
        for Waiting { submission, reply, .. } in group {
            if let Some((accepted_at, member)) = accepted.get(&submission.id) {
                let outcome = match members.get(*member) {
                    Some(first) if first.key == submission.key => Ok(Outcome::Duplicate {
                        first: self.shared.acceptance(*accepted_at, self.shared.retention_millis()),
                        fingerprint: Some(first.fingerprint),
                    }),
                    _ => Err(Error::internal("a message has another key with the same hash")),
                };
                decided.push((reply, Reply::Decided(outcome)));
                continue;
            }
            if self.shared.view.since(&submission.id, submission.looked) == Since::LookAgain {
                now.push((reply, Reply::Again(submission)));
                continue;
            }
            let accepted_at = building.message(&self.shared, &submission, stamp);
            accepted.insert(submission.id, (accepted_at, members.len()));
            if !submission.span.is_none() {
                spans.push(submission.span.clone());
            }
            decided.push((
                reply,
                Reply::Decided(Ok(Outcome::Accepted(
                    self.shared.acceptance(accepted_at, self.shared.retention_millis()),
                ))),
            ));
            members.push(submission);
        }
        answer(now, runtime.clone());
        if is_planted(Sabotage::AnswerBeforeSync) {
            answer(std::mem::take(&mut decided), runtime.clone());
        }
        let count = members.len();
        if count > 0 {
            let appended = self.append(&mut building, stamp, &spans, true);
            // Told to the exporter before their callers go on.
            drop(spans);
            match appended {
                Ok(()) => {
                    let end = self.log.end();
                    self.shared.view.add(&building.entries, end);
                    self.publish(end);
                    self.shared.set_stopped(None);
                }
                Err(error) => {
                    let refusal = self.refuse(error);
                    for (_, reply) in &mut decided {
                        *reply = Reply::Decided(Err(again(&refusal)));
                    }
                }
            }
        }
        self.frame = building.frame;
        answer(decided, runtime);
    }

    /// Writes and syncs what was built; its place must still be the end.
    fn append(
        &mut self,
        building: &mut Building,
        stamp: Stamp,
        spans: &[tracing::Span],
        matters: bool,
    ) -> Result<(), AppendError> {
        let filled = building.filled(matters);
        self.shared.set_working(Worker::Writer, true);
        let (log, frame) = (&mut self.log, &mut building.frame);
        let appended = self.meters.measure(spans, filled.records, || log.append(frame, &filled, stamp));
        self.shared.set_working(Worker::Writer, false);
        let before = f64::from_bits(self.shared.used.swap(self.log.used().to_bits(), Ordering::Relaxed));
        if before < BEGINS && self.log.used() >= BEGINS {
            self.shared.preparation.note_change();
        }
        appended.map(|_| ())
    }

    fn publish(&self, end: Position) {
        self.shared.publish(end, self.log.newest());
    }

    /// What the clocks say; where the answer's clock went back, the log tells it first.
    fn stamp(&mut self) -> Result<Stamp, Error> {
        let stamp = self.shared.clock.stamp();
        if self.shared.clock.take_went_back() {
            // Until a record tells so, no message may have an earlier time than the one before it.
            self.change(Change::Clock(stamp.wall), Class::State).inspect_err(|_| self.shared.clock.note_went_back())?;
        }
        Ok(stamp)
    }

    /// Goes on to the next segment if a frame does not fit into this one.
    fn make_room(&mut self, length: usize, records: usize, class: Class) -> Result<(), AppendError> {
        if self.log.fits(length, records, class) {
            return Ok(());
        }
        self.roll(true)?;
        if self.log.fits(length, records, class) { Ok(()) } else { Err(AppendError::NotReady) }
    }

    fn roll(&mut self, was_full: bool) -> Result<(), AppendError> {
        // Memory holds the entries of two segments: a third waits for the first one's runs.
        if self.shared.view.uncovered() > 1 {
            self.shared.preparation.note_change();
            let problem = self.shared.uncovered.lock().clone();
            return Err(problem.map_or(AppendError::NotReady, AppendError::NoSegment));
        }
        let stamp = self.shared.clock.stamp();
        let snapshot = {
            let mut state = self.shared.state.write();
            state.forget(stamp.wall, self.shared.retention());
            state.snapshot()
        };
        self.shared.set_working(Worker::Writer, true);
        let rolled = self.log.roll(&snapshot, was_full, stamp);
        self.shared.set_working(Worker::Writer, false);
        rolled?;
        let end = self.log.end();
        self.shared.view.begin(self.log.segment(), end);
        self.publish(end);
        self.shared.used.store(self.log.used().to_bits(), Ordering::Relaxed);
        // Its runs come next, and the house has something to merge soon.
        self.shared.preparation.note_change();
        self.shared.background.ring();
        Ok(())
    }

    /// What callers are told of a frame that was not written.
    fn refuse(&self, error: AppendError) -> Error {
        match error {
            AppendError::NotReady => Error::store_unavailable("the next segment of the log is not ready yet"),
            AppendError::NoSpace(why) => {
                self.shared.set_stopped(Some(Stopped::Full(why.clone())));
                disk_full(&why)
            }
            AppendError::NoSegment(why) => {
                self.shared.set_stopped(Some(Stopped::Otherwise(why.clone())));
                Error::store_unavailable(why)
            }
            AppendError::Failed(why) => {
                self.shared.fail(why.clone());
                Error::store_unavailable(why)
            }
        }
    }

    fn execute(&mut self, command: Command) {
        match command {
            Command::CreateKey(record, reply) => drop(reply.send(self.create_key(*record))),
            Command::RevokeKey(id, at, reply) => drop(reply.send(self.revoke_key(&id, at))),
            Command::TouchKeys(mut used, reply) => {
                let state = self.shared.state.read();
                used.retain(|(id, _)| state.key(id).is_some());
                drop(state);
                // A record of a few: the frame of all keys might be larger than a frame may be.
                let touched = used
                    .chunks(USED_AT_A_TIME)
                    .try_for_each(|used| self.change(Change::Used(used.to_vec()), Class::Message));
                let _ = reply.send(touched);
            }
            Command::Age(reply) => {
                let aged = self.age();
                if let Some(reply) = reply {
                    let _ = reply.send(aged);
                }
            }
        }
    }

    fn create_key(&mut self, record: KeyRecord) -> Result<(), Error> {
        let state = self.shared.state.read();
        let (exists, has_room) = (state.key(&record.id).is_some(), state.has_room());
        drop(state);
        if exists {
            return Err(Error::internal(format!("a key {} exists", record.id)));
        }
        if !has_room {
            let text = "This store holds as many keys as it can; revoked ones make room when their retention is over";
            return Err(Error::invalid_argument("key", ViolationCode::TooLong, text));
        }
        self.change(Change::Key(Box::new(record)), Class::State)
    }

    fn revoke_key(&mut self, id: &KeyId, at: Timestamp) -> Result<Option<KeyRecord>, Error> {
        let known = self.shared.state.read().key(id).cloned();
        let Some(mut record) = known else { return Ok(None) };
        if record.revoked_at.is_none() {
            record.revoked_at = Some(at);
            self.change(Change::Key(Box::new(record.clone())), Class::State)?;
        }
        Ok(Some(record))
    }

    /// Forgets segments whose last record has expired, and seals this one when it is old: what expires with it would stay
    /// too long.
    fn age(&mut self) -> Result<(), Error> {
        self.shared.check_failure()?;
        let age = self.shared.clock.age();
        let oldest = self.shared.oldest();
        // Two segments stay, each with a snapshot of the state.
        let last = self.log.segment().saturating_sub(1);
        let headers = self.shared.log.headers(oldest.saturating_add(1)..=last);
        let expired = headers.iter().take_while(|next| next.newest_expiry <= age).last();
        if let Some(kept) = expired.map(|next| next.number) {
            self.change(Change::Oldest(kept), Class::Oldest)?;
            self.shared.background.ring();
        }
        let longest = (self.shared.retention_micros() / 30).min(24 * 3600 * 1_000_000);
        if self.log.first_age().is_some_and(|first| age.saturating_sub(first) >= longest.max(1)) {
            match self.roll(false) {
                // There is room in this one, so nothing is refused for want of the next.
                Ok(()) | Err(AppendError::NotReady | AppendError::NoSpace(_) | AppendError::NoSegment(_)) => {}
                Err(error @ AppendError::Failed(_)) => return Err(self.refuse(error)),
            }
        }
        Ok(())
    }

    /// Makes a change of the state durable, and then true.
    fn change(&mut self, change: Change, class: Class) -> Result<(), Error> {
        self.shared.check_failure()?;
        let body = change.to_body();
        let length = FRAME_HEADER + HEAD + align(body.len());
        match self.make_room(length, 1, class) {
            Ok(()) => {}
            Err(error) => return Err(self.refuse(error)),
        }
        let stamp = self.shared.clock.stamp();
        let mut building = Building::new(std::mem::take(&mut self.frame), &self.log);
        building.state(&self.shared, &body, stamp);
        let matters = !matches!(change, Change::Used(_));
        let appended = self.append(&mut building, stamp, &[], matters);
        self.frame = building.frame;
        appended.map_err(|error| self.refuse(error))?;
        self.shared.state.write().apply(change);
        let end = self.log.end();
        self.shared.view.add(&[], end);
        self.publish(end);
        Ok(())
    }

    /// Vouches for the last frame.
    pub fn be_quiet(&mut self) {
        if self.shared.check_failure().is_err() {
            return;
        }
        let stamp = self.shared.clock.stamp();
        self.shared.set_working(Worker::Writer, true);
        let quiet = self.log.quiet(stamp);
        self.shared.set_working(Worker::Writer, false);
        match quiet {
            Ok(()) => {
                self.publish(self.log.end());
                self.look_for_room();
            }
            Err(error) => drop(self.refuse(error)),
        }
    }

    /// Acceptance comes back by itself: while nobody submits, because the store is not ready, nobody else finds out.
    fn look_for_room(&mut self) {
        if self.shared.stopped().is_none() || self.shared.preparation.has_problem() {
            return;
        }
        let has_room = self.shared.log.disk.free_bytes().is_ok_and(|free| free >= u64::from(self.log.largest_frame()));
        match self.log.clear_leftover() {
            Ok(()) if has_room => self.shared.set_stopped(None),
            Ok(()) | Err(AppendError::NotReady | AppendError::NoSpace(_) | AppendError::NoSegment(_)) => {}
            Err(error) => drop(self.refuse(error)),
        }
    }

    /// Decides what is left, and closes the log. What waits for a segment that does not come is refused.
    pub fn end(&mut self) {
        self.poll();
        while self.step() == Stepped::Decided {}
        refuse_all(self.pending.drain(..), &super::queue::closed());
        if self.shared.check_failure().is_err() {
            return;
        }
        let stamp = self.shared.clock.stamp();
        if let Err(error) = self.log.close(stamp) {
            drop(self.refuse(error));
        }
        self.publish(self.log.end());
    }
}

fn refuse_all(group: impl IntoIterator<Item = Waiting>, refusal: &Error) {
    let refusals = group.into_iter().map(|waiting| (waiting.reply, Reply::Decided(Err(again(refusal)))));
    answer(refusals.collect(), None);
}

/// The same refusal for another caller.
fn again(refusal: &Error) -> Error {
    let mut error = Error::new(refusal.kind(), refusal.public_message().to_owned());
    if let Some(delay) = refusal.retry_after() {
        error = error.with_retry_after(delay);
    }
    match refusal.cause() {
        Some(cause) => error.with_cause(cause.to_string()),
        None => error,
    }
}

fn too_large() -> Error {
    Error::new(Kind::BodyTooLarge, "The message is larger than this store's 'body_limit' lets it be")
}

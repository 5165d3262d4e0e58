//! One message on its way to the log: looked up by its caller, then handed to the writer, which alone decides.

use tokio::{runtime::Handle, sync::oneshot};
use tracing::Span;

use super::{
    hash,
    index::Hash,
    log::{
        Position,
        reader::{ReadError, Record},
    },
    shared::Shared,
};
use crate::{
    domain::{Error, Fingerprint, MessageKey, NewMessage, Timestamp},
    store::{
        Outcome,
        record::{Draft, View},
    },
    telemetry::trace,
};

/// A message, prepared for the log as far as that is possible without a place in it.
pub struct Submission {
    /// Which message it is.
    pub key: MessageKey,
    /// The hash of its key.
    pub id: Hash,
    /// The hash of its sender.
    pub sender: Hash,
    /// Of its content.
    pub fingerprint: Fingerprint,
    /// The body of its record.
    pub body: Vec<u8>,
    /// The body's checksum.
    pub checksum: u64,
    /// `None` for a message that is accepted now.
    pub import: Option<Import>,
    /// Everything before this place was looked through in vain.
    pub looked: Position,
    /// The span that it waits in, if it is traced.
    pub span: Span,
}

/// What an imported message brings with it.
#[derive(Debug, Clone, Copy)]
pub struct Import {
    /// When it was accepted, wherever that was.
    pub accepted_at: Timestamp,
    /// Whether the feed is to have it.
    pub in_feed: bool,
}

/// What the writer says.
pub enum Reply {
    /// What became of the submission.
    Decided(Result<Outcome, Error>),
    /// Something came between its look-up and its turn: it is to be looked up anew.
    Again(Box<Submission>),
}

/// A submission that waits for the writer.
pub struct Waiting {
    /// The message.
    pub submission: Box<Submission>,
    /// Where its answer is awaited.
    pub reply: oneshot::Sender<Reply>,
    /// The runtime of its caller; without one the answer is sent from the writer's thread.
    pub runtime: Option<Handle>,
}

/// What a submission is told at once, or the place where the writer's answer is awaited.
pub enum Queued {
    /// It was accepted before.
    Known(Outcome),
    /// It waits.
    Waits(oneshot::Receiver<Reply>),
}

impl Submission {
    /// Prepares `message`.
    pub fn new(shared: &Shared, message: NewMessage, import: Option<Import>) -> Box<Self> {
        let (id, sender) = (hash::of_key(message.key()), hash::of_sender_of(&message));
        let body = Draft::new(&message).into_content();
        Box::new(Self {
            id,
            sender,
            fingerprint: *message.fingerprint(),
            checksum: shared.log.secret.body(&body),
            body,
            key: message.into_key(),
            import,
            looked: Position::default(),
            span: trace::here(),
        })
    }

    /// Bytes that it holds in memory while it waits.
    pub fn bytes(&self) -> usize {
        self.body.len()
    }
}

/// Submits `message`, and waits until it is decided.
///
/// # Errors
/// Those of [`crate::store::MessageStore::submit`].
pub async fn submit(shared: &Shared, message: NewMessage, import: Option<Import>) -> Result<Outcome, Error> {
    let mut submission = Submission::new(shared, message, import);
    loop {
        match queue(shared, submission, Some(Handle::current()))? {
            Queued::Known(outcome) => return Ok(outcome),
            Queued::Waits(answer) => match answer.await {
                Ok(Reply::Decided(decided)) => return decided,
                Ok(Reply::Again(again)) => submission = again,
                Err(_) => return Err(Error::store_unavailable("the writer ended before it answered")),
            },
        }
    }
}

/// Looks a submission up, and lets it wait for the writer if it is not known.
///
/// # Errors
/// When the store cannot tell, or takes nothing now.
pub fn queue(shared: &Shared, mut submission: Box<Submission>, runtime: Option<Handle>) -> Result<Queued, Error> {
    shared.check_acceptance()?;
    let (known, looked) = look_up(shared, &submission.id, &submission.key)?;
    if let Some(known) = known {
        return Ok(Queued::Known(known.outcome(shared)?));
    }
    submission.looked = looked;
    let (reply, answer) = oneshot::channel();
    shared.queue.submit(Waiting { submission, reply, runtime })?;
    Ok(Queued::Waits(answer))
}

/// A message that is kept.
pub enum Kept {
    /// Its record; the body may be damaged.
    Record(Record),
    /// Its record's head is damaged: all that is known is about when it was accepted.
    Damaged(Timestamp),
}

impl Kept {
    fn outcome(self, shared: &Shared) -> Result<Outcome, Error> {
        let (accepted_at, retention, fingerprint) = match &self {
            Kept::Damaged(accepted_at) => (*accepted_at, shared.retention_millis(), None),
            Kept::Record(record) => {
                let view = record.body.as_ref().map(|body| View::of_content(record.head.accepted_at, body));
                let view = view.transpose().map_err(Error::internal)?;
                (record.head.accepted_at, record.head.retention, view.map(|view| view.fingerprint))
            }
        };
        Ok(Outcome::Duplicate { first: shared.acceptance(accepted_at, retention), fingerprint })
    }
}

/// The message with `key`, whose hash is `id`, if it is durable and neither removed nor expired; and the place up to which
/// everything was looked through.
///
/// # Errors
/// When the index or the log cannot tell; internal for another message under the same hash, which must not make this one
/// vanish.
pub fn look_up(shared: &Shared, id: &Hash, key: &MessageKey) -> Result<(Option<Kept>, Position), Error> {
    let looked = shared.view.look(id).map_err(|error| shared.index_failed(error))?;
    let Some(position) = looked.found else { return Ok((None, looked.through)) };
    let known = match shared.log.record(position) {
        Ok(record) if record.head.expiry <= shared.clock.age() => None,
        Ok(record) => {
            if let Some(body) = &record.body {
                let view = View::of_content(record.head.accepted_at, body).map_err(Error::internal)?;
                if record.head.id != *id || !view.has_key(key) {
                    return Err(Error::internal("a message has another key with the same hash"));
                }
            } else {
                shared.found_damage(position);
            }
            Some(Kept::Record(record))
        }
        Err(ReadError::Damaged) => {
            shared.found_damage(position);
            Some(Kept::Damaged(shared.time_before(position)))
        }
        Err(ReadError::Gone) if position.segment() < shared.oldest() => None,
        // Of a segment that is lost, with the operator's consent.
        Err(ReadError::Gone) => Some(Kept::Damaged(shared.time_before(position))),
        Err(ReadError::Io(error)) => return Err(Error::store_unavailable(error)),
    };
    Ok((known, looked.through))
}

/// Sends answers from inside the runtime of those who wait: one wake-up from here instead of one a message.
pub fn answer(mut answers: Vec<(oneshot::Sender<Reply>, Reply)>, runtime: Option<Handle>) {
    let send = |answers: Vec<(oneshot::Sender<Reply>, Reply)>| {
        for (reply, what) in answers {
            // Whoever is gone needs no answer.
            let _ = reply.send(what);
        }
    };
    match (runtime, answers.len()) {
        (Some(runtime), 2..) => drop(runtime.spawn(async move { send(answers) })),
        _ => send(std::mem::take(&mut answers)),
    }
}

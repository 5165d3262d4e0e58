//! Over one stream of gRPC. What the server asks to wait with is sent again on it; when it breaks, a new one sends again
//! what was not answered.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use prost::Message as _;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{
    super::{
        backoff,
        output::{Failure, talk},
        remote::{Server, is_passing},
    },
    Tell, Told,
    item::{Item, Outcome},
};
use crate::protocol::grpc::v1::{
    SubmitMessageRequest, SubmitMessagesRequest, SubmitMessagesResponse, SubmitOutcome,
    submit_messages_response::Result as Answer,
};

/// The reasons of errors which say that nothing was done for the message.
const NOT_TAKEN: [&str; 2] = ["RATE_LIMITED", "OVERLOADED"];
/// A message that is to wait for less time than this waits for this.
const SHORTEST_WAIT: Duration = Duration::from_millis(50);

/// Why a stream ended early.
enum Broken {
    /// It broke, or the server ended it.
    Lost(Status),
    /// The server says nothing but that messages are to wait.
    Stuck(String),
    /// There is no TLS with it, for this reason.
    Strange(String),
    /// Outcomes cannot be told any more: stdout failed, and says so itself.
    Unheard,
}

impl From<Status> for Broken {
    fn from(status: Status) -> Self {
        Broken::Lost(status)
    }
}

/// The messages without an outcome, whatever becomes of streams.
struct Queue {
    /// By the correlation id under which they are sent.
    messages: BTreeMap<u64, Message>,
    /// Those of them that wait, and until when.
    waiting: BTreeSet<(Instant, u64)>,
    next_id: u64,
    /// The most messages on the stream at once.
    in_flight: usize,
    /// How many there may be on it now: fewer after a message was asked to wait, one more after each that was decided.
    window: usize,
    /// The server asked for nothing before this.
    paused_until: Instant,
    /// When a message was decided last, or the first of those that are left came.
    decided_at: Instant,
    answers: u64,
    was_slowed: bool,
}

struct Message {
    request: SubmitMessageRequest,
    /// An earlier attempt may have been accepted without an answer.
    may_be_taken: bool,
}

/// Sends every item until it is answered for good.
///
/// # Errors
/// When the server refuses the stream itself, or does not answer for a long time.
pub(super) async fn submit(
    server: &Server,
    mut items: mpsc::Receiver<Item>,
    in_flight: usize,
    tell: Tell,
) -> Result<(), Failure> {
    let mut queue = Queue::new(in_flight);
    let mut pauses = backoff::pauses(false);
    loop {
        let before = queue.answers;
        let lost = match one_stream(server, &mut items, &mut queue, &tell).await {
            Ok(()) => return Ok(()),
            Err(Broken::Unheard) => return Err(Failure::Quiet),
            Err(Broken::Strange(why)) => return Err(server.unconnected(Some(why))),
            Err(Broken::Stuck(why)) => {
                let minutes = backoff::PATIENCE.as_secs() / 60;
                return Err(Failure::Failed(format!("{why} (said for {minutes} minutes; send the rest again later)")));
            }
            Err(Broken::Lost(lost)) => lost,
        };
        if !is_passing(&lost) {
            return Err(server.failure(&lost));
        }
        if queue.answers > before {
            pauses = backoff::pauses(true);
        }
        let Some(pause) = pauses.next() else {
            return Err(Failure::Failed(match queue.answers {
                0 => server.said(&lost),
                _ => format!("{} does not answer; send the rest again later", server.address),
            }));
        };
        talk(&match queue.answers {
            0 => format!("{}; trying again in {pause:?}", server.said(&lost)),
            _ => format!("the stream broke; sending {} messages again in {pause:?}", queue.messages.len()),
        });
        sleep(pause).await;
        queue.stream_broke();
    }
}

/// Until every item was taken and answered, or the stream breaks.
async fn one_stream(
    server: &Server,
    items: &mut mpsc::Receiver<Item>,
    queue: &mut Queue,
    tell: &Tell,
) -> Result<(), Broken> {
    let mut client = server.try_connect().await.map_err(|why| match why {
        Some(why) => Broken::Strange(why),
        None => Status::unavailable("").into(),
    })?;
    // Never full: no more than this many messages are on the stream without an answer.
    let (requests, stream) = mpsc::channel(queue.in_flight);
    let mut answers = client.submit_messages(server.request(ReceiverStream::new(stream))).await?.into_inner();
    let mut more = true;
    loop {
        if !more && queue.messages.is_empty() {
            return Ok(());
        }
        while let Some(request) = queue.next_due() {
            // A stream that is gone is told by its answers.
            let _ = requests.try_send(request);
        }
        let (has_room, wake) = (queue.has_room(), queue.wakes_at());
        tokio::select! {
            answer = answers.message() => match answer? {
                Some(answer) => queue.settle(answer, tell).await?,
                None => return Err(Status::unavailable("").into()),
            },
            item = items.recv(), if has_room && more => match item {
                None => more = false,
                Some(item) => match item.to_wire(server) {
                    Ok(message) => queue.add(message),
                    Err(outcome) => told(tell, item.message_sid, outcome).await?,
                },
            },
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
        }
    }
}

impl Queue {
    fn new(in_flight: usize) -> Self {
        Self {
            messages: BTreeMap::new(),
            waiting: BTreeSet::new(),
            next_id: 0,
            in_flight,
            window: in_flight,
            paused_until: Instant::now(),
            decided_at: Instant::now(),
            answers: 0,
            was_slowed: false,
        }
    }

    /// Messages on the stream without an answer.
    fn under_way(&self) -> usize {
        self.messages.len() - self.waiting.len()
    }

    /// Whether another message may be taken from the input: none while others wait.
    fn has_room(&self) -> bool {
        self.waiting.is_empty() && self.under_way() < self.window
    }

    fn add(&mut self, request: SubmitMessageRequest) {
        let id = self.next_id;
        self.next_id += 1;
        if self.messages.is_empty() {
            self.decided_at = Instant::now();
        }
        self.messages.insert(id, Message { request, may_be_taken: false });
        self.waiting.insert((Instant::now(), id));
    }

    /// The next message that is to be sent now.
    fn next_due(&mut self) -> Option<SubmitMessagesRequest> {
        if self.wakes_at()? > Instant::now() {
            return None;
        }
        let due = self.waiting.first().copied()?;
        self.waiting.remove(&due);
        let message = Some(self.messages.get(&due.1)?.request.clone());
        Some(SubmitMessagesRequest { correlation_id: due.1, message })
    }

    /// When a message that waits is to be sent, if there is room for it.
    fn wakes_at(&self) -> Option<Instant> {
        let (at, _) = self.waiting.first()?;
        (self.under_way() < self.window).then_some(self.paused_until.max(*at))
    }

    /// Everything that was on the stream is sent again on the next one.
    fn stream_broke(&mut self) {
        let waiting: BTreeSet<_> = self.waiting.iter().map(|(_, id)| *id).collect();
        for (id, message) in self.messages.iter_mut().filter(|(id, _)| !waiting.contains(id)) {
            message.may_be_taken = true;
            self.waiting.insert((Instant::now(), *id));
        }
    }

    /// Ends what an answer decides, or notes when to send its message again.
    async fn settle(&mut self, answer: SubmitMessagesResponse, tell: &Tell) -> Result<(), Broken> {
        self.answers += 1;
        let id = answer.correlation_id;
        let outcome = match answer.result {
            Some(Answer::Receipt(receipt)) if receipt.outcome() == SubmitOutcome::Duplicate => {
                let is_own = self.messages.get(&id).is_some_and(|message| message.may_be_taken);
                Outcome::Duplicate { payload_matches: !receipt.payload_mismatch, may_be_own: is_own }
            }
            Some(Answer::Receipt(_)) => Outcome::Accepted,
            Some(Answer::Error(error)) => {
                let details = error.encode_to_vec();
                let status = Status::with_details(Code::from_i32(error.code), error.message, details.into());
                // Only what may be tried again says when.
                if let Some(wait) = status.get_details_retry_info().and_then(|info| info.retry_delay) {
                    return self.wait(id, wait, &status);
                }
                Outcome::Refused(status.message().to_owned())
            }
            None => return Ok(()),
        };
        self.decided_at = Instant::now();
        self.window = (self.window + 1).min(self.in_flight);
        match self.messages.remove(&id) {
            Some(message) => told(tell, message.request.message_sid, outcome).await,
            None => Ok(()),
        }
    }

    fn wait(&mut self, id: u64, wait: Duration, why: &Status) -> Result<(), Broken> {
        let Some(message) = self.messages.get_mut(&id) else { return Ok(()) };
        if self.decided_at.elapsed() > backoff::PATIENCE {
            return Err(Broken::Stuck(why.message().to_owned()));
        }
        if !self.was_slowed {
            self.was_slowed = true;
            talk(&format!("{}; going on more slowly", why.message()));
        }
        let reason = why.get_details_error_info().map(|info| info.reason).unwrap_or_default();
        message.may_be_taken |= !NOT_TAKEN.contains(&reason.as_str());
        self.window = (self.window / 2).max(1);
        // Whatever else were sent meanwhile would be asked to wait too.
        self.paused_until = self.paused_until.max(Instant::now() + wait.max(SHORTEST_WAIT));
        self.waiting.insert((self.paused_until, id));
        Ok(())
    }
}

async fn told(tell: &Tell, sid: String, outcome: Outcome) -> Result<(), Broken> {
    tell.send(Told::Item(sid, outcome)).await.map_err(|_| Broken::Unheard)
}

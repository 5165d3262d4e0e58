//! Over one stream of gRPC. When it breaks, a new one sends again what was not answered.

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{
    super::{
        backoff,
        output::{Failure, talk},
        remote::{Server, is_passing},
    },
    item::{Item, Outcome},
};
use crate::protocol::grpc::v1::{
    SubmitMessageRequest, SubmitMessagesRequest, SubmitMessagesResponse, SubmitOutcome,
    submit_messages_response::Result as Answer,
};

/// Messages without an answer, by the correlation id under which they were sent.
type Unanswered = BTreeMap<u64, SubmitMessageRequest>;

/// Why a stream ended early.
enum Broken {
    /// It broke, or the server ended it.
    Lost(Status),
    /// Outcomes cannot be told any more: stdout failed, and says so itself.
    Unheard,
}

impl From<Status> for Broken {
    fn from(status: Status) -> Self {
        Broken::Lost(status)
    }
}

/// Sends every item until it is answered for good.
///
/// # Errors
/// When the server refuses the stream itself, or does not answer for a long time.
pub(super) async fn submit(
    server: &Server,
    mut waiting: mpsc::Receiver<Item>,
    in_flight: usize,
    tell: mpsc::Sender<(String, Outcome)>,
) -> Result<(), Failure> {
    let mut unanswered = Unanswered::new();
    let mut next_id = 0;
    let mut pauses = backoff::pauses();
    loop {
        let answered_before = next_id - unanswered.len() as u64;
        let lost = match one_stream(server, &mut waiting, &mut unanswered, &mut next_id, in_flight, &tell).await {
            Ok(()) => return Ok(()),
            Err(Broken::Unheard) => return Err(Failure::Quiet),
            Err(Broken::Lost(lost)) => lost,
        };
        if !is_passing(&lost) {
            return Err(server.failure(&lost));
        }
        let answered = next_id - unanswered.len() as u64;
        if answered > answered_before {
            pauses = backoff::pauses();
        }
        let Some(pause) = pauses.next() else {
            return Err(Failure::Failed(format!("{} does not answer; send the rest again later", server.address)));
        };
        talk(&format!("the stream broke; sending {} messages again in {pause:?}", unanswered.len()));
        tokio::time::sleep(pause).await;
    }
}

/// Until every item was taken and answered, or the stream breaks.
async fn one_stream(
    server: &Server,
    waiting: &mut mpsc::Receiver<Item>,
    unanswered: &mut Unanswered,
    next_id: &mut u64,
    in_flight: usize,
    tell: &mpsc::Sender<(String, Outcome)>,
) -> Result<(), Broken> {
    let mut client = server.connect().await.map_err(|_| Status::unavailable("cannot connect"))?;
    let (requests, stream) = mpsc::channel(in_flight.max(unanswered.len()));
    for (id, message) in unanswered.iter() {
        // There is room for all of them.
        let _ = requests.try_send(SubmitMessagesRequest { correlation_id: *id, message: Some(message.clone()) });
    }
    let mut answers = client.submit_messages(server.request(ReceiverStream::new(stream))).await?.into_inner();
    let mut requests = Some(requests);
    loop {
        if requests.is_none() && unanswered.is_empty() {
            return Ok(());
        }
        let has_room = unanswered.len() < in_flight;
        tokio::select! {
            answer = answers.message() => match answer? {
                Some(answer) => settle(answer, unanswered, tell).await?,
                None => return Err(Status::unavailable("the server ended the stream").into()),
            },
            item = waiting.recv(), if has_room && requests.is_some() => {
                let Some(item) = item else {
                    requests = None;
                    continue;
                };
                match item.to_wire(server) {
                    Ok(message) => {
                        let id = *next_id;
                        *next_id += 1;
                        unanswered.insert(id, message.clone());
                        let request = SubmitMessagesRequest { correlation_id: id, message: Some(message) };
                        if let Some(requests) = &requests {
                            // A stream that is gone is told by its answers.
                            let _ = requests.send(request).await;
                        }
                    }
                    Err(outcome) => told(tell, item.message_sid, outcome).await?,
                }
            }
        }
    }
}

/// Ends what an answer decides. A passing error breaks the stream: the pause and the next one are for all.
async fn settle(
    answer: SubmitMessagesResponse,
    unanswered: &mut Unanswered,
    tell: &mpsc::Sender<(String, Outcome)>,
) -> Result<(), Broken> {
    let outcome = match answer.result {
        Some(Answer::Receipt(receipt)) if receipt.outcome() == SubmitOutcome::Duplicate => {
            Outcome::Duplicate { payload_matches: !receipt.payload_mismatch }
        }
        Some(Answer::Receipt(_)) => Outcome::Accepted,
        Some(Answer::Error(error)) => {
            // Only what may be tried again says when.
            if error.details.iter().any(|detail| detail.type_url.ends_with("/google.rpc.RetryInfo")) {
                return Err(Status::unavailable(error.message).into());
            }
            Outcome::Refused(error.message)
        }
        None => return Ok(()),
    };
    match unanswered.remove(&answer.correlation_id) {
        Some(message) => told(tell, message.message_sid, outcome).await,
        None => Ok(()),
    }
}

async fn told(tell: &mpsc::Sender<(String, Outcome)>, sid: String, outcome: Outcome) -> Result<(), Broken> {
    tell.send((sid, outcome)).await.map_err(|_| Broken::Unheard)
}

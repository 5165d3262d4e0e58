//! `tail`.

use std::str::FromStr;

use tonic::{Code, Status, Streaming};

use super::{
    backoff,
    output::{Failure, block_on, print_while_read, talk},
    remote::{KEY_HELP, Remote, Server, is_passing, is_the_services},
    shown::{to_json, to_line},
};
use crate::{
    domain::Timestamp,
    protocol::grpc::v1::{
        FeedMessage, FeedOrder, StartPosition, StreamMessagesRequest, StreamMessagesResponse,
        stream_messages_request::From as Wire,
    },
    service::Cursor,
};

#[derive(Debug, clap::Args)]
#[command(after_help = format!(
    "The key needs the scope 'stream'. {KEY_HELP}\n\nDelivery is at least once. After a broken connection the command \
     resumes where it was. To resume in another run, keep the 'cursor' of the last line of --json."
))]
pub(super) struct Args {
    /// Where to start: 'now', 'start', a time (UNIX seconds or ISO 8601), or a message's cursor.
    #[arg(long, value_name = "now|start|TIME|CURSOR", default_value = "now")]
    from: Start,
    /// Print one JSON object per line, including its cursor.
    #[arg(long)]
    json: bool,
    /// Stop after this many messages.
    #[arg(long, value_name = "NUMBER")]
    count: Option<u64>,
    /// Each message as soon as it is accepted ('fast'), or each user's messages in order of acceptance ('ordered').
    #[arg(long, value_enum, default_value_t = Order::Fast)]
    order: Order,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Order {
    Fast,
    Ordered,
}

#[derive(Clone)]
struct Start(Wire);

impl std::fmt::Debug for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Start(…)")
    }
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wire = match text {
            "now" => Wire::Position(StartPosition::Now.into()),
            "start" => Wire::Position(StartPosition::Start.into()),
            _ => match (Timestamp::parse(text), Cursor::parse(text)) {
                (Ok(time), _) => {
                    let (seconds, nanos) = time.as_unix();
                    Wire::Time(prost_types::Timestamp { seconds, nanos })
                }
                (Err(_), Ok(_)) => Wire::Cursor(text.to_owned()),
                (Err(_), Err(_)) => return Err("write 'now', 'start', a time or a cursor".into()),
            },
        };
        Ok(Self(wire))
    }
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let server = args.remote.clone().check()?;
    block_on(follow(&args, &server))
}

async fn follow(args: &Args, server: &Server) -> Result<(), Failure> {
    let mut place = args.from.0.clone();
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut pauses = backoff::pauses(true);
    while left > 0 {
        let lost = match open(args, server, place.clone()).await {
            Ok(mut stream) => loop {
                match stream.message().await {
                    Ok(Some(frame)) => {
                        pauses = backoff::pauses(true);
                        for message in frame.messages.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
                            if !print_while_read(&line(message, args.json))? {
                                return Ok(());
                            }
                            left -= 1;
                        }
                        if left == 0 {
                            return Ok(());
                        }
                        place = Wire::Cursor(frame.cursor);
                    }
                    Ok(None) => break Status::unavailable("the server ended the stream"),
                    Err(status) => break status,
                }
            },
            Err(Opening::Refused(status)) => status,
            Err(Opening::Unreachable(failure)) if matches!(place, Wire::Cursor(_)) => {
                let pause = backoff::next_of(&mut pauses);
                talk(&format!("{failure}; trying again in {pause:?}"));
                tokio::time::sleep(pause).await;
                continue;
            }
            Err(Opening::Unreachable(failure)) => return Err(Failure::Failed(failure)),
        };
        // At the beginning a wrong address is likelier than a broken network.
        let is_elsewhere = !is_the_services(&lost) && !matches!(place, Wire::Cursor(_));
        if is_elsewhere || !is_passing(&lost) {
            return Err(server.failure(&lost));
        }
        let pause = backoff::next_of(&mut pauses);
        talk(&format!("{}; going on in {pause:?}", said(&lost)));
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

enum Opening {
    Unreachable(String),
    Refused(Status),
}

async fn open(args: &Args, server: &Server, from: Wire) -> Result<Streaming<StreamMessagesResponse>, Opening> {
    let mut client = server.connect().await.map_err(|failure| match failure {
        Failure::Failed(text) | Failure::Usage(text) => Opening::Unreachable(text),
        Failure::Quiet => Opening::Unreachable("cannot connect".into()),
    })?;
    let order = match args.order {
        Order::Fast => FeedOrder::Fast,
        Order::Ordered => FeedOrder::Ordered,
    };
    let request = server.request(StreamMessagesRequest {
        org_id: server.org_id(),
        env: server.env().into(),
        from: Some(from),
        order: order.into(),
    });
    client.stream_messages(request).await.map(tonic::Response::into_inner).map_err(Opening::Refused)
}

fn line(item: &FeedMessage, json: bool) -> String {
    let message = item.message.clone().unwrap_or_default();
    if !json {
        return to_line(&message) + "\n";
    }
    let mut fields = to_json(&message);
    if let Some(fields) = fields.as_object_mut() {
        fields.insert("cursor".into(), item.cursor.clone().into());
    }
    fields.to_string() + "\n"
}

fn said(status: &Status) -> String {
    match (status.message(), status.code()) {
        // The transport's own words for a connection that broke are of no use to a reader.
        (_, Code::Unknown | Code::Internal | Code::Cancelled) | ("", _) => "the connection broke".into(),
        (message, _) => message.into(),
    }
}

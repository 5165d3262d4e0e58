//! `submit`: one message by flags or many from a file, over gRPC or over the webhook. Whatever fails in passing is sent
//! again with the same `message_sid`, which is always safe.

mod grpc;
mod item;
mod progress;
mod webhook;

use std::path::PathBuf;

use tokio::sync::mpsc;

use self::{
    item::{Item, Outcome},
    progress::Progress,
};
use super::{
    output::{Failure, block_on, print},
    remote::{KEY_HELP, Remote},
};

/// What is told of one line or message.
enum Told {
    /// Of the message with this id.
    Item(String, Outcome),
    /// Of a line of the input that is no message.
    Line(usize, Outcome),
}

type Tell = mpsc::Sender<Told>;

/// Items read ahead of what is under way.
const READ_AHEAD: usize = 1024;

#[derive(Debug, clap::Args)]
#[command(after_help = format!(
    "The key needs the scope 'submit'. {KEY_HELP}\n\nWith --file, each line is a JSON object with the webhook's fields. \
     For each message one line is printed: its id and 'accepted', 'duplicate', 'mismatch' (a duplicate with different \
     content) or the error. Lines that are not messages are reported by number, and the others are still sent. The exit \
     code is 1 if anything was refused."
))]
pub(super) struct Args {
    /// The end user.
    #[arg(long, required_unless_present = "file", conflicts_with = "file")]
    from_id: Option<String>,
    /// The message's id; use the same one for a retry.
    #[arg(long, value_name = "SID", required_unless_present = "file", conflicts_with = "file")]
    message_sid: Option<String>,
    /// When the user sent it: UNIX seconds or ISO 8601; defaults to now.
    #[arg(long, conflicts_with = "file")]
    timestamp: Option<String>,
    /// The text.
    #[arg(long, value_name = "TEXT", conflicts_with = "file")]
    message_body: Option<String>,
    /// The URL of an image.
    #[arg(long, value_name = "URL", conflicts_with = "file")]
    image_url: Option<String>,
    /// The URL of an audio file.
    #[arg(long, value_name = "URL", conflicts_with_all = ["file", "image_url"])]
    audio_url: Option<String>,
    /// File with one JSON object per line; '-' is stdin.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Send to the webhook at this address instead of gRPC, e.g. http://127.0.0.1:8080 or https://HOST:PORT; needs --org and --env.
    #[arg(long, value_name = "URL")]
    http_url: Option<String>,
    /// Maximum number of messages in flight.
    #[arg(long, value_name = "NUMBER", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    in_flight: u16,
    /// Print one JSON object per message.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let Args { in_flight, json, http_url, file, .. } = &args;
    let (in_flight, json) = (usize::from(*in_flight), *json);
    let server = args.remote.clone().check_for(http_url.as_deref())?;
    let webhook = http_url.as_deref().map(|url| webhook::Webhook::new(url, &server)).transpose()?;
    let source = match file {
        Some(path) => item::Source::file(path)?,
        None => item::Source::One(Box::new(one(&args))),
    };
    block_on(async {
        let (items, waiting) = mpsc::channel(READ_AHEAD);
        let (tell, outcomes) = mpsc::channel(READ_AHEAD);
        // Reading blocks, so it has a thread; it ends when nobody takes items any more.
        let reading = tokio::task::spawn_blocking({
            // Not for longer than somebody sends: who waits for input must not hold up the end.
            let tell = tell.downgrade();
            move || source.read_into(&items, &tell)
        });
        let sending = async {
            match &webhook {
                Some(webhook) => webhook.submit(waiting, in_flight, tell).await,
                None => grpc::submit(&server, waiting, in_flight, tell).await,
            }
        };
        let (sent, refused) = tokio::join!(sending, report(outcomes, json));
        // First what stdout says: the sender ends because of it, and quietly.
        let refused = refused?;
        sent?;
        reading.await.map_err(Failure::of)??;
        if refused == 0 { Ok(()) } else { Err(Failure::Failed(format!("{refused} messages were refused"))) }
    })
}

fn one(args: &Args) -> Item {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let now = || crate::domain::Clock::now(&crate::domain::SystemClock).to_string();
    Item {
        from_id: text(&args.from_id),
        message_sid: text(&args.message_sid),
        timestamp: args.timestamp.clone().unwrap_or_else(now).into(),
        message_body: args.message_body.clone(),
        image_urls: args.image_url.clone().map(|url| vec![url]),
        audio_urls: args.audio_url.clone().map(|url| vec![url]),
    }
}

/// Prints every outcome; the number of those refused.
async fn report(mut outcomes: mpsc::Receiver<Told>, json: bool) -> Result<u64, Failure> {
    let mut progress = Progress::new();
    while let Some(told) = outcomes.recv().await {
        let (Told::Item(_, outcome) | Told::Line(_, outcome)) = &told;
        progress.add(outcome);
        let line = if json { told.to_json().to_string() } else { told.to_line() };
        print(&(line + "\n"))?;
    }
    Ok(progress.finish())
}

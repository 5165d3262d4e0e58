//! `export` and `import`: everything that a store keeps as NDJSON, out of a running or a stopped server and into another.

mod export;
mod file;
mod import;
mod line;

use std::{path::PathBuf, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use tonic::{Status, transport::Channel};

use super::{
    flags::StoreFlags,
    output::{Failure, block_on, warn_of_loss},
};
use crate::{
    app::{Control, Purpose},
    protocol::grpc::control::v1::transfer_service_client::TransferServiceClient,
};

/// A page, or one message of any size that a server takes.
const MAX_BYTES: usize = 64 * 1024 * 1024;

type Client = TransferServiceClient<Channel>;

#[derive(Debug, clap::Args)]
#[command(after_help = "The export contains messages and hashes of API keys, so the file is readable only by its \
                        owner. Use --resume to continue an interrupted export.")]
pub(super) struct ExportArgs {
    /// Write to this file, which must not exist; defaults to stdout.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Continue an interrupted export after the last complete page in the file.
    #[arg(long, requires = "output")]
    resume: bool,
    #[command(flatten)]
    store: StoreFlags,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Messages keep their acceptance times and are recognised as duplicates for the rest of their \
                        retention. Run it again after an interruption: what is already there does not change.")]
pub(super) struct ImportArgs {
    /// File that `export` wrote; '-' is stdin.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Also deliver the messages on the feed. By default, readers of the feed do not see them again.
    #[arg(long)]
    to_feed: bool,
    #[command(flatten)]
    store: StoreFlags,
}

pub(super) fn export(args: ExportArgs) -> Result<(), Failure> {
    let ExportArgs { output, resume, store } = args;
    // Before the store is looked for: a file that cannot be written is the nearer mistake.
    let output = match output {
        None => file::Output::stdout(),
        Some(path) if resume => file::Output::resume(path)?,
        Some(path) => file::Output::create(path)?,
    };
    if output.is_complete() {
        return output.say_complete();
    }
    with_store(store, Purpose::Read, async |client| export::run(client, output).await)
}

pub(super) fn import(args: ImportArgs) -> Result<(), Failure> {
    let ImportArgs { file, to_feed, store } = args;
    let input = file::Input::open(&file)?;
    with_store(store, Purpose::Create, async |client| import::run(client, input, to_feed).await)
}

fn with_store(
    store: StoreFlags,
    purpose: Purpose,
    work: impl AsyncFnOnce(Client) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let config = store.load(Vec::new())?.config;
    block_on(async {
        let control = Control::open(&config, purpose).await.map_err(Failure::of)?;
        warn_of_loss(&control);
        let client = TransferServiceClient::new(control.channel())
            .max_decoding_message_size(MAX_BYTES)
            .max_encoding_message_size(MAX_BYTES);
        let worked = work(client).await;
        // Also after a failure: the store must be left as a stopped one.
        control.close().await.map_err(Failure::of)?;
        worked
    })
}

/// The words of a status; a transport's own are of no use to a reader.
fn said(status: &Status) -> &str {
    match status.message() {
        "" => "the server did not say why",
        message => message,
    }
}

/// Draws on stderr, and only where that is a terminal.
fn progress() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} messages, {per_sec}, {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

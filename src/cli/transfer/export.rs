//! `export`.

use tonic_types::StatusExt;

use super::{Client, file::Output, line::Line, said};
use crate::{
    cli::output::{Failure, talk},
    domain::{Clock, SystemClock},
    protocol::grpc::control::v1::{ExportKeysRequest, ExportMessagesRequest},
};

pub(super) async fn run(mut client: Client, mut output: Output) -> Result<(), Failure> {
    let now = SystemClock.now();
    if output.place.is_none() {
        output.write(&Line::Head, now)?;
        let keys = client.export_keys(ExportKeysRequest {}).await;
        for key in keys.map_err(|status| Failure::Failed(said(&status).to_owned()))?.into_inner().keys {
            output.write(&Line::Key(key), now)?;
        }
    }
    let again = if output.is_file() { "go on with it by --resume" } else { "begin anew" };
    let interrupted = |status: tonic::Status| {
        // The words of a broken connection help nobody; the server's own come with details.
        let why = if status.get_details_error_info().is_some() { said(&status) } else { "the connection broke" };
        Failure::Failed(format!("The export was interrupted: {why}. It is not whole; {again}"))
    };
    let after = output.place.clone().unwrap_or_default();
    let pages = client.export_messages(ExportMessagesRequest { after }).await;
    let mut pages = match pages {
        Ok(pages) => pages.into_inner(),
        // The place may be of another store, and then no other attempt helps.
        Err(status) if status.code() == tonic::Code::InvalidArgument => {
            return Err(Failure::Failed(said(&status).to_owned()));
        }
        Err(status) => return Err(interrupted(status)),
    };
    let bar = super::progress();
    let mut lost = 0;
    while let Some(page) = pages.message().await.map_err(interrupted)? {
        for message in page.messages {
            output.write(&Line::Message(message), now)?;
            output.messages += 1;
            bar.inc(1);
        }
        lost += page.lost;
        output.write(&Line::Place(page.place), now)?;
        output.flush()?;
    }
    bar.finish_and_clear();
    let messages = output.messages;
    output.write(&Line::End { messages }, now)?;
    output.finish()?;
    talk(&format!("{messages} messages exported."));
    if lost > 0 {
        talk(&format!(
            "warning: the disk has damaged the store in {lost} places, and what was there is not in the export."
        ));
    }
    Ok(())
}

//! `list`.

use super::{
    output::{Failure, block_on, print},
    remote::{KEY_HELP, Remote, TIMEOUT},
    shown::{to_json, to_line},
};
use crate::protocol::grpc::v1::ListMessagesRequest;

/// The server's own limit of a page.
const PAGE: usize = 500;

#[derive(Debug, clap::Args)]
#[command(after_help = format!("The key needs the scope 'read'. {KEY_HELP}"))]
pub(super) struct Args {
    /// The end user, `from_id`.
    #[arg(value_name = "FROM_ID")]
    from_id: String,
    /// Maximum number of messages.
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: usize,
    /// Print one JSON object per line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let server = args.remote.check()?;
    block_on(async {
        let mut client = server.connect().await?;
        let mut left = args.limit;
        let mut page_token = String::new();
        while left > 0 {
            let mut request = server.request(ListMessagesRequest {
                org_id: server.org_id(),
                env: server.env().into(),
                from_id: args.from_id.clone(),
                // At most 500, which an i32 holds.
                page_size: left.min(PAGE) as i32,
                page_token,
            });
            request.set_timeout(TIMEOUT);
            let page = client.list_messages(request).await.map_err(|status| server.failure(&status))?.into_inner();
            left = left.saturating_sub(page.messages.len());
            for message in &page.messages {
                let line = if args.json { to_json(message).to_string() } else { to_line(message) };
                print(&(line + "\n"))?;
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        Ok(())
    })
}

//! `get`.

use super::{
    output::{Failure, block_on, print},
    remote::{KEY_HELP, Remote, TIMEOUT},
    shown::to_json,
};
use crate::protocol::grpc::v1::GetMessageRequest;

#[derive(Debug, clap::Args)]
#[command(after_help = format!("The key needs the scope 'read'. {KEY_HELP}"))]
pub(super) struct Args {
    /// The message's id, `message_sid`.
    #[arg(value_name = "SID")]
    sid: String,
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let server = args.remote.check()?;
    let message = GetMessageRequest { org_id: server.org_id(), env: server.env().into(), message_sid: args.sid };
    let message = block_on(async {
        let mut request = server.request(message);
        request.set_timeout(TIMEOUT);
        let answer = server.connect().await?.get_message(request).await;
        answer.map_err(|status| server.failure(&status))
    })?;
    let message = message.into_inner().message.ok_or_else(|| Failure::Failed("the answer holds no message".into()))?;
    print(&format!("{:#}\n", to_json(&message)))
}

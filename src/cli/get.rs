//! `get`.

use std::{path::PathBuf, time::Duration};

use serde_json::{Value, json};
use tonic::{
    Request,
    metadata::MetadataValue,
    transport::{Endpoint, Uri},
};

use super::{
    health::reachable,
    keys::{env_of, env_word, instant},
    output::{Failure, block_on, print},
};
use crate::{
    domain::{Environment, OrgId},
    protocol::grpc::v1::{GetMessageRequest, Message, message::Media, message_service_client::MessageServiceClient},
};

const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
#[command(after_help = "The key needs the scope 'read'. It is taken from --key-file, else from MESSAGE_WEBHOOK_KEY; \
                        never from an argument, which other users of the machine can see.")]
pub(super) struct Args {
    /// The message's id, `message_sid`.
    #[arg(value_name = "SID")]
    sid: String,
    /// The organisation; without it that of the key.
    #[arg(long)]
    org: Option<String>,
    /// The environment, dev or prod; without it that of the key.
    #[arg(long)]
    env: Option<String>,
    /// Where the server's gRPC port is; 0.0.0.0 and [::] mean this machine.
    #[arg(long, value_name = "HOST:PORT", env = "MESSAGE_WEBHOOK_GRPC_ADDR", default_value = "127.0.0.1:9090")]
    grpc_addr: String,
    /// A file that holds the key.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let wrong = |violation: crate::domain::Violation| Failure::Usage(violation.message.into_owned());
    let org = args.org.as_deref().map(OrgId::new).transpose().map_err(wrong)?;
    let env = args.env.as_deref().map(str::parse::<Environment>).transpose().map_err(wrong)?;
    let key = key(args.key_file)?;
    let message = GetMessageRequest {
        org_id: org.map(|org| org.as_str().to_owned()).unwrap_or_default(),
        env: env_of(env).into(),
        message_sid: args.sid,
    };
    let address = args.grpc_addr.parse().map_or(args.grpc_addr, |address| reachable(address).to_string());
    let uri: Uri = format!("http://{address}")
        .parse()
        .map_err(|_| Failure::Usage(format!("'{address}' is no address; write HOST:PORT")))?;
    let mut request = Request::new(message);
    // Marked as sensitive, so that no library logs it.
    let mut bearer: MetadataValue<_> = format!("Bearer {key}")
        .parse()
        .map_err(|_| Failure::Usage("the key is no line of printable characters".into()))?;
    bearer.set_sensitive(true);
    request.metadata_mut().insert("authorization", bearer);
    let message = block_on(async {
        let channel = Endpoint::from(uri).connect_timeout(TIMEOUT).timeout(TIMEOUT).connect().await;
        let channel = channel.map_err(|_| Failure::Failed(format!("cannot connect to gRPC at {address}")))?;
        let answer = MessageServiceClient::new(channel).get_message(request).await;
        answer.map_err(|status| match status.message() {
            "" => Failure::Failed(format!("{address} answered {:?}", status.code())),
            message => Failure::Failed(message.to_owned()),
        })
    })?;
    let message = message.into_inner().message.ok_or_else(|| Failure::Failed("the answer holds no message".into()))?;
    print(&format!("{:#}\n", to_json(&message)))
}

fn key(file: Option<PathBuf>) -> Result<String, Failure> {
    let text = match file {
        Some(path) => std::fs::read_to_string(&path)
            .map_err(|error| Failure::Failed(format!("cannot read {}: {error}", path.display())))?,
        None => std::env::var("MESSAGE_WEBHOOK_KEY").unwrap_or_default(),
    };
    let key = text.trim();
    if key.is_empty() {
        return Err(Failure::Usage(
            "name a key with the scope 'read' by --key-file FILE or in MESSAGE_WEBHOOK_KEY".into(),
        ));
    }
    Ok(key.to_owned())
}

/// The fields of the JSON webhook, and what the service added.
fn to_json(message: &Message) -> Value {
    let mut fields = json!({
        "org_id": message.org_id,
        "env": env_word(message.env()),
        "from_id": message.from_id,
        "message_sid": message.message_sid,
        "timestamp": instant(&message.timestamp),
        "accepted_at": instant(&message.accepted_at),
    });
    if let Some(fields) = fields.as_object_mut() {
        if let Some(body) = &message.message_body {
            fields.insert("message_body".into(), json!(body));
        }
        match &message.media {
            Some(Media::ImageUrl(url)) => fields.insert("image_urls".into(), json!([url])),
            Some(Media::AudioUrl(url)) => fields.insert("audio_urls".into(), json!([url])),
            None => None,
        };
    }
    fields
}

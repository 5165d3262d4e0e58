//! Exports and imports for the control socket.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{
    control::v1::{
        ExportKeysRequest, ExportKeysResponse, ExportMessagesRequest, ExportMessagesResponse, ImportKeysRequest,
        ImportKeysResponse, ImportMessagesRequest, ImportMessagesResponse, ImportOutcome, StoredKey,
        transfer_service_server::{TransferService as TransferRpcs, TransferServiceServer},
    },
    ending,
    key_service::{origins_from_wire, origins_to_wire, rate_from_wire, rate_to_wire},
    message::{self, time_to_wire},
    refuse, rpcs, target, v1,
};
use crate::{
    domain::{
        Content, Error, FromId, KeyId, KeyOwner, KeyRecord, Kind, Media, MediaRules, Message, MessageKey, MessageSid,
        OrgId, Scope, Scopes, SecretHash, Timestamp, Violation, ViolationCode, Violations,
    },
    protocol::call::Report,
    service::{Call, ImportInto, Imported, PageToken, Protocol, Route, Transfer},
};

/// A call holds at most so many messages.
const MAX_MESSAGES: usize = 1000;
/// A page, or one message of any size that a server takes.
const MAX_BYTES: usize = 64 * 1024 * 1024;

struct TransferEdge {
    transfer: Transfer,
    report: Arc<Report>,
    closing: CancellationToken,
}

/// The service for whoever may open the control socket. Its streams end when `closing` is cancelled.
pub fn transfer_service(transfer: Transfer, closing: CancellationToken) -> TransferServiceServer<impl TransferRpcs> {
    let report = Arc::new(Report::new(Protocol::Control, std::iter::empty()));
    TransferServiceServer::new(TransferEdge { transfer, report, closing }).max_decoding_message_size(MAX_BYTES)
}

#[tonic::async_trait]
impl TransferRpcs for TransferEdge {
    type ExportMessagesStream = Pin<Box<dyn Stream<Item = Result<ExportMessagesResponse, Status>> + Send>>;

    async fn export_messages(
        &self,
        request: Request<ExportMessagesRequest>,
    ) -> Result<Response<Self::ExportMessagesStream>, Status> {
        let (call, ExportMessagesRequest { after }) = begin(request, &rpcs::EXPORT);
        let after = (!after.is_empty()).then(|| PageToken::parse(&after)).transpose();
        let after = after.map_err(|_| refuse(&self.report, no_place(), &call))?;
        tracing::info!(resumed = after.is_some(), "export begins");
        let pages = stream::try_unfold(Some((self.transfer.clone(), after)), |state| async move {
            let Some((transfer, after)) = state else { return Ok(None) };
            let page = transfer.export(after.as_ref()).await?;
            let answer = ExportMessagesResponse {
                messages: page.messages.into_iter().map(message::to_wire).collect(),
                place: page.next.to_string(),
                lost: page.lost,
            };
            let state = (!page.is_last).then_some((transfer, Some(page.next)));
            Ok::<_, Error>(Some((answer, state)))
        });
        let closing = self.closing.clone();
        let (ending, ended) = ending::when(async move {
            closing.cancelled_owned().await;
            Error::draining("resume the export when it runs again")
        });
        let report = Arc::clone(&self.report);
        let pages = pages.take_until(ending).chain(ended.map(Err)).map_err(move |error| refuse(&report, error, &call));
        Ok(Response::new(Box::pin(pages)))
    }

    async fn import_messages(
        &self,
        request: Request<ImportMessagesRequest>,
    ) -> Result<Response<ImportMessagesResponse>, Status> {
        let (call, request) = begin(request, &rpcs::IMPORT);
        self.import(request).await.map(Response::new).map_err(|error| refuse(&self.report, error, &call))
    }

    async fn export_keys(&self, request: Request<ExportKeysRequest>) -> Result<Response<ExportKeysResponse>, Status> {
        let (call, _) = begin(request, &rpcs::EXPORT);
        let keys = self.transfer.export_keys().await.map_err(|error| refuse(&self.report, error, &call))?;
        Ok(Response::new(ExportKeysResponse { keys: keys.iter().map(key_to_wire).collect() }))
    }

    async fn import_keys(&self, request: Request<ImportKeysRequest>) -> Result<Response<ImportKeysResponse>, Status> {
        let (call, ImportKeysRequest { keys }) = begin(request, &rpcs::IMPORT);
        let imported = async {
            let keys = keys.into_iter().enumerate().map(|(number, key)| key_from_wire(number, key));
            let taken = self.transfer.import_keys(keys.collect::<Result<_, _>>()?).await?;
            Ok(ImportKeysResponse { taken: u32::try_from(taken).unwrap_or(u32::MAX) })
        };
        imported.await.map(Response::new).map_err(|error: Error| refuse(&self.report, error, &call))
    }
}

impl TransferEdge {
    async fn import(&self, request: ImportMessagesRequest) -> Result<ImportMessagesResponse, Error> {
        if request.messages.len() > MAX_MESSAGES {
            let text = "'messages' may hold at most 1000; send the rest in further calls";
            return Err(Error::invalid_argument("messages", ViolationCode::TooLong, text));
        }
        let messages = request.messages.into_iter().enumerate();
        let messages =
            messages.map(|(number, message)| message_from_wire(number, message)).collect::<Result<_, _>>()?;
        let into = if request.to_feed { ImportInto::MessagesAndFeed } else { ImportInto::Messages };
        let outcomes = self.transfer.import(messages, into).await?;
        Ok(ImportMessagesResponse { outcomes: outcomes.into_iter().map(|each| outcome(each).into()).collect() })
    }
}

fn begin<T>(request: Request<T>, route: &'static Route) -> (Call, T) {
    let call = Call::begin(Protocol::Control, route, request.metadata().as_ref());
    (call, request.into_inner())
}

fn no_place() -> Error {
    let text = "'after' is no place of an export; begin a new export";
    Error::invalid_argument("after", ViolationCode::InvalidValue, text)
}

fn outcome(imported: Imported) -> ImportOutcome {
    match imported {
        Imported::Taken => ImportOutcome::Taken,
        Imported::Present => ImportOutcome::Present,
        Imported::Conflict => ImportOutcome::Conflict,
        Imported::Expired => ImportOutcome::Expired,
    }
}

/// The message `number` of a call. Any host and extension may be named: the store that accepted it knew which it
/// allowed.
fn message_from_wire(number: usize, wire: v1::Message) -> Result<Message, Error> {
    use v1::message::Media as Wire;

    let mut violations = Violations::default();
    let org = violations.check(OrgId::new(&wire.org_id));
    let env = violations.check(env_from_wire(wire.env));
    let sid = violations.check(MessageSid::new(wire.message_sid));
    let from_id = violations.check(FromId::new(wire.from_id));
    let timestamp = violations.check(time_from_wire("timestamp", wire.timestamp));
    let accepted_at = violations.check(time_from_wire("accepted_at", wire.accepted_at));
    let media = wire.media.map(|media| match media {
        Wire::ImageUrl(url) => Media::image(url, MediaRules::anything()),
        Wire::AudioUrl(url) => Media::audio(url, MediaRules::anything()),
    });
    let media = violations.check(media.transpose());
    let traceparent = match wire.traceparent.as_str() {
        "" => None,
        text => violations.check(text.parse().map_err(|()| invalid("traceparent", "this is no trace context"))),
    };
    match (org, env, sid, from_id, timestamp, media, accepted_at) {
        (Some(org), Some(env), Some(sid), Some(from_id), Some(timestamp), Some(media), Some(accepted_at))
            if violations.is_empty() =>
        {
            Ok(Message {
                key: MessageKey { org, env, sid },
                content: Content { from_id, timestamp, body: wire.message_body, media },
                accepted_at,
                traceparent,
            })
        }
        _ => Err(of_item("messages", number, &violations.into_error(Kind::InvalidArgument))),
    }
}

fn key_to_wire(record: &KeyRecord) -> StoredKey {
    let (org_id, env) = match &record.owner {
        KeyOwner::Org { org, env } => (org.as_str().to_owned(), target::env_to_wire(*env)),
        KeyOwner::Platform => (String::new(), v1::Environment::Unspecified),
    };
    StoredKey {
        key_id: record.id.as_str().to_owned(),
        secret_hash: record.secret_hash.as_bytes().to_vec(),
        org_id,
        env: env.into(),
        scopes: record.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
        created_at: Some(time_to_wire(record.created_at)),
        expires_at: record.expires_at.map(time_to_wire),
        rate: rate_to_wire(record.rate),
        origins: origins_to_wire(&record.origins),
    }
}

fn key_from_wire(number: usize, wire: StoredKey) -> Result<KeyRecord, Error> {
    let mut violations = Violations::default();
    let id =
        violations.check(KeyId::new(&wire.key_id).ok_or_else(|| invalid("key_id", "a key's id has 12 characters")));
    let hash = <[u8; 32]>::try_from(wire.secret_hash).map(SecretHash::from_bytes);
    let hash = violations.check(hash.map_err(|_| invalid("secret_hash", "a hash has 32 bytes")));
    let owner = match (wire.org_id.as_str(), wire.env) {
        ("", 0) => Some(KeyOwner::Platform),
        (org, env) => match (violations.check(OrgId::new(org)), violations.check(env_from_wire(env))) {
            (Some(org), Some(env)) => Some(KeyOwner::Org { org, env }),
            _ => None,
        },
    };
    let known = |word: &String| Scope::ALL.into_iter().find(|scope| scope.as_str() == word);
    let scopes = wire.scopes.iter().map(known).collect::<Option<Scopes>>();
    let scopes = violations.check(scopes.ok_or_else(|| invalid("scopes", "a scope is submit, read, stream or admin")));
    let created_at = violations.check(time_from_wire("created_at", wire.created_at));
    let expires_at = wire.expires_at.map(|at| time_from_wire("expires_at", Some(at))).transpose();
    let expires_at = violations.check(expires_at);
    let rate = violations.check(rate_from_wire(&wire.rate));
    let origins = violations.check(origins_from_wire(&wire.origins));
    if let (Some(id), Some(secret_hash), Some(owner), Some(scopes)) = (id, hash, owner, scopes)
        && let (Some(rate), Some(origins), Some(created_at), Some(expires_at)) = (rate, origins, created_at, expires_at)
    {
        let record =
            KeyRecord { id, owner, scopes, rate, origins, secret_hash, created_at, expires_at, revoked_at: None };
        if violations.check(record.check()).is_some() {
            return Ok(record);
        }
    }
    Err(of_item("keys", number, &violations.into_error(Kind::InvalidArgument)))
}

/// `error` with fields that name the item of the list.
fn of_item(list: &str, number: usize, error: &Error) -> Error {
    let mut violations = Violations::default();
    for violation in error.violations() {
        let field = format!("{list}[{number}].{}", violation.field);
        violations.push(field, violation.code, violation.message.clone());
    }
    violations.into_error(Kind::InvalidArgument)
}

fn env_from_wire(env: i32) -> Result<crate::domain::Environment, Violation> {
    target::env_from_wire(env)?.ok_or_else(|| invalid("env", "'env' must be dev or prod"))
}

fn time_from_wire(field: &'static str, at: Option<prost_types::Timestamp>) -> Result<Timestamp, Violation> {
    let at = at.ok_or_else(|| invalid(field, "a time is missing"))?;
    Timestamp::from_unix(at.seconds, at.nanos)
        .map_err(|_| invalid(field, "a time must lie from 1970 to the end of 9999"))
}

fn invalid(field: &'static str, message: &'static str) -> Violation {
    Violation { field: field.into(), code: ViolationCode::InvalidValue, message: message.into() }
}

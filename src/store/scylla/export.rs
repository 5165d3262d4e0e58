//! All claims with their contents, in the order of their tokens: the one order that needs no index.
//!
//! A position is 18 bytes: version u8 (1), kind u8 (`e`), when the keyspace was made i64, the last token i64, big endian.

use super::{
    claim::{self, environment},
    core::Core,
    error::Failed,
    lwt::Row,
};
use crate::{
    domain::{Error, MessageKey, MessageSid, OrgId, ViolationCode},
    store::{ExportPage, PageLimit, PageToken, record::Reader},
};

const VERSION: u8 = 1;
const EXPORTED: u8 = b'e';
/// Rows of one read: at most some MiB, whatever they hold.
const ROWS: usize = 32;

/// One page.
///
/// # Errors
/// [`crate::domain::Kind::InvalidArgument`] for a token that is not of an export of this keyspace.
pub async fn export(core: &Core, after: Option<&PageToken>, limit: PageLimit) -> Result<ExportPage, Error> {
    let mut position = match after {
        None => i64::MIN,
        Some(token) => read(core, &token.0).ok_or_else(|| {
            Error::invalid_argument(
                "after",
                ViolationCode::InvalidValue,
                "'after' is no position of an export of this store; begin a new export",
            )
        })?,
    };
    let (mut messages, mut bytes, mut lost) = (Vec::new(), 0, 0);
    loop {
        let rows = core.read(&core.cql.export_claims, (position, ROWS as i32)).await?;
        let rows = rows.rows::<Row>().map_err(|error| Failed::malformed(error.to_string()))?;
        let rows = rows.collect::<Result<Vec<_>, _>>().map_err(|error| Failed::malformed(error.to_string()))?;
        let (is_last, mut is_full) = (rows.len() < ROWS, false);
        for row in rows {
            bytes += row.blob("message").map_or(0, <[u8]>::len);
            if messages.len() >= limit.messages || (bytes > limit.bytes && !messages.is_empty()) {
                is_full = true;
                break;
            }
            position = row.bigint("position").ok_or_else(|| Failed::malformed("a claim has no token"))?;
            let Some(key) = key(&row) else {
                core.found_unreadable("messages", &position.to_string());
                lost += 1;
                continue;
            };
            match claim::message(&key, &row) {
                Ok(message) => messages.extend(message.filter(|message| !core.is_past(message.accepted_at))),
                Err(_) => {
                    core.found_unreadable("messages", &key.fingerprint());
                    lost += 1;
                }
            }
        }
        if is_last || is_full {
            return Ok(ExportPage { messages, next: write(core, position), lost, is_last: is_last && !is_full });
        }
    }
}

fn key(row: &Row) -> Option<MessageKey> {
    Some(MessageKey {
        org: OrgId::new(row.text("org_id")?).ok()?,
        env: environment(row.text("env")?)?,
        sid: MessageSid::new(row.text("message_sid")?).ok()?,
    })
}

fn write(core: &Core, position: i64) -> PageToken {
    let made = core.settings.created_at.as_micros();
    PageToken([[VERSION, EXPORTED].as_slice(), &made.to_be_bytes(), &position.to_be_bytes()].concat().into())
}

fn read(core: &Core, bytes: &[u8]) -> Option<i64> {
    let mut reader = Reader(bytes);
    let head = [reader.byte().ok()?, reader.byte().ok()?];
    let made = i64::from_be_bytes(reader.array().ok()?);
    let position = i64::from_be_bytes(reader.array().ok()?);
    (head == [VERSION, EXPORTED] && made == core.settings.created_at.as_micros() && reader.0.is_empty())
        .then_some(position)
}

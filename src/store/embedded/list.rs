//! The messages of one sender, the last taken in first.

use super::{
    cursor,
    get::message_of,
    hash,
    log::{Position, reader::ReadError},
    shared::Shared,
};
use crate::{
    domain::{Error, Message, Sender, ViolationCode},
    store::{MessagePage, PageLimit, PageToken, record::View},
};

/// Positions that are looked up at a time: as many as a page has at most, about.
const CHUNK: usize = 128;

/// One page of a sender's messages. What the disk has damaged is passed over, logged and counted.
///
/// # Errors
/// Invalid argument for a token that this store did not give.
pub fn list(
    shared: &Shared,
    sender: &Sender,
    after: Option<&PageToken>,
    limit: PageLimit,
) -> Result<MessagePage, Error> {
    let foreign = || {
        let text = "'page_token' is not of this service's store; begin with the first page";
        Error::invalid_argument("page_token", ViolationCode::InvalidValue, text)
    };
    let mut below = match after {
        None => shared.log.end(),
        Some(token) => cursor::read_token(&shared.log, &token.0).ok_or_else(foreign)?,
    };
    let (hash, age) = (hash::of_sender(sender), shared.clock.age());
    let mut messages: Vec<Message> = Vec::new();
    // A page without messages goes on where it began.
    let (mut last, mut bytes) = (below, 0);
    loop {
        let chunk = shared.view.newest_of(&hash, below, CHUNK).map_err(|error| shared.index_failed(error))?;
        for position in chunk.iter().copied().map(Position) {
            below = position;
            let record = match shared.log.record(position) {
                Ok(record) => record,
                // What is older was removed with it.
                Err(ReadError::Gone) if position.segment() < shared.oldest() => {
                    return Ok(MessagePage { messages, next: None });
                }
                // Or it is of a segment that is lost, with the operator's consent.
                Err(ReadError::Gone | ReadError::Damaged) => {
                    shared.found_damage(position);
                    continue;
                }
                Err(ReadError::Io(error)) => return Err(Error::store_unavailable(error)),
            };
            if record.head.expiry <= age {
                continue;
            }
            let Some(body) = &record.body else {
                shared.found_damage(position);
                continue;
            };
            let view = View::of_content(record.head.accepted_at, body).map_err(Error::internal)?;
            if !view.has_sender(sender) {
                return Err(Error::internal("a message has another sender with the same hash"));
            }
            bytes += record.head.span();
            if messages.len() >= limit.messages || (bytes > limit.bytes && !messages.is_empty()) {
                return Ok(MessagePage { messages, next: Some(PageToken(cursor::token(&shared.log, last))) });
            }
            messages.push(message_of(&record)?);
            last = position;
        }
        if chunk.len() < CHUNK {
            return Ok(MessagePage { messages, next: None });
        }
    }
}

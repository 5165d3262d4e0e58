//! Everything that is kept, in the order of the log.

use super::{
    cursor::{FeedPosition, Purpose},
    feed::{Forward, Next},
    get::message_of,
    log::frame::RecordKind,
    shared::Shared,
};
use crate::{
    domain::{Error, ViolationCode},
    store::{ExportPage, PageLimit, PageToken},
};

/// One page. What the disk has lost is passed over, logged and counted.
///
/// # Errors
/// Invalid argument for a place that this method of this store did not give.
pub fn export(shared: &Shared, after: Option<&PageToken>, limit: PageLimit) -> Result<ExportPage, Error> {
    let foreign = || {
        let text = "'after' is no place of an export of this store; begin a new export";
        Error::invalid_argument("after", ViolationCode::InvalidValue, text)
    };
    let mut place = match after {
        None => FeedPosition::Start,
        Some(token) => FeedPosition::read(&shared.log, Purpose::Export, &token.0).ok_or_else(foreign)?,
    };
    let age = shared.clock.age();
    let mut forward = Forward::new(shared, place)?;
    let (mut messages, mut bytes, mut lost, mut is_last) = (Vec::new(), 0, 0, true);
    let mut begun = false;
    while let Some(step) = forward.step()? {
        let (record, behind) = match step {
            Next::Record(record, behind) => (record, behind),
            Next::Lost(behind) => {
                lost += 1;
                place = behind;
                continue;
            }
        };
        bytes += record.head.span();
        if messages.len() >= limit.messages || (bytes > limit.bytes && begun) {
            is_last = false;
            break;
        }
        begun = true;
        place = behind;
        if record.head.kind != RecordKind::Message || record.head.expiry <= age {
            continue;
        }
        if record.body.is_none() {
            lost += 1;
            shared.found_damage(record.position);
            continue;
        }
        messages.push(message_of(&record)?);
    }
    Ok(ExportPage { messages, next: PageToken(place.to_bytes(&shared.log, Purpose::Export)), lost, is_last })
}

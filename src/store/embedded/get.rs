//! One message by its key.

use super::{
    hash,
    log::reader::Record,
    shared::Shared,
    submit::{Kept, look_up},
};
use crate::{
    domain::{Error, Kind, Message, MessageKey},
    store::record::View,
};

/// The message with `key`.
///
/// # Errors
/// [`Kind::DataLoss`] for one whose content the disk has lost; those of every look-up.
pub fn get(shared: &Shared, key: &MessageKey) -> Result<Option<Message>, Error> {
    shared.check_open()?;
    match look_up(shared, &hash::of_key(key), key)?.0 {
        None => Ok(None),
        Some(Kept::Record(record)) => message_of(&record).map(Some),
        Some(Kept::Damaged(_)) => Err(data_loss()),
    }
}

/// The message that a record holds.
///
/// # Errors
/// [`Kind::DataLoss`] where the body is damaged; internal where it breaks a rule.
pub fn message_of(record: &Record) -> Result<Message, Error> {
    let body = record.body.as_ref().ok_or_else(data_loss)?;
    let view = View::of_content(record.head.accepted_at, body).map_err(Error::internal)?;
    view.to_message().map_err(Error::internal)
}

/// The error for a content that the disk has lost.
pub fn data_loss() -> Error {
    Error::new(Kind::DataLoss, "The message was accepted, but the disk has lost its content")
}

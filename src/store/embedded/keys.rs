//! API keys: read from the state in memory, changed by the writer.

use tokio::sync::oneshot;

use super::{
    queue::{Answer, Command, closed},
    shared::Shared,
};
use crate::{
    domain::{Error, KeyId, KeyRecord, OrgId},
    store::ListedKey,
};

/// The key with `id`.
///
/// # Errors
/// When the store is closed.
pub fn key(shared: &Shared, id: &KeyId) -> Result<Option<KeyRecord>, Error> {
    shared.check_open()?;
    Ok(shared.state.read().key(id).cloned())
}

/// All keys, or those of `org`, in the order of their ids.
///
/// # Errors
/// When the store is closed.
pub fn keys(shared: &Shared, org: Option<&OrgId>) -> Result<Vec<ListedKey>, Error> {
    shared.check_open()?;
    Ok(shared.state.read().keys(org))
}

/// Has the writer do something, and waits for its answer.
///
/// # Errors
/// The writer's; when the store is closed.
pub async fn command<T>(shared: &Shared, make: impl FnOnce(Answer<T>) -> Command) -> Result<T, Error> {
    let (reply, answer) = oneshot::channel();
    shared.queue.command(make(reply))?;
    answer.await.map_err(|_| closed())?
}

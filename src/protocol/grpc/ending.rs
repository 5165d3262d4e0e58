//! Why a stream that would go on for ever must end: its key is no longer good, its caller's deadline passed, or the service
//! stops.

use std::{future::Future, time::Duration};

use futures_util::{Stream, StreamExt, stream};
use tokio::sync::oneshot;

use super::Messages;
use crate::{
    domain::{Error, Kind},
    protocol::call::Failure,
    service::Call,
};

/// How often a stream's key is looked at again: often enough that a revocation ends it within 5 s.
const RECHECK: Duration = Duration::from_secs(1);

/// Splits `reason` in two for a stream that must end when it is known: a future for `take_until`, and what to say after
/// the last item, which is nothing where the stream ended by itself.
pub(super) fn when<E: Send>(
    reason: impl Future<Output = E> + Send,
) -> (impl Future<Output = ()> + Send, impl Stream<Item = E> + Send) {
    let (tell, told) = oneshot::channel();
    let ending = async move {
        // Nobody listens any more when the stream was dropped.
        let _ = tell.send(reason.await);
    };
    (ending, stream::once(told).filter_map(|reason| std::future::ready(reason.ok())))
}

/// Waits until the key of `call` is expired or revoked. While the store cannot tell, the key stays good: the caller was
/// let in once, and ending all streams would not mend the store.
pub(super) async fn revoked(grpc: &Messages, call: &Call) -> Error {
    loop {
        tokio::time::sleep(RECHECK).await;
        let Ok(caller) = call.caller() else { continue };
        match grpc.keys().recheck(caller).await {
            Err(error) if error.kind() == Kind::Unauthenticated => return error,
            Ok(()) | Err(_) => {}
        }
    }
}

/// Waits until the caller's patience ends, where it has an end.
pub(super) async fn late(call: &Call) -> Failure {
    let Some(at) = call.deadline else { return std::future::pending().await };
    tokio::time::sleep_until(at).await;
    Failure::too_late()
}

/// Waits until the service stops.
pub(super) async fn stopped(grpc: &Messages) -> Error {
    grpc.closing().cancelled().await;
    Error::draining("send what was not answered again, with the same ids")
}

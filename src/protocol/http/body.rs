//! Reads a body that is neither too large nor too slow.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body::Body;

use crate::{domain::Error, protocol::call::Failure, service::Held};

/// How large a body may be, and for how long it may be on its way.
pub(super) struct Limits {
    /// At most so many.
    pub(super) bytes: usize,
    /// Until it is complete.
    pub(super) timeout: Duration,
}

/// The whole body within `limits`, counted in `held`. Holds no more than what has come.
///
/// # Errors
/// `BodyTooLarge`, at once where the length was announced; `RequestTimeout`; `Overloaded` when there is no room for it;
/// `MalformedJson` when the body breaks off.
pub(super) async fn read<B>(body: B, limits: &Limits, mut held: Held) -> Result<(Bytes, Held), Failure>
where
    B: Body<Data = Bytes> + Unpin,
{
    let Limits { bytes: limit, timeout } = *limits;
    if body.size_hint().lower() > limit as u64 {
        return Err(Error::too_large(limit).into());
    }
    match tokio::time::timeout(timeout, collect(body, limit, &mut held)).await {
        Ok(result) => Ok((result?, held)),
        Err(_) => Err(Failure::too_slow(timeout)),
    }
}

async fn collect<B>(mut body: B, limit: usize, held: &mut Held) -> Result<Bytes, Failure>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    loop {
        let frame = poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
            Poll::Pending => held.poll_waiting(cx).map(Err),
        });
        let Some(frame) = frame.await? else { break };
        let Ok(frame) = frame else {
            return Err(Failure::malformed_json("The body broke off before its end"));
        };
        // Trailers say nothing here.
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + all.len() + data.len() > limit {
            return Err(Error::too_large(limit).into());
        }
        held.grow(data.len())?;
        // Nearly every body is one piece, which then need not be copied.
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&data);
        }
    }
    held.arrived()?;
    Ok(if all.is_empty() { first } else { all.freeze() })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    use super::*;
    use crate::{
        protocol::status::WireKind,
        service::{Bodies, BodyLimits},
    };

    const PATIENCE: Duration = Duration::from_secs(30);

    fn share() -> Held {
        Bodies::new(BodyLimits { bytes: 100, waiting: 10 }).share(None)
    }

    fn pieces(pieces: &'static [&'static str]) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        StreamBody::new(stream::iter(pieces.iter().map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))))))
    }

    async fn read_5<B: Body<Data = Bytes> + Unpin>(body: B) -> Result<Bytes, &'static str> {
        let limits = Limits { bytes: 5, timeout: PATIENCE };
        read(body, &limits, share()).await.map(|(body, _)| body).map_err(|failure| failure.face().code)
    }

    #[tokio::test]
    async fn a_body_of_many_pieces_is_put_together() {
        assert_eq!(read_5(pieces(&["ab", "", "c", "de"])).await, Ok("abcde".into()));
        assert_eq!(read_5(pieces(&[])).await, Ok(Bytes::new()));
    }

    #[tokio::test]
    async fn one_byte_too_many_is_too_large_announced_or_not() {
        assert_eq!(read_5(pieces(&["abc", "def"])).await, Err("body_too_large"));
        assert_eq!(read_5(Full::new(Bytes::from_static(b"abcdef"))).await, Err("body_too_large"));
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_too_slow() {
        let endless = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
        let limits = Limits { bytes: 5, timeout: Duration::from_millis(10) };
        let error = read(endless, &limits, share()).await.expect_err("too slow");
        assert!(error.is(WireKind::RequestTimeout) && error.public_message().contains("0.01 seconds"), "{error:?}");
    }
}

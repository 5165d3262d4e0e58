//! Reads a body that is neither too large nor too slow.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;

use crate::domain::{Error, Kind};

/// What bodies may take of memory, all together and one by one, and for how long one may be on its way.
pub(super) struct Limits {
    /// Of one body.
    pub(super) bytes: usize,
    /// Until it is complete.
    pub(super) timeout: Duration,
}

/// Counts the bytes of all bodies that are held. A client that sends slowly holds little of it, so slow clients cannot
/// keep others out.
#[derive(Debug)]
pub(super) struct Budget {
    held: AtomicUsize,
    max: usize,
}

/// A share of the budget, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// A budget of `max` bytes.
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { held: AtomicUsize::new(0), max })
    }
}

impl Held {
    /// Takes `bytes` more.
    fn grow(&mut self, bytes: usize) -> Result<(), Error> {
        self.bytes += bytes;
        let before = self.budget.held.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > self.budget.max {
            return Err(Error::new(
                Kind::Overloaded,
                "The service holds as many messages as it can; send again in a moment",
            )
            .with_retry_after(Duration::from_secs(1)));
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The whole body within `limits`, and its share of `budget`. Holds no more than what has come.
///
/// # Errors
/// [`Kind::BodyTooLarge`], at once where the length was announced; [`Kind::RequestTimeout`]; [`Kind::Overloaded`] when
/// the budget is used up; [`Kind::MalformedJson`] when the body breaks off.
pub(super) async fn read<B>(body: B, limits: &Limits, budget: &Arc<Budget>) -> Result<(Bytes, Held), Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let Limits { bytes: limit, timeout } = *limits;
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    let mut held = Held { budget: Arc::clone(budget), bytes: 0 };
    match tokio::time::timeout(timeout, collect(body, limit, &mut held)).await {
        Ok(result) => Ok((result?, held)),
        Err(_) => Err(Error::new(
            Kind::RequestTimeout,
            format!("The body came too slowly; send all of it within {} seconds", timeout.as_secs_f32()),
        )),
    }
}

async fn collect<B>(mut body: B, limit: usize, held: &mut Held) -> Result<Bytes, Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(Error::new(Kind::MalformedJson, "The body broke off before its end"));
        };
        // Trailers say nothing here.
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + all.len() + data.len() > limit {
            return Err(too_large(limit));
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
    Ok(if all.is_empty() { first } else { all.freeze() })
}

fn too_large(limit: usize) -> Error {
    Error::new(Kind::BodyTooLarge, format!("The body is larger than {limit} bytes; send a shorter message"))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn pieces(pieces: &'static [&'static str]) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        StreamBody::new(stream::iter(pieces.iter().map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))))))
    }

    async fn read_5<B: Body<Data = Bytes> + Unpin>(body: B, budget: &Arc<Budget>) -> Result<Bytes, Kind> {
        let limits = Limits { bytes: 5, timeout: PATIENCE };
        read(body, &limits, budget).await.map(|(body, _)| body).map_err(|error| error.kind())
    }

    #[tokio::test]
    async fn a_body_of_many_pieces_is_put_together() {
        let budget = Budget::new(5);
        assert_eq!(read_5(pieces(&["ab", "", "c", "de"]), &budget).await, Ok("abcde".into()));
        assert_eq!(read_5(pieces(&[]), &budget).await, Ok(Bytes::new()));
    }

    #[tokio::test]
    async fn one_byte_too_many_is_too_large_announced_or_not() {
        let budget = Budget::new(100);
        assert_eq!(read_5(pieces(&["abc", "def"]), &budget).await, Err(Kind::BodyTooLarge));
        assert_eq!(read_5(Full::new(Bytes::from_static(b"abcdef")), &budget).await, Err(Kind::BodyTooLarge));
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_too_slow() {
        let endless = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
        let limits = Limits { bytes: 5, timeout: Duration::from_millis(10) };
        let error = read(endless, &limits, &Budget::new(5)).await.expect_err("too slow");
        assert_eq!(error.kind(), Kind::RequestTimeout);
        assert!(error.public_message().contains("0.01 seconds"), "{error}");
    }

    #[tokio::test]
    async fn bodies_beyond_the_budget_are_overload_until_others_are_gone() {
        let budget = Budget::new(7);
        let limits = Limits { bytes: 5, timeout: PATIENCE };
        let (_, held) = read(pieces(&["ab", "cd"]), &limits, &budget).await.expect("within the budget");
        assert_eq!(read_5(pieces(&["abc"]), &budget).await, Ok("abc".into()));
        assert_eq!(read_5(pieces(&["ab", "cd"]), &budget).await, Err(Kind::Overloaded));
        drop(held);
        assert_eq!(read_5(pieces(&["ab", "cd"]), &budget).await, Ok("abcd".into()));
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
    }
}

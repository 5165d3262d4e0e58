//! Reads a body that is neither too large nor too slow.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;

use crate::domain::{Error, Kind};

/// The whole body, at most `limit` bytes, complete within `timeout`. Holds no more than what has come.
///
/// # Errors
/// [`Kind::BodyTooLarge`], at once where the length was announced; [`Kind::RequestTimeout`];
/// [`Kind::MalformedJson`] when it breaks off.
pub(super) async fn read<B>(body: B, limit: usize, timeout: Duration) -> Result<Bytes, Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    match tokio::time::timeout(timeout, collect(body, limit)).await {
        Ok(result) => result,
        Err(_) => Err(Error::new(
            Kind::RequestTimeout,
            format!("The body came too slowly; send all of it within {} seconds", timeout.as_secs_f32()),
        )),
    }
}

async fn collect<B>(mut body: B, limit: usize) -> Result<Bytes, Error>
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

    #[tokio::test]
    async fn a_body_of_many_pieces_is_put_together() {
        assert_eq!(read(pieces(&["ab", "", "c", "de"]), 5, PATIENCE).await.expect("within limits"), "abcde");
        assert_eq!(read(pieces(&[]), 5, PATIENCE).await.expect("within limits"), "");
    }

    #[tokio::test]
    async fn one_byte_too_many_is_too_large_announced_or_not() {
        for error in [
            read(pieces(&["abc", "def"]), 5, PATIENCE).await.expect_err("too large"),
            read(Full::new(Bytes::from_static(b"abcdef")), 5, PATIENCE).await.expect_err("too large"),
        ] {
            assert_eq!(error.kind(), Kind::BodyTooLarge);
        }
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_too_slow() {
        let endless = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
        let error = read(endless, 5, Duration::from_millis(10)).await.expect_err("too slow");
        assert_eq!(error.kind(), Kind::RequestTimeout);
        assert!(error.public_message().contains("0.01 seconds"), "{error}");
    }
}

//! The positions that callers hold.
//!
//! A cursor is 18 bytes: version u8 (2), kind u8, when the store was made (i64, big endian, microseconds; it tells one store
//! from another), a point in attempt time (i64, big endian, ticks). Of kind `a` it stands after that point: every message
//! whose attempt is not later was delivered. Of kind `s` it stands before whatever is oldest when it is used. Of kind
//! `t` a second point follows: of what lies between the two, nothing is wanted. A page token is of kind `l`, and the id of an
//! attempt (16 bytes) stands in place of the point: the page goes on before it.

use uuid::Uuid;

use super::ticks::Ticks;
use crate::{
    domain::{Error, Timestamp, ViolationCode},
    store::{Cursor, PageToken},
};

const VERSION: u8 = 2;
const AFTER: u8 = b'a';
const START: u8 = b's';
const TIME: u8 = b't';
const BEFORE: u8 = b'l';

/// A position in the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedPosition {
    /// Before the oldest.
    Start,
    /// After a point in attempt time.
    After(Ticks),
    /// After the first point, and of what is up to the second, nothing.
    Time(Ticks, Ticks),
}

impl FeedPosition {
    /// As callers hold it.
    pub fn to_cursor(self, store: Timestamp) -> Cursor {
        let (kind, first, second) = match self {
            FeedPosition::Start => (START, 0, None),
            FeedPosition::After(point) => (AFTER, point, None),
            FeedPosition::Time(point, until) => (TIME, point, Some(until)),
        };
        let mut bytes = vec![VERSION, kind];
        bytes.extend(store.as_micros().to_be_bytes());
        bytes.extend(first.to_be_bytes());
        bytes.extend(second.iter().flat_map(|ticks| ticks.to_be_bytes()));
        Cursor(bytes.into())
    }

    /// Reads what [`FeedPosition::to_cursor`] gave.
    ///
    /// # Errors
    /// [`crate::domain::Kind::InvalidArgument`] for anything else.
    pub fn read(cursor: &Cursor, store: Timestamp) -> Result<Self, Error> {
        let position = parts(&cursor.0, store).and_then(|(kind, rest)| match kind {
            START => (int(rest)? == 0).then_some(FeedPosition::Start),
            AFTER => Some(FeedPosition::After(int(rest)?)),
            TIME => {
                let (first, second) = rest.split_at_checked(8)?;
                Some(FeedPosition::Time(int(first)?, int(second)?))
            }
            _ => None,
        });
        position.filter(|position| position.is_in_time()).ok_or_else(|| {
            Error::invalid_argument(
                "cursor",
                ViolationCode::InvalidValue,
                "'cursor' is not of this service's store; begin with a new one",
            )
        })
    }

    fn is_in_time(&self) -> bool {
        match *self {
            FeedPosition::Start => true,
            FeedPosition::After(point) => point >= 0,
            FeedPosition::Time(point, until) => 0 <= point && point <= until,
        }
    }
}

/// The token of a page that goes on before `attempt`.
pub fn token(attempt: Uuid, store: Timestamp) -> PageToken {
    let mut bytes = vec![VERSION, BEFORE];
    bytes.extend(store.as_micros().to_be_bytes());
    bytes.extend(attempt.as_bytes());
    PageToken(bytes.into())
}

/// Reads what [`token`] gave.
///
/// # Errors
/// [`crate::domain::Kind::InvalidArgument`] for anything else.
pub fn read_token(token: &PageToken, store: Timestamp) -> Result<Uuid, Error> {
    let attempt = parts(&token.0, store)
        .filter(|(kind, _)| *kind == BEFORE)
        .and_then(|(_, rest)| Uuid::from_slice(rest).ok())
        .filter(|attempt| attempt.get_version_num() == 1);
    attempt.ok_or_else(|| {
        Error::invalid_argument(
            "page_token",
            ViolationCode::InvalidValue,
            "'page_token' is not of this service's store; begin with the first page",
        )
    })
}

/// The kind and what follows, of this store.
fn parts(bytes: &[u8], store: Timestamp) -> Option<(u8, &[u8])> {
    let (&[version, kind], rest) = bytes.split_first_chunk()?;
    let (made, rest) = rest.split_at_checked(8)?;
    (version == VERSION && int(made)? == store.as_micros()).then_some((kind, rest))
}

fn int(bytes: &[u8]) -> Option<i64> {
    bytes.try_into().ok().map(i64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::scylla::ticks;

    fn store(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds).expect("valid")
    }

    #[test]
    fn a_place_comes_back_as_it_went_and_is_short() {
        for position in [
            FeedPosition::Start,
            FeedPosition::After(0),
            FeedPosition::After(i64::MAX),
            FeedPosition::Time(5, 5),
            FeedPosition::Time(5, i64::MAX),
        ] {
            let cursor = position.to_cursor(store(1));
            assert_eq!(FeedPosition::read(&cursor, store(1)).expect("valid"), position);
            assert!(cursor.to_string().len() <= 64, "{cursor}");
            assert!(FeedPosition::read(&cursor, store(2)).is_err());
            assert!(read_token(&PageToken(cursor.0), store(1)).is_err());
        }
    }

    #[test]
    fn a_token_comes_back_as_it_went_and_is_no_cursor() {
        let attempt = ticks::last(1_000_000_000);
        let given = token(attempt, store(1));
        assert_eq!(read_token(&given, store(1)).expect("valid"), attempt);
        assert!(read_token(&given, store(2)).is_err());
        assert!(FeedPosition::read(&Cursor(given.0), store(1)).is_err());
    }

    proptest! {
        #[test]
        fn nonsense_is_refused_and_what_is_read_is_what_would_be_written(
            bytes in proptest::collection::vec(any::<u8>(), 0..40), kind in prop_oneof![Just(b'a'), Just(b's'), Just(b't')],
        ) {
            let mut bytes = bytes;
            for (at, byte) in bytes.iter_mut().zip([VERSION, kind]) {
                *at = byte;
            }
            if let Some(made) = bytes.get_mut(2..10) {
                made.copy_from_slice(&store(1).as_micros().to_be_bytes());
            }
            let cursor = Cursor(bytes.into());
            if let Ok(position) = FeedPosition::read(&cursor, store(1)) {
                prop_assert_eq!(position.to_cursor(store(1)), cursor);
            }
        }
    }
}

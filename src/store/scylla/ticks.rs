//! The time of attempts: ticks of 100 ns since 1582-10-15, the unit of a version 1 UUID, and what is divided by them.
//!
//! Marks and cursors are ticks too and are compared as integers. Bounds of scans are made from ticks here, never by
//! `minTimeuuid` and `maxTimeuuid`, which know milliseconds only.

use uuid::Uuid;

use crate::domain::Timestamp;

/// A point in attempt time, as the database keeps it in a bigint. 60 bits are used, so it is never negative.
pub type Ticks = i64;

/// Ticks in a microsecond, a second.
const PER_MICRO: i64 = 10;
/// Ticks in a second.
pub const PER_SECOND: i64 = 1_000_000 * PER_MICRO;
/// From 1582-10-15 to 1970-01-01.
const UNIX_EPOCH: i64 = 0x01B2_1DD2_1381_4000;
/// The last instant that a version 1 UUID can name, in the year 5236.
const MAX: i64 = (1 << 60) - 1;

const BUCKET: i64 = 300 * PER_SECOND;
const DAY: i64 = 86_400 * PER_SECOND;
const PERIOD: i64 = 7 * DAY;

/// The ticks of an attempt.
pub fn of(attempt: Uuid) -> Ticks {
    let (high, _) = attempt.as_u64_pair();
    let (low, mid, top) = (high >> 32, (high >> 16) & 0xFFFF, high & 0x0FFF);
    // 60 bits.
    (top << 48 | mid << 32 | low) as i64
}

/// The ticks at `time`.
pub fn at(time: Timestamp) -> Ticks {
    time.as_micros().saturating_mul(PER_MICRO).saturating_add(UNIX_EPOCH).min(MAX)
}

/// The microseconds since 1970 at `ticks`, which is the write timestamp of an attempt's references. Negative before 1970.
pub fn micros(ticks: Ticks) -> i64 {
    (ticks - UNIX_EPOCH).div_euclid(PER_MICRO)
}

/// The time at `ticks`, to the microsecond; before 1970 it is the epoch.
pub fn time(ticks: Ticks) -> Timestamp {
    Timestamp::from_micros(micros(ticks)).unwrap_or(Timestamp::EPOCH)
}

/// `ticks` moved by `duration` into the past.
pub fn before(ticks: Ticks, duration: std::time::Duration) -> Ticks {
    let span = i64::try_from(duration.as_nanos() / 100).unwrap_or(i64::MAX);
    ticks.saturating_sub(span).max(0)
}

/// `ticks` moved by `duration` into the future.
pub fn after(ticks: Ticks, duration: std::time::Duration) -> Ticks {
    let span = i64::try_from(duration.as_nanos() / 100).unwrap_or(i64::MAX);
    ticks.saturating_add(span).min(MAX)
}

/// The five minutes of the feed in which `ticks` lie.
pub fn bucket(ticks: Ticks) -> i32 {
    // 60 bits by 3 * 10^9.
    (ticks / BUCKET) as i32
}

/// Where a bucket begins.
pub fn bucket_start(bucket: i32) -> Ticks {
    i64::from(bucket) * BUCKET
}

/// Where a bucket ends: its last tick.
pub fn bucket_end(bucket: i32) -> Ticks {
    bucket_start(bucket) + BUCKET - 1
}

/// The day of a bucket.
pub fn day(bucket: i32) -> i32 {
    // Of an i32, divided.
    (bucket_start(bucket) / DAY) as i32
}

/// Where the day after `day` begins.
pub fn day_end(day: i32) -> Ticks {
    (i64::from(day) + 1) * DAY
}

/// The seven days in which `ticks` lie: one partition of a sender's list.
pub fn period(ticks: Ticks) -> i32 {
    (ticks / PERIOD) as i32
}

/// The greatest attempt at `ticks`, as both engines order version 1 UUIDs: by time, then by signed bytes. A scan
/// `> last(a) AND <= last(b)` meets exactly the attempts in (a, b].
pub fn last(ticks: Ticks) -> Uuid {
    with_rest(ticks, 0x7F7F_7F7F_7F7F_7F7F)
}

/// The least attempt at `ticks`.
pub fn first(ticks: Ticks) -> Uuid {
    with_rest(ticks, 0x8080_8080_8080_8080)
}

fn with_rest(ticks: Ticks, rest: u64) -> Uuid {
    let ticks = ticks.clamp(0, MAX) as u64;
    let (top, mid, low) = (ticks >> 48, (ticks >> 32) & 0xFFFF, ticks & 0xFFFF_FFFF);
    Uuid::from_u64_pair(low << 32 | mid << 16 | 0x1000 | top, rest)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use scylla::value::CqlTimeuuid;

    use super::*;

    fn attempt(ticks: i64, counter: u16, node: [u8; 6]) -> Uuid {
        uuid::Builder::from_gregorian_timestamp(ticks as u64, counter, &node).into_uuid()
    }

    #[test]
    fn ticks_and_times_are_the_same_instant() {
        let time = Timestamp::parse("2024-12-18T12:00:00.123456Z").expect("valid");
        assert_eq!(super::time(at(time)), time);
        assert_eq!(micros(at(time) + 9), time.as_micros());
        assert_eq!(super::time(0), Timestamp::EPOCH);
        assert_eq!(before(at(time), Duration::from_secs(1)), at(time) - PER_SECOND);
        assert_eq!(of(last(i64::MAX)), MAX);
    }

    #[test]
    fn buckets_days_and_periods_begin_where_clocks_do() {
        let midnight = at(Timestamp::parse("2024-12-18T00:00:00Z").expect("valid"));
        let bucket = super::bucket(midnight);
        assert_eq!(bucket_start(bucket), midnight);
        assert_eq!(super::bucket(midnight - 1), bucket - 1);
        assert_eq!(bucket_end(bucket - 1), midnight - 1);
        assert_eq!(day(bucket), day(bucket - 1) + 1);
        assert_eq!(day(bucket), day(super::bucket(midnight + DAY - 1)));
        assert_eq!(day_end(day(bucket)), midnight + DAY);
        assert_eq!(period(midnight + PERIOD), period(midnight) + 1);
    }

    proptest! {
        #[test]
        fn bounds_enclose_every_attempt_of_their_ticks_and_no_other(
            ticks in 1..MAX, counter: u16, node: [u8; 6],
        ) {
            let id = attempt(ticks, counter, node);
            prop_assert_eq!(of(id), ticks);
            let id = CqlTimeuuid::from(id);
            prop_assert!(CqlTimeuuid::from(first(ticks)) <= id && id <= CqlTimeuuid::from(last(ticks)));
            prop_assert!(CqlTimeuuid::from(last(ticks - 1)) < id && id < CqlTimeuuid::from(first(ticks + 1)));
        }
    }
}

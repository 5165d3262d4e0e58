//! Instants, kept to the microsecond, and the spellings in which callers may send them.

use std::{borrow::Cow, fmt, time::SystemTime};

use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset, format_description::well_known::Rfc3339};

use super::{Field, Violation, ViolationCode};

/// The last second of 9999, in UNIX seconds.
const MAX_SECONDS: i64 = 253_402_300_799;
const MICROS_PER_SECOND: i64 = 1_000_000;

/// An instant from 1970 to the end of 9999, in microseconds since the UNIX epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The UNIX epoch.
    pub const EPOCH: Timestamp = Timestamp(0);

    /// Takes UNIX seconds, as JSON integers carry them.
    ///
    /// # Errors
    /// A violation of field `timestamp` outside 1970 to 9999; a value that can only be milliseconds is named so.
    pub fn from_seconds(seconds: i64) -> Result<Self, Violation> {
        Self::from_unix(seconds, 0)
    }

    /// Takes UNIX seconds and nanoseconds, as `google.protobuf.Timestamp` carries them.
    ///
    /// # Errors
    /// As [`Timestamp::from_seconds`], and when `nanos` is not 0 to 999,999,999.
    pub fn from_unix(seconds: i64, nanos: i32) -> Result<Self, Violation> {
        if seconds < 0 {
            return Err(out_of_range("'timestamp' is before 1970; send UNIX seconds from 0 on"));
        }
        if seconds > MAX_SECONDS {
            return Err(beyond(seconds));
        }
        if !(0..1_000_000_000).contains(&nanos) {
            return Err(invalid("'timestamp' has nanoseconds outside 0 to 999999999"));
        }
        Ok(Self(seconds * MICROS_PER_SECOND + i64::from(nanos / 1000)))
    }

    /// Takes a number as JSON spells it.
    ///
    /// # Errors
    /// As [`Timestamp::parse`].
    pub fn parse_number(text: &str) -> Result<Self, Violation> {
        if is_digits(text) { Self::from_digits(text) } else { Self::parse(text) }
    }

    fn from_digits(digits: &str) -> Result<Self, Violation> {
        digits.parse().map_or_else(|_| Err(out_of_range(TOO_LATE)), Self::from_seconds)
    }

    /// Takes a string: ASCII digits only are UNIX seconds, anything else is an ISO 8601 date-time.
    ///
    /// # Errors
    /// A violation of field `timestamp` whose text says what to send instead; an empty text is a missing one.
    pub fn parse(text: &str) -> Result<Self, Violation> {
        if text.is_empty() {
            let message = "Missing 'timestamp'".into();
            return Err(Violation { field: Field::Timestamp, code: ViolationCode::Missing, message });
        }
        if is_digits(text) {
            return if reads_as_date(text) { Err(invalid(hint(text))) } else { Self::from_digits(text) };
        }
        match date_time(text.as_bytes()) {
            Some(Parsed::Micros(micros)) if (0..=MAX_SECONDS * MICROS_PER_SECOND + 999_999).contains(&micros) => {
                Ok(Self(micros))
            }
            Some(Parsed::Micros(_)) => Err(out_of_range("'timestamp' must lie from 1970 to the end of 9999")),
            Some(Parsed::LeapSecond) => {
                Err(invalid("'timestamp' has a leap second; send second 59 or the next minute"))
            }
            Some(Parsed::EndOfDay) => Err(invalid("'timestamp' has hour 24; send 00:00 of the next day")),
            None => Err(invalid(hint(text))),
        }
    }

    /// Takes microseconds since the UNIX epoch, as stores keep them.
    pub fn from_micros(micros: i64) -> Option<Self> {
        (0..=MAX_SECONDS * MICROS_PER_SECOND + 999_999).contains(&micros).then_some(Self(micros))
    }

    /// Takes the machine's time; before 1970 it is the epoch, after 9999 the last instant of it.
    pub fn from_system(time: SystemTime) -> Self {
        let micros = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_micros());
        let max = MAX_SECONDS * MICROS_PER_SECOND + 999_999;
        Self(i64::try_from(micros).map_or(max, |m| m.min(max)))
    }

    /// Microseconds since the UNIX epoch.
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole UNIX seconds and the nanoseconds after them.
    pub fn as_unix(self) -> (i64, i32) {
        // The remainder is below 10^6, so its nanoseconds fit an i32.
        (self.0 / MICROS_PER_SECOND, (self.0 % MICROS_PER_SECOND) as i32 * 1000)
    }

    /// This instant plus `duration`, at most the end of 9999.
    #[must_use]
    pub fn saturating_add(self, duration: std::time::Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros).min(MAX_SECONDS * MICROS_PER_SECOND + 999_999))
    }

    /// This instant minus `duration`, at least the epoch.
    #[must_use]
    pub fn saturating_sub(self, duration: std::time::Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(micros).max(0))
    }

    /// The seconds that have passed since `earlier`; 0 where it is later.
    pub fn since(self, earlier: Self) -> f64 {
        self.0.saturating_sub(earlier.0).max(0) as f64 / 1_000_000.0
    }
}

/// RFC 3339 in UTC with as many fraction digits as are needed: `2024-12-18T12:00:00.25Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1000).map_err(|_| fmt::Error)?;
        f.write_str(&time.format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a number beyond the end of 9999 is: the present time in one of these units, or a later second.
fn beyond(number: i64) -> Violation {
    // From 2001 on in each of them; no earlier time is sent so.
    let unit = match number {
        1_000_000_000_000..1_000_000_000_000_000 => "milliseconds",
        1_000_000_000_000_000..1_000_000_000_000_000_000 => "microseconds",
        1_000_000_000_000_000_000.. => "nanoseconds",
        _ => return out_of_range(TOO_LATE),
    };
    invalid(format!("'timestamp' can only be {unit}; send whole UNIX seconds, such as 1672531200"))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// `20241218`, which nobody means as a second of 1970, and `20241218120000`.
fn reads_as_date(digits: &str) -> bool {
    let mut s = Scanner(digits.as_bytes());
    let mut date = || Some((s.number(4)?, s.number(2)?, s.number(2)?, s.0.len()));
    let Some((year @ 1000.., month, day, 0 | 6)) = date() else { return false };
    // Of two-digit fields only: the casts cannot lose anything.
    Month::try_from(month as u8).is_ok_and(|month| Date::from_calendar_date(year as i32, month, day as u8).is_ok())
}

enum Parsed {
    Micros(i64),
    LeapSecond,
    EndOfDay,
}

/// ISO 8601 calendar date-time, extended or basic; `None` where the shape is another. The calendar is `time`'s.
fn date_time(text: &[u8]) -> Option<Parsed> {
    let mut s = Scanner(text);
    let year = s.number(4)?;
    let extended = s.eat(b'-');
    let month = s.number(2)?;
    s.separator(extended, b'-')?;
    let day = s.number(2)?;
    if !(s.eat(b'T') || s.eat(b't') || s.eat(b' ')) {
        return None;
    }
    let hour = s.number(2)?;
    s.separator(extended, b':')?;
    let minute = s.number(2)?;
    let has_seconds = if extended { s.eat(b':') } else { s.0.first().is_some_and(u8::is_ascii_digit) };
    let (second, nanos) = if has_seconds { (s.number(2)?, s.fraction()?) } else { (0, 0) };
    let offset = s.offset()?;
    if !s.0.is_empty() {
        return None;
    }
    // Of two-digit fields only: the casts below cannot lose anything.
    let month = Month::try_from(month as u8).ok()?;
    let date = Date::from_calendar_date(year as i32, month, day as u8).ok()?;
    if hour == 24 && minute == 0 && second == 0 {
        return Some(Parsed::EndOfDay);
    }
    if second == 60 && hour < 24 && minute < 60 {
        return Some(Parsed::LeapSecond);
    }
    let time = Time::from_hms_nano(hour as u8, minute as u8, second as u8, nanos).ok()?;
    let nanos = PrimitiveDateTime::new(date, time).assume_offset(offset).unix_timestamp_nanos();
    i64::try_from(nanos.div_euclid(1000)).ok().map(Parsed::Micros)
}

/// Reads from the front; every reader gives `None` where the text is not what it reads.
struct Scanner<'a>(&'a [u8]);

impl Scanner<'_> {
    fn eat(&mut self, byte: u8) -> bool {
        match self.0.split_first() {
            Some((first, rest)) if *first == byte => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn number(&mut self, digits: usize) -> Option<u32> {
        let (head, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        head.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + u32::from(b - b'0')))
    }

    fn separator(&mut self, extended: bool, byte: u8) -> Option<()> {
        (self.eat(byte) == extended).then_some(())
    }

    /// Nothing, or `.` and 1 to 9 digits; in nanoseconds.
    fn fraction(&mut self) -> Option<u32> {
        if !self.eat(b'.') {
            return Some(0);
        }
        let digits = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
        if !(1..=9).contains(&digits) {
            return None;
        }
        let missing = 9 - digits as u32;
        Some(self.number(digits)? * 10_u32.pow(missing))
    }

    /// Nothing (UTC), `Z`, `z`, `±hh`, `±hhmm` or `±hh:mm`.
    fn offset(&mut self) -> Option<UtcOffset> {
        if self.0.is_empty() || self.eat(b'Z') || self.eat(b'z') {
            return Some(UtcOffset::UTC);
        }
        let sign = if self.eat(b'+') {
            1
        } else if self.eat(b'-') {
            -1
        } else {
            return None;
        };
        let hours = self.number(2)?;
        let minutes = if self.0.is_empty() {
            0
        } else {
            self.eat(b':');
            self.number(2)?
        };
        if hours > 23 || minutes > 59 {
            return None;
        }
        UtcOffset::from_whole_seconds(sign * (hours * 3600 + minutes * 60) as i32).ok()
    }
}

/// What to send instead of `text`, which is none of the spellings.
fn hint(text: &str) -> &'static str {
    let bytes = text.as_bytes();
    let numeric = |b: &u8| b.is_ascii_digit() || b"+-.eE".contains(b);
    let date_alone = bytes.len() == 10
        && bytes.iter().enumerate().all(|(i, b)| if i == 4 || i == 7 { *b == b'-' } else { b.is_ascii_digit() });
    if is_digits(text) && bytes.len() > 8 {
        "'timestamp' is a date and a time without a 'T' between them; send '20241218T120000Z', or UNIX seconds"
    } else if date_alone || is_digits(text) {
        "'timestamp' is a date alone; add the time of day, such as '2024-12-18T12:00:00Z'"
    } else if bytes.get(4..6).is_some_and(|b| b.contains(&b'W')) {
        "'timestamp' is a week date; send a calendar date-time, such as '2024-12-18T12:00:00Z'"
    } else if bytes.len() >= 8
        && bytes.get(4) == Some(&b'-')
        && bytes.iter().take(8).filter(|b| **b == b'-').count() == 1
    {
        "'timestamp' is an ordinal date; send a calendar date-time, such as '2024-12-18T12:00:00Z'"
    } else if bytes.iter().all(numeric) {
        "'timestamp' must be whole UNIX seconds without sign, fraction or exponent, such as '1672531200'"
    } else {
        "'timestamp' must be UNIX seconds, such as '1672531200', or an ISO 8601 date-time, such as '2024-12-18T12:00:00Z'"
    }
}

const TOO_LATE: &str = "'timestamp' is after the end of 9999; send whole UNIX seconds, such as 1672531200";

fn invalid(message: impl Into<Cow<'static, str>>) -> Violation {
    Violation { field: Field::Timestamp, code: ViolationCode::InvalidTimestamp, message: message.into() }
}

fn out_of_range(message: &'static str) -> Violation {
    Violation { field: Field::Timestamp, code: ViolationCode::TimestampOutOfRange, message: message.into() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn micros(text: &str) -> Option<i64> {
        Timestamp::parse(text).ok().map(Timestamp::as_micros)
    }

    #[test]
    fn every_spelling_of_the_contract_is_the_same_instant() {
        for text in [
            "1734523200",
            "0001734523200",
            "2024-12-18T12:00:00Z",
            "2024-12-18t12:00:00z",
            "2024-12-18 12:00:00",
            "2024-12-18T12:00",
            "2024-12-18T12:00:00.000000001Z",
            "2024-12-18T14:30:00+02:30",
            "2024-12-18T14:30:00+0230",
            "2024-12-18T10:00:00-02",
            "2024-12-19T11:59:00+23:59",
            "20241218T120000Z",
            "20241218T1200",
            "20241218 120000.5".trim_end_matches(".5"),
        ] {
            assert_eq!(micros(text), Some(1_734_523_200_000_000), "{text}");
        }
        assert_eq!(micros("2024-12-18T12:00:00.123456789Z"), Some(1_734_523_200_123_456));
        assert_eq!(micros("1970-01-01T00:00Z"), Some(0));
        assert_eq!(micros("9999-12-31T23:59:59.999999999Z"), Some(253_402_300_799_999_999));
        assert_eq!(micros("253402300799"), Some(253_402_300_799_000_000));
        // No dates, and so seconds; a number is never a date.
        assert_eq!(micros("20241318"), Some(20_241_318_000_000));
        assert_eq!(micros("00000101"), Some(101_000_000));
        assert_eq!(Timestamp::parse_number("20241218").map(Timestamp::as_micros), Ok(20_241_218_000_000));
    }

    #[test]
    fn what_is_refused_says_what_to_send_instead() {
        for (text, part) in [
            ("1734523200000", "milliseconds"),
            ("1734523200000000", "microseconds"),
            ("1734523200000000000", "nanoseconds"),
            ("253402300800", "end of 9999"),
            ("99999999999999999999999", "end of 9999"),
            ("20241218", "date alone"),
            ("19700101", "date alone"),
            ("20241218120000", "without a 'T'"),
            ("-1", "without sign"),
            ("+1734523200", "without sign"),
            ("1734523200.5", "fraction"),
            ("1e9", "exponent"),
            ("2024-12-18", "date alone"),
            ("2024-W51-3T12:00:00Z", "week date"),
            ("2024W513T120000Z", "week date"),
            ("2024-353T12:00:00Z", "ordinal"),
            ("2024-12-18T24:00:00Z", "hour 24"),
            ("2024-12-31T23:59:60Z", "leap second"),
            ("1969-12-31T23:59:59Z", "from 1970"),
            ("9999-12-31T23:59:59-01:00", "from 1970"),
            ("", "Missing"),
            (" 1734523200", "ISO 8601"),
            ("2024/12/18", "ISO 8601"),
            ("2024-12-18  12:00:00", "ISO 8601"),
            ("2024-12-18T12:00:00,5Z", "ISO 8601"),
            ("2024-12-18T12:00:00.Z", "ISO 8601"),
            ("2024-12-18T12:00:00.1234567890Z", "ISO 8601"),
            ("2024-12-18T1200Z", "ISO 8601"),
            ("20241218T12:00Z", "ISO 8601"),
            ("2024-02-30T12:00:00Z", "ISO 8601"),
            ("2024-12-18T12:00:00+24:00", "ISO 8601"),
            ("2024-12-18T12:00:00Z ", "ISO 8601"),
            ("٢٠٢٤", "ISO 8601"),
        ] {
            let violation = Timestamp::parse(text).expect_err(text);
            assert!(violation.message.contains(part), "{text}: {}", violation.message);
        }
    }

    #[test]
    fn nothing_is_before_the_epoch_or_after_the_last_instant() {
        use std::time::Duration;

        let at = |seconds| Timestamp::from_seconds(seconds).expect("in range");
        let last = Timestamp::from_micros(253_402_300_799_999_999).expect("the last");
        assert_eq!((Timestamp::from_micros(253_402_300_800_000_000), Timestamp::from_micros(-1)), (None, None));
        assert_eq!((last.saturating_add(Duration::from_micros(1)), last.saturating_add(Duration::MAX)), (last, last));
        assert_eq!(at(1).saturating_sub(Duration::from_secs(2)), Timestamp::EPOCH);
        assert_eq!(
            (at(5).saturating_add(Duration::from_secs(2)), at(5).saturating_sub(Duration::from_secs(2))),
            (at(7), at(3))
        );
        assert_eq!((at(5).since(at(3)), at(3).since(at(5))), (2.0, 0.0));
        let wall = |seconds: f64| Timestamp::from_system(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds));
        assert_eq!((wall(1.5).as_micros(), wall(1e12)), (1_500_000, last));
        assert_eq!(Timestamp::from_system(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), Timestamp::EPOCH);
        assert_eq!(Timestamp::from_unix(5, 1_999).map(Timestamp::as_unix), Ok((5, 1_000)));
        assert_eq!(Timestamp::from_unix(0, 999_999_999).map(Timestamp::as_micros), Ok(999_999));
        for (seconds, nanos) in [(0, -1), (0, 1_000_000_000), (-1, 0), (253_402_300_800, 0)] {
            assert!(Timestamp::from_unix(seconds, nanos).is_err(), "{seconds} {nanos}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused_without_a_panic(text in "\\PC*") {
            let _ = Timestamp::parse(&text);
        }

        #[test]
        fn what_is_displayed_parses_to_the_same_instant(micros in 0..=253_402_300_799_999_999_i64) {
            let timestamp = Timestamp::from_micros(micros).expect("in range");
            prop_assert_eq!(Timestamp::parse(&timestamp.to_string()), Ok(timestamp));
        }
    }
}

//! Times: the spellings of the contract as a list of shapes, and the calendar of jiff.

use std::{collections::HashSet, sync::OnceLock};

use jiff::civil::{Date, Time};

use crate::domain::{Timestamp, Violation, ViolationCode};

/// The last second of 9999.
const LAST: i128 = 253_402_300_799;

/// What the contract says of a spelling: microseconds since 1970, or the word for what is wrong.
pub(super) type Reading = Result<i64, ViolationCode>;

/// A time, as text and as the spelling of a number.
pub fn timestamp(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let ours = Timestamp::parse(text);
    assert_eq!(reading(&ours), of_text(text), "{text:?}");
    if let Ok(instant) = ours {
        round_trip(instant);
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        assert_eq!(reading(&Timestamp::parse_number(text)), of_number(digits(text)), "the number {text:?}");
    }
}

fn round_trip(instant: Timestamp) {
    let shown = instant.to_string();
    assert_eq!(Timestamp::parse(&shown), Ok(instant), "{shown}");
    let (seconds, nanos) = instant.as_unix();
    assert_eq!(Timestamp::from_unix(seconds, nanos), Ok(instant));
    // Jiff's last instant is some hours before the end of 9999.
    if let Ok(theirs) = shown.parse::<jiff::Timestamp>() {
        assert_eq!(theirs.as_microsecond(), instant.as_micros(), "{shown}");
    }
}

pub(super) fn reading(ours: &Result<Timestamp, Violation>) -> Reading {
    ours.as_ref().map(|instant| instant.as_micros()).map_err(|violation| violation.code)
}

/// A string.
pub(super) fn of_text(text: &str) -> Reading {
    if text.is_empty() {
        return Err(ViolationCode::Missing);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let is_a_date = text.len() == 8 && !text.starts_with('0') && date(&numbers(text)).is_some();
        return if is_a_date { Err(ViolationCode::InvalidTimestamp) } else { of_number(digits(text)) };
    }
    if !shapes().contains(&shape(text)) {
        return Err(ViolationCode::InvalidTimestamp);
    }
    let seconds = civil_seconds(text).ok_or(ViolationCode::InvalidTimestamp)?;
    if !(0..=LAST).contains(&seconds) {
        return Err(ViolationCode::TimestampOutOfRange);
    }
    Ok(i64::try_from(seconds * 1_000_000).unwrap() + fraction_micros(text))
}

/// Whole seconds.
pub(super) fn of_number(seconds: i128) -> Reading {
    match seconds {
        0..=LAST => Ok(i64::try_from(seconds * 1_000_000).unwrap()),
        // The present in milliseconds, microseconds or nanoseconds, as far as 64 bits hold it.
        1_000_000_000_000..=0x7fff_ffff_ffff_ffff => Err(ViolationCode::InvalidTimestamp),
        _ => Err(ViolationCode::TimestampOutOfRange),
    }
}

/// The number that they are, or one that is too large.
fn digits(text: &str) -> i128 {
    let text = text.trim_start_matches('0');
    if text.is_empty() { 0 } else { text.parse().unwrap_or(i128::MAX) }
}

fn shape(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect()
}

/// Every form of a date-time that the contract has, with a 0 for each digit.
fn shapes() -> &'static HashSet<String> {
    static SHAPES: OnceLock<HashSet<String>> = OnceLock::new();
    SHAPES.get_or_init(|| {
        let mut shapes = HashSet::new();
        let fractions = (1..=9).map(|digits| format!(".{}", "0".repeat(digits))).chain([String::new()]);
        let fractions: Vec<_> = fractions.collect();
        for (date, minutes, seconds) in [("0000-00-00", "00:00", "00:00:00"), ("00000000", "0000", "000000")] {
            let times = fractions.iter().map(|fraction| format!("{seconds}{fraction}")).chain([minutes.to_owned()]);
            for time in times {
                for between in ["T", "t", " "] {
                    for offset in ["", "Z", "z", "+00:00", "-00:00", "+0000", "-0000", "+00", "-00"] {
                        shapes.insert(format!("{date}{between}{time}{offset}"));
                    }
                }
            }
        }
        shapes
    })
}

fn numbers(text: &str) -> Vec<i32> {
    text.bytes().filter(u8::is_ascii_digit).map(|digit| i32::from(digit - b'0')).collect()
}

fn number(digits: &[i32]) -> i32 {
    digits.iter().fold(0, |number, digit| number * 10 + digit)
}

fn date(digits: &[i32]) -> Option<Date> {
    let part = |from: usize, to: usize| i16::try_from(number(&digits[from..to])).unwrap();
    Date::new(part(0, 4), part(4, 6).try_into().unwrap(), part(6, 8).try_into().unwrap()).ok()
}

/// The whole seconds since 1970 of a text that has one of the shapes; `None` for what no calendar or clock has.
fn civil_seconds(text: &str) -> Option<i128> {
    let date = date(&numbers(text))?;
    let (clock, offset) = clock(text);
    let clock = numbers(clock.split('.').next().unwrap());
    let part = |at: usize| i8::try_from(number(clock.get(at..at + 2).unwrap_or(&[]))).unwrap();
    // Jiff takes a second 60 for the 59th.
    if part(4) > 59 {
        return None;
    }
    let at = date.to_datetime(Time::new(part(0), part(2), part(4), 0).ok()?);
    let epoch = Date::new(1970, 1, 1).unwrap().to_datetime(Time::midnight());
    let digits = numbers(offset);
    let (hours, minutes) = (number(digits.get(..2).unwrap_or(&[])), number(digits.get(2..).unwrap_or(&[])));
    if hours > 23 || minutes > 59 {
        return None;
    }
    let offset = (hours * 3600 + minutes * 60) * if offset.starts_with('-') { -1 } else { 1 };
    Some(i128::from(at.duration_since(epoch).as_secs()) - i128::from(offset))
}

/// What stands between the date and the offset, and the offset.
fn clock(text: &str) -> (&str, &str) {
    let (_, rest) = text.split_once(['T', 't', ' ']).unwrap();
    rest.split_at(rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len()))
}

fn fraction_micros(text: &str) -> i64 {
    let (clock, _) = clock(text);
    let fraction = clock.split_once('.').map_or("", |(_, fraction)| fraction);
    format!("{fraction:0<6}")[..6].parse().unwrap()
}

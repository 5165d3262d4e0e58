//! Which values of a type a setting takes.

use std::time::Duration;

use bytesize::ByteSize;
use serde_json::{Map, Value as Json};

use super::value::shown_size;

/// Which values of `T` a setting takes, for the program and for its schema alike.
pub(super) trait Check<T> {
    /// The error says what is taken.
    fn check(&self, value: &T) -> Result<(), String>;

    /// Adds to a schema of `T` what is taken.
    fn describe(&self, schema: &mut Map<String, Json>);
}

/// Every value.
pub(super) struct Any;

/// Those from `least` to `most`, where there is one.
pub(super) struct Bounds<T> {
    least: T,
    most: Option<T>,
}

/// A value as an error and a schema show it.
pub(super) trait Shown {
    /// The text.
    fn shown(&self) -> String;

    /// The words of JSON Schema for a smallest and a largest value, and the value. What is written with a unit has none there, so
    /// `x-minimum` and `x-maximum` have its text.
    fn words(&self) -> (&'static str, &'static str, Json) {
        ("x-minimum", "x-maximum", self.shown().into())
    }
}

pub(super) fn at_least<T>(least: T) -> Bounds<T> {
    Bounds { least, most: None }
}

pub(super) fn between<T>(least: T, most: T) -> Bounds<T> {
    Bounds { least, most: Some(most) }
}

pub(super) fn positive() -> Bounds<Duration> {
    between(Duration::from_millis(1), Duration::from_secs(86_400))
}

impl<T> Check<T> for Any {
    fn check(&self, _: &T) -> Result<(), String> {
        Ok(())
    }

    fn describe(&self, _: &mut Map<String, Json>) {}
}

impl<T: PartialOrd + Shown> Check<T> for Bounds<T> {
    fn check(&self, value: &T) -> Result<(), String> {
        let is_good = *value >= self.least && self.most.as_ref().is_none_or(|most| value <= most);
        match &self.most {
            _ if is_good => Ok(()),
            Some(most) => Err(format!("must be {} to {}", self.least.shown(), most.shown())),
            None => Err(format!("must be at least {}", self.least.shown())),
        }
    }

    fn describe(&self, schema: &mut Map<String, Json>) {
        let (word, _, least) = self.least.words();
        schema.insert(word.into(), least);
        if let Some(most) = &self.most {
            let (_, word, most) = most.words();
            schema.insert(word.into(), most);
        }
    }
}

impl Shown for usize {
    fn shown(&self) -> String {
        self.to_string()
    }

    fn words(&self) -> (&'static str, &'static str, Json) {
        ("minimum", "maximum", (*self).into())
    }
}

impl Shown for u16 {
    fn shown(&self) -> String {
        self.to_string()
    }

    fn words(&self) -> (&'static str, &'static str, Json) {
        ("minimum", "maximum", (*self).into())
    }
}

impl Shown for Duration {
    fn shown(&self) -> String {
        let seconds = self.as_secs();
        if seconds != 0 && seconds.is_multiple_of(86_400) {
            format!("{}d", seconds / 86_400)
        } else {
            humantime::format_duration(*self).to_string()
        }
    }
}

impl Shown for ByteSize {
    fn shown(&self) -> String {
        shown_size(*self)
    }
}

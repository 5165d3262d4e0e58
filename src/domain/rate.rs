//! How often something may happen.

use std::{fmt, num::NonZeroU32, time::Duration};

/// So much in a time, and a burst: how much of it may come at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    units: NonZeroU32,
    per: Per,
    burst: NonZeroU32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Per {
    Second,
    Minute,
    Hour,
}

impl Rate {
    /// The largest number in a rate: a higher one is no limit that a machine would meet.
    pub const MOST: u32 = 1_000_000;

    /// What [`Rate::parse`] takes, for texts.
    pub const NOTATION: &str =
        "such as 50/s, 600/min or 1000/h, with or without a burst as in '50/s burst 100', each number 1 to 1000000";

    /// So many a second, and as many at once.
    pub fn per_second(units: NonZeroU32) -> Self {
        Self { units, per: Per::Second, burst: units }
    }

    /// Reads `50/s`, `600/min` or `1000/h`, each with ` burst N` or with a burst of as much as in that time; a number alone is a
    /// second's. `None` for anything else, and for what is not 1 to [`Rate::MOST`].
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let rate = words.next()?;
        let (units, per) = rate.split_once('/').unwrap_or((rate, "s"));
        let per = match per {
            "s" => Per::Second,
            "min" => Per::Minute,
            "h" => Per::Hour,
            _ => return None,
        };
        let units = number(units)?;
        let burst = match (words.next(), words.next(), words.next()) {
            (None, ..) => units,
            (Some("burst"), Some(burst), None) => number(burst)?,
            _ => return None,
        };
        Some(Self { units, per, burst })
    }

    /// The same with another burst; `None` where that is not 1 to [`Rate::MOST`].
    pub fn with_burst(self, burst: u32) -> Option<Self> {
        let burst = NonZeroU32::new(burst).filter(|burst| burst.get() <= Self::MOST)?;
        Some(Self { burst, ..self })
    }

    /// How much may come at once.
    pub fn burst(&self) -> NonZeroU32 {
        self.burst
    }

    /// Whether nobody within this rate goes beyond `other`, in a burst or in the long run.
    pub fn is_within(&self, other: &Self) -> bool {
        self.burst <= other.burst && self.interval() >= other.interval()
    }

    /// In how long room for one more comes.
    pub fn interval(&self) -> Duration {
        self.per.length() / self.units.get()
    }

    /// In how long, without use, there is room for a whole burst again.
    pub fn window(&self) -> Duration {
        self.interval().saturating_mul(self.burst.get())
    }
}

impl Per {
    fn length(self) -> Duration {
        match self {
            Per::Second => Duration::from_secs(1),
            Per::Minute => Duration::from_mins(1),
            Per::Hour => Duration::from_hours(1),
        }
    }
}

/// Who is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limited {
    /// One end user of an organisation, in one environment.
    Sender,
    /// One client address, under one browser key.
    Address,
    /// One API key.
    Key,
    /// One organisation, in one environment.
    Org,
    /// Requests without a valid key from one client address.
    FailedAuth,
}

impl Limited {
    /// The limit's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Limited::Sender => "sender",
            Limited::Address => "address",
            Limited::Key => "key",
            Limited::Org => "org",
            Limited::FailedAuth => "address",
        }
    }
}

/// A limit that is used up for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateExceeded {
    /// Whose limit it is.
    pub limit: Limited,
    /// The limit.
    pub rate: Rate,
    /// In how long there is room for one more.
    pub wait: Duration,
}

/// Without a sign, and without a number that only a limit of no use would have.
fn number(text: &str) -> Option<NonZeroU32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number: u32 = text.parse().ok().filter(|_| digits)?;
    NonZeroU32::new(number).filter(|number| number.get() <= Rate::MOST)
}

/// As [`Rate::parse`] reads it.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = match self.per {
            Per::Second => "s",
            Per::Minute => "min",
            Per::Hour => "h",
        };
        write!(f, "{}/{per}", self.units)?;
        if self.burst == self.units { Ok(()) } else { write!(f, " burst {}", self.burst) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> Option<String> {
        Rate::parse(text).map(|rate| rate.to_string())
    }

    #[test]
    fn a_rate_is_a_number_in_a_time_with_a_burst() {
        for (text, same) in [
            ("50", "50/s"),
            ("50/s", "50/s"),
            ("600/min burst 20", "600/min burst 20"),
            (" 1000/h   burst 1000 ", "1000/h"),
            ("1000000", "1000000/s"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(same), "{text}");
        }
        for bad in
            ["", "0", "0/s", "50/d", "50/", "/s", "-1", "+5", "1.5", "50/s burst", "50/s burst 0", "50 100", "1000001"]
        {
            assert_eq!(shown(bad), None, "{bad}");
        }
    }

    #[test]
    fn room_for_one_comes_in_its_part_of_the_time_and_for_a_burst_in_as_much_longer() {
        let rate = Rate::parse("120/min burst 10").expect("a rate");
        assert_eq!((rate.interval(), rate.window()), (Duration::from_millis(500), Duration::from_secs(5)));
        assert!(Rate::parse("1000000").expect("a rate").interval() > Duration::ZERO);
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_to_the_same_rate(units in 1..=Rate::MOST, burst in 1..=Rate::MOST, per in "s|min|h") {
            let rate = Rate::parse(&format!("{units}/{per} burst {burst}")).expect("a rate");
            prop_assert_eq!(Rate::parse(&rate.to_string()), Some(rate));
        }

        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in "\\PC*") {
            let _ = Rate::parse(&text);
        }
    }
}

//! The table.

use message_webhook::{
    domain::{Content, FromId, HostPolicy, Media as DomainMedia, Rate, Timestamp},
    service::{AdmissionLimits, RateLimits},
};

use super::ways::{Outcome, Way};
use crate::support::flaky::Mood;

/// A text of the table: as it stands, or one character many times.
#[derive(Debug, Clone, Copy)]
pub enum Text {
    Is(&'static str),
    Times(&'static str, usize),
}

#[derive(Debug, Clone, Copy)]
pub enum Media {
    None,
    Image(Text),
    Audio(Text),
}

/// Whose key it is. The target is always `acme` and `dev`.
#[derive(Debug, Clone, Copy)]
pub enum Who {
    Owner,
    Platform,
    OtherOrg,
    OtherEnv,
    WithoutScope,
    Revoked,
    Nobody,
    /// With a rate of its own: one an hour.
    Limited,
    /// A browser key, which no page sends here.
    Browser,
}

#[derive(Debug, Clone, Copy)]
pub struct Submission {
    pub from_id: Text,
    pub sid: Text,
    /// Seconds and nanoseconds.
    pub timestamp: Option<(i64, i32)>,
    pub body: Option<Text>,
    pub media: Media,
}

#[derive(Debug, Clone, Copy)]
pub enum Told {
    Accepted,
    Duplicate {
        matches: bool,
    },
    /// Code, violations, and whether a time to wait is told.
    Refused(&'static str, &'static [(&'static str, &'static str)], bool),
}

pub struct Case {
    pub name: &'static str,
    pub who: Who,
    /// Taken before, by the owner; where the key has a rate of its own, by it.
    pub earlier: &'static [Submission],
    pub submission: Submission,
    pub mood: Mood,
    /// Submissions that may wait at once, and the rates of a sender, a key and an organisation.
    pub admission: (usize, [&'static str; 3]),
    pub told: Told,
    /// Whether something is stored under the sid afterwards; of a duplicate it is what came first.
    pub kept: bool,
    /// All, but for what only an edge can see: how large the encoded form is.
    pub ways: &'static [Way],
}

impl Text {
    pub fn as_str(self) -> String {
        match self {
            Text::Is(text) => text.to_owned(),
            Text::Times(text, times) => text.repeat(times),
        }
    }
}

impl Case {
    pub fn outcome(&self) -> Outcome {
        match self.told {
            Told::Accepted => Outcome::Accepted,
            Told::Duplicate { matches } => Outcome::Duplicate { matches },
            Told::Refused(code, violations, retry) => Outcome::Refused {
                code: code.to_owned(),
                violations: violations.iter().map(|(field, word)| ((*field).to_owned(), (*word).to_owned())).collect(),
                retry,
            },
        }
    }

    /// What must be stored under the sid.
    pub fn stored(&self) -> Option<Content> {
        let first = self.earlier.first().unwrap_or(&self.submission);
        self.kept.then(|| {
            let (seconds, nanos) = first.timestamp.expect("kept messages have one");
            Content {
                from_id: FromId::new(first.from_id.as_str()).expect("valid"),
                timestamp: Timestamp::from_unix(seconds, nanos).expect("valid"),
                body: first.body.map(Text::as_str),
                media: match first.media {
                    Media::None => None,
                    Media::Image(url) => Some(DomainMedia::image(url.as_str(), HostPolicy::Any).expect("valid")),
                    Media::Audio(url) => Some(DomainMedia::audio(url.as_str(), HostPolicy::Any).expect("valid")),
                },
            }
        })
    }

    pub fn admission(&self) -> AdmissionLimits {
        let (in_flight, rates) = self.admission;
        let [per_sender, per_key, per_org] = rates.map(Rate::parse);
        AdmissionLimits { in_flight, rates: RateLimits { per_sender, per_key, per_org, ..RateLimits::default() } }
    }
}

/// An admission that refuses nobody.
pub const PLENTY: (usize, [&str; 3]) = (4096, ["", "", ""]);

const PLAIN: Submission = Submission {
    from_id: Text::Is("user_abc123"),
    sid: Text::Is("msg_xyz789"),
    timestamp: Some((1_672_531_200, 0)),
    body: None,
    media: Media::None,
};
const JPG: Media = Media::Image(Text::Is("https://example.com/images/food.jpg"));

const fn case(name: &'static str, submission: Submission, told: Told) -> Case {
    let kept = matches!(told, Told::Accepted | Told::Duplicate { .. });
    let (earlier, admission) = (&[], PLENTY);
    Case { name, who: Who::Owner, earlier, submission, mood: Mood::Fine, admission, told, kept, ways: &Way::ALL }
}

const fn by(who: Who, name: &'static str, told: Told) -> Case {
    Case { who, ..case(name, PLAIN, told) }
}

const fn invalid(
    name: &'static str,
    submission: Submission,
    violations: &'static [(&'static str, &'static str)],
) -> Case {
    case(name, submission, Told::Refused("invalid_message", violations, false))
}

const fn image(name: &'static str, url: &'static str, word: &'static [(&'static str, &'static str)]) -> Case {
    let submission = Submission { media: Media::Image(Text::Is(url)), ..PLAIN };
    if word.is_empty() { case(name, submission, Told::Accepted) } else { invalid(name, submission, word) }
}

const FORBIDDEN: Told = Told::Refused("permission_denied", &[], false);
const UNKNOWN: Told = Told::Refused("unauthenticated", &[], false);
const UNSUPPORTED: &[(&str, &str)] = &[("image_urls", "unsupported_extension")];
const BAD_URL: &[(&str, &str)] = &[("image_urls", "invalid_url")];
const PRIVATE: &[(&str, &str)] = &[("image_urls", "private_host")];

pub const CASES: &[Case] = &[
    case("only the required fields", PLAIN, Told::Accepted),
    case("an empty text", Submission { body: Some(Text::Is("")), ..PLAIN }, Told::Accepted),
    case(
        "a text of many scripts",
        Submission { body: Some(Text::Is("Grüße, 你好, 🧀\n\t\u{0}")), ..PLAIN },
        Told::Accepted,
    ),
    case("a long text", Submission { body: Some(Text::Times("é", 120_000)), ..PLAIN }, Told::Accepted),
    Case {
        ways: &[Way::Http, Way::Grpc],
        ..case(
            "a body over the limit",
            Submission { body: Some(Text::Times("x", 300_000)), ..PLAIN },
            Told::Refused("body_too_large", &[], false),
        )
    },
    case("an image", Submission { media: JPG, ..PLAIN }, Told::Accepted),
    case(
        "an audio",
        Submission { media: Media::Audio(Text::Is("http://example.com/v.OGG?t=1#x")), ..PLAIN },
        Told::Accepted,
    ),
    case(
        "ids of the greatest length",
        Submission { from_id: Text::Times("é", 127), sid: Text::Times("s", 255), ..PLAIN },
        Told::Accepted,
    ),
    case(
        "ids with blanks around, which stay",
        Submission { from_id: Text::Is(" u "), sid: Text::Is(" s "), ..PLAIN },
        Told::Accepted,
    ),
    case("the first instant", Submission { timestamp: Some((0, 0)), ..PLAIN }, Told::Accepted),
    case("the last instant", Submission { timestamp: Some((253_402_300_799, 999_999_000)), ..PLAIN }, Told::Accepted),
    case("a fraction to the microsecond", Submission { timestamp: Some((5, 123_456_000)), ..PLAIN }, Told::Accepted),
    invalid("no from_id", Submission { from_id: Text::Is(""), ..PLAIN }, &[("from_id", "missing")]),
    invalid("no message_sid", Submission { sid: Text::Is(""), ..PLAIN }, &[("message_sid", "missing")]),
    invalid("no timestamp", Submission { timestamp: None, ..PLAIN }, &[("timestamp", "missing")]),
    invalid(
        "nothing at all",
        Submission { from_id: Text::Is(""), sid: Text::Is(""), timestamp: None, ..PLAIN },
        &[("from_id", "missing"), ("message_sid", "missing"), ("timestamp", "missing")],
    ),
    invalid(
        "a from_id that is too long",
        Submission { from_id: Text::Times("é", 128), ..PLAIN },
        &[("from_id", "too_long")],
    ),
    invalid(
        "a sid that is too long",
        Submission { sid: Text::Times("s", 256), ..PLAIN },
        &[("message_sid", "too_long")],
    ),
    invalid(
        "a control character in from_id",
        Submission { from_id: Text::Is("a\nb"), ..PLAIN },
        &[("from_id", "control_character")],
    ),
    invalid(
        "a control character in the sid",
        Submission { sid: Text::Is("a\u{85}b"), ..PLAIN },
        &[("message_sid", "control_character")],
    ),
    invalid(
        "a time before 1970",
        Submission { timestamp: Some((-1, 0)), ..PLAIN },
        &[("timestamp", "timestamp_out_of_range")],
    ),
    invalid(
        "a time in milliseconds",
        Submission { timestamp: Some((1_672_531_200_000, 0)), ..PLAIN },
        &[("timestamp", "invalid_timestamp")],
    ),
    invalid(
        "a time in microseconds",
        Submission { timestamp: Some((1_672_531_200_000_000, 0)), ..PLAIN },
        &[("timestamp", "invalid_timestamp")],
    ),
    invalid(
        "a time after 9999",
        Submission { timestamp: Some((253_402_300_800, 0)), ..PLAIN },
        &[("timestamp", "timestamp_out_of_range")],
    ),
    image("an extension in any case before a query", "https://example.com/a.JPeG?sig=%2F#f", &[]),
    image("an encoded extension", "https://example.com/a%2Epng", &[]),
    image("an international host with a port", "https://bücher.example:8443/ä/b.png", &[]),
    image("a public address", "http://1.1.1.1/a.jpg", &[]),
    image("an audio's extension on an image", "https://example.com/a.mp3", UNSUPPORTED),
    image("an extension in the query alone", "https://example.com/a?x=.jpg", UNSUPPORTED),
    image("another scheme", "ftp://example.com/a.jpg", BAD_URL),
    image("no scheme", "example.com/a.jpg", BAD_URL),
    image("an empty URL", "", BAD_URL),
    image("a user name in the URL", "https://user:secret@example.com/a.jpg", BAD_URL),
    image("white space in the URL", "https://example.com/a b.jpg", BAD_URL),
    image("localhost with a dot", "https://LOCALHOST./a.jpg", PRIVATE),
    image("a name of this network", "http://db/a.jpg", PRIVATE),
    image("a name of a cluster", "http://media.default.svc.cluster.local/a.jpg", PRIVATE),
    image("a name that is reserved for inside", "https://metadata.google.internal./a.jpg", PRIVATE),
    image("this machine with more dots", "http://127.0.0.1../a.jpg", PRIVATE),
    image("a private address in decimal", "http://2130706433/a.jpg", PRIVATE),
    image("a private address mapped into IPv6", "http://[::ffff:10.0.0.1]/a.jpg", PRIVATE),
    invalid(
        "a URL that is too long",
        Submission { media: Media::Image(Text::Times("https://example.com/a.jpg", 90)), ..PLAIN },
        &[("image_urls", "too_long")],
    ),
    invalid(
        "mistakes in every field",
        Submission {
            from_id: Text::Is("\u{1}"),
            sid: Text::Is(""),
            timestamp: Some((-5, 0)),
            body: None,
            media: Media::Audio(Text::Is("https://10.0.0.1/a.ogg")),
        },
        &[
            ("from_id", "control_character"),
            ("message_sid", "missing"),
            ("timestamp", "timestamp_out_of_range"),
            ("audio_urls", "private_host"),
        ],
    ),
    Case { earlier: &[PLAIN], ..case("a repetition", PLAIN, Told::Duplicate { matches: true }) },
    Case {
        earlier: &[PLAIN, PLAIN],
        who: Who::Platform,
        ..case("a repetition with another key", PLAIN, Told::Duplicate { matches: true })
    },
    Case {
        earlier: &[PLAIN],
        ..case(
            "a repetition with another text",
            Submission { body: Some(Text::Is("")), ..PLAIN },
            Told::Duplicate { matches: false },
        )
    },
    Case {
        earlier: &[PLAIN],
        ..case(
            "a repetition at another time",
            Submission { timestamp: Some((1_672_531_201, 0)), ..PLAIN },
            Told::Duplicate { matches: false },
        )
    },
    Case {
        earlier: &[Submission { media: JPG, ..PLAIN }],
        ..case(
            "a repetition with a link signed again",
            Submission { media: Media::Image(Text::Is("https://EXAMPLE.com:443/images/food.jpg?sig=2")), ..PLAIN },
            Told::Duplicate { matches: true },
        )
    },
    Case {
        earlier: &[PLAIN],
        kept: true,
        ..invalid(
            "a repetition that breaks a rule",
            Submission { from_id: Text::Is(""), ..PLAIN },
            &[("from_id", "missing")],
        )
    },
    by(Who::Platform, "a platform key", Told::Accepted),
    by(Who::OtherOrg, "another organisation's key", FORBIDDEN),
    by(Who::OtherEnv, "the other environment's key", FORBIDDEN),
    by(Who::WithoutScope, "a key without the scope", FORBIDDEN),
    by(Who::Revoked, "a revoked key", UNKNOWN),
    by(Who::Browser, "a browser key that no page sends", FORBIDDEN),
    by(Who::Nobody, "no key of this service", UNKNOWN),
    Case {
        who: Who::WithoutScope,
        ..case(
            "without the scope nothing is said about the message",
            Submission { from_id: Text::Is(""), ..PLAIN },
            FORBIDDEN,
        )
    },
    Case {
        mood: Mood::Failing,
        ..case("a store that cannot decide", PLAIN, Told::Refused("store_unavailable", &[], true))
    },
    Case { admission: (0, ["", "", ""]), ..case("too many that wait", PLAIN, Told::Refused("overloaded", &[], true)) },
    Case {
        admission: (9, ["1/h", "", ""]),
        earlier: &[Submission { sid: Text::Is("other"), ..PLAIN }],
        ..case("too many of one sender", PLAIN, Told::Refused("rate_limited", &[], true))
    },
    Case {
        admission: (9, ["", "1/h", ""]),
        earlier: &[Submission { sid: Text::Is("other"), from_id: Text::Is("another"), ..PLAIN }],
        ..case("too many by one key", PLAIN, Told::Refused("rate_limited", &[], true))
    },
    Case {
        who: Who::Limited,
        admission: (9, ["", "1000", ""]),
        earlier: &[Submission { sid: Text::Is("other"), from_id: Text::Is("another"), ..PLAIN }],
        ..case("too many by a key with a lower rate of its own", PLAIN, Told::Refused("rate_limited", &[], true))
    },
    Case {
        admission: (9, ["", "", "1"]),
        earlier: &[Submission { sid: Text::Is("other"), ..PLAIN }],
        ..case("too many a second", PLAIN, Told::Refused("rate_limited", &[], true))
    },
    Case {
        admission: (9, ["", "", "1"]),
        earlier: &[Submission { sid: Text::Is("other"), ..PLAIN }],
        ..invalid(
            "too many a second, but the rules come first",
            Submission { timestamp: None, ..PLAIN },
            &[("timestamp", "missing")],
        )
    },
];

//! What a message is: ids, timestamp, media, message, key, error; and the words for reading them, page and feed. No I/O, no async, no protocol.
//!
//! Every type here is made by a checked constructor, so a value that exists is a value that is valid.
//! The rules are those of the published page and of `docs/http-api.md`; nobody else checks them again.

mod address;
mod clock;
mod error;
mod feed;
mod fingerprint;
mod identity;
mod ids;
mod key;
mod key_text;
mod media;
mod media_rules;
mod message;
mod origin;
mod page;
mod rate;
mod scope;
mod texts;
mod timestamp;
mod trace;
mod violation;

pub use clock::{Clock, SystemClock};
pub use error::{Error, Kind};
pub use feed::{Cursor, FeedFrom, FeedItem, FeedOrder, FeedPage, FeedStart};
pub use fingerprint::Fingerprint;
pub use identity::{ClientAddress, ClientCertificate, Credential, IdentityName, IdentityRecord, OverTls};
pub use ids::{Environment, FromId, MessageKey, MessageSid, OrgId, Sender};
pub use key::{KeyId, KeyOwner, KeyRecord, SecretHash};
pub use key_text::{KeyText, NewKey, PresentedKey};
pub use media::{Media, MediaUrl};
pub use media_rules::{Extension, HostPolicy, MediaRules, MoreExtensions};
pub use message::{Content, Draft, Message, MessageBuilder, NewMessage};
pub use origin::{NoOrigin, Origin};
pub use page::{MessagePage, PageLimit, PageToken};
pub use rate::{Limited, Rate, RateExceeded};
pub use scope::{Scope, Scopes};
pub use timestamp::Timestamp;
pub use trace::TraceParent;
pub use violation::{Field, Violation, ViolationCode, Violations};

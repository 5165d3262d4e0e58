//! The feed as the readers of one process follow it.
//!
//! One tail a process and all its readers (`tail`, `tasks`, `polls`): it watches how far the slots are resolved, reads what lies
//! above that again and again (`pending`), and appends what turns out to be accepted to two logs (`log`), one in the order
//! of sight and one in that of attempt time. A reader (`follower`) that comes from further back first reads the database
//! itself (`range_scan`), then follows a log; what it was given above the mark it remembers (`delivered`).
//!
//! Invariants:
//! - The position moves to a mark only after references and claims up to there were read by reads begun after the mark
//!   was read. What was read earlier does not count as complete.
//! - A mark stands in a log after every message up to it; so a reader's cursor, the last mark it passed, misses nothing.
//! - A reference is delivered only when its claim has the same attempt.

mod delivered;
mod follower;
mod log;
mod pending;
mod polls;
mod range_scan;
mod tail;
mod tasks;

pub use follower::Follower;
pub use tail::Tail;

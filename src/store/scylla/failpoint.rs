//! Points where tests stop, end or hold up the process; nothing of it is in a build without the feature `failpoints`.
//!
//! `FAILPOINTS="before-claim=3*off->1*return(kill)"` in the environment, in the words of the crate `fail`. `return(…)` says
//! what happens: `kill` ends the process as SIGKILL does, `stop` halts it as SIGSTOP does, `hold` holds this one
//! submission up for as long as the failpoint says so, `wait` as long as the file is there that `FAILPOINTS_GATE` names.
//!
//! `FAILPOINTS="no-check=return"` has the store break a promise, to see that tests find that out.

/// A point between two steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing is written yet.
    BeforeReferences,
    /// The feed row is about to be written; the sender row may be there already.
    BeforeFeedRow,
    /// The sender row is about to be written; the feed row may be there already.
    BeforeSenderRow,
    /// Both references are acknowledged; how far the resolver has begun is not read yet.
    AfterReferences,
    /// The attempt is in time; the claim is about to be written.
    BeforeClaim,
    /// The claim is decided; nobody was told.
    AfterClaim,
}

/// A promise that a test has the store break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breach {
    /// The claim is written without its condition.
    NoCondition,
    /// How far the resolver has begun is not looked at between the references and the claim.
    NoCheck,
}

#[cfg(not(feature = "failpoints"))]
mod built {
    /// Does nothing.
    pub async fn reach(_: super::Step) {}

    /// No promise is broken.
    pub const fn breaks(_: super::Breach) -> bool {
        false
    }

    /// Does nothing.
    pub fn set_up() {}
}

#[cfg(feature = "failpoints")]
mod built {
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};

    use super::{Breach, Step};

    impl Breach {
        /// The name in `FAILPOINTS`.
        fn name(self) -> &'static str {
            match self {
                Breach::NoCondition => "no-condition",
                Breach::NoCheck => "no-check",
            }
        }
    }

    /// Whether `breach` is wanted.
    pub fn breaks(breach: Breach) -> bool {
        fail::eval(breach.name(), |_| ()).is_some()
    }

    impl Step {
        /// The name in `FAILPOINTS`.
        pub fn name(self) -> &'static str {
            match self {
                Step::BeforeReferences => "before-references",
                Step::BeforeFeedRow => "before-feed-row",
                Step::BeforeSenderRow => "before-sender-row",
                Step::AfterReferences => "after-references",
                Step::BeforeClaim => "before-claim",
                Step::AfterClaim => "after-claim",
            }
        }
    }

    /// Does what the failpoint of `step` says.
    pub async fn reach(step: Step) {
        while let Some(action) = fail::eval(step.name(), |action| action.unwrap_or_default()) {
            let signal = match action.as_str() {
                "kill" => Signal::KILL,
                "stop" => Signal::STOP,
                "hold" => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
                "wait" => {
                    tracing::warn!(step = step.name(), "a submission waits at a failpoint");
                    while std::env::var_os("FAILPOINTS_GATE").is_some_and(|gate| std::path::Path::new(&gate).exists()) {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    return;
                }
                _ => return,
            };
            if let Err(error) = kill_process(getpid(), signal) {
                tracing::error!(%error, "a failpoint cannot send a signal");
            }
            return;
        }
    }

    /// Reads `FAILPOINTS`.
    pub fn set_up() {
        let Ok(text) = std::env::var("FAILPOINTS") else { return };
        for (name, actions) in text.split(';').filter_map(|entry| entry.split_once('=')) {
            if let Err(error) = fail::cfg(name.trim(), actions.trim()) {
                tracing::error!(name, error, "a failpoint is wrong");
            }
        }
    }
}

pub use built::{breaks, reach, set_up};

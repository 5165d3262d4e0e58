//! How long a command waits for a server that is away: longer each time, and never in step with other callers.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Pauses before a command gives up: about two minutes.
const TRIES: usize = 16;
/// Of a server that never answered: a wrong address is likelier than a broken network.
const FIRST_TRIES: usize = 3;
/// For how long a command goes on that is told to wait and nothing else.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// The pauses of a command that gives up some time; soon where `was_answered` is false.
pub(super) fn pauses(was_answered: bool) -> ExponentialBackoff {
    let tries = if was_answered { TRIES } else { FIRST_TRIES };
    ExponentialBuilder::new()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .with_max_times(tries)
        .build()
}

/// The next pause of a command that never does, and the same again once they are as long as they get.
pub(super) fn next_of(pauses: &mut ExponentialBackoff) -> Duration {
    pauses.next().unwrap_or(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_from_a_quarter_of_a_second_and_end_after_about_two_minutes() {
        let pauses: Vec<_> = pauses(true).collect();
        assert_eq!(pauses.len(), TRIES);
        assert!(pauses[0] >= FIRST_PAUSE && pauses[0] <= FIRST_PAUSE * 2, "{pauses:?}");
        let all: Duration = pauses.iter().sum();
        assert!(all > Duration::from_secs(100) && all < Duration::from_secs(260), "{all:?}");
    }

    #[test]
    fn where_nobody_ever_answered_they_end_within_seconds() {
        let all: Duration = pauses(false).sum();
        assert!(all > Duration::from_secs(1) && all < Duration::from_secs(5), "{all:?}");
    }

    #[test]
    fn who_never_gives_up_goes_on_with_the_longest_pause() {
        let mut pauses = pauses(true);
        assert!(next_of(&mut pauses) < LONGEST_PAUSE);
        assert_eq!((0..1000).map(|_| next_of(&mut pauses)).last(), Some(LONGEST_PAUSE));
    }
}

//! How often a line is written of what happens to many at once.

use std::time::{Duration, Instant};

/// What happens to all at once, as that there is more work than can be taken, has one line a second: a line for each would fill disks
/// and bury the cause when both are needed most.
#[derive(Debug, Default)]
pub struct Lines {
    last: Option<Instant>,
    /// Not written since then.
    left_out: u64,
}

impl Lines {
    const EVERY: Duration = Duration::from_secs(1);

    /// Whether a line is due at `now`, and how many were left out before it.
    pub fn next(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.duration_since(last) < Self::EVERY) {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_to_all_at_once_has_one_line_a_second_which_says_how_many_were_left_out() {
        let (mut lines, begin) = (Lines::default(), Instant::now());
        let at = |millis| begin + Duration::from_millis(millis);
        let said = [0, 1, 500, 999, 1000, 2500, 2600, 4000].map(|millis| lines.next(at(millis)));
        assert_eq!(said, [Some(0), None, None, None, Some(3), Some(0), None, Some(1)]);
    }
}

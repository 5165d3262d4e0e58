//! Places for what is bounded, work in the store and readers of the feed, and who is refused first when they run short: reads before
//! submissions, dev before prod, an organisation's readers before the platform's, and of all whoever holds most.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use crate::domain::{Environment, Error, KeyOwner};

/// For what a place is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Submission,
    Read,
    Feed,
}

/// Counts who holds how many; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Places {
    all: usize,
    held: Arc<Mutex<Holders>>,
}

#[derive(Debug, Default)]
struct Holders {
    all: usize,
    submissions: usize,
    /// Of each; nobody without a place is here.
    of: HashMap<KeyOwner, usize>,
}

/// One place, given back when it is dropped.
#[derive(Debug)]
pub struct Placed {
    places: Places,
    holder: KeyOwner,
    purpose: Use,
}

/// One holder has at most so many times what it leaves free: alone 8 of 9 places, one of two 8 of 17. So there is always room for
/// one that holds little, without any place being kept for somebody who may not come.
const HELD_FOR_EACH_FREE: usize = 8;

impl Places {
    pub(super) fn new(all: usize) -> Self {
        Self { all, held: Arc::default() }
    }

    /// A place for `purpose`, which counts for `holder`.
    ///
    /// # Errors
    /// `Overloaded`.
    pub(super) fn take(&self, purpose: Use, holder: KeyOwner) -> Result<Placed, Error> {
        let mut held = self.held.lock();
        let free = self.open_to(purpose, &holder).saturating_sub(held.all);
        let own = held.of.get(&holder).copied().unwrap_or(0);
        if own >= free.saturating_mul(HELD_FOR_EACH_FREE) {
            return Err(Error::overloaded());
        }
        held.all += 1;
        held.submissions += usize::from(purpose == Use::Submission);
        held.of.insert(holder.clone(), own + 1);
        drop(held);
        Ok(Placed { places: self.clone(), holder, purpose })
    }

    /// Places that are held for submissions.
    pub(super) fn submissions(&self) -> usize {
        self.held.lock().submissions
    }

    /// When so many are held by whomever, there is no place for `purpose` of `holder` any more.
    fn open_to(&self, purpose: Use, holder: &KeyOwner) -> usize {
        let env = match holder {
            KeyOwner::Org { env, .. } => Some(*env),
            KeyOwner::Platform => None,
        };
        let kept_percent = match (purpose, env) {
            (_, None) | (Use::Submission, Some(Environment::Prod)) => 0,
            (Use::Submission, Some(Environment::Dev)) => 10,
            (Use::Read, Some(Environment::Prod)) | (Use::Feed, Some(_)) => 20,
            (Use::Read, Some(Environment::Dev)) => 30,
        };
        self.all - self.all / 100 * kept_percent - self.all % 100 * kept_percent / 100
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        let mut held = self.places.held.lock();
        held.all -= 1;
        held.submissions -= usize::from(self.purpose == Use::Submission);
        if let Some(own) = held.of.get_mut(&self.holder) {
            *own -= 1;
            if *own == 0 {
                held.of.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Kind, OrgId};

    fn take(places: &Places, purpose: Use, org: &str, env: Environment) -> Result<Placed, Kind> {
        let holder = KeyOwner::Org { org: OrgId::new(org).expect("valid"), env };
        places.take(purpose, holder).map_err(|error| error.kind())
    }

    /// As many as one of `org` gets.
    fn fill(places: &Places, purpose: Use, org: &str, env: Environment) -> Vec<Placed> {
        std::iter::from_fn(|| take(places, purpose, org, env).ok()).collect()
    }

    #[test]
    fn reads_are_refused_before_submissions_and_dev_before_prod() {
        let places = Places::new(100);
        // Each holder little, so that no share but that of its kind matters.
        let one_each = |purpose, env, to: usize| -> usize {
            let held: Vec<_> = (0..=to).map_while(|org| take(&places, purpose, &format!("o{org}"), env).ok()).collect();
            held.len()
        };
        let (dev, prod) = (Environment::Dev, Environment::Prod);
        assert_eq!([one_each(Use::Read, dev, 100), one_each(Use::Read, prod, 100)], [70, 80]);
        assert_eq!([one_each(Use::Submission, dev, 100), one_each(Use::Submission, prod, 100)], [90, 100]);
        let feeds: Vec<_> = std::iter::from_fn(|| places.take(Use::Feed, KeyOwner::Platform).ok()).collect();
        assert_eq!(feeds.len(), 89, "the platform's own, as far as one holder may go");
        drop(feeds);
        assert_eq!(one_each(Use::Feed, prod, 100), 80);
        let few = Places::new(1);
        assert!(take(&few, Use::Read, "o", dev).is_ok(), "a few places are for everybody");
    }

    #[test]
    fn one_tenant_leaves_room_for_another_and_the_two_have_equal_shares_in_the_end() {
        let places = Places::new(900);
        let mut first = fill(&places, Use::Submission, "first", Environment::Prod);
        assert_eq!(first.len(), 800);
        let mut second = fill(&places, Use::Submission, "second", Environment::Prod);
        assert!(second.len() >= 88, "{}", second.len());
        // Whoever holds more gets nothing back until the other has as much.
        for _ in 0..2000 {
            first.pop();
            first.extend(take(&places, Use::Submission, "first", Environment::Prod).ok());
            second.extend(take(&places, Use::Submission, "second", Environment::Prod).ok());
        }
        assert!(first.len().abs_diff(second.len()) <= 9, "{} and {}", first.len(), second.len());
        assert!(take(&places, Use::Submission, "third", Environment::Prod).is_ok());
    }

    #[test]
    fn what_is_given_back_is_forgotten() {
        let places = Places::new(9);
        let read = take(&places, Use::Read, "a", Environment::Dev).expect("room");
        assert_eq!(places.submissions(), 0);
        let submission = take(&places, Use::Submission, "a", Environment::Dev).expect("room");
        assert_eq!(places.submissions(), 1);
        drop((read, submission));
        let held = places.held.lock();
        assert_eq!((held.all, held.submissions, held.of.len()), (0, 0, 0));
    }
}

//! Places for what is bounded, work in the store and readers of the feed, and who is refused first when they run short: reads before
//! submissions, dev before prod, and of all whoever holds most. Of the feed a part is kept for organisations and another for the
//! platform.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use super::Caller;
use crate::domain::{Environment, Error, KeyId, KeyOwner, OrgId};

/// For what a place is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Submission,
    Read,
    Feed,
}

/// Who holds places.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Holder {
    /// One organisation in one environment, by all of its keys.
    Org(OrgId, Environment),
    /// One key of the platform: behind each is another internal service.
    Platform(KeyId),
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
    platform: usize,
    /// Of each; nobody without a place is here.
    of: HashMap<Holder, usize>,
}

/// One place, given back when it is dropped.
#[derive(Debug)]
pub struct Placed {
    places: Places,
    holder: Holder,
    purpose: Use,
}

/// One holder has at most so many times what it leaves free: alone 8 of 9 places, one of two 8 of 17. So there is always room for
/// one that holds little, without any place being kept for somebody who may not come.
const HELD_FOR_EACH_FREE: usize = 8;

/// Of the places for readers of the feed, so much of a hundred is for organisations alone, and as much for the platform.
const KEPT_FOR_EITHER: usize = 20;

impl Holder {
    /// Whoever calls.
    pub(super) fn of(caller: &Caller) -> Self {
        match caller.owner() {
            KeyOwner::Org { org, env } => Self::Org(org.clone(), *env),
            KeyOwner::Platform => Self::Platform(caller.key_id().clone()),
        }
    }

    fn is_platform(&self) -> bool {
        matches!(self, Self::Platform(_))
    }
}

impl Places {
    pub(super) fn new(all: usize) -> Self {
        Self { all, held: Arc::default() }
    }

    /// A place for `purpose`, which counts for `holder`.
    ///
    /// # Errors
    /// `Overloaded`.
    pub(super) fn take(&self, purpose: Use, holder: Holder) -> Result<Placed, Error> {
        let mut held = self.held.lock();
        let free = self.free_for(purpose, &holder, &held);
        let own = held.of.get(&holder).copied().unwrap_or(0);
        if own >= free.saturating_mul(HELD_FOR_EACH_FREE) {
            return Err(Error::overloaded());
        }
        held.all += 1;
        held.submissions += usize::from(purpose == Use::Submission);
        held.platform += usize::from(holder.is_platform());
        held.of.insert(holder.clone(), own + 1);
        drop(held);
        Ok(Placed { places: self.clone(), holder, purpose })
    }

    /// Places that are held for submissions.
    pub(super) fn submissions(&self) -> usize {
        self.held.lock().submissions
    }

    /// Places that are left for `purpose` of `holder`.
    fn free_for(&self, purpose: Use, holder: &Holder, held: &Holders) -> usize {
        let is_dev = matches!(holder, Holder::Org(_, Environment::Dev));
        match purpose {
            Use::Submission => self.all_but(if is_dev { 10 } else { 0 }).saturating_sub(held.all),
            Use::Read => self.all_but(if is_dev { 30 } else { 20 }).saturating_sub(held.all),
            Use::Feed => {
                let by_its_kind = if holder.is_platform() { held.platform } else { held.all - held.platform };
                let for_its_kind = self.all_but(KEPT_FOR_EITHER).saturating_sub(by_its_kind);
                for_its_kind.min(self.all.saturating_sub(held.all))
            }
        }
    }

    fn all_but(&self, percent: usize) -> usize {
        self.all - self.all / 100 * percent - self.all % 100 * percent / 100
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        let mut held = self.places.held.lock();
        held.all -= 1;
        held.submissions -= usize::from(self.purpose == Use::Submission);
        held.platform -= usize::from(self.holder.is_platform());
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
    use crate::domain::Kind;

    fn take(places: &Places, purpose: Use, org: &str, env: Environment) -> Result<Placed, Kind> {
        let holder = Holder::Org(OrgId::new(org).expect("valid"), env);
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
        let few = Places::new(1);
        assert!(take(&few, Use::Read, "o", dev).is_ok(), "a few places are for everybody");
    }

    #[test]
    fn readers_of_the_platform_and_of_organisations_leave_a_fifth_of_the_feed_to_each_other() {
        let places = Places::new(100);
        let of_platform = |service: usize| {
            let holder = Holder::Platform(KeyId::of_name(&service.to_string()));
            let held: Vec<_> = std::iter::from_fn(|| places.take(Use::Feed, holder.clone()).ok()).collect();
            held
        };
        let of_orgs = || -> Vec<_> {
            (0..100).map_while(|org| take(&places, Use::Feed, &format!("o{org}"), Environment::Prod).ok()).collect()
        };
        let one = of_platform(0);
        assert_eq!(one.len(), 72, "as far as one holder may go");
        assert!(!of_platform(1).is_empty(), "another internal service is another holder");
        let others: Vec<_> = (1..100).flat_map(of_platform).collect();
        assert_eq!(one.len() + others.len(), 80);
        let orgs = of_orgs();
        assert_eq!(orgs.len(), 20, "whatever keys the platform has");
        drop((one, others, orgs));
        let orgs = of_orgs();
        assert_eq!(orgs.len(), 80);
        assert_eq!((0..100).flat_map(of_platform).collect::<Vec<_>>().len(), 20);
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
        assert_eq!((held.all, held.submissions, held.platform, held.of.len()), (0, 0, 0, 0));
    }
}

//! What the bodies of all requests under way may cost, and who makes room when it runs short: of those whose senders are
//! waited for, whoever has most. A tenant that sends slowly, or not to the end, takes nothing from the others.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Caller;
use crate::domain::{Error, KeyOwner};

/// What all bodies together may cost.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Bytes in memory.
    pub bytes: usize,
    /// Bodies whose senders are waited for.
    pub waiting: usize,
}

/// Counts the bytes of all bodies that are held, and knows whose senders are waited for.
#[derive(Debug)]
pub struct Bodies {
    held: AtomicUsize,
    limits: BodyLimits,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Of each tenant. Where no key is needed there is none, and all such calls are one.
    shares: HashMap<Option<KeyOwner>, Share>,
    count: usize,
    next: u64,
}

#[derive(Debug, Default)]
struct Share {
    bytes: usize,
    /// By age.
    bodies: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    bytes: usize,
    /// Tells its body that it made room.
    cut: oneshot::Sender<()>,
}

/// The share of one body, given back when it is dropped.
#[derive(Debug)]
pub struct Held {
    bodies: Arc<Bodies>,
    caller: Option<Caller>,
    bytes: usize,
    /// A sender that is not waited for yet gets one more poll: most of what is missing is already in the socket.
    was_polled: bool,
    place: Option<Place>,
}

/// Of a body whose sender is waited for. Its bytes are counted there, and given back by whoever takes it out.
#[derive(Debug)]
struct Place {
    owner: Option<KeyOwner>,
    number: u64,
    cut: oneshot::Receiver<()>,
}

impl Bodies {
    /// Nothing held yet, within `limits`.
    pub fn new(limits: BodyLimits) -> Arc<Self> {
        Arc::new(Self { held: AtomicUsize::new(0), limits, waiting: Mutex::default() })
    }

    /// A share of `caller`'s, empty so far.
    pub fn share(self: &Arc<Self>, caller: Option<Caller>) -> Held {
        Held { bodies: Arc::clone(self), caller, bytes: 0, was_polled: false, place: None }
    }

    /// Bytes that are held now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Takes `bytes` for `owner`; others that have more make room.
    fn take(&self, owner: impl FnOnce() -> Option<KeyOwner>, bytes: usize) -> Result<(), Error> {
        let before = self.held.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes <= self.limits.bytes {
            return Ok(());
        }
        let owner = owner();
        let mut waiting = self.waiting.lock();
        while self.held() > self.limits.bytes {
            let Some(freed) = waiting.cut_largest(&owner, bytes) else {
                self.held.fetch_sub(bytes, Ordering::Relaxed);
                return Err(Error::overloaded());
            };
            self.held.fetch_sub(freed, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Waiting {
    /// Takes out the largest body of whoever holds most, unless that is `owner` with `more` bytes; what it held.
    fn cut_largest(&mut self, owner: &Option<KeyOwner>, more: usize) -> Option<usize> {
        let own = self.shares.get(owner).map_or(0, |share| share.bytes) + more;
        let (largest, share) = self.shares.iter().max_by_key(|(_, share)| share.bytes)?;
        if largest == owner || share.bytes <= own {
            return None;
        }
        let number = *share.bodies.iter().max_by_key(|(_, entry)| entry.bytes)?.0;
        let largest = largest.clone();
        self.cut(&largest, number)
    }

    /// Takes out the oldest body of whoever has most of them, unless that is `owner`; what it held.
    fn cut_oldest(&mut self, owner: &Option<KeyOwner>) -> Option<usize> {
        let own = self.shares.get(owner).map_or(0, |share| share.bodies.len()) + 1;
        let (largest, share) = self.shares.iter().max_by_key(|(_, share)| share.bodies.len())?;
        if largest == owner || share.bodies.len() <= own {
            return None;
        }
        let number = *share.bodies.first_key_value()?.0;
        let largest = largest.clone();
        self.cut(&largest, number)
    }

    fn cut(&mut self, owner: &Option<KeyOwner>, number: u64) -> Option<usize> {
        let entry = self.remove(owner, number)?;
        // It may have ended at this moment.
        let _ = entry.cut.send(());
        Some(entry.bytes)
    }

    fn remove(&mut self, owner: &Option<KeyOwner>, number: u64) -> Option<Entry> {
        let share = self.shares.get_mut(owner)?;
        let entry = share.bodies.remove(&number)?;
        share.bytes -= entry.bytes;
        self.count -= 1;
        if share.bodies.is_empty() {
            self.shares.remove(owner);
        }
        Some(entry)
    }
}

impl Held {
    /// Takes `bytes` more.
    ///
    /// # Errors
    /// `Overloaded` when there is no room, and nobody who has more.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Error> {
        let Some(place) = &self.place else {
            self.bodies.take(|| self.owner(), bytes)?;
            self.bytes += bytes;
            return Ok(());
        };
        self.bodies.take(|| place.owner.clone(), bytes)?;
        let mut waiting = self.bodies.waiting.lock();
        let share = waiting.shares.get_mut(&place.owner);
        let counted = share.and_then(|share| {
            share.bodies.get_mut(&place.number)?.bytes += bytes;
            share.bytes += bytes;
            Some(())
        });
        drop(waiting);
        if counted.is_none() {
            self.bodies.held.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Error::overloaded());
        }
        Ok(())
    }

    /// Called when nothing has come of a body that is not complete: ready with the error when it is waited for no longer.
    pub fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        if !self.was_polled {
            self.was_polled = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.place.is_none()
            && let Err(error) = self.begin_to_wait()
        {
            return Poll::Ready(error);
        }
        let Some(place) = &mut self.place else { return Poll::Pending };
        // Its other end is dropped with the entry, which is told before.
        let _ = ready!(Pin::new(&mut place.cut).poll(cx));
        Poll::Ready(Error::overloaded())
    }

    /// Called when all has come: what is held stays so until this is dropped, and makes room for nobody.
    ///
    /// # Errors
    /// `Overloaded` when it made room just now.
    pub fn arrived(&mut self) -> Result<(), Error> {
        self.was_polled = false;
        let Some(place) = self.place.take() else { return Ok(()) };
        let entry = self.bodies.waiting.lock().remove(&place.owner, place.number).ok_or_else(Error::overloaded)?;
        self.bytes = entry.bytes;
        Ok(())
    }

    /// Gives back what is held: it goes on elsewhere.
    pub fn clear(&mut self) {
        self.bodies.held.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
    }

    fn begin_to_wait(&mut self) -> Result<(), Error> {
        let owner = self.owner();
        let mut waiting = self.bodies.waiting.lock();
        if waiting.count >= self.bodies.limits.waiting {
            let freed = waiting.cut_oldest(&owner).ok_or_else(Error::overloaded)?;
            self.bodies.held.fetch_sub(freed, Ordering::Relaxed);
        }
        let (tell, cut) = oneshot::channel();
        let number = waiting.next;
        waiting.next += 1;
        waiting.count += 1;
        let share = waiting.shares.entry(owner.clone()).or_default();
        let bytes = std::mem::take(&mut self.bytes);
        share.bytes += bytes;
        share.bodies.insert(number, Entry { bytes, cut: tell });
        self.place = Some(Place { owner, number, cut });
        Ok(())
    }

    fn owner(&self) -> Option<KeyOwner> {
        self.caller.as_ref().map(|caller| caller.owner().clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(place) = self.place.take()
            && let Some(entry) = self.bodies.waiting.lock().remove(&place.owner, place.number)
        {
            self.bytes += entry.bytes;
        }
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::task::noop_waker;

    use super::*;
    use crate::domain::{Clock, Environment, Kind, NewKey, OrgId, Scope, Scopes, SystemClock};

    fn caller(org: &str) -> Option<Caller> {
        let owner = KeyOwner::Org { org: OrgId::new(org).expect("valid"), env: Environment::Dev };
        let scopes = Scopes::from_iter([Scope::Submit]);
        Some(Caller::of(&NewKey::generate(owner, scopes, SystemClock.now(), None).expect("randomness").record))
    }

    fn poll(held: &mut Held) -> Poll<Kind> {
        held.poll_waiting(&mut Context::from_waker(&noop_waker())).map(|error| error.kind())
    }

    /// A share of `org` with `bytes`, whose sender is waited for.
    fn waiting(bodies: &Arc<Bodies>, org: &str, bytes: usize) -> Held {
        let mut held = bodies.share(caller(org));
        held.grow(bytes).expect("room");
        assert!(poll(&mut held).is_pending() && poll(&mut held).is_pending());
        held
    }

    fn grown(held: &mut Held, bytes: usize) -> Result<(), Kind> {
        held.grow(bytes).map_err(|error| error.kind())
    }

    #[test]
    fn what_is_complete_makes_room_for_nobody_and_gives_it_back_at_its_end() {
        let bodies = Bodies::new(BodyLimits { bytes: 10, waiting: 9 });
        let mut complete = waiting(&bodies, "a", 8);
        complete.arrived().expect("not cut");
        let mut other = bodies.share(caller("b"));
        assert_eq!(grown(&mut other, 3), Err(Kind::Overloaded));
        assert_eq!((grown(&mut other, 2), bodies.held()), (Ok(()), 10));
        drop(complete);
        assert_eq!((grown(&mut other, 8), bodies.held()), (Ok(()), 10));
        drop(other);
        assert_eq!(bodies.held(), 0);
    }

    #[test]
    fn whoever_holds_most_makes_room_with_its_largest_and_is_refused_where_it_asks_for_more_itself() {
        let bodies = Bodies::new(BodyLimits { bytes: 10, waiting: 9 });
        let (mut small, mut large) = (waiting(&bodies, "a", 2), waiting(&bodies, "a", 5));
        let mut other = waiting(&bodies, "b", 3);
        assert_eq!(grown(&mut bodies.share(caller("a")), 1), Err(Kind::Overloaded));
        assert_eq!(grown(&mut bodies.share(caller("c")), 4), Ok(()));
        assert_eq!(poll(&mut large), Poll::Ready(Kind::Overloaded));
        assert!(poll(&mut small).is_pending() && poll(&mut other).is_pending());
        assert_eq!(grown(&mut large, 1), Err(Kind::Overloaded), "it is out");
        assert_eq!(large.arrived().map_err(|error| error.kind()), Err(Kind::Overloaded));
        drop((small, large, other));
        assert_eq!(bodies.held(), 0);
    }

    #[test]
    fn of_the_places_of_those_that_are_waited_for_whoever_has_most_gives_up_its_oldest() {
        let bodies = Bodies::new(BodyLimits { bytes: 100, waiting: 3 });
        let (mut first, mut second) = (waiting(&bodies, "a", 1), waiting(&bodies, "a", 1));
        let mut third = waiting(&bodies, "a", 1);
        let mut more = bodies.share(caller("a"));
        assert!(poll(&mut more).is_pending());
        assert_eq!(poll(&mut more), Poll::Ready(Kind::Overloaded));
        let mut other = waiting(&bodies, "b", 1);
        assert_eq!(poll(&mut first), Poll::Ready(Kind::Overloaded));
        for held in [&mut second, &mut third, &mut other] {
            assert!(poll(held).is_pending());
        }
        drop((first, second, third, other, more));
        assert_eq!((bodies.held(), bodies.waiting.lock().count), (0, 0));
        assert!(bodies.waiting.lock().shares.is_empty());
    }
}

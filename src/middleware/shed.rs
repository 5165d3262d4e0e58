//! Refuses calls beyond a number that bounds what all of them together may cost: reads first.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{
    domain::Scope,
    service::{Access, Route},
};

/// How many calls are under way, and how many may be.
pub(super) struct InFlight {
    count: AtomicUsize,
    max: usize,
}

/// One call under way, until it is dropped.
pub(super) struct Entered<'a>(&'a AtomicUsize);

impl InFlight {
    pub(super) fn new(max: usize) -> Self {
        Self { count: AtomicUsize::new(0), max }
    }

    /// Lets one more call of `route` in, if it fits, or if everybody may call it: it waits for nothing, and probes among them must not
    /// take a busy process for a dead one. A fifth is kept from reads; what they may have of the store for each tenant
    /// and environment is decided where these are known.
    pub(super) fn enter(&self, route: &Route) -> Option<Entered<'_>> {
        let is_open = route.access == Access::Open;
        let kept = if route.access == Access::Scope(Scope::Read) { self.max / 5 } else { 0 };
        let entered = Entered(&self.count);
        // Counted before it is known to fit; if not, dropping it takes it back.
        let before = self.count.fetch_add(1, Ordering::Relaxed);
        (is_open || before < self.max - kept).then_some(entered)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

//! One reader of the feed: a place in it, and nothing else to remember. Both orders are this one.

use std::sync::{Arc, atomic::Ordering};

use async_trait::async_trait;

use super::{
    feed::{self, Place},
    retention,
    shared::{Shared, blocking},
};
use crate::{
    domain::Error,
    store::{Cursor, FeedFollower, FeedFrom, FeedPage, PageLimit},
};

pub struct Follower {
    shared: Arc<Shared>,
    place: Place,
}

impl Follower {
    /// A follower that begins at `from`.
    pub async fn begin(shared: &Arc<Shared>, from: FeedFrom) -> Result<Self, Error> {
        let find = move |shared: &Shared, engine: &super::Engine| match from {
            FeedFrom::Start(start) => feed::place_of(shared, engine, &start),
            FeedFrom::Cursor(cursor) => {
                let place = Place::read(shared, &cursor)?;
                // A page without messages checks the place.
                feed::page(shared, engine, place, PageLimit { messages: 0, bytes: 0 })?;
                Ok(place)
            }
        };
        Ok(Self { place: blocking(shared, find).await?, shared: Arc::clone(shared) })
    }
}

#[async_trait]
impl FeedFollower for Follower {
    async fn next(&mut self, limit: PageLimit) -> Result<FeedPage, Error> {
        loop {
            let place = self.place;
            let read = move |shared: &Shared, engine: &super::Engine| feed::page(shared, engine, place, limit);
            let page = blocking(&self.shared, read).await?;
            self.place = page.next;
            // Among messages that are not for the feed a page may be full of nothing.
            if !page.items.is_empty() || !page.is_full || page.next == place {
                return Ok(FeedPage { items: page.items, next: self.cursor() });
            }
        }
    }

    async fn grown(&mut self) -> Result<(), Error> {
        self.shared.engine()?;
        let mut grown = self.shared.grown();
        let after = match self.place {
            Place::After(sequence) => sequence,
            Place::Start => {
                let (oldest, durable) = (self.shared.oldest.load(Ordering::Acquire), self.shared.durable());
                let find = move |shared: &Shared, engine: &super::Engine| {
                    retention::first_live(shared, engine, oldest, durable)
                };
                blocking(&self.shared, find).await? - 1
            }
        };
        // An error means that the sender is gone, and with it the store.
        let _ = grown.wait_for(|durable| *durable > after || self.shared.is_closed()).await;
        Ok(())
    }

    fn cursor(&self) -> Cursor {
        self.place.to_cursor(&self.shared)
    }
}

//! Whose pages may call with a browser key, for preflights: these come without a key, and only a list of all keys tells.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::RwLock;

use crate::domain::{Error, Origin};

/// An origin that was known is believed for so long: the call itself is checked with its key.
const BELIEVED_FOR: Duration = Duration::from_secs(60);
/// For an origin that is not known all keys are listed, once in this time for everybody: strangers may ask as often as they like.
const LIST_EVERY: Duration = Duration::from_secs(2);

/// The origins of all browser keys, as they were listed last.
#[derive(Default)]
pub(super) struct Pages {
    known: RwLock<Option<Arc<Known>>>,
    listing: tokio::sync::Mutex<()>,
}

struct Known {
    origins: HashSet<Origin>,
    listed: Instant,
}

impl Pages {
    /// Whether `origin` is one of a browser key; `list` finds out those of all keys.
    pub(super) async fn know(
        &self,
        origin: &Origin,
        list: impl AsyncFnOnce() -> Result<HashSet<Origin>, Error>,
    ) -> Result<bool, Error> {
        if let Some(answer) = self.by_now(origin) {
            return Ok(answer);
        }
        let _one_at_a_time = self.listing.lock().await;
        // Somebody else may have listed them meanwhile.
        if let Some(answer) = self.by_now(origin) {
            return Ok(answer);
        }
        // Taken before the read, so that the age of what is known is never understated.
        let listed = Instant::now();
        let known = Known { origins: list().await?, listed };
        let answer = known.origins.contains(origin);
        *self.known.write() = Some(Arc::new(known));
        Ok(answer)
    }

    /// Lists them anew when next asked for: a key was made.
    pub(super) fn forget(&self) {
        *self.known.write() = None;
    }

    fn by_now(&self, origin: &Origin) -> Option<bool> {
        let known = self.known.read().clone()?;
        let is_known = known.origins.contains(origin);
        let good_for = if is_known { BELIEVED_FOR } else { LIST_EVERY };
        (known.listed.elapsed() < good_for).then_some(is_known)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn strangers_make_the_keys_be_listed_once_and_a_new_key_at_once() {
        let (pages, lists) = (Pages::default(), AtomicUsize::new(0));
        let origin = |text: &str| Origin::parse(text).expect("an origin");
        let ask = async |text: &str| {
            let list = async || {
                lists.fetch_add(1, Ordering::Relaxed);
                Ok(HashSet::from([origin("https://shop.example")]))
            };
            pages.know(&origin(text), list).await.expect("listed")
        };
        for number in 0..100 {
            assert!(!ask(&format!("https://stranger{number}.example")).await);
        }
        assert!(ask("https://shop.example").await);
        assert_eq!(lists.load(Ordering::Relaxed), 1);
        pages.forget();
        assert!(ask("https://shop.example").await);
        assert_eq!(lists.load(Ordering::Relaxed), 2);
    }
}

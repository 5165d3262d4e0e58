//! Whose pages may call with a browser key, for preflights: these come without a key, and only a list of all keys tells.

use std::{collections::HashSet, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use crate::domain::{Error, Origin};

/// An origin that was known is believed for so long: the call itself is checked with its key.
const BELIEVED_FOR: Duration = Duration::from_secs(60);
/// For an origin that is not known all keys are listed, once in this time for everybody: strangers may ask as often as they like.
const LIST_EVERY: Duration = Duration::from_secs(2);
/// Where there are many keys, so many times as long as the last list took: strangers never keep the store busy with it.
const LIST_SHARE: u32 = 10;
/// Nobody waits longer, and that only while there has been no list yet.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The origins of all browser keys, as they were listed last.
#[derive(Default)]
pub(super) struct Pages(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Default)]
struct State {
    known: Option<Known>,
    is_listing: bool,
    /// No list begins before, whether the last one was had or failed.
    next: Option<Instant>,
    /// Why the last one failed.
    failure: Option<String>,
    /// Of keys that were made while one was under way, which may lack them.
    learned: Vec<Origin>,
}

struct Known {
    origins: HashSet<Origin>,
    listed: Instant,
}

/// A list under way, which ends with it however it goes: there is one at most.
struct Listing {
    shared: Arc<Shared>,
    begun: Instant,
    result: Option<Result<HashSet<Origin>, Error>>,
}

impl Pages {
    /// Whether `origin` is one of a browser key. `list` finds out those of all keys, apart from whoever asks: meanwhile the last list
    /// is good.
    ///
    /// # Errors
    /// `StoreUnavailable` where there is no list yet.
    pub(super) async fn know<L>(&self, origin: &Origin, list: impl FnOnce() -> L) -> Result<bool, Error>
    where
        L: Future<Output = Result<HashSet<Origin>, Error>> + Send + 'static,
    {
        // Before the look, so that no end is missed.
        let ended = self.0.ended.notified();
        let (answer, is_listing) = self.look(origin, list);
        if let Some(answer) = answer {
            return Ok(answer);
        }
        if is_listing {
            // Too late or not, what is known then tells.
            let _ = timeout(FIRST_WAIT, ended).await;
        }
        let state = self.0.state.lock();
        let cause = || state.failure.clone().unwrap_or_else(|| "the keys were not listed in time".to_owned());
        state.knows(origin).ok_or_else(|| Error::pages_unknown(cause()))
    }

    /// Takes the origins of a key that was just made.
    pub(super) fn learn(&self, origins: &[Origin]) {
        let mut state = self.0.state.lock();
        if state.is_listing {
            state.learned.extend_from_slice(origins);
        }
        if let Some(known) = &mut state.known {
            known.origins.extend(origins.iter().cloned());
        }
    }

    /// What is known by now, and whether a list is under way; one begins where it is time.
    fn look<L>(&self, origin: &Origin, list: impl FnOnce() -> L) -> (Option<bool>, bool)
    where
        L: Future<Output = Result<HashSet<Origin>, Error>> + Send + 'static,
    {
        let mut state = self.0.state.lock();
        let answer = state.knows(origin);
        let is_good = answer == Some(true) && state.known.as_ref().is_some_and(Known::is_believed);
        let may_list = !state.is_listing && state.next.is_none_or(|next| next <= Instant::now());
        if !is_good && may_list {
            state.is_listing = true;
            let listing = Listing { shared: Arc::clone(&self.0), begun: Instant::now(), result: None };
            tokio::spawn(listing.run(list()));
        }
        (answer, state.is_listing)
    }
}

impl State {
    fn knows(&self, origin: &Origin) -> Option<bool> {
        self.known.as_ref().map(|known| known.origins.contains(origin))
    }
}

impl Known {
    fn is_believed(&self) -> bool {
        self.listed.elapsed() < BELIEVED_FOR
    }
}

impl Listing {
    async fn run(mut self, list: impl Future<Output = Result<HashSet<Origin>, Error>>) {
        let result = list.await;
        self.result = Some(result);
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        let learned = std::mem::take(&mut state.learned);
        state.is_listing = false;
        state.next = Some(Instant::now() + (self.begun.elapsed() * LIST_SHARE).clamp(LIST_EVERY, BELIEVED_FOR));
        match self.result.take() {
            Some(Ok(mut origins)) => {
                origins.extend(learned);
                state.known = Some(Known { origins, listed: self.begun });
                state.failure = None;
            }
            Some(Err(error)) => {
                state.failure = Some(error.cause().map_or_else(|| error.to_string(), ToString::to_string));
            }
            None => state.failure = Some("the list of keys ended early".to_owned()),
        }
        self.shared.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;
    use crate::domain::Kind;

    const SHOP: &str = "https://shop.example";

    fn origin(text: &str) -> Origin {
        Origin::parse(text).expect("an origin")
    }

    /// Of a store that answers once for each permit.
    struct Asked {
        pages: Pages,
        lists: AtomicUsize,
        answers: Arc<Semaphore>,
        fails: bool,
    }

    impl Asked {
        fn new(answers: usize) -> Self {
            let answers = Arc::new(Semaphore::new(answers));
            Self { pages: Pages::default(), lists: AtomicUsize::new(0), answers, fails: false }
        }

        async fn know(&self, text: &str) -> Result<bool, Kind> {
            let (answers, fails) = (Arc::clone(&self.answers), self.fails);
            let list = || {
                self.lists.fetch_add(1, Ordering::Relaxed);
                async move {
                    answers.acquire().await.expect("never closed").forget();
                    if fails { Err(Error::internal("told to fail")) } else { Ok(HashSet::from([origin(SHOP)])) }
                }
            };
            self.pages.know(&origin(text), list).await.map_err(|error| {
                assert!(error.retry_after().is_some());
                error.kind()
            })
        }

        fn let_the_pause_end(&self) {
            self.pages.0.state.lock().next = None;
        }

        fn lists(&self) -> usize {
            self.lists.load(Ordering::Relaxed)
        }
    }

    #[tokio::test]
    async fn strangers_make_the_keys_be_listed_once_in_a_time_also_where_that_fails() {
        let mut asked = Asked::new(usize::MAX >> 3);
        asked.fails = true;
        for number in 0..100 {
            let told = asked.know(&format!("https://stranger{number}.example")).await;
            assert_eq!(told, Err(Kind::StoreUnavailable));
        }
        assert_eq!(asked.lists(), 1, "a failure is remembered");
        asked.fails = false;
        asked.let_the_pause_end();
        assert_eq!(asked.know(SHOP).await, Ok(true));
        for number in 0..100 {
            assert_eq!(asked.know(&format!("https://stranger{number}.example")).await, Ok(false));
        }
        assert_eq!(asked.lists(), 2);
    }

    #[tokio::test]
    async fn a_list_that_takes_long_keeps_nobody_for_long_and_the_last_one_is_good_meanwhile() {
        let asked = Asked::new(0);
        let begun = Instant::now();
        assert_eq!(asked.know(SHOP).await, Err(Kind::StoreUnavailable));
        assert!(begun.elapsed() >= FIRST_WAIT);
        let both = tokio::join!(asked.know(SHOP), async { asked.answers.add_permits(1) });
        assert_eq!((both.0, asked.lists()), (Ok(true), 1), "the first list went on");
        let next = asked.pages.0.state.lock().next.expect("told");
        assert!(next >= begun + FIRST_WAIT * LIST_SHARE, "the next one comes later, for this one took long");
        asked.let_the_pause_end();
        for _ in 0..100 {
            assert_eq!(asked.know("https://stranger.example").await, Ok(false), "though the next one hangs");
            assert_eq!(asked.know(SHOP).await, Ok(true));
        }
        assert_eq!((asked.lists(), asked.pages.0.state.lock().is_listing), (2, true));
    }

    #[tokio::test]
    async fn a_key_that_is_made_is_known_at_once_and_after_a_list_that_lacks_it() {
        let asked = Asked::new(1);
        assert_eq!(asked.know("https://new.example").await, Ok(false));
        asked.let_the_pause_end();
        assert_eq!(asked.know("https://new.example").await, Ok(false));
        asked.pages.learn(&[origin("https://new.example")]);
        assert_eq!(asked.know("https://new.example").await, Ok(true));
        let ended = asked.pages.0.ended.notified();
        asked.answers.add_permits(1);
        ended.await;
        assert_eq!((asked.know("https://new.example").await, asked.lists()), (Ok(true), 2));
    }
}

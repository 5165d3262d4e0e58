//! Who is calling, and the keys that tell.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use http::HeaderValue;
use metrics::{Counter, counter};
use parking_lot::{Mutex, RwLock};
use quick_cache::sync::Cache;

use super::{Protocol, key_manager::Turns, pages::Pages};
use crate::{
    domain::{
        ClientCertificate, Clock, Credential, Environment, Error, IdentityName, IdentityRecord, KeyId, KeyOwner,
        KeyRecord, OrgId, Origin, PresentedKey, Rate, Scope, Scopes, Timestamp,
    },
    store::{KeyStore, ListedKey},
    telemetry::names,
};

/// After this age one caller looks the key up again, while the others go on with what is known.
const REFRESH_AFTER: Duration = Duration::from_secs(2);
/// After this age nobody goes on with what is known: within it a revocation anywhere bites.
const USABLE_FOR: Duration = Duration::from_secs(4);
/// A key's last use is noted once in this time.
const NOTE_USE_EVERY: Duration = Duration::from_secs(60);
/// About 200 bytes each.
const CACHED_KEYS: usize = 10_000;

/// Somebody whose key, or certificate in place of one, was checked; cheap to clone.
#[derive(Debug, Clone)]
pub struct Caller {
    record: Arc<KeyRecord>,
    certificate: Option<Arc<ClientCertificate>>,
}

/// Checks presented keys against the store, the keys of a file, and a cache of seconds.
///
/// [`super::KeyManager`] creates, lists and revokes.
pub struct Keys {
    pub(super) store: Arc<dyn KeyStore>,
    pub(super) clock: Arc<dyn Clock>,
    cache: Cache<KeyId, Arc<Known>>,
    filed: RwLock<HashMap<KeyId, Arc<KeyRecord>>>,
    identities: RwLock<HashMap<IdentityName, IdentityRecord>>,
    uses: Mutex<Uses>,
    lookups: Lookups,
    /// Whose pages may call with a key.
    pub(super) pages: Pages,
    /// The highest rate that an organisation's own `admin` keys grant; `None` for any.
    pub(super) highest_rate: Option<Rate>,
    pub(super) turns: Turns,
}

/// How keys were found.
struct Lookups {
    hit: Counter,
    refresh: Counter,
    miss: Counter,
}

/// What a look-up found; "no such key" is known for as long.
struct Known {
    record: Option<Arc<KeyRecord>>,
    looked_up: Instant,
    being_refreshed: AtomicBool,
    use_noted: AtomicBool,
}

#[derive(Default)]
struct Uses {
    last: HashMap<KeyId, Timestamp>,
    unsaved: HashMap<KeyId, Timestamp>,
}

impl Keys {
    /// Keys of `store`; `clock` decides what is expired.
    pub fn new(store: Arc<dyn KeyStore>, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            clock,
            cache: Cache::new(CACHED_KEYS),
            filed: RwLock::default(),
            identities: RwLock::default(),
            uses: Mutex::default(),
            lookups: Lookups::new(),
            pages: Pages::default(),
            highest_rate: None,
            turns: Turns::default(),
        }
    }

    /// The same where an organisation's own `admin` keys grant no rate beyond `rate`.
    #[must_use]
    pub fn with_highest_rate(self, rate: Option<Rate>) -> Self {
        Self { highest_rate: rate, ..self }
    }

    /// The caller who presents `key_text`, the whole `mw_…` text.
    ///
    /// # Errors
    /// `Unauthenticated` with one text for what is no key, unknown, expired or revoked; an error of the store
    /// when the key is not in the cache.
    pub async fn authenticate(&self, key_text: &str) -> Result<Caller, Error> {
        let presented = PresentedKey::parse(key_text).ok_or_else(Error::bad_key)?;
        let known = self.known(&presented.id).await?;
        self.prove(&presented, &known)
    }

    /// What [`Keys::authenticate`] would say, when the store need not be asked for it.
    pub fn authenticate_known(&self, key_text: &str) -> Option<Result<Caller, Error>> {
        let Some(presented) = PresentedKey::parse(key_text) else { return Some(Err(Error::bad_key())) };
        let known = self.cache.get(&presented.id).filter(|known| known.looked_up.elapsed() < REFRESH_AFTER)?;
        self.lookups.hit.increment(1);
        Some(self.prove(&presented, &known))
    }

    fn prove(&self, presented: &PresentedKey, known: &Known) -> Result<Caller, Error> {
        let record = known.record.as_ref().ok_or_else(Error::bad_key)?;
        let now = self.clock.now();
        if !presented.proves(record) || !record.is_live(now) {
            return Err(Error::bad_key());
        }
        // Once for each look-up, so that the lock below is not on the path of every call.
        if !known.use_noted.swap(true, Ordering::Relaxed) {
            self.uses.lock().note(&record.id, now);
        }
        Ok(Caller { record: Arc::clone(record), certificate: None })
    }

    /// The caller who has no key and showed `certificate`, which was verified.
    ///
    /// # Errors
    /// [`crate::domain::Kind::Unauthenticated`] where none of its names is known, or several are, or it has expired by now.
    pub fn identify(&self, certificate: &Arc<ClientCertificate>) -> Result<Caller, Error> {
        let identities = self.identities.read();
        let mut found = certificate.names.iter().filter_map(|name| identities.get(name));
        match (found.next(), found.next()) {
            (Some(identity), None) if self.clock.now() < certificate.not_after => Ok(Caller {
                record: Arc::new(identity.as_key(certificate)),
                certificate: Some(Arc::clone(certificate)),
            }),
            _ => Err(Error::unknown_certificate()),
        }
    }

    /// Whether the key of `caller`, who was let in before, is still good.
    ///
    /// # Errors
    /// As [`Keys::authenticate`].
    pub async fn recheck(&self, caller: &Caller) -> Result<(), Error> {
        if let Some(certificate) = &caller.certificate {
            let again = self.identify(certificate)?;
            return if again.record == caller.record { Ok(()) } else { Err(Error::unknown_certificate()) };
        }
        let known = self.known(caller.key_id()).await?;
        let good = known.record.as_ref().is_some_and(|record| record.is_live(self.clock.now()));
        if good { Ok(()) } else { Err(Error::bad_key()) }
    }

    /// Replaces the keys that exist beside the store's; a key that is no longer among them ends at once.
    pub fn replace_filed(&self, records: Vec<KeyRecord>) {
        let filed = records.into_iter().map(|record| (record.id.clone(), Arc::new(record))).collect();
        *self.filed.write() = filed;
        self.cache.clear();
    }

    /// Replaces what the names in clients' certificates are good for; one that is no longer there ends at once.
    pub fn replace_identities(&self, records: Vec<IdentityRecord>) {
        *self.identities.write() = records.into_iter().map(|record| (record.name.clone(), record)).collect();
    }

    /// Saves when keys were last used. Called every few seconds and before the store closes.
    ///
    /// # Errors
    /// Those of the store; the notes are then saved by the next call.
    pub async fn save_uses(&self) -> Result<(), Error> {
        let unsaved: Vec<_> = {
            let mut uses = self.uses.lock();
            let now = self.clock.now();
            let filed = self.filed.read();
            uses.last.retain(|id, at| filed.contains_key(id) || at.saturating_add(NOTE_USE_EVERY) > now);
            uses.unsaved.drain().filter(|(id, _)| !filed.contains_key(id)).collect()
        };
        if unsaved.is_empty() {
            return Ok(());
        }
        let result = self.store.touch_keys(unsaved.clone()).await;
        if result.is_err() {
            let mut uses = self.uses.lock();
            for (id, at) in unsaved {
                uses.unsaved.entry(id).or_insert(at);
            }
        }
        result
    }

    /// Whether a live browser key is for pages of `origin`.
    ///
    /// # Errors
    /// `StoreUnavailable` where the store's keys could not be listed yet.
    pub async fn knows_page(&self, origin: &Origin) -> Result<bool, Error> {
        let now = self.clock.now();
        if self.filed.read().values().any(|key| key.is_live(now) && key.origins.contains(origin)) {
            return Ok(true);
        }
        let (store, clock) = (Arc::clone(&self.store), Arc::clone(&self.clock));
        let list = || async move {
            let now = clock.now();
            let live = store.key_records().await?.into_iter().filter(|key| key.is_live(now));
            Ok(live.flat_map(|key| key.origins).collect())
        };
        self.pages.know(origin, list).await
    }

    pub(super) fn filed(&self, id: &KeyId) -> Option<Arc<KeyRecord>> {
        self.filed.read().get(id).cloned()
    }

    pub(super) fn list_filed(&self) -> Vec<ListedKey> {
        let uses = self.uses.lock();
        let listed = |record: &Arc<KeyRecord>| ListedKey {
            record: (**record).clone(),
            last_used_at: uses.last.get(&record.id).copied(),
        };
        self.filed.read().values().map(listed).collect()
    }

    pub(super) fn forget(&self, id: &KeyId) {
        self.cache.remove(id);
    }

    async fn known(&self, id: &KeyId) -> Result<Arc<Known>, Error> {
        let Some(known) = self.cache.get(id) else {
            self.lookups.miss.increment(1);
            return self.look_up(id).await;
        };
        let age = known.looked_up.elapsed();
        if age < REFRESH_AFTER {
            self.lookups.hit.increment(1);
            return Ok(known);
        }
        if age >= USABLE_FOR {
            self.lookups.miss.increment(1);
            return self.look_up(id).await;
        }
        // Many calls find the entry old at once; one of them asks the store. If that one's client hangs up, the
        // entry lives on until it is not usable.
        if known.being_refreshed.swap(true, Ordering::Relaxed) {
            self.lookups.hit.increment(1);
            return Ok(known);
        }
        self.lookups.refresh.increment(1);
        Ok(self.look_up(id).await.unwrap_or(known))
    }

    async fn look_up(&self, id: &KeyId) -> Result<Arc<Known>, Error> {
        // Taken before the read, so that the age of what is known is never understated.
        let looked_up = Instant::now();
        let record = match self.filed(id) {
            Some(record) => Some(record),
            None => self.store.key(id).await?.map(Arc::new),
        };
        let known = Arc::new(Known {
            record,
            looked_up,
            being_refreshed: AtomicBool::new(false),
            use_noted: AtomicBool::new(false),
        });
        self.cache.insert(id.clone(), Arc::clone(&known));
        Ok(known)
    }
}

impl Lookups {
    fn new() -> Self {
        let lookups = |result: &'static str| counter!(names::KEY_LOOKUPS_TOTAL, "result" => result);
        Self { hit: lookups("hit"), refresh: lookups("refresh"), miss: lookups("miss") }
    }
}

impl Uses {
    fn note(&mut self, id: &KeyId, now: Timestamp) {
        if self.last.get(id).is_some_and(|last| last.saturating_add(NOTE_USE_EVERY) > now) {
            return;
        }
        self.last.insert(id.clone(), now);
        self.unsaved.insert(id.clone(), now);
    }
}

impl Caller {
    /// The holder of `record`'s key.
    pub fn of(record: &KeyRecord) -> Self {
        Self { record: Arc::new(record.clone()), certificate: None }
    }

    /// The key's public name, for logs.
    pub fn key_id(&self) -> &KeyId {
        &self.record.id
    }

    /// To whom the key belongs.
    pub fn owner(&self) -> &KeyOwner {
        &self.record.owner
    }

    /// What the key may do.
    pub fn scopes(&self) -> Scopes {
        self.record.scopes
    }

    /// By what it showed who it is.
    pub fn credential(&self) -> Credential {
        if self.certificate.is_some() { Credential::Certificate } else { Credential::ApiKey }
    }

    /// Whether it is a browser key.
    pub fn is_browser(&self) -> bool {
        self.record.is_browser()
    }

    /// Lets a browser key on only where it may call: the webhook, from pages of its origins. Any other key may call from anywhere.
    ///
    /// # Errors
    /// `PermissionDenied`.
    pub(super) fn require_page(&self, protocol: Protocol, origin: Option<&HeaderValue>) -> Result<(), Error> {
        if !self.is_browser() {
            return Ok(());
        }
        if protocol != Protocol::Http {
            return Err(Error::only_for_the_webhook());
        }
        let is_its_own = |sent: &HeaderValue| self.record.origins.iter().any(|own| own.as_str() == sent);
        if origin.is_some_and(is_its_own) { Ok(()) } else { Err(Error::not_its_page(origin.is_some())) }
    }

    /// How many messages the key may submit in a time, where it has a rate of its own.
    pub fn rate(&self) -> Option<Rate> {
        self.record.rate
    }

    /// Whether the key belongs to `org` and `env`, or to the platform.
    pub fn owns(&self, org: &OrgId, env: Environment) -> bool {
        match &self.record.owner {
            KeyOwner::Org { org: own_org, env: own_env } => own_org == org && *own_env == env,
            KeyOwner::Platform => true,
        }
    }

    /// Lets only a key with `scope` on.
    ///
    /// # Errors
    /// `PermissionDenied`.
    pub fn require(&self, scope: Scope) -> Result<(), Error> {
        if self.scopes().contains(scope) {
            return Ok(());
        }
        Err(Error::scope_missing(self.credential(), scope))
    }
}

//! Creating, listing and revoking keys, and who may.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

use crate::{
    domain::{
        Environment, Error, KeyId, KeyOwner, KeyRecord, Kind, NewKey, OrgId, Origin, Rate, Scope, Scopes, Timestamp,
        ViolationCode, Violations,
    },
    store::ListedKey,
};

use super::{Caller, Keys, work::Work};

/// So many live keys an organisation's own `admin` keys keep in one environment, a browser key counted once for each of its origins,
/// which are most of what a store keeps of it: no tenant fills the store's part for keys.
const MOST_LIVE: usize = 200;

/// So many they make, counted alike, in [`LATELY`]: a revoked key is kept for a while.
const MOST_LATELY: usize = 500;

const LATELY_DAYS: u64 = 30;
const LATELY: Duration = Duration::from_hours(24 * LATELY_DAYS);

/// One key is made at a time for each organisation and environment: several at once would pass its bounds together.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<KeyOwner, Weak<Turn<()>>>>);

/// Managing keys as far as one manager may; only [`Keys::as_operator`] and [`Keys::as_caller`] make it.
#[derive(Clone, Copy)]
pub struct KeyManager<'a> {
    keys: &'a Keys,
    manager: Manager<'a>,
}

#[derive(Clone, Copy)]
enum Manager<'a> {
    /// Holds the store's directory or its control socket.
    Operator,
    Caller(&'a Caller),
}

/// A key to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRequest {
    /// To whom it will belong.
    pub owner: KeyOwner,
    /// What it may do; never empty.
    pub scopes: Scopes,
    /// How many messages it may submit in a time, in place of the setting for every key.
    pub rate: Option<Rate>,
    /// Makes it a browser key, for pages of these; none for any other key.
    pub origins: Vec<Origin>,
    /// From when on it is refused; in the future.
    pub expires_at: Option<Timestamp>,
}

impl Keys {
    /// Manages every key.
    pub fn as_operator(&self) -> KeyManager<'_> {
        KeyManager { keys: self, manager: Manager::Operator }
    }

    /// Manages keys with the rights of `caller`: a key of an organisation and environment manages that one's keys and
    /// grants no scope that it lacks; a platform key manages all.
    ///
    /// # Errors
    /// `PermissionDenied` without the scope `admin`.
    pub fn as_caller<'a>(&'a self, caller: &'a Caller) -> Result<KeyManager<'a>, Error> {
        caller.require(Scope::Admin)?;
        Ok(KeyManager { keys: self, manager: Manager::Caller(caller) })
    }
}

impl KeyManager<'_> {
    /// Creates a key; its text is in the answer and nowhere else. It works at once.
    ///
    /// # Errors
    /// `InvalidArgument` for no scope, a rate without the scope to submit, a browser key with any other scope, or an expiry in the past, `PermissionDenied` for a key that this
    /// manager may not grant or that is one too many, and those of the store.
    pub async fn create(&self, request: KeyRequest) -> Result<NewKey, Error> {
        let now = self.keys.clock.now();
        if request.expires_at.is_some_and(|expiry| expiry <= now) {
            let message = "A key must expire in the future, or never";
            return Err(Error::invalid_argument("expires_at", ViolationCode::InvalidValue, message));
        }
        self.require_grant(&request)?;
        let KeyRequest { owner, scopes, rate, origins, expires_at } = request;
        let key = NewKey::generate_for(origins, owner, scopes, now, expires_at)?.with_rate(rate);
        let mut violations = Violations::default();
        if violations.check(key.record.check()).is_none() {
            return Err(violations.into_error(Kind::InvalidArgument));
        }
        let turn = self.require_room(&key.record, now).await?;
        let (store, record) = (Arc::clone(&self.keys.store), key.record.clone());
        let work = Work::new(async move {
            // The work's, not the caller's: who leaves early has made a key all the same.
            let _turn = turn;
            store.create_key(record).await
        });
        work.await?;
        // Somebody may have tried this id while it was unknown.
        self.keys.forget(&key.record.id);
        self.keys.pages.learn(&key.record.origins);
        Ok(key)
    }

    /// The keys of `org` and `env` as far as they are named, those of a keys file too, revoked and expired ones
    /// included, in the order of their ids. Platform keys are in the list when no org is named.
    ///
    /// # Errors
    /// `PermissionDenied` for another's org or env, and those of the store.
    pub async fn list(&self, org: Option<&OrgId>, env: Option<Environment>) -> Result<Vec<ListedKey>, Error> {
        let (org, env) = self.narrow(org, env)?;
        let mut listed = self.keys.store.keys(org).await?;
        for filed in self.keys.list_filed() {
            listed.retain(|key| key.record.id != filed.record.id);
            listed.push(filed);
        }
        listed.retain(|key| match &key.record.owner {
            KeyOwner::Org { org: own_org, env: own_env } => {
                org.is_none_or(|org| org == own_org) && env.is_none_or(|env| env == *own_env)
            }
            KeyOwner::Platform => org.is_none() && env.is_none(),
        });
        listed.sort_by(|a, b| a.record.id.cmp(&b.record.id));
        Ok(listed)
    }

    /// Revokes a key; on this process it ends at once, on others within seconds. The first revocation's time stays.
    ///
    /// # Errors
    /// `KeyNotFound`, also for a key that this manager may not manage; `InvalidArgument` for one that
    /// a keys file holds; those of the store.
    pub async fn revoke(&self, id: &KeyId) -> Result<KeyRecord, Error> {
        let not_found = Error::key_not_found;
        if let Some(filed) = self.keys.filed(id) {
            self.require_manages(&filed.owner).map_err(|_| not_found())?;
            let message = "This key comes from the keys file; take its entry out of that file";
            return Err(Error::invalid_argument("key_id", ViolationCode::InvalidValue, message));
        }
        let record = self.keys.store.key(id).await?.ok_or_else(not_found)?;
        self.require_manages(&record.owner).map_err(|_| not_found())?;
        let revoked = self.keys.store.revoke_key(id, self.keys.clock.now()).await?.ok_or_else(not_found)?;
        self.keys.forget(id);
        Ok(revoked)
    }

    fn require_grant(&self, request: &KeyRequest) -> Result<(), Error> {
        self.require_manages(&request.owner)?;
        let Manager::Caller(caller) = self.manager else { return Ok(()) };
        if *caller.owner() == KeyOwner::Platform {
            return Ok(());
        }
        match request.scopes.iter().find(|scope| !caller.scopes().contains(*scope)) {
            Some(scope) => Err(Error::cannot_grant(caller.credential(), scope)),
            None => match (request.rate, self.keys.highest_rate) {
                (Some(rate), Some(highest)) if !rate.is_within(&highest) => {
                    Err(Error::cannot_grant_rate(caller.credential(), highest))
                }
                _ => Ok(()),
            },
        }
    }

    /// Whether there is room for `new` among the keys of its owner, and its turn, within which that stays so. Operators and the platform need
    /// neither.
    async fn require_room(&self, new: &KeyRecord, now: Timestamp) -> Result<Option<OwnedMutexGuard<()>>, Error> {
        let (Manager::Caller(caller), KeyOwner::Org { org, .. }) = (self.manager, &new.owner) else {
            return Ok(None);
        };
        if *caller.owner() == KeyOwner::Platform {
            return Ok(None);
        }
        let turn = self.keys.turns.of(&new.owner).lock_owned().await;
        let weight = |origins: &[Origin]| origins.len().max(1);
        let (mut live, mut lately) = (weight(&new.origins), weight(&new.origins));
        for ListedKey { record, .. } in self.keys.store.keys(Some(org)).await? {
            if record.owner == new.owner {
                let (is_live, is_new) = (record.is_live(now), record.created_at.saturating_add(LATELY) > now);
                live += if is_live { weight(&record.origins) } else { 0 };
                lately += if is_new { weight(&record.origins) } else { 0 };
            }
        }
        if live > MOST_LIVE {
            return Err(Error::too_many_keys(caller.credential(), MOST_LIVE));
        }
        if lately > MOST_LATELY {
            return Err(Error::too_many_new_keys(caller.credential(), MOST_LATELY, LATELY_DAYS));
        }
        Ok(Some(turn))
    }

    fn require_manages(&self, owner: &KeyOwner) -> Result<(), Error> {
        match self.manager {
            Manager::Operator => Ok(()),
            Manager::Caller(caller) if *caller.owner() == KeyOwner::Platform || caller.owner() == owner => Ok(()),
            Manager::Caller(caller) => Err(Error::manages_only_its_own(caller.credential())),
        }
    }

    fn narrow<'b>(
        &'b self,
        org: Option<&'b OrgId>,
        env: Option<Environment>,
    ) -> Result<(Option<&'b OrgId>, Option<Environment>), Error> {
        let Manager::Caller(caller) = self.manager else { return Ok((org, env)) };
        let KeyOwner::Org { org: own_org, env: own_env } = caller.owner() else { return Ok((org, env)) };
        let (org, env) = (org.unwrap_or(own_org), env.unwrap_or(*own_env));
        self.require_manages(&KeyOwner::Org { org: org.clone(), env })?;
        Ok((Some(org), Some(env)))
    }
}

impl Turns {
    fn of(&self, owner: &KeyOwner) -> Arc<Turn<()>> {
        let mut turns = self.0.lock();
        if let Some(turn) = turns.get(owner).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        turns.insert(owner.clone(), Arc::downgrade(&turn));
        turn
    }
}

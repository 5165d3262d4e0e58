//! API keys.
//!
//! A key is listed before it is created, under its organisation and among all: an entry without its key is ignored, and
//! no key is without its entries. A key and its revocation are conditional writes, so that the first one stays.

use futures_util::{StreamExt, TryStreamExt, stream};
use scylla::value::MaybeUnset;

use super::{
    core::Core,
    error::Failed,
    lwt::{Decision, Row},
    repeat,
};
use crate::{
    domain::{Environment, Error, KeyId, KeyOwner, KeyRecord, OrgId, Origin, Rate, Scopes, SecretHash, Timestamp},
    store::ListedKey,
};

/// In place of an organisation, whose ids have no such character: the platform's keys, and the list of all keys.
const NO_ORG: &str = "*";
/// Keys in one read of their ids.
const PAGE: usize = 1_000;
/// So many keys of a list are read at once.
const AT_ONCE: usize = 32;

/// Stores a new key.
pub async fn create(core: &Core, key: &KeyRecord) -> Result<(), Error> {
    let (org, env) = owner(&key.owner);
    let created_at = key.created_at.as_micros();
    let all = (NO_ORG, env, key.id.as_str(), created_at);
    core.write(&core.cql.insert_key_entry, all).await?;
    if org != NO_ORG {
        core.write(&core.cql.insert_key_entry, (org, env, key.id.as_str(), created_at)).await?;
    }
    let expires_at = MaybeUnset::from_option(key.expires_at.map(Timestamp::as_micros));
    let hash = key.secret_hash.as_bytes().as_slice();
    let scopes = i32::from(key.scopes.to_bits());
    let rate = MaybeUnset::from_option(key.rate.map(|rate| rate.to_string()));
    let origins: Vec<_> = key.origins.iter().map(Origin::as_str).collect();
    let origins = MaybeUnset::from_option(key.is_browser().then(|| origins.join(" ")));
    let values = (key.id.as_str(), org, env, scopes, hash, created_at, expires_at, rate, origins);
    match repeat::until_clear(core, || core.decide(&core.cql.insert_key, &values)).await? {
        Decision::Applied => Ok(()),
        // Ours, where an earlier try was carried out after all.
        Decision::Refused(row) if row.blob("secret_hash") == Some(hash) => Ok(()),
        Decision::Refused(_) => Err(Error::internal(format!("a key {} exists", key.id))),
    }
}

/// The key with `id`.
pub async fn get(core: &Core, id: &KeyId) -> Result<Option<KeyRecord>, Error> {
    let rows = core.read(&core.cql.read_key, (id.as_str(),)).await?;
    let row = rows.maybe_first_row::<Row>().map_err(Error::internal)?;
    Ok(row.as_ref().map(|row| record(id, row)).transpose()?)
}

/// All keys, or those of `org`, in the order of their ids.
pub async fn list(core: &Core, org: Option<&OrgId>) -> Result<Vec<ListedKey>, Error> {
    let reading = ids(core, org).await?.into_iter().map(|id| async move {
        let Some(record) = get(core, &id).await? else { return Ok(None) };
        let rows = core.read(&core.cql.read_key_use, (id.as_str(),)).await?;
        let used = rows.maybe_first_row::<(Option<i64>,)>().map_err(Error::internal)?;
        let last_used_at = used.and_then(|(micros,)| micros).and_then(Timestamp::from_micros);
        Ok::<_, Error>(Some(ListedKey { record, last_used_at }))
    });
    let found: Vec<_> = stream::iter(reading).buffer_unordered(AT_ONCE).try_collect().await?;
    let mut keys: Vec<_> = found.into_iter().flatten().collect();
    keys.sort_unstable_by(|one, other| one.record.id.cmp(&other.record.id));
    Ok(keys)
}

/// All keys, in any order.
pub async fn records(core: &Core) -> Result<Vec<KeyRecord>, Error> {
    let reading = ids(core, None).await?.into_iter().map(|id| async move { get(core, &id).await });
    let found: Vec<_> = stream::iter(reading).buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

async fn ids(core: &Core, org: Option<&OrgId>) -> Result<Vec<KeyId>, Error> {
    let org = org.map_or(NO_ORG, OrgId::as_str);
    let (mut ids, mut after) = (Vec::new(), (String::new(), String::new()));
    loop {
        let values = (org, after.0.as_str(), after.1.as_str(), PAGE as i32);
        let rows = core.read(&core.cql.list_keys, values).await?;
        for row in rows.rows::<(String, String)>().map_err(Error::internal)? {
            after = row.map_err(Error::internal)?;
            ids.push(KeyId::new(&after.1).ok_or_else(|| Error::internal("a key's id breaks its rule"))?);
        }
        if rows.rows_num() < PAGE {
            return Ok(ids);
        }
    }
}

/// Revokes a key; the first revocation's time stays.
pub async fn revoke(core: &Core, id: &KeyId, at: Timestamp) -> Result<Option<KeyRecord>, Error> {
    loop {
        let rows = repeat::until_clear(core, || core.read(&core.cql.settle_key, (id.as_str(),))).await?;
        let Some(row) = rows.maybe_first_row::<Row>().map_err(Error::internal)? else { return Ok(None) };
        let mut key = record(id, &row)?;
        if key.revoked_at.is_some() {
            return Ok(Some(key));
        }
        let values = (at.as_micros(), id.as_str(), key.created_at.as_micros());
        match repeat::until_clear(core, || core.decide(&core.cql.revoke_key, values)).await? {
            Decision::Applied => {
                key.revoked_at = Some(at);
                return Ok(Some(key));
            }
            // Revoked in the meantime, perhaps by a try of ours: the row tells.
            Decision::Refused(_) => {}
        }
    }
}

/// Notes when keys were used.
pub async fn touch(core: &Core, used: Vec<(KeyId, Timestamp)>) -> Result<(), Error> {
    let writing = used.into_iter().map(|(id, at)| async move {
        let micros = at.as_micros();
        core.write(&core.cql.insert_key_use, (id.as_str(), micros, micros)).await
    });
    stream::iter(writing).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    Ok(())
}

fn owner(owner: &KeyOwner) -> (&str, &'static str) {
    match owner {
        KeyOwner::Platform => (NO_ORG, ""),
        KeyOwner::Org { org, env } => (org.as_str(), env.as_str()),
    }
}

fn record(id: &KeyId, row: &Row) -> Result<KeyRecord, Failed> {
    let missing = |what: &str| Failed::malformed(format!("the key {id} has no {what}"));
    let org = row.text("org_id").ok_or_else(|| missing("owner"))?;
    let owner = if org == NO_ORG {
        KeyOwner::Platform
    } else {
        let env = row.text("env").and_then(|word| word.parse::<Environment>().ok());
        KeyOwner::Org {
            org: OrgId::new(org).map_err(|_| missing("valid organisation"))?,
            env: env.ok_or_else(|| missing("environment"))?,
        }
    };
    let scopes = row.int("scopes").and_then(|bits| u8::try_from(bits).ok()).ok_or_else(|| missing("scopes"))?;
    let hash = row.blob("secret_hash").and_then(|hash| hash.try_into().ok()).ok_or_else(|| missing("hash"))?;
    let time = |name| row.bigint(name).and_then(Timestamp::from_micros);
    let rate = row.text("rate").map(|text| Rate::parse(text).ok_or_else(|| missing("valid rate"))).transpose()?;
    let origins = row.text("origins").unwrap_or_default().split(' ').filter(|text| !text.is_empty());
    Ok(KeyRecord {
        id: id.clone(),
        owner,
        scopes: Scopes::from_bits(scopes),
        rate,
        origins: origins.map(Origin::from_stored).collect(),
        secret_hash: SecretHash::from_bytes(hash),
        created_at: time("created_at").ok_or_else(|| missing("time"))?,
        expires_at: time("expires_at"),
        revoked_at: time("revoked_at"),
    })
}

//! API keys.

use message_webhook::{
    domain::{KeyOwner, KeyRecord, Kind, OrgId, Origin, Rate, Timestamp},
    store::{KeyStore, ListedKey},
};

use crate::conformance::fixture::*;

pub async fn a_created_key_is_found_and_listed(f: impl Fixture) {
    let mut platform = new_key("acme");
    platform.owner = KeyOwner::Platform;
    platform.expires_at = Timestamp::from_seconds(4_000_000_000).ok();
    let mut records = vec![new_key("acme"), new_key("other"), new_key("acme"), platform];
    for record in &records {
        f.store().create_key(record.clone()).await.unwrap();
        assert_eq!(f.store().key(&record.id).await.unwrap().as_ref(), Some(record));
    }
    records.sort_by(|a, b| a.id.cmp(&b.id));
    let listed = |keys: Vec<ListedKey>| keys.into_iter().map(|key| key.record).collect::<Vec<_>>();
    assert_eq!(listed(f.store().keys(None).await.unwrap()), records);
    let mut all = f.store().key_records().await.unwrap();
    all.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    assert_eq!(all, records);
    let acme = OrgId::new("acme").unwrap();
    records.retain(|record| matches!(&record.owner, KeyOwner::Org { org, .. } if *org == acme));
    assert_eq!(listed(f.store().keys(Some(&acme)).await.unwrap()), records);
    assert_eq!(records.len(), 2);
    assert_eq!(f.store().key(&new_key("acme").id).await.unwrap(), None);
}

pub async fn a_key_keeps_its_own_rate_and_origins(f: impl Fixture) {
    let mut limited = new_key("acme");
    limited.origins = ["https://a.example", "capacitor://localhost"].map(|text| Origin::parse(text).unwrap()).to_vec();
    // One that was taken once, by other rules.
    limited.origins.push(Origin::from_stored("https://a.example:443"));
    limited.rate = Rate::parse("50/min burst 100");
    f.store().create_key(limited.clone()).await.unwrap();
    f.store().create_key(new_key("acme")).await.unwrap();
    let f = f.reopen().await;
    assert_eq!(f.store().key(&limited.id).await.unwrap().as_ref(), Some(&limited));
    let mut rates: Vec<_> = f.store().keys(None).await.unwrap().iter().map(|key| key.record.rate).collect();
    rates.sort_by_key(Option::is_none);
    assert_eq!(rates, [limited.rate, None]);
    let revoked = f.store().revoke_key(&limited.id, limited.created_at).await.unwrap().unwrap();
    assert_eq!((revoked.rate, &revoked.origins), (limited.rate, &limited.origins));
    assert_eq!(f.store().key(&limited.id).await.unwrap(), Some(revoked));
}

pub async fn a_key_cannot_be_created_twice(f: impl Fixture) {
    let record = new_key("acme");
    f.store().create_key(record.clone()).await.unwrap();
    let mut second = new_key("other");
    second.id = record.id.clone();
    assert_eq!(f.store().create_key(second).await.unwrap_err().kind(), Kind::Internal);
    assert_eq!(f.store().key(&record.id).await.unwrap(), Some(record));
}

pub async fn a_revocation_keeps_its_first_time(f: impl Fixture) {
    let record = new_key("acme");
    f.store().create_key(record.clone()).await.unwrap();
    let at = |seconds| Timestamp::from_seconds(seconds).unwrap();
    for time in [at(10), at(20)] {
        let revoked = f.store().revoke_key(&record.id, time).await.unwrap().unwrap();
        assert_eq!(revoked.revoked_at, Some(at(10)));
    }
    let f = f.reopen().await;
    assert_eq!(f.store().key(&record.id).await.unwrap().unwrap().revoked_at, Some(at(10)));
    assert_eq!(f.store().revoke_key(&new_key("acme").id, at(1)).await.unwrap(), None);
}

pub async fn the_use_of_keys_is_noted(f: impl Fixture) {
    let (used, unused, unknown) = (new_key("acme"), new_key("acme"), new_key("acme"));
    for record in [&used, &unused] {
        f.store().create_key(record.clone()).await.unwrap();
    }
    let at = Timestamp::from_seconds(99).unwrap();
    f.store().touch_keys(vec![(used.id.clone(), at), (unknown.id.clone(), at)]).await.unwrap();
    let f = f.reopen().await;
    let keys = f.store().keys(None).await.unwrap();
    let last_use = |record: &KeyRecord| keys.iter().find(|key| key.record.id == record.id).map(|key| key.last_used_at);
    assert_eq!((last_use(&used), last_use(&unused), last_use(&unknown)), (Some(Some(at)), Some(None), None));
}

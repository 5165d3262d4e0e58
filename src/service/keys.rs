//! Who is calling, and the keys that tell.

use crate::domain::{Environment, KeyId, KeyOwner, KeyRecord, OrgId, Scopes};

/// Somebody whose key was checked.
#[derive(Debug, Clone)]
pub struct Caller {
    key_id: KeyId,
    owner: KeyOwner,
    scopes: Scopes,
}

/// Checks presented keys against the store, a keys file and a cache of seconds; creates, lists and revokes.
pub struct Keys {}

impl Caller {
    /// The holder of `record`'s key.
    pub fn of(record: &KeyRecord) -> Self {
        Self { key_id: record.id.clone(), owner: record.owner.clone(), scopes: record.scopes }
    }

    /// The key's public name, for logs.
    pub fn key_id(&self) -> &KeyId {
        &self.key_id
    }

    /// To whom the key belongs.
    pub fn owner(&self) -> &KeyOwner {
        &self.owner
    }

    /// What the key may do.
    pub fn scopes(&self) -> Scopes {
        self.scopes
    }

    /// Whether the key belongs to `org` and `env`, or to the platform.
    pub fn owns(&self, org: &OrgId, env: Environment) -> bool {
        match &self.owner {
            KeyOwner::Org { org: own_org, env: own_env } => own_org == org && *own_env == env,
            KeyOwner::Platform => true,
        }
    }
}

//! Manages API keys. The control socket serves the same code, for the operator instead of a caller.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    message, opened, refuse, rpcs, target,
    v1::{
        self, CreateKeyRequest, CreateKeyResponse, Key, KeyScope, ListKeysRequest, ListKeysResponse, RevokeKeyRequest,
        RevokeKeyResponse,
        key_service_server::{KeyService as KeyRpcs, KeyServiceServer},
    },
};
use crate::{
    domain::{
        Error, KeyId, KeyOwner, KeyRecord, Kind, OrgId, Origin, Rate, Scope, Scopes, Timestamp, Violation,
        ViolationCode, Violations,
    },
    protocol::call::Report,
    service::{Call, Caller, KeyManager, KeyRequest, Keys, Protocol},
};

/// The methods over `keys`.
pub(super) struct KeyEdge {
    keys: Arc<Keys>,
    report: Arc<Report>,
    door: Door,
}

/// Through which door calls come in.
#[derive(Clone, Copy)]
enum Door {
    /// The listener, whose key layer found out who calls.
    Listener,
    /// The control socket.
    Operator,
}

/// The service for callers with the scope `admin`.
pub(super) fn for_callers(keys: Arc<Keys>, report: Arc<Report>) -> KeyServiceServer<KeyEdge> {
    KeyServiceServer::new(KeyEdge { keys, report, door: Door::Listener })
}

/// The service for whoever may open the control socket.
pub fn key_service_for_operator(keys: Arc<Keys>) -> KeyServiceServer<impl KeyRpcs> {
    let report = Arc::new(Report::new(Protocol::Control, std::iter::empty()));
    KeyServiceServer::new(KeyEdge { keys, report, door: Door::Operator })
}

#[tonic::async_trait]
impl KeyRpcs for KeyEdge {
    async fn create_key(&self, request: Request<CreateKeyRequest>) -> Result<Response<CreateKeyResponse>, Status> {
        let (call, request) = self.opened(request, "create_key")?;
        let created = self.create(&call, request).await;
        created.map(Response::new).map_err(|error| refuse(&self.report, error, &call))
    }

    async fn list_keys(&self, request: Request<ListKeysRequest>) -> Result<Response<ListKeysResponse>, Status> {
        let (call, request) = self.opened(request, "list_keys")?;
        let listed = self.list(&call, request).await;
        listed.map(Response::new).map_err(|error| refuse(&self.report, error, &call))
    }

    async fn revoke_key(&self, request: Request<RevokeKeyRequest>) -> Result<Response<RevokeKeyResponse>, Status> {
        let (call, request) = self.opened(request, "revoke_key")?;
        let revoked = self.revoke(&call, request).await;
        revoked.map(Response::new).map_err(|error| refuse(&self.report, error, &call))
    }
}

impl KeyEdge {
    /// A request, and the call that it is; `name` is that of its RPC.
    fn opened<T>(&self, request: Request<T>, name: &str) -> Result<(Call, T), Status> {
        match self.door {
            Door::Listener => opened(request),
            Door::Operator => {
                let call = Call::begin(Protocol::Control, rpcs::named(name), request.metadata().as_ref());
                Ok((call, request.into_inner()))
            }
        }
    }

    async fn create(&self, call: &Call, request: CreateKeyRequest) -> Result<CreateKeyResponse, Error> {
        let caller = self.caller(call)?;
        let created = self.manager(caller)?.create(key_request(caller, request)?).await?;
        tracing::info!(key_id = created.record.id.as_str(), by = by(caller), "key created");
        Ok(CreateKeyResponse { key: Some(to_wire(&created.record, None)), key_text: created.text.reveal().to_owned() })
    }

    async fn list(&self, call: &Call, request: ListKeysRequest) -> Result<ListKeysResponse, Error> {
        let manager = self.manager(self.caller(call)?)?;
        let mut violations = Violations::default();
        let org = match request.org_id.as_str() {
            "" => Some(None),
            org_id => violations.check(OrgId::new(org_id)).map(Some),
        };
        let env = violations.check(target::env_from_wire(request.env));
        let (Some(org), Some(env)) = (org, env) else {
            return Err(violations.into_error(Kind::InvalidArgument));
        };
        let listed = manager.list(org.as_ref(), env).await?;
        Ok(ListKeysResponse { keys: listed.iter().map(|key| to_wire(&key.record, key.last_used_at)).collect() })
    }

    async fn revoke(&self, call: &Call, request: RevokeKeyRequest) -> Result<RevokeKeyResponse, Error> {
        let caller = self.caller(call)?;
        let manager = self.manager(caller)?;
        let id = KeyId::new(&request.key_id).ok_or_else(|| {
            let message = "'key_id' must be the 12 characters of a key's id, the part of its text before the last";
            Error::invalid_argument("key_id", ViolationCode::InvalidValue, message)
        })?;
        let revoked = manager.revoke(&id).await?;
        tracing::info!(key_id = revoked.id.as_str(), by = by(caller), "key revoked");
        Ok(RevokeKeyResponse { key: Some(to_wire(&revoked, None)) })
    }

    /// `None` is the operator.
    fn caller<'a>(&self, call: &'a Call) -> Result<Option<&'a Caller>, Error> {
        match self.door {
            Door::Listener => call.caller().map(Some),
            Door::Operator => Ok(None),
        }
    }

    fn manager<'a>(&'a self, caller: Option<&'a Caller>) -> Result<KeyManager<'a>, Error> {
        match caller {
            Some(caller) => self.keys.as_caller(caller),
            None => Ok(self.keys.as_operator()),
        }
    }
}

fn by(caller: Option<&Caller>) -> &str {
    caller.map_or("operator", |caller| caller.key_id().as_str())
}

fn key_request(caller: Option<&Caller>, wire: CreateKeyRequest) -> Result<KeyRequest, Error> {
    let mut violations = Violations::default();
    let owner = owner(caller, &wire, &mut violations);
    let scopes = if wire.scopes.is_empty() {
        Some(Scopes::from_iter([Scope::Submit]))
    } else {
        let scopes: Option<Scopes> = wire.scopes.iter().map(|scope| scope_from_wire(*scope)).collect();
        if scopes.is_none() {
            violations.push("scopes", ViolationCode::InvalidValue, "'scopes' must be values of KeyScope");
        }
        scopes
    };
    let expires_at = wire.expires_at.map(|at| Timestamp::from_unix(at.seconds, at.nanos)).transpose();
    if expires_at.is_err() {
        violations.push("expires_at", ViolationCode::TimestampOutOfRange, "'expires_at' must be 1970 to 9999");
    }
    let rate = violations.check(rate_from_wire(&wire.rate));
    let origins = violations.check(origins_from_wire(&wire.origins));
    // Whoever forgets one of them gets no key, and none that is not for pages.
    match (wire.browser, wire.origins.is_empty()) {
        (true, true) => {
            let message = "Missing 'origins': a browser key is for the pages of at least one";
            violations.push("origins", ViolationCode::Missing, message);
        }
        (false, false) => {
            let message = "Only a browser key has 'origins': set 'browser', or leave them out";
            violations.push("origins", ViolationCode::InvalidValue, message);
        }
        (true, false) | (false, true) => {}
    }
    match (owner, scopes, rate, origins, expires_at) {
        (Some(owner), Some(scopes), Some(rate), Some(origins), Ok(expires_at)) if violations.is_empty() => {
            Ok(KeyRequest { owner, scopes, rate, origins, expires_at })
        }
        _ => Err(violations.into_error(Kind::InvalidArgument)),
    }
}

fn owner(caller: Option<&Caller>, wire: &CreateKeyRequest, violations: &mut Violations) -> Option<KeyOwner> {
    let env = violations.check(target::env_from_wire(wire.env))?;
    if wire.platform {
        if wire.org_id.is_empty() && env.is_none() {
            return Some(KeyOwner::Platform);
        }
        violations.push("platform", ViolationCode::InvalidValue, "A platform key has neither 'org_id' nor 'env'");
        return None;
    }
    let own = caller.map(Caller::owner);
    let (own_org, own_env) = match own {
        Some(KeyOwner::Org { org, env }) => (Some(org), Some(*env)),
        Some(KeyOwner::Platform) | None => (None, None),
    };
    let org = match (wire.org_id.as_str(), own_org) {
        ("", Some(own)) => Some(own.clone()),
        ("", None) => {
            violations.push("org_id", ViolationCode::Missing, "Missing 'org_id', or 'platform' for a platform key");
            None
        }
        (org_id, _) => violations.check(OrgId::new(org_id)),
    };
    let env = env.or(own_env);
    if env.is_none() {
        violations.push("env", ViolationCode::Missing, "Missing 'env'");
    }
    Some(KeyOwner::Org { org: org?, env: env? })
}

/// Empty for none.
pub(super) fn rate_from_wire(text: &str) -> Result<Option<Rate>, Violation> {
    if text.is_empty() {
        return Ok(None);
    }
    let message = || format!("'rate' must be {}", Rate::NOTATION).into();
    let wrong = || Violation { field: "rate".into(), code: ViolationCode::InvalidValue, message: message() };
    Rate::parse(text).map(Some).ok_or_else(wrong)
}

pub(super) fn origins_from_wire(texts: &[String]) -> Result<Vec<Origin>, Violation> {
    let origin = |text: &String| {
        Origin::parse(text).map_err(|wrong| Violation {
            field: "origins".into(),
            code: ViolationCode::InvalidValue,
            message: format!("One of 'origins' {wrong}").into(),
        })
    };
    texts.iter().map(origin).collect()
}

pub(super) fn origins_to_wire(origins: &[Origin]) -> Vec<String> {
    origins.iter().map(|origin| origin.as_str().to_owned()).collect()
}

pub(super) fn rate_to_wire(rate: Option<Rate>) -> String {
    rate.map(|rate| rate.to_string()).unwrap_or_default()
}

fn scope_from_wire(scope: i32) -> Option<Scope> {
    match KeyScope::try_from(scope).ok()? {
        KeyScope::Unspecified => None,
        KeyScope::Submit => Some(Scope::Submit),
        KeyScope::Read => Some(Scope::Read),
        KeyScope::Stream => Some(Scope::Stream),
        KeyScope::Admin => Some(Scope::Admin),
    }
}

fn scope_to_wire(scope: Scope) -> KeyScope {
    match scope {
        Scope::Submit => KeyScope::Submit,
        Scope::Read => KeyScope::Read,
        Scope::Stream => KeyScope::Stream,
        Scope::Admin => KeyScope::Admin,
    }
}

fn to_wire(record: &KeyRecord, last_used_at: Option<Timestamp>) -> Key {
    let (org_id, env, platform) = match &record.owner {
        KeyOwner::Org { org, env } => (org.as_str().to_owned(), target::env_to_wire(*env), false),
        KeyOwner::Platform => (String::new(), v1::Environment::Unspecified, true),
    };
    // An entry of a keys file need not tell it.
    let created_at = (record.created_at != Timestamp::EPOCH).then_some(record.created_at);
    Key {
        key_id: record.id.as_str().to_owned(),
        org_id,
        env: env.into(),
        platform,
        scopes: record.scopes.iter().map(|scope| scope_to_wire(scope).into()).collect(),
        created_at: created_at.map(message::time_to_wire),
        expires_at: record.expires_at.map(message::time_to_wire),
        revoked_at: record.revoked_at.map(message::time_to_wire),
        last_used_at: last_used_at.map(message::time_to_wire),
        rate: rate_to_wire(record.rate),
        browser: record.is_browser(),
        origins: origins_to_wire(&record.origins),
    }
}

//! For which organisation and environment a call is: its fields say so, or else the caller's key.

use super::v1;
use crate::{
    domain::{Environment, Error, KeyOwner, Kind, OrgId, Violation, ViolationCode, Violations},
    service::{Caller, FeedFilter},
};

/// The target that `org_id` and `env` name; what is unset is the key's own.
///
/// # Errors
/// [`Kind::InvalidArgument`] for what is no org or environment, and for what is unset where a platform key has none of
/// its own.
pub(super) fn resolve(caller: &Caller, org_id: &str, env: i32) -> Result<(OrgId, Environment), Error> {
    let (own_org, own_env) = match caller.owner() {
        KeyOwner::Org { org, env } => (Some(org), Some(*env)),
        KeyOwner::Platform => (None, None),
    };
    let mut violations = Violations::default();
    let org = match own_org {
        Some(own) if org_id.is_empty() || org_id == own.as_str() => Ok(own.clone()),
        None if org_id.is_empty() => Err(missing("org_id", "Missing 'org_id': a platform key must name one")),
        _ => OrgId::new(org_id),
    };
    let env = env_from_wire(env)
        .and_then(|env| env.or(own_env).ok_or_else(|| missing("env", "Missing 'env': a platform key must name one")));
    match (violations.check(org), violations.check(env)) {
        (Some(org), Some(env)) => Ok((org, env)),
        _ => Err(violations.into_error(Kind::InvalidArgument)),
    }
}

/// The part of the feed that `org_id` and `env` name; what is unset is not filtered by.
///
/// # Errors
/// [`Kind::InvalidArgument`] for what is no org or environment.
pub(super) fn filter(org_id: &str, env: i32) -> Result<FeedFilter, Error> {
    let mut violations = Violations::default();
    let org = violations.check((!org_id.is_empty()).then(|| OrgId::new(org_id)).transpose());
    match (org, violations.check(env_from_wire(env))) {
        (Some(org), Some(env)) => Ok(FeedFilter { org, env }),
        _ => Err(violations.into_error(Kind::InvalidArgument)),
    }
}

/// The environment that a field names, if it names one.
pub(super) fn env_from_wire(env: i32) -> Result<Option<Environment>, Violation> {
    match v1::Environment::try_from(env) {
        Ok(v1::Environment::Unspecified) => Ok(None),
        Ok(v1::Environment::Dev) => Ok(Some(Environment::Dev)),
        Ok(v1::Environment::Prod) => Ok(Some(Environment::Prod)),
        Err(_) => Err(Violation {
            field: "env".into(),
            code: ViolationCode::InvalidValue,
            message: "'env' must be ENVIRONMENT_DEV or ENVIRONMENT_PROD".into(),
        }),
    }
}

/// The environment's name on the wire.
pub(super) fn env_to_wire(env: Environment) -> v1::Environment {
    match env {
        Environment::Dev => v1::Environment::Dev,
        Environment::Prod => v1::Environment::Prod,
    }
}

fn missing(field: &'static str, message: &'static str) -> Violation {
    Violation { field: field.into(), code: ViolationCode::Missing, message: message.into() }
}

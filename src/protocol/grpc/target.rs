//! For which organisation and environment a call is: its fields say so, or else the caller's key.

use super::v1;
use crate::{
    domain::{Environment, Error, KeyOwner, Kind, OrgId, Violation, ViolationCode, Violations},
    service::Caller,
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
    let env = match (v1::Environment::try_from(env), own_env) {
        (Ok(v1::Environment::Dev), _) => Ok(Environment::Dev),
        (Ok(v1::Environment::Prod), _) => Ok(Environment::Prod),
        (Ok(v1::Environment::Unspecified), Some(own)) => Ok(own),
        (Ok(v1::Environment::Unspecified), None) => Err(missing("env", "Missing 'env': a platform key must name one")),
        (Err(_), _) => Err(Violation {
            field: "env".into(),
            code: ViolationCode::InvalidValue,
            message: "'env' must be ENVIRONMENT_DEV or ENVIRONMENT_PROD".into(),
        }),
    };
    match (violations.check(org), violations.check(env)) {
        (Some(org), Some(env)) => Ok((org, env)),
        _ => Err(violations.into_error(Kind::InvalidArgument)),
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

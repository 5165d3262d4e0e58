//! For which organisation and environment a call is: its path says so.

use super::not_found;
use crate::domain::{Environment, Error, OrgId};

/// The one path, for the API's description.
pub(super) const PATTERN: &str = "/{org_id}/{env}/v1/message-webhook";

/// Reads the raw path: it is compared as it was sent, so that `%61cme`, `//`, `..` and a trailing slash are other paths
/// than `acme`'s and no proxy in front can see another organisation than this service does.
///
/// # Errors
/// [`crate::domain::Kind::NotFound`]
pub(super) fn parse(path: &str) -> Result<(OrgId, Environment), Error> {
    let (org, env) = segments(path).ok_or_else(|| not_found(path))?;
    let org = OrgId::new(org).map_err(|_| not_found(path))?;
    let env = env.parse().map_err(|_| not_found(path))?;
    Ok((org, env))
}

/// Whether [`parse`] can read the path; asked several times a request, so it makes nothing.
pub(super) fn exists(path: &str) -> bool {
    segments(path).is_some_and(|(org, env)| OrgId::is_well_formed(org) && env.parse::<Environment>().is_ok())
}

/// The first two segments where the others are right. The second may hold more of them, which is no environment.
fn segments(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix('/')?.strip_suffix("/v1/message-webhook")?.split_once('/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Kind;

    #[test]
    fn the_path_names_org_and_env() {
        let (org, env) = parse("/acme-1/prod/v1/message-webhook").expect("the path exists");
        assert_eq!((org.as_str(), env), ("acme-1", Environment::Prod));
        assert!(exists("/acme-1/prod/v1/message-webhook"));
    }

    #[test]
    fn paths_are_not_normalised() {
        for path in [
            "",
            "*",
            "/",
            "/acme/dev/v1/message-webhook/",
            "//acme/dev/v1/message-webhook",
            "/acme//dev/v1/message-webhook",
            "/acme/dev/v1/./message-webhook",
            "/x/../acme/dev/v1/message-webhook",
            "/%61cme/dev/v1/message-webhook",
            "/acme/de%76/v1/message-webhook",
            "/acme/dev/v1/message%2dwebhook",
            "/acme/dev/v1%2fmessage-webhook",
            "/acme/DEV/v1/message-webhook",
            "/acme/staging/v1/message-webhook",
            "/-acme/dev/v1/message-webhook",
            "/acme/dev/v2/message-webhook",
            "/acme/dev/v1/message-webhooks",
            "acme/dev/v1/message-webhook",
        ] {
            assert_eq!(parse(path).expect_err(path).kind(), Kind::NotFound, "{path}");
            assert!(!exists(path), "{path}");
        }
    }
}

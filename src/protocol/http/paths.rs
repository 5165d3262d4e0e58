//! Every path of this port: a row each, which dispatch, `Allow`, CORS, the API's description and metrics go by.

use utoipa::openapi::PathItem;

use super::openapi;
use crate::{
    domain::{Environment, OrgId},
    protocol::call::{ERROR_DOCS, Failure},
    service::{Access, Flow, Route},
};

/// One path.
pub(super) struct Path {
    pub(super) route: Route,
    pub(super) handler: Handler,
    /// What the API's description says of it; `None` where it is about the description itself, or for probes.
    pub(super) described: Option<fn() -> PathItem>,
}

/// What answers it.
#[derive(Clone, Copy)]
pub(super) enum Handler {
    Submit,
    OpenApi,
    Docs,
    /// Where `doc_url` in errors leads.
    ErrorDocs,
    /// For load balancers that cannot reach the admin port: whether messages are taken.
    Ready,
    /// The same of those behind gRPC: whether messages can be read.
    ReadyToRead,
}

pub(super) static PATHS: [Path; 6] = [
    Path {
        route: path("submit", "/{org_id}/{env}/v1/message-webhook", "POST", Access::Key),
        handler: Handler::Submit,
        described: Some(openapi::webhook),
    },
    Path {
        route: path("docs", "/openapi.json", "GET, HEAD", Access::Open),
        handler: Handler::OpenApi,
        described: None,
    },
    Path { route: path("docs", "/docs", "GET, HEAD", Access::Open), handler: Handler::Docs, described: None },
    Path { route: path("docs", ERROR_DOCS, "GET, HEAD", Access::Open), handler: Handler::ErrorDocs, described: None },
    Path { route: path("ready", "/readyz", "GET, HEAD", Access::Open), handler: Handler::Ready, described: None },
    Path {
        route: path("ready", "/readyz/grpc", "GET, HEAD", Access::Open),
        handler: Handler::ReadyToRead,
        described: None,
    },
];

const fn path(name: &'static str, pattern: &'static str, methods: &'static str, access: Access) -> Route {
    Route { name, pattern, methods, access, flow: Flow::Single }
}

/// The route of a raw path: it is compared as it was sent, so that `%61cme`, `//`, `..` and a trailing slash are other paths
/// than `acme`'s and no proxy in front can see another organisation than this service does.
pub(super) fn route_of(path: &str) -> &'static Route {
    PATHS.iter().map(|row| &row.route).find(|route| fits(route.pattern, path)).unwrap_or(Route::NONE)
}

/// What answers a route.
pub(super) fn handler_of(route: &Route) -> Option<Handler> {
    PATHS.iter().find(|row| row.route == *route).map(|row| row.handler)
}

/// For which organisation and environment a call is: the path of its route says so.
///
/// # Errors
/// [`crate::protocol::status::WireKind::NotFound`] on a path without them.
pub(super) fn target_of(path: &str) -> Result<(OrgId, Environment), Failure> {
    let mut segments = path.split('/').skip(1);
    let (org, env) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
    match (OrgId::new(org), env.parse()) {
        (Ok(org), Ok(env)) => Ok((org, env)),
        _ => Err(not_found(path)),
    }
}

/// What is told of `path`, which does not exist.
pub(super) fn not_found(path: &str) -> Failure {
    if route_of(path.trim_end_matches('/')) == Route::NONE {
        Failure::no_such_path()
    } else {
        Failure::slash_at_the_end()
    }
}

fn fits(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    loop {
        let (wanted, sent) = match (pattern.next(), path.next()) {
            (Some(wanted), Some(sent)) => (wanted, sent),
            (None, None) => return true,
            _ => return false,
        };
        let fits = match wanted {
            "{org_id}" => OrgId::is_well_formed(sent),
            "{env}" => sent.parse::<Environment>().is_ok(),
            literal => literal == sent,
        };
        if !fits {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_names_org_and_env() {
        let path = "/acme-1/prod/v1/message-webhook";
        let (org, env) = target_of(path).expect("the path exists");
        assert_eq!((org.as_str(), env), ("acme-1", Environment::Prod));
        assert_eq!(route_of(path).name, "submit");
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
            "/{org_id}/{env}/v1/message-webhook",
            "/docs/",
            "/DOCS",
        ] {
            assert_eq!(route_of(path), Route::NONE, "{path}");
        }
    }
}

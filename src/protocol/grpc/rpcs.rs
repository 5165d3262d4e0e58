//! Every RPC: a row each, which the way in, metrics and traces go by. One that is missing here is let through to nobody.

use crate::{
    domain::Scope,
    service::{Access, Flow, Route},
};

/// Those of the listener. Services of others come with all their methods.
pub(super) static RPCS: [Route; 11] = [
    row("submit", "messagewebhook.v1.MessageService/SubmitMessage", Access::Scope(Scope::Submit), Flow::Single),
    row("submit_stream", "messagewebhook.v1.MessageService/SubmitMessages", Access::Scope(Scope::Submit), Flow::Both),
    row("get", "messagewebhook.v1.MessageService/GetMessage", Access::Scope(Scope::Read), Flow::Single),
    row("list", "messagewebhook.v1.MessageService/ListMessages", Access::Scope(Scope::Read), Flow::Single),
    row("stream", "messagewebhook.v1.MessageService/StreamMessages", Access::Scope(Scope::Stream), Flow::Answers),
    row("create_key", "messagewebhook.v1.KeyService/CreateKey", Access::Scope(Scope::Admin), Flow::Single),
    row("list_keys", "messagewebhook.v1.KeyService/ListKeys", Access::Scope(Scope::Admin), Flow::Single),
    row("revoke_key", "messagewebhook.v1.KeyService/RevokeKey", Access::Scope(Scope::Admin), Flow::Single),
    row("health", "grpc.health.v1.Health", Access::Open, Flow::Answers),
    row("reflection", "grpc.reflection.v1.ServerReflection", Access::Open, Flow::Both),
    // Python's own reflection client, among others, knows only the older version of the protocol.
    row("reflection", "grpc.reflection.v1alpha.ServerReflection", Access::Open, Flow::Both),
];

/// Each message of `submit_stream`, which counts by itself.
pub(super) static SUBMIT_ITEM: Route =
    row("submit_item", "messagewebhook.v1.MessageService/SubmitMessages", Access::Scope(Scope::Submit), Flow::Single);

/// Those that only the control socket has.
pub(super) static EXPORT: Route =
    row("export", "messagewebhook.control.v1.TransferService/ExportMessages", Access::Open, Flow::Answers);
pub(super) static IMPORT: Route =
    row("import", "messagewebhook.control.v1.TransferService/ImportMessages", Access::Open, Flow::Single);

const fn row(name: &'static str, pattern: &'static str, access: Access, flow: Flow) -> Route {
    Route { name, pattern, methods: "POST", access, flow }
}

/// The route of a path.
pub(super) fn route_of(path: &str) -> &'static Route {
    let Some(path) = path.strip_prefix('/') else { return Route::NONE };
    let fits = |route: &&Route| match route.access {
        Access::Open => path.strip_prefix(route.pattern).is_some_and(|method| method.starts_with('/')),
        Access::Key | Access::Scope(_) => path == route.pattern,
    };
    RPCS.iter().find(fits).unwrap_or(Route::NONE)
}

/// The route of the RPC `name`.
pub(super) fn named(name: &str) -> &'static Route {
    RPCS.iter().find(|route| route.name == name).unwrap_or(Route::NONE)
}

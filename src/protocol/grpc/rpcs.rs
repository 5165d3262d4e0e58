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

pub(super) static TRUST_CLOCK: Route =
    row("trust_clock", "messagewebhook.control.v1.ClockService/TrustClock", Access::Open, Flow::Single);

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn every_rpc_of_the_protos_has_its_row_with_its_flow_and_no_other_has_one() {
        let files = FileDescriptorSet::decode(super::super::DESCRIPTORS).expect("descriptors").file;
        let mut rpcs = BTreeSet::new();
        for (package, service) in files.iter().flat_map(|file| file.service.iter().map(|each| (file.package(), each))) {
            for method in &service.method {
                let name = format!("{package}.{}/{}", service.name(), method.name());
                rpcs.insert((name, (method.client_streaming(), method.server_streaming())));
            }
        }
        let flow = |route: &Route| match route.flow {
            Flow::Single => (false, false),
            Flow::Answers => (false, true),
            Flow::Both => (true, true),
        };
        let rows = RPCS.iter().filter(|route| route.access != Access::Open);
        let rows: BTreeSet<_> = rows.map(|route| (route.pattern.to_owned(), flow(route))).collect();
        assert_eq!(rows, rpcs);
    }

    #[test]
    fn only_the_whole_path_of_an_rpc_is_its_path() {
        assert_eq!(route_of("/messagewebhook.v1.MessageService/SubmitMessage").name, "submit");
        assert_eq!(route_of("/grpc.health.v1.Health/Watch").name, "health");
        for path in [
            "",
            "messagewebhook.v1.MessageService/SubmitMessage",
            "/messagewebhook.v1.MessageService/SubmitMessage/",
            "/messagewebhook.v1.MessageService/SubmitMessageX",
            "/messagewebhook.v1.MessageService",
            "/grpc.health.v1.HealthX/Watch",
            "/grpc.health.v1.Health",
        ] {
            assert_eq!(route_of(path), Route::NONE, "{path}");
        }
    }
}

//! The arrows between the modules of the crate, and a few absences. One crate's compiler checks neither.
//!
//! A new module needs a line in [`ARROWS`]; a new arrow needs a reason that a reviewer accepts.

mod paths;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use paths::{SourcePath, paths_of};

/// A part of the crate and the other parts that it may name. Longer names win, so `store::embedded` is not `store`.
/// A part may always name itself and the parts right below it.
const ARROWS: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    (
        "cli",
        &["app", "config", "domain", "protocol::grpc::control", "protocol::grpc::v1", "service", "telemetry", "tls"],
    ),
    (
        "app",
        &[
            "config",
            "domain",
            "middleware",
            "protocol::admin",
            "protocol::grpc",
            "protocol::http",
            "protocol::listener",
            "service",
            "store",
            "store::embedded",
            "store::scylla",
            "telemetry",
            "tls",
        ],
    ),
    // What fuzz targets check, of all that reads what others wrote. In no build but those of tests.
    (
        "fuzzing",
        &[
            "config",
            "domain",
            "middleware",
            "protocol::call",
            "protocol::grpc",
            "protocol::grpc::v1",
            "protocol::http",
            "protocol::status",
            "service",
            "store",
            "store::embedded",
            "store::scylla",
        ],
    ),
    ("protocol", &[]),
    ("protocol::http", &["domain", "protocol::call", "protocol::status", "service"]),
    ("protocol::grpc", &["domain", "protocol::call", "protocol::grpc::control", "protocol::grpc::v1", "service"]),
    ("protocol::grpc::v1", &[]),
    // What only the control socket serves, to the command line's own client.
    ("protocol::grpc::control", &["protocol::grpc::v1"]),
    ("protocol::admin", &["service"]),
    ("protocol::status", &["domain"]),
    // What both edges and the way in share about one call.
    ("protocol::call", &["domain", "protocol::status", "service", "telemetry"]),
    ("protocol::listener", &["domain", "telemetry", "tls"]),
    ("middleware", &["domain", "protocol::call", "service", "telemetry"]),
    ("service", &["domain", "store", "telemetry"]),
    ("store", &["domain", "telemetry"]),
    ("store::embedded", &["domain", "store", "telemetry"]),
    ("store::scylla", &["domain", "store", "telemetry"]),
    ("config", &["domain", "telemetry"]),
    // Names and set-up of logs, metrics and traces: everyone but the domain may use them. Of the domain they know the trace
    // context that a message keeps. Export over OTLP speaks TLS.
    ("telemetry", &["domain", "tls"]),
    // What certificates and keys in files are to listeners and commands.
    ("tls", &["domain"]),
    ("domain", &[]),
];

/// Other crates that only some parts may name, and why.
const CRATES: &[(&str, &[&str], &str)] = &[
    ("scylla", &["store::scylla"], "the driver and its CQL are a detail of one store"),
    ("axum", &["protocol::http", "protocol::admin", "middleware", "app"], "the web framework stays at the edge"),
    (
        "tonic",
        &["protocol", "middleware", "app", "cli", "telemetry", "fuzzing"],
        "gRPC stays at the edge, of which export over OTLP has its own",
    ),
    (
        "prost",
        &["protocol::grpc", "cli", "fuzzing"],
        "generated code stays with the edge and the command line's client",
    ),
    ("opentelemetry", &["telemetry"], "spans and metrics have one face of our own"),
    ("opentelemetry_sdk", &["telemetry"], "as opentelemetry"),
    ("opentelemetry_otlp", &["telemetry"], "as opentelemetry"),
    ("tracing_opentelemetry", &["telemetry"], "as opentelemetry"),
    ("clap", &["cli", "config", "main"], "arguments are read in one place"),
];

/// What the domain does without: it decides, others do.
const NOT_IN_DOMAIN: &[&str] = &[
    "tokio",
    "async_trait",
    "futures_util",
    "tower",
    "std::env",
    "std::fs",
    "std::io",
    "std::process",
    "std::thread",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "serde",
    "serde_json",
];

/// A file longer than this is hard to hold in one's head: split it.
const MAX_LINES: usize = 500;

/// Files that may be longer, each with its reason. Empty, and meant to stay so.
const LONG_FILES: &[&str] = &[];

/// The rules that one source file breaks, each in words.
fn violations(file: &str, source: &str) -> Vec<String> {
    let module = module_of(file);
    let here = part_of(&module).unwrap_or_else(|| panic!("{file}: module '{module}' has no line in ARROWS"));
    let mut found = BTreeSet::new();
    for path in paths_of(&module, source) {
        match path {
            SourcePath::Own(path) => {
                let Some(there) = part_of(&path) else { continue };
                if !may_name(here, there) {
                    found.insert(format!("{file}: '{here}' must not name '{there}' (as 'crate::{path}')"));
                }
            }
            SourcePath::Other(path) => {
                for (name, parts, why) in CRATES {
                    if begins_with(&path, name) && !parts.iter().any(|part| begins_with(here, part)) {
                        found.insert(format!("{file}: '{here}' must not name '{path}': {why}"));
                    }
                }
                if begins_with(here, "domain") && NOT_IN_DOMAIN.iter().any(|name| begins_with(&path, name)) {
                    found.insert(format!("{file}: the domain must not name '{path}': it has no I/O and no async"));
                }
            }
            SourcePath::Async => {
                if begins_with(here, "domain") {
                    found.insert(format!("{file}: the domain has no async"));
                }
            }
        }
    }
    let lines = source.lines().count();
    if lines > MAX_LINES && !LONG_FILES.contains(&file) {
        found.insert(format!("{file}: {lines} lines; split it, {MAX_LINES} are the limit"));
    }
    found.into_iter().collect()
}

fn may_name(here: &str, there: &str) -> bool {
    here == there || ARROWS.iter().any(|(from, to)| *from == here && to.contains(&there))
}

/// The longest name in [`ARROWS`] that `path` begins with.
fn part_of(path: &str) -> Option<&'static str> {
    ARROWS.iter().map(|(part, _)| *part).filter(|part| begins_with(path, part)).max_by_key(|part| part.len())
}

fn begins_with(path: &str, head: &str) -> bool {
    path.strip_prefix(head).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// `src/store/embedded/mod.rs` is the module `store::embedded`.
fn module_of(file: &str) -> String {
    let path = file.strip_prefix("src/").unwrap_or(file).trim_end_matches(".rs");
    path.strip_suffix("/mod").unwrap_or(path).replace('/', "::")
}

fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    files.sort();
    let named = files.into_iter().map(|file| {
        let name = file.strip_prefix(root).expect("below the root").to_str().expect("UTF-8").to_owned();
        let source = fs::read_to_string(&file).expect("readable source");
        (name, source)
    });
    // The crate's root only lists the modules.
    named.filter(|(name, _)| name != "src/lib.rs").collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("readable folder") {
        let path = entry.expect("readable entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn no_module_names_one_that_it_must_not_know() {
    let sources = sources();
    assert!(sources.len() > 20, "the sources were not found");
    let found: Vec<_> = sources.iter().flat_map(|(file, source)| violations(file, source)).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn every_line_of_the_table_is_about_something_that_exists() {
    let modules: Vec<_> = sources().iter().map(|(file, _)| module_of(file)).collect();
    for (part, targets) in ARROWS {
        let generated = ["protocol::grpc::v1", "protocol::grpc::control"].contains(part);
        assert!(generated || modules.iter().any(|module| begins_with(module, part)), "no module '{part}'");
        for target in *targets {
            assert!(ARROWS.iter().any(|(known, _)| known == target), "no line for '{target}'");
        }
    }
}

#[test]
fn every_arrow_is_used() {
    let mut used = BTreeSet::new();
    for (file, source) in sources() {
        let module = module_of(&file);
        let here = part_of(&module).expect("checked by the test of all sources");
        let named = paths_of(&module, &source).into_iter().filter_map(|path| match path {
            SourcePath::Own(path) => part_of(&path).map(|there| (here, there)),
            SourcePath::Other(_) | SourcePath::Async => None,
        });
        used.extend(named);
    }
    let arrows = ARROWS.iter().flat_map(|(from, to)| to.iter().map(move |to| (*from, *to)));
    // Of generated code there is no source to look into.
    let unused: Vec<_> = arrows.filter(|arrow| arrow.0 != "protocol::grpc::control" && !used.contains(arrow)).collect();
    assert!(unused.is_empty(), "nobody uses these any more: {unused:?}");
}

#[test]
fn the_arrows_have_no_circle() {
    let mut left: Vec<_> = ARROWS.to_vec();
    loop {
        let names: Vec<_> = left.iter().map(|(part, _)| *part).collect();
        let before = left.len();
        left.retain(|(part, targets)| targets.iter().any(|target| target != part && names.contains(target)));
        if left.len() == before {
            break;
        }
    }
    assert!(left.is_empty(), "these name each other in a circle: {left:?}");
}

#[test]
fn the_checker_sees_a_forbidden_arrow_however_it_is_written() {
    for source in [
        "use crate::protocol::grpc::convert;",
        "use crate::{domain::Kind, protocol::{grpc::{self, convert}, status}};",
        "use super::grpc;",
        "use super::super::protocol::grpc as other;",
        "fn f() { crate::protocol::grpc::convert(); }",
        "fn f() { vec![crate::protocol::grpc::convert()] }",
        "mod inner { use super::super::grpc; }",
        "#[cfg(feature = \"x\")] mod inner { use crate::protocol::grpc; }",
        "macro_rules! m { () => { $crate::protocol::grpc::convert() } }",
        "use message_webhook::protocol::grpc;",
    ] {
        let found = violations("src/protocol/http/mod.rs", source);
        assert!(found.iter().any(|text| text.contains("must not name 'protocol::grpc'")), "{source}: {found:?}");
    }
}

#[test]
fn the_checker_is_not_misled_by_comments_texts_and_test_modules() {
    for source in [
        "// use crate::protocol::grpc;\n/// See [`crate::protocol::grpc`].\nstruct S;",
        "const T: &str = \"crate::protocol::grpc\"; const R: &str = r#\"use crate::app;\"#;",
        "#[cfg(test)] mod tests { use crate::protocol::grpc; }",
        "use crate::protocol::status; use super::status as table; use self::reply::Reply;",
        "use crate::domain::{Error, Kind};",
    ] {
        assert_eq!(violations("src/protocol/http/mod.rs", source), Vec::<String>::new(), "{source}");
    }
}

#[test]
fn the_checker_keeps_the_driver_and_the_generated_code_where_they_belong() {
    assert_eq!(violations("src/store/scylla/core.rs", "use scylla::client::session::Session;"), Vec::<String>::new());
    assert_eq!(violations("src/store/mod.rs", "use scylla::client::session::Session;").len(), 1);
    assert_eq!(violations("src/app/mod.rs", "fn f(s: ::scylla::client::session::Session) {}").len(), 1);
    assert_eq!(violations("src/cli/get.rs", "use crate::protocol::grpc::v1::Message;"), Vec::<String>::new());
    assert_eq!(violations("src/service/mod.rs", "use crate::protocol::grpc::v1::Message;").len(), 1);
    assert_eq!(violations("src/app/mod.rs", "use crate::protocol::grpc::v1::Message;").len(), 1);
    assert_eq!(violations("src/app/mod.rs", "use crate::protocol::grpc; type M = grpc::v1::Message;").len(), 1);
}

#[test]
fn the_checker_keeps_the_domain_free_of_io_and_async() {
    for source in [
        "use std::{fmt, fs};",
        "use tokio::time::sleep;",
        "async fn f() {}",
        "fn f() { let _ = std::net::TcpStream::connect(\"[::1]:1\"); }",
        "use std::io::Read as _;",
    ] {
        assert_eq!(violations("src/domain/message.rs", source).len(), 1, "{source}");
    }
    assert_eq!(violations("src/domain/address.rs", "use std::net::{IpAddr, Ipv4Addr};"), Vec::<String>::new());
}

#[test]
fn the_checker_refuses_a_file_that_should_be_split() {
    let source = "// one line\n".repeat(MAX_LINES + 1);
    assert_eq!(violations("src/app/mod.rs", &source).len(), 1);
}

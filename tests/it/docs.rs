//! The documents say what the code does, as far as a test can tell.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use message_webhook::{
    config::{SETTINGS, schema},
    domain::ViolationCode,
    protocol::status,
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The first cells of the rows below the heading that begins with `heading`, without back quotes.
fn first_cells(text: &str, heading: &str) -> BTreeSet<String> {
    let (_, table) = text.split_once(heading).expect("the heading");
    let rows = table.lines().skip_while(|line| !line.starts_with("|--")).skip(1);
    rows.take_while(|line| line.starts_with('|')).map(|row| cells(row)[0].trim_matches('`').to_owned()).collect()
}

fn cells(row: &str) -> Vec<&str> {
    row.trim().trim_matches('|').split('|').map(str::trim).collect()
}

#[test]
fn every_error_code_is_documented_with_its_status_and_no_other_is() {
    let text = read("docs/error-codes.md");
    let known: BTreeSet<_> = status::all().map(|face| face.code.to_owned()).collect();
    assert_eq!(first_cells(&text, "# Error codes"), known);
    for face in status::all() {
        let head = format!("| `{}` | {} | ", face.code, face.http.as_u16());
        let row = text.lines().find(|line| line.starts_with(&head)).unwrap_or_else(|| panic!("no row '{head}'"));
        let grpc = cells(row)[2];
        // What only JSON can get wrong has no gRPC code.
        let json_only = face.code == "malformed_json" && grpc == "–";
        assert!(json_only || grpc.starts_with(&format!("`{}`", grpc_name(face.grpc))), "{row}");
    }
}

fn grpc_name(code: tonic::Code) -> String {
    // `InvalidArgument` in Rust is `INVALID_ARGUMENT` in gRPC.
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[test]
fn every_field_code_is_documented_and_no_other_is() {
    let known: BTreeSet<_> = ViolationCode::ALL.iter().map(|code| code.as_str().to_owned()).collect();
    assert_eq!(first_cells(&read("docs/error-codes.md"), "## Codes of single fields"), known);
}

#[test]
fn every_setting_is_documented_as_the_code_has_it() {
    let name = "docs/configuration.md";
    let text = read(name);
    let (begin, end) = ("<!-- begin settings -->\n", "<!-- end settings -->");
    let (head, rest) = text.split_once(begin).expect("the mark");
    let (tables, tail) = rest.split_once(end).expect("the mark");
    let wanted = settings_tables();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(root().join(name), format!("{head}{begin}{wanted}{end}{tail}")).expect("writable docs");
    } else {
        assert_eq!(tables, wanted, "run: UPDATE_DOCS=1 cargo test --test it docs::");
    }
}

fn settings_tables() -> String {
    let mut text = String::new();
    let mut section = "";
    for setting in SETTINGS {
        if setting.section != section {
            section = setting.section;
            writeln!(text, "\n## {section}\n\n| setting | value | default | what it does |\n|---|---|---|---|")
                .unwrap();
        }
        let value = setting.value_name.replace('|', "\\|");
        let default = if setting.default.is_empty() { "none".to_owned() } else { format!("`{}`", setting.default) };
        let help = setting.help.trim().replace('|', "\\|");
        writeln!(text, "| `{}` | {value} | {default} | {help} |", setting.name).unwrap();
    }
    text.push('\n');
    text
}

/// Settings for which the chart has values of its own; tests/chart/settings.py knows that it gives them.
const OWN_VALUES: &[&str] = &[
    "http_addr",
    "grpc_addr",
    "admin_addr",
    "http_tls_cert_file",
    "http_tls_key_file",
    "grpc_tls_cert_file",
    "grpc_tls_key_file",
    "grpc_tls_client_ca_file",
    "grpc_tls_client_required",
    "admin_tls_cert_file",
    "admin_tls_key_file",
    "store",
    "data_dir",
    "scylla_nodes",
    "scylla_keyspace",
    "scylla_datacenter",
    "scylla_replication_factor",
    "scylla_consistency",
    "scylla_user",
    "scylla_password_file",
    "scylla_ca_file",
    "scylla_client_cert_file",
    "scylla_client_key_file",
    "keys_file",
    "drain_delay",
    "shutdown_deadline",
];

#[test]
fn the_chart_knows_the_settings_as_the_program_does() {
    let chart = root().join("helm/message-webhook");
    let (whole, part) = (chart.join("settings.schema.json"), chart.join("values.schema.json"));
    let of_program = schema();
    let mut config: serde_json::Value = of_program.parse().expect("JSON");
    let wanted = config.as_object_mut().expect("an object");
    wanted.remove("$schema");
    wanted.remove("title");
    let settings = wanted["properties"].as_object_mut().expect("settings");
    OWN_VALUES.iter().for_each(|name| assert!(settings.remove(*name).is_some(), "{name} is no setting"));
    let text = fs::read_to_string(&part).expect("the schema of values");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        // The part alone: the rest of the file is written by hand, in an order of its own.
        let (head, rest) = text.split_once("\n    \"config\": {").expect("the part");
        let (_, tail) = rest.split_once("\n    },").expect("its end");
        let made = format!("{config:#}").replace('\n', "\n    ");
        fs::write(&part, format!("{head}\n    \"config\": {made},{tail}")).expect("a writable schema");
        fs::write(&whole, of_program).expect("a writable schema");
    } else {
        let there: serde_json::Value = text.parse().expect("JSON");
        let hint = "run: UPDATE_DOCS=1 cargo test --test it docs::";
        assert!(fs::read_to_string(&whole).expect("the chart's copy") == of_program, "{hint}");
        assert!(there["properties"]["config"] == config, "{hint}");
    }
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let mut broken = Vec::new();
    for file in documents() {
        let text = fs::read_to_string(&file).expect("readable");
        for link in links(&text) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            if path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            let target = if path.is_empty() { file.clone() } else { file.parent().expect("a folder").join(path) };
            let has_anchor = || anchor.is_empty() || anchors(&fs::read_to_string(&target).unwrap()).contains(anchor);
            if !target.exists() || !has_anchor() {
                broken.push(format!("{}: {link}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// All Markdown files that are part of the project.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("readable folder") {
            let path = entry.expect("readable entry").path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" {
                    folders.push(path);
                }
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    assert!(found.len() >= 7, "the documents were not found");
    found
}

fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// The anchors of a document's headings, as web pages name them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| {
        let kept = heading.to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn the_published_example_stands_in_the_documents_unchanged() {
    let published = serde_json::json!({
        "from_id": "user_abc123",
        "message_sid": "msg_xyz789",
        "timestamp": "1672531200",
        "message_body": "Here is my meal, this is gruyere cheese btw.",
        "image_urls": ["https://example.com/images/food.jpg"],
        "audio_urls": [],
    });
    for name in ["README.md", "docs/http-api.md"] {
        let text = read(name);
        let start = text.find("{\n").unwrap_or_else(|| panic!("{name} shows no message"));
        let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter::<serde_json::Value>();
        assert_eq!(values.next().unwrap().unwrap_or_else(|e| panic!("{name}: {e}")), published, "{name}");
    }
}

#[test]
fn every_script_that_a_document_names_exists() {
    for file in documents() {
        let text = fs::read_to_string(&file).expect("readable");
        for rest in text.split("scripts/").skip(1) {
            let name: String =
                rest.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).collect();
            assert!(name.is_empty() || root().join("scripts").join(&name).exists(), "{}: {name}", file.display());
        }
    }
}

#[test]
fn the_readme_is_short_enough_to_be_read() {
    assert!(read("README.md").lines().count() < 200);
}

#[test]
fn every_command_stands_in_the_readme() {
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_message-webhook")).arg("help").output().expect("help");
    let help = String::from_utf8(help.stdout).expect("UTF-8");
    let (_, commands) = help.split_once("Commands:\n").expect("a list of commands");
    let names = commands.lines().take_while(|line| line.starts_with("  ")).filter(|line| !line.starts_with("   "));
    let names: Vec<_> = names.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.contains(&"serve"), "{help}");
    let readme = read("README.md");
    let missing: Vec<_> = names.iter().filter(|name| !readme.contains(**name)).collect();
    assert!(missing.is_empty(), "README.md does not name {missing:?}");
}

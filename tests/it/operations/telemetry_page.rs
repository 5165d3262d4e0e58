//! The page on telemetry: its tables are made from the code.

use std::{collections::BTreeSet, fmt::Write as _, fs};

use message_webhook::telemetry::{
    names::{METRICS, MetricKind},
    spans::{ATTRIBUTES, LOG_FIELDS, SPANS},
};

use super::{events, read, root};

const PAGE: &str = "docs/operations/telemetry.md";

#[test]
fn every_metric_span_attribute_and_event_is_documented_as_the_code_has_it() {
    let mut page = read(PAGE);
    for (name, table) in [
        ("metrics", metrics()),
        ("spans", spans()),
        ("attributes", attributes()),
        ("fields", fields()),
        ("events", log()),
    ] {
        let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
        let (head, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("no mark {begin}"));
        let (there, tail) = rest.split_once(&end).expect("the mark");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            page = format!("{head}{begin}{table}{end}{tail}");
        } else {
            assert_eq!(there, table, "run: UPDATE_DOCS=1 cargo test --test it operations::");
        }
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(root().join(PAGE), page).expect("writable docs");
    }
}

#[test]
fn every_attribute_of_a_span_is_explained_and_every_explained_one_is_used() {
    let used: BTreeSet<_> = SPANS.iter().flat_map(|span| span.attributes.iter().copied()).collect();
    assert_eq!(used, ATTRIBUTES.iter().map(|(name, _)| *name).collect());
}

fn metrics() -> String {
    let mut text = String::from("\n| metric | kind | labels | what it says |\n|---|---|---|---|\n");
    for metric in METRICS {
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        writeln!(text, "| `{}` | {kind} | {} | {} |", metric.name, listed(metric.labels), metric.help).unwrap();
    }
    text.push('\n');
    text
}

fn spans() -> String {
    let mut text = String::from("\n| span | kind | attributes | what it covers |\n|---|---|---|---|\n");
    for span in SPANS {
        writeln!(text, "| `{}` | {} | {} | {} |", span.name, span.kind, listed(span.attributes), span.help).unwrap();
    }
    text.push('\n');
    text
}

fn attributes() -> String {
    let mut text = String::from("\n| attribute | what it says |\n|---|---|\n");
    for (name, help) in ATTRIBUTES {
        writeln!(text, "| `{name}` | {help} |").unwrap();
    }
    text.push('\n');
    text
}

fn fields() -> String {
    let mut text = String::from("\n| field | what it says |\n|---|---|\n");
    for (name, help) in LOG_FIELDS {
        writeln!(text, "| `{name}` | {help} |").unwrap();
    }
    text.push('\n');
    text
}

fn log() -> String {
    let mut text = String::from("\n| level | event | fields of its own | from |\n|---|---|---|---|\n");
    for event in events::all() {
        // What a call was refused with is the text that its caller was told.
        let message = if event.message == "{}" { "*the public text of the error*".to_owned() } else { event.message };
        let fields: Vec<_> = event.fields.iter().map(String::as_str).collect();
        writeln!(
            text,
            "| {} | {} | {} | `{}` |",
            event.level,
            message.replace('|', "\\|"),
            listed(&fields),
            event.file
        )
        .unwrap();
    }
    text.push('\n');
    text
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

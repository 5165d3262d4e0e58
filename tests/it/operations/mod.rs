//! What people on call rely on: alerts, their runbooks and their tests; the dashboard; the page on telemetry.

mod events;
mod telemetry_page;

use std::{collections::BTreeSet, fs, path::Path};

use message_webhook::telemetry::names::{METRICS, Metric, MetricKind};

const RULES: &str = "helm/message-webhook/rules/message-webhook.yaml";
const DASHBOARD: &str = "helm/message-webhook/dashboards/message-webhook.json";
const RUNBOOKS: &str = "docs/operations/runbooks.md";
/// What a scrape adds to every series.
const SCRAPED: [&str; 3] = ["namespace", "job", "instance"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// One alert, as its rule has it.
struct Alert {
    name: String,
    lines: Vec<String>,
}

impl Alert {
    fn value(&self, name: &str) -> &str {
        let head = format!("{name}: ");
        let found = self.lines.iter().find_map(|line| line.trim().strip_prefix(&head));
        found.unwrap_or_else(|| panic!("{} has no {name}", self.name)).trim_matches('\'')
    }
}

fn alerts() -> Vec<Alert> {
    let mut alerts: Vec<Alert> = Vec::new();
    for line in read(RULES).lines() {
        if let Some(name) = line.trim().strip_prefix("- alert: ") {
            alerts.push(Alert { name: name.to_owned(), lines: Vec::new() });
        } else if line.trim_start().starts_with("- ") {
            // A recording rule, or a group.
            alerts.push(Alert { name: String::new(), lines: Vec::new() });
        } else if let Some(alert) = alerts.last_mut() {
            alert.lines.push(line.to_owned());
        }
    }
    alerts.retain(|alert| !alert.name.is_empty());
    assert!(alerts.len() >= 20, "the alerts were not found");
    alerts
}

/// The sections of the runbooks by anchor, with the alerts that each says it is for.
fn sections() -> Vec<(String, Vec<String>)> {
    let text = read(RUNBOOKS);
    let mut parts = text.split("\n### ");
    parts.next();
    let section = |part: &str| {
        let (heading, rest) = part.split_once('\n').expect("a section");
        let anchor = heading.to_lowercase().replace(' ', "-");
        let alerts = rest.trim_start().lines().next().and_then(|line| line.strip_prefix("Alerts: "));
        let alerts = alerts.map(|line| line.split(", ").map(|name| name.trim_matches('`').to_owned()).collect());
        (anchor, alerts.unwrap_or_default())
    };
    parts.map(section).collect()
}

#[test]
fn every_alert_tells_how_bad_it_is_what_happens_and_where_to_read_on() {
    for alert in alerts() {
        assert!(alert.name.starts_with("MessageWebhook"), "{}", alert.name);
        assert!(["critical", "warning"].contains(&alert.value("severity")), "{}", alert.name);
        let (summary, description) = (alert.value("summary"), alert.value("description"));
        assert!(summary.ends_with('.') && !summary.contains("{{"), "{}: {summary}", alert.name);
        assert!(description.ends_with('.') && description != summary, "{}: {description}", alert.name);
    }
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let linked: BTreeSet<_> = alerts()
        .iter()
        .map(|alert| {
            let url = alert.value("runbook_url");
            let (page, anchor) = url.split_once('#').unwrap_or_else(|| panic!("{url} names no section"));
            assert_eq!(page, RUNBOOKS, "{}", alert.name);
            (anchor.to_owned(), alert.name.clone())
        })
        .collect();
    let told =
        sections().into_iter().flat_map(|(anchor, alerts)| alerts.into_iter().map(move |name| (anchor.clone(), name)));
    assert_eq!(told.collect::<BTreeSet<_>>(), linked);
    // Sections without an alert stand under a heading that says so.
    let text = read(RUNBOOKS);
    let (with_alerts, _) = text.split_once("## Without an alert").expect("the heading");
    let count = sections().iter().filter(|(_, alerts)| !alerts.is_empty()).count();
    assert_eq!(with_alerts.matches("\n### ").count(), count, "a section there names no alert");
}

#[test]
fn every_alert_has_a_test_that_makes_it_fire() {
    let tests = read("tests/alerts/message-webhook.yaml");
    let fires = |alert: &Alert| {
        // In the samples that are expected, and nowhere else.
        let label = format!("labels: '{{alertname=\"{}\"", alert.name);
        tests.lines().any(|line| line.contains(&label) && line.contains("value: 1"))
    };
    let untested: Vec<_> = alerts().into_iter().filter(|alert| !fires(alert)).map(|alert| alert.name).collect();
    assert!(untested.is_empty(), "no test of promtool makes these fire: {untested:?}");
}

#[test]
fn rules_and_dashboard_ask_only_for_metrics_and_labels_that_exist() {
    let dashboard: serde_json::Value = serde_json::from_str(&read(DASHBOARD)).expect("JSON");
    let mut expressions = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            expressions.push(target["expr"].as_str().expect("an expression").to_owned());
        }
    }
    assert!(expressions.len() > 40, "the dashboard's expressions were not found");
    // Without comments, and without the texts, which quote no expression.
    let rules = read(RULES);
    let rules = rules.lines().filter(|line| !line.trim_start().starts_with('#'));
    expressions.push(rules.filter(|line| !line.contains("description: ") && !line.contains("summary: ")).collect());
    let mut asked = BTreeSet::new();
    for expression in &expressions {
        for (name, labels) in selectors(expression) {
            let metric = metric_of(&name).unwrap_or_else(|| panic!("there is no metric {name}: {expression}"));
            asked.insert(metric.name);
            for label in labels {
                let is_known = metric.labels.contains(&label.as_str()) || SCRAPED.contains(&label.as_str());
                assert!(is_known, "{name} has no label {label}: {expression}");
            }
        }
    }
    let shown: Vec<_> = METRICS.iter().map(|metric| metric.name).filter(|name| !asked.contains(name)).collect();
    // When a process began is what its uptime tells, and nobody needs its reserved memory.
    assert_eq!(
        shown,
        ["process_start_time_seconds", "process_virtual_memory_bytes"],
        "no panel and no rule shows these"
    );
}

/// The metric that a name of a series is of.
fn metric_of(series: &str) -> Option<&'static Metric> {
    let of_histogram = |metric: &&Metric| {
        let part = series.strip_prefix(metric.name);
        metric.kind == MetricKind::Histogram && part.is_some_and(|part| ["_bucket", "_sum", "_count"].contains(&part))
    };
    METRICS.iter().find(|metric| metric.name == series && metric.kind != MetricKind::Histogram || of_histogram(metric))
}

/// The metrics in an expression, with the labels by which each is selected.
fn selectors(expression: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut rest = expression;
    while let Some(at) = rest.find(is_of_name) {
        let tail = &rest[at..];
        let end = tail.find(|c| !is_of_name(c)).unwrap_or(tail.len());
        let (name, after) = tail.split_at(end);
        rest = after;
        let ours = (name.starts_with("message_webhook_") || name.starts_with("process_")) && !name.contains(':');
        if !ours {
            continue;
        }
        let labels = after.strip_prefix('{').and_then(|inside| inside.split_once('}')).map_or("", |(inside, _)| inside);
        let labels = labels.split(',').filter(|label| !label.trim().is_empty());
        let label_of = |matcher: &str| matcher.trim().split(['=', '!']).next().unwrap_or_default().to_owned();
        found.push((name.to_owned(), labels.map(label_of).collect()));
    }
    found
}

#[test]
fn the_dashboard_is_what_its_source_writes() {
    let done = std::process::Command::new(root().join("scripts/dashboard")).arg("--check").output().expect("python3");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

//! The names of all metrics of the process, with their labels, units and descriptions. Names of spans and their
//! attributes are in [`super::spans`]; an event of the log is named by its message.

/// What a metric counts or measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Grows only.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Values by size, in buckets.
    Histogram,
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name, in Prometheus' form.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// Its unit, as OTLP has it (UCUM); in braces where it says what is counted. Not `1`, of which Prometheus makes a `_ratio`.
    pub unit: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
    /// The upper bounds of a histogram's buckets.
    pub buckets: &'static [f64],
}

/// From a tenth of a millisecond to ten seconds.
const SECONDS: &[f64] =
    &[0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// From a hundredth of a second to a week: bridges hand in what they kept through an outage.
const AGES: &[f64] = &[
    0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 21_600.0, 86_400.0, 604_800.0,
];
/// Messages of a group.
const COUNTS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 4_096.0];

macro_rules! metrics {
    ($($name:ident = $text:literal, $kind:ident($($buckets:expr)?), $unit:literal, [$($label:literal),*], $help:literal;)+) => {
        $(#[doc = $help] pub const $name: &str = $text;)+

        /// Every metric.
        pub const METRICS: &[Metric] = &[$(Metric {
            name: $name,
            kind: MetricKind::$kind,
            unit: $unit,
            labels: &[$($label),*],
            help: $help,
            buckets: metrics!(@buckets $($buckets)?),
        },)+];
    };
    (@buckets) => { &[] };
    (@buckets $buckets:expr) => { $buckets };
}

metrics! {
    // What callers see.
    REQUESTS_TOTAL = "message_webhook_requests_total", Counter(), "{request}", ["protocol", "route", "status"],
        "Requests answered, by HTTP status or gRPC code: a stream at its end, each message of submit_stream as submit_item";
    REQUEST_DURATION_SECONDS = "message_webhook_request_duration_seconds", Histogram(SECONDS), "s", ["protocol", "route"],
        "Seconds from a request's head to its answer's head";
    REQUESTS_IN_FLIGHT = "message_webhook_requests_in_flight", Gauge(), "{request}", ["protocol"],
        "Requests whose answer has not begun";
    SUBMISSIONS_TOTAL = "message_webhook_submissions_total", Counter(), "{message}", ["protocol", "outcome"],
        "Submissions acknowledged: accepted, duplicate, or duplicate_mismatch if the content differed";
    REJECTED_TOTAL = "message_webhook_rejected_total", Counter(), "{call}", ["protocol", "route", "code"],
        "Calls and messages of streams that failed, by route and by the published code of the error; auth_rate_limited is rate_limited where too many requests without a valid key come from an address";
    ORG_SUBMISSIONS_TOTAL = "message_webhook_org_submissions_total", Counter(), "{message}", ["org_id", "env", "outcome"],
        "Submissions acknowledged, by organisation; only with metrics_per_org, _other for those beyond its number";
    MESSAGE_AGE_SECONDS = "message_webhook_message_age_seconds", Histogram(AGES), "s", [],
        "Seconds from a message's own timestamp to its acceptance; 0 for one from the future";
    CONNECTIONS = "message_webhook_connections", Gauge(), "{connection}", ["listener"],
        "Open connections: http, grpc, admin";
    CONNECTIONS_DROPPED_TOTAL = "message_webhook_connections_dropped_total", Counter(), "{connection}", ["listener", "reason"],
        "Connections closed for want of room: further ones of an address that has its share (address), idle ones in favour of a new one (idle)";
    TLS_FAILURES_TOTAL = "message_webhook_tls_failures_total", Counter(), "{connection}", ["listener", "reason"],
        "Connections that ended in the handshake: plain HTTP came (plain), TLS came to a plain port (tls), too slow (timeout), no good client's certificate (certificate), refused by the client (client), left (gone), another failure (handshake)";
    TLS_NOT_AFTER_TIMESTAMP_SECONDS = "message_webhook_tls_not_after_timestamp_seconds", Gauge(), "s", ["listener"],
        "When the certificate of a listener expires, in seconds since 1970";
    AUTH_FAILURES_TOTAL = "message_webhook_auth_failures_total", Counter(), "{request}", ["code"],
        "Requests without a valid key, by what they were told: unauthenticated, or rate_limited where too many come from their address";
    KEY_LOOKUPS_TOTAL = "message_webhook_key_lookups_total", Counter(), "{lookup}", ["result"],
        "Look-ups of API keys: hit and refresh are answered from memory, a miss waits for the store";

    // The feed.
    STREAMS = "message_webhook_streams", Gauge(), "{stream}", ["order"],
        "Open streams of the feed: fast, ordered";
    DELIVERIES_TOTAL = "message_webhook_deliveries_total", Counter(), "{message}", ["order"],
        "Messages that were handed to readers of the feed, again to each";
    DELIVERY_LAG_SECONDS = "message_webhook_delivery_lag_seconds", Histogram(AGES), "s", ["order"],
        "Seconds from a message's acceptance to its delivery to a reader of the feed";
    FEED_LAG_SECONDS = "message_webhook_feed_lag_seconds", Gauge(), "s", [],
        "Seconds by which what readers in order are given is behind the clock; ScyllaDB only";

    // Every store.
    STORE_DURATION_SECONDS = "message_webhook_store_duration_seconds", Histogram(SECONDS), "s", ["operation", "outcome"],
        "Seconds that the store took for an operation; outcome is ok, error, or cut_off where it was waited for no longer";
    READINESS = "message_webhook_readiness", Gauge(), "{state}", ["state"],
        "1 in the present state of readiness, 0 in the others";

    // The embedded store.
    STORE_GROUP_MESSAGES = "message_webhook_store_group_messages", Histogram(COUNTS), "{message}", [],
        "Messages that one sync made durable; embedded store only";
    STORE_SYNC_DURATION_SECONDS = "message_webhook_store_sync_duration_seconds", Histogram(SECONDS), "s", [],
        "Seconds that writing and syncing a group took; embedded store only";
    STORE_FAILED = "message_webhook_store_failed", Gauge(), "{state}", [],
        "1 when the store accepts nothing more until it is restarted, as after a failed sync; embedded store only";
    STORE_DISK_FULL = "message_webhook_store_disk_full", Gauge(), "{state}", [],
        "1 while nothing is accepted because the disk is nearly full; embedded store only";
    STORE_WRITTEN_BYTES_TOTAL = "message_webhook_store_written_bytes_total", Counter(), "By", [],
        "Bytes that were written to the data directory: zeros of new segments, the log and its index; embedded store only";
    STORE_DAMAGED_TOTAL = "message_webhook_store_damaged_total", Counter(), "{read}", [],
        "Reads that met a message or an index page that the disk has damaged; embedded store only";
    STORE_DAMAGED = "message_webhook_store_damaged", Gauge(), "{record}", [],
        "Damaged messages that the last check of all that is stored found; embedded store only";
    STORE_FORGOTTEN_TOTAL = "message_webhook_store_forgotten_total", Counter(), "{message}", [],
        "Messages whose ids are known no more, because log and index are both damaged; embedded store only";
    STORE_LOST_CURSORS_TOTAL = "message_webhook_store_lost_cursors_total", Counter(), "{cursor}", [],
        "Cursors from beyond the end of the log, which prove that a restore has lost messages; embedded store only";
    STORE_CLOCK_STEP_SECONDS = "message_webhook_store_clock_step_seconds", Gauge(), "s", [],
        "Seconds by which the clock was set and is not followed yet, 0 otherwise; embedded store only";
    STORE_DISK_FREE_BYTES = "message_webhook_store_disk_free_bytes", Gauge(), "By", [],
        "Bytes that are free on the disk of the data directory; embedded store only";

    // The ScyllaDB store.
    CQL_DURATION_SECONDS = "message_webhook_cql_duration_seconds", Histogram(SECONDS), "s", ["operation", "table", "outcome"],
        "Seconds that a CQL statement took, retries of the driver included; outcome is ok, or how it failed; ScyllaDB only";
    CQL_ATTEMPT_DURATION_SECONDS = "message_webhook_cql_attempt_duration_seconds", Histogram(SECONDS), "s", ["node", "outcome"],
        "Seconds that an attempt of a CQL statement took at the node that was asked; outcome is ok or error; ScyllaDB only";
    STORE_CLAIMS_TOTAL = "message_webhook_store_claims_total", Counter(), "{message}", ["outcome"],
        "Submissions that the store took: accepted, duplicate, remembered, unclear, failed; ScyllaDB only";
    STORE_UNCLEAR_CLAIMS_TOTAL = "message_webhook_store_unclear_claims_total", Counter(), "{write}", ["cause"],
        "Claims whose outcome was unclear and that were written again, by cause; ScyllaDB only";
    STORE_LATE_ATTEMPTS_TOTAL = "message_webhook_store_late_attempts_total", Counter(), "{attempt}", [],
        "Second attempts to accept a message, as the first came too late; ScyllaDB only";
    STORE_REPLICATION_FACTOR = "message_webhook_store_replication_factor", Gauge(), "{copy}", [],
        "Copies of each row that the keyspace has in the data centre, as the process found it when it started; ScyllaDB only";
    CLOCK_OFFSET_SECONDS = "message_webhook_clock_offset_seconds", Gauge(), "s", [],
        "Seconds by which the process's clock is ahead of the database's; ScyllaDB only";
    DATABASE_CLOCK_OFFSET_SECONDS = "message_webhook_database_clock_offset_seconds", Gauge(), "s", ["node"],
        "Seconds by which the clock of a node of the database is ahead of the others', of up to five nodes; ScyllaDB only";
    LEASES_HELD = "message_webhook_leases_held", Gauge(), "{slot}", [],
        "Slots of the feed that this process resolves; ScyllaDB only";
    RESOLVER_LAG_SECONDS = "message_webhook_resolver_lag_seconds", Gauge(), "s", ["slot"],
        "Seconds by which the resolving of a slot of the feed is behind the clock, 0 where another process does it; ScyllaDB only";
    RESOLVER_ROLLED_FORWARD_TOTAL = "message_webhook_resolver_rolled_forward_total", Counter(), "{message}", [],
        "Messages that the resolver accepted because their submission was left half done; ScyllaDB only";
    RESOLVER_ORPHANS_TOTAL = "message_webhook_resolver_orphans_total", Counter(), "{reference}", [],
        "References whose message another attempt has, as the resolver met them; ScyllaDB only";
    RESOLVER_STUCK = "message_webhook_resolver_stuck", Gauge(), "{reference}", ["slot"],
        "References of a slot that cannot be settled now, and hold its mark back; ScyllaDB only";
    STORE_UNREADABLE_TOTAL = "message_webhook_store_unreadable_total", Counter(), "{read}", ["table"],
        "Rows that were passed over because they are damaged or of a later version, each counted once, by table; ScyllaDB only";
    RESOLVER_UNCLEAR_TOTAL = "message_webhook_resolver_unclear_total", Counter(), "{write}", [],
        "Conditional writes of the resolver that were repeated because their outcome was unclear; ScyllaDB only";

    // The process.
    BUILD_INFO = "message_webhook_build_info", Gauge(), "{build}", ["version", "rust_version"],
        "Build information; constantly 1";
    UPTIME_SECONDS = "message_webhook_uptime_seconds", Gauge(), "s", [],
        "Seconds since the process began to serve";
    FILE_RELOAD_SUCCESSFUL = "message_webhook_file_reload_successful", Gauge(), "{file}", ["file"],
        "1 while what a file holds is in use, 0 when it is broken and what was read before stays in use: keys, http_tls, grpc_tls, admin_tls, scylla_tls, scylla_password";
    FILE_RELOAD_SUCCESS_TIMESTAMP_SECONDS = "message_webhook_file_reload_success_timestamp_seconds", Gauge(), "s", ["file"],
        "When what is in use of a file was read, in seconds since 1970";
    TELEMETRY_EXPORT_FAILURES_TOTAL = "message_webhook_telemetry_export_failures_total", Counter(), "{batch}", ["signal"],
        "Batches of traces, metrics or logs that could not be exported over OTLP and are lost";
    TELEMETRY_LOST_TOTAL = "message_webhook_telemetry_lost_total", Counter(), "{item}", ["signal", "reason"],
        "Spans and lines of the log that are lost to OTLP: too many waited (queue), or their batch could not be exported (export)";
    PROCESS_CPU_SECONDS_TOTAL = "process_cpu_seconds_total", Counter(), "s", [],
        "Seconds of processor time that the process used";
    PROCESS_START_TIME_SECONDS = "process_start_time_seconds", Gauge(), "s", [],
        "When the process began, in seconds since 1970";
    PROCESS_THREADS = "process_threads", Gauge(), "{thread}", [],
        "Threads of the process";
    PROCESS_VIRTUAL_MEMORY_BYTES = "process_virtual_memory_bytes", Gauge(), "By", [],
        "Memory that the process has reserved";
    PROCESS_RESIDENT_MEMORY_BYTES = "process_resident_memory_bytes", Gauge(), "By", [],
        "Memory of the process that is in RAM";
    PROCESS_OPEN_FDS = "process_open_fds", Gauge(), "{file}", [],
        "Files and sockets that the process has open";
    PROCESS_MAX_FDS = "process_max_fds", Gauge(), "{file}", [],
        "Files and sockets that the process may have open";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        for metric in METRICS {
            let is_total = metric.name.ends_with("_total");
            assert_eq!(is_total, metric.kind == MetricKind::Counter, "{}", metric.name);
            let measured = metric.name.trim_end_matches("_total");
            assert_eq!(metric.unit == "s", measured.ends_with("_seconds"), "{}", metric.name);
            assert_eq!(metric.unit == "By", measured.ends_with("_bytes"), "{}", metric.name);
            assert_eq!(metric.buckets.is_empty(), metric.kind != MetricKind::Histogram, "{}", metric.name);
            assert!(metric.buckets.is_sorted());
        }
    }
    /// The name that Prometheus' OTLP receiver gives a metric (github.com/prometheus/otlptranslator): units that the name does not
    /// have are put behind it, and `_total` or `_ratio` behind them; what is in braces is none.
    fn in_prometheus(metric: &Metric) -> String {
        let mut words: Vec<_> = metric.name.split('_').collect();
        let unit = match metric.unit {
            "s" => "seconds",
            "By" => "bytes",
            unit if unit.starts_with('{') || unit == "1" => "",
            unit => panic!("{unit} has no name here yet"),
        };
        let mut put_last = |word: &'static str| {
            words.retain(|other| *other != word);
            words.push(word);
        };
        if !unit.is_empty() && !metric.name.contains(unit) {
            put_last(unit);
        }
        match metric.kind {
            MetricKind::Counter => put_last("total"),
            MetricKind::Gauge if metric.unit == "1" => put_last("ratio"),
            MetricKind::Gauge | MetricKind::Histogram => {}
        }
        words.join("_")
    }

    #[test]
    fn a_metric_that_is_pushed_over_otlp_has_the_name_in_prometheus_that_rules_and_dashboards_read() {
        for metric in METRICS {
            assert_eq!(in_prometheus(metric), metric.name);
        }
        let state =
            Metric { unit: "1", ..*METRICS.iter().find(|metric| metric.name == READINESS).expect("the metric") };
        assert_eq!(in_prometheus(&state), "message_webhook_readiness_ratio");
    }
}

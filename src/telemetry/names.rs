//! The names of all metrics of the process, with their descriptions.

/// Build information: constantly 1, labels `version` and `rust_version`.
pub const BUILD_INFO: &str = "message_webhook_build_info";
/// Seconds since the process began to serve.
pub const UPTIME_SECONDS: &str = "message_webhook_uptime_seconds";
/// 1 in the present state of readiness, 0 in the others; label `state`.
pub const READINESS: &str = "message_webhook_readiness";
/// Memory of the process that is in RAM.
pub const PROCESS_RESIDENT_MEMORY_BYTES: &str = "process_resident_memory_bytes";
/// Files and sockets that the process has open.
pub const PROCESS_OPEN_FDS: &str = "process_open_fds";
/// How many it may have open.
pub const PROCESS_MAX_FDS: &str = "process_max_fds";
/// Requests answered, with labels `protocol`, `route` and `status`: the HTTP status, or gRPC's code by its number.
pub const REQUESTS_TOTAL: &str = "message_webhook_requests_total";
/// From a request's head to its answer's head; labels `protocol` and `route`.
pub const REQUEST_DURATION_SECONDS: &str = "message_webhook_request_duration_seconds";
/// Submissions that were acknowledged; labels `protocol` and `outcome`: `accepted`, `duplicate`, or
/// `duplicate_mismatch` where the content was another than the first.
pub const SUBMISSIONS_TOTAL: &str = "message_webhook_submissions_total";
/// Calls that failed; labels `protocol` and `code`, the published word of the error.
pub const REJECTED_TOTAL: &str = "message_webhook_rejected_total";
/// By how many seconds the process's clock is ahead of the database's; ScyllaDB only.
pub const CLOCK_OFFSET_SECONDS: &str = "message_webhook_clock_offset_seconds";
/// How far behind the clock the slot of the feed is that is resolved least far, as readers of this process know it;
/// ScyllaDB only.
pub const FEED_LAG_SECONDS: &str = "message_webhook_feed_lag_seconds";
/// Slots of the feed that this process resolves; ScyllaDB only.
pub const LEASES_HELD: &str = "message_webhook_leases_held";
/// How far behind the clock a slot of the feed is resolved, 0 where another process does it; label `slot`; ScyllaDB only.
pub const RESOLVER_LAG_SECONDS: &str = "message_webhook_resolver_lag_seconds";
/// Messages that were accepted by the resolver because their submission was left half done; ScyllaDB only.
pub const RESOLVER_ROLLED_FORWARD_TOTAL: &str = "message_webhook_resolver_rolled_forward_total";
/// References that the resolver met whose message another attempt has, as of duplicates; ScyllaDB only.
pub const RESOLVER_ORPHANS_TOTAL: &str = "message_webhook_resolver_orphans_total";
/// Conditional writes of the resolver that were repeated because nobody knew their outcome; ScyllaDB only.
pub const RESOLVER_UNCLEAR_TOTAL: &str = "message_webhook_resolver_unclear_total";

/// Submissions that the ScyllaDB store took, by `outcome`: `accepted` and `duplicate` by a claim, `remembered` duplicates
/// without the database, `unclear` where the claim was not decided in time, `failed` for a bug.
pub const STORE_CLAIMS_TOTAL: &str = "message_webhook_store_claims_total";
/// Claims whose outcome was unclear and that were written again; label `cause`: `contention`, `timeout`,
/// `server_timeout`, `connection`, `no_node`, `refused`, `malformed`.
pub const STORE_UNCLEAR_CLAIMS_TOTAL: &str = "message_webhook_store_unclear_claims_total";
/// Second attempts to accept a message, because the resolver was ahead of the first or its references failed.
pub const STORE_LATE_ATTEMPTS_TOTAL: &str = "message_webhook_store_late_attempts_total";

/// Each counter with its description.
pub(super) const COUNTERS: &[(&str, &str)] = &[
    (REQUESTS_TOTAL, "Requests answered, by HTTP status or gRPC code"),
    (SUBMISSIONS_TOTAL, "Submissions acknowledged: accepted, duplicate, or duplicate_mismatch if the content differed"),
    (RESOLVER_ROLLED_FORWARD_TOTAL, "Messages that the resolver accepted because their submission was left half done"),
    (RESOLVER_ORPHANS_TOTAL, "References whose message another attempt has, as the resolver met them"),
    (RESOLVER_UNCLEAR_TOTAL, "Conditional writes of the resolver that were repeated because their outcome was unclear"),
    (REJECTED_TOTAL, "Calls that failed, by the published code of the error"),
    (STORE_CLAIMS_TOTAL, "Submissions that the ScyllaDB store took, by outcome"),
    (STORE_UNCLEAR_CLAIMS_TOTAL, "Claims whose outcome was unclear and that were written again, by cause"),
    (STORE_LATE_ATTEMPTS_TOTAL, "Second attempts to accept a message: the first came too late"),
];

/// Each histogram with its description.
pub(super) const HISTOGRAMS: &[(&str, &str)] =
    &[(REQUEST_DURATION_SECONDS, "Seconds from a request's head to its answer's head")];

/// Each gauge with its description.
pub(super) const GAUGES: &[(&str, &str)] = &[
    (BUILD_INFO, "Build information; constantly 1"),
    (UPTIME_SECONDS, "Seconds since the process began to serve"),
    (READINESS, "1 in the present state of readiness, 0 in the others"),
    (CLOCK_OFFSET_SECONDS, "Seconds by which the process's clock is ahead of the database's"),
    (FEED_LAG_SECONDS, "Seconds by which what readers in order are given is behind the clock"),
    (LEASES_HELD, "Slots of the feed that this process resolves"),
    (RESOLVER_LAG_SECONDS, "Seconds by which the resolving of a slot of the feed is behind the clock"),
    (PROCESS_RESIDENT_MEMORY_BYTES, "Memory of the process that is in RAM"),
    (PROCESS_OPEN_FDS, "Files and sockets that the process has open"),
    (PROCESS_MAX_FDS, "Files and sockets that the process may have open"),
];

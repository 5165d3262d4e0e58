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

/// Each gauge with its description.
pub(super) const GAUGES: &[(&str, &str)] = &[
    (BUILD_INFO, "Build information; constantly 1"),
    (UPTIME_SECONDS, "Seconds since the process began to serve"),
    (READINESS, "1 in the present state of readiness, 0 in the others"),
    (PROCESS_RESIDENT_MEMORY_BYTES, "Memory of the process that is in RAM"),
    (PROCESS_OPEN_FDS, "Files and sockets that the process has open"),
    (PROCESS_MAX_FDS, "Files and sockets that the process may have open"),
];

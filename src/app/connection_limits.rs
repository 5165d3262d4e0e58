//! How many connections each listener keeps: as many as are set, as far as the process may have open files. A store
//! that cannot open a file stops accepting for good, so strangers' connections must never take the last ones.

/// For the admin port's probes and scrapers.
const ADMIN: usize = 64;

/// Connections of each listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConnectionLimits {
    pub(super) http: usize,
    pub(super) grpc: usize,
    pub(super) admin: usize,
}

impl ConnectionLimits {
    /// The limits of this process, where HTTP and gRPC may have `max_connections` each.
    pub(super) fn of_this_process(max_connections: usize) -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let files = limit.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
        let limits = Self::of(max_connections, files);
        if limits.http < max_connections {
            // No fault by itself: as a rule nobody asked for as many as the default.
            tracing::info!(
                open_files = files,
                max_connections,
                http = limits.http,
                grpc = limits.grpc,
                "the limit of open files allows fewer connections than are set"
            );
        }
        limits
    }

    fn of(max_connections: usize, files: usize) -> Self {
        // For the store's files, which are few, and for whatever else the process opens.
        let own = (files / 4).min(1024);
        // Internal services are few and keep their connections; strangers get the rest.
        let grpc = max_connections.min(files / 8).max(1);
        let http = max_connections.min(files.saturating_sub(own + ADMIN + grpc)).max(1);
        Self { http, grpc, admin: ADMIN }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_files_in_plenty_everyone_gets_what_is_set() {
        assert_eq!(
            ConnectionLimits::of(20_000, usize::MAX),
            ConnectionLimits { http: 20_000, grpc: 20_000, admin: ADMIN }
        );
        assert_eq!(
            ConnectionLimits::of(20_000, 1 << 20),
            ConnectionLimits { http: 20_000, grpc: 20_000, admin: ADMIN }
        );
    }

    #[test]
    fn with_fewer_files_all_limits_together_leave_some_for_the_store() {
        for files in [512, 1024, 4096, 20_000, 40_000] {
            let limits = ConnectionLimits::of(20_000, files);
            assert!(limits.http > limits.grpc, "{files}: {limits:?}");
            assert!(limits.http + limits.grpc + limits.admin + 128 <= files, "{files}: {limits:?}");
        }
        assert!(ConnectionLimits::of(20_000, 20_000).http > 10_000);
        assert_eq!(ConnectionLimits::of(20_000, 0), ConnectionLimits { http: 1, grpc: 1, admin: ADMIN });
    }
}

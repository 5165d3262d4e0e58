//! How many connections each listener keeps: as many as are set, as far as the process may have open files. A store
//! that cannot open a file stops accepting for good, so strangers' connections must never take the last ones.

/// For the admin port's probes and scrapers.
const ADMIN: usize = 64;

/// Connections of each listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shares {
    pub(super) http: usize,
    pub(super) grpc: usize,
    pub(super) admin: usize,
}

impl Shares {
    /// The shares of this process, where HTTP and gRPC may have `max_connections` each.
    pub(super) fn of_this_process(max_connections: usize) -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let files = limit.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
        let shares = Self::of(max_connections, files);
        if shares.http < max_connections {
            // No fault by itself: as a rule nobody asked for as many as the default.
            tracing::info!(
                open_files = files,
                max_connections,
                http = shares.http,
                grpc = shares.grpc,
                "the limit of open files allows fewer connections than are set"
            );
        }
        shares
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
        assert_eq!(Shares::of(20_000, usize::MAX), Shares { http: 20_000, grpc: 20_000, admin: ADMIN });
        assert_eq!(Shares::of(20_000, 1 << 20), Shares { http: 20_000, grpc: 20_000, admin: ADMIN });
    }

    #[test]
    fn with_fewer_files_all_shares_together_leave_some_for_the_store() {
        for files in [512, 1024, 4096, 20_000, 40_000] {
            let shares = Shares::of(20_000, files);
            assert!(shares.http > shares.grpc, "{files}: {shares:?}");
            assert!(shares.http + shares.grpc + shares.admin + 128 <= files, "{files}: {shares:?}");
        }
        assert!(Shares::of(20_000, 20_000).http > 10_000);
        assert_eq!(Shares::of(20_000, 0), Shares { http: 1, grpc: 1, admin: ADMIN });
    }
}

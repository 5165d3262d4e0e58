//! THE table of settings.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use bytesize::ByteSize;

use super::{
    load::{Given, Mistakes},
    value::{LogFilter, Origin, Value, at_least, between, positive},
};
use crate::telemetry::LogFormat;

/// One setting, as everything but its typed value knows it.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name in the file; the other two names follow from it.
    pub name: &'static str,
    /// The heading under which help and the printed configuration show it.
    pub section: &'static str,
    /// What it does, for help.
    pub help: &'static str,
    /// What a value looks like, e.g. `DURATION`.
    pub value_name: &'static str,
    /// The text of its default.
    pub default: &'static str,
    /// Whether its flag may stand alone and then means `true`.
    pub is_switch: bool,
}

macro_rules! settings {
    ($($section:literal { $($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:literal, $check:expr;)+ })+) => {
        /// The checked settings.
        #[derive(Debug, Clone)]
        pub struct Config {
            $($($(#[doc = $doc])+ pub $name: $type,)+)+
        }

        /// Every setting, in the order of help.
        pub const SETTINGS: &[Setting] = &[
            $($(Setting {
                name: stringify!($name),
                section: $section,
                help: concat!($($doc),+),
                value_name: <$type as Value>::NAME,
                default: $default,
                is_switch: <$type as Value>::IS_SWITCH,
            },)+)+
        ];

        impl Config {
            /// Parses and checks what was given; `None` when even a default is wrong, and then there is a mistake.
            pub(super) fn from_given(given: &[Given], mistakes: &mut Mistakes) -> Option<Self> {
                $($(let $name = super::load::last::<$type>(stringify!($name), $default, given, $check, mistakes);)+)+
                Some(Self { $($($name: $name?,)+)+ })
            }

            /// Every setting's name and its value as TOML, in the order of the table.
            pub(super) fn values(&self) -> Vec<(&'static Setting, String)> {
                let values = [$($(self.$name.to_toml(),)+)+];
                SETTINGS.iter().zip(values).collect()
            }
        }
    };
}

fn any<T>(_: &T) -> Result<(), String> {
    Ok(())
}

settings! {
    "Listeners" {
        /// Where the webhook listens. Plain HTTP: reach it through something that speaks TLS.
        http_addr: SocketAddr = "127.0.0.1:8080", any;
        /// Where gRPC listens, for internal services.
        grpc_addr: SocketAddr = "127.0.0.1:9090", any;
        /// Where /livez, /readyz and /metrics listen.
        admin_addr: SocketAddr = "127.0.0.1:9464", any;
        /// Connections that HTTP and gRPC each keep open; further ones wait in the kernel's queue.
        max_connections: usize = "20000", |n| at_least(*n, 1);
        /// How old a gRPC connection gets before its client is sent to connect anew, so that clients spread over replicas; 0s for any age.
        grpc_max_connection_age: Duration = "1h", any;
        /// For how long after that what is under way may go on. A stream of the feed is cut then, and its reader comes back with its cursor.
        grpc_connection_grace: Duration = "1m", any;
        /// Web pages of these origins may call the webhook from a browser. In the environment and as a flag: parted by commas.
        cors_origins: Vec<Origin> = "", any;
    }
    "Store" {
        /// The directory of the embedded store; made if absent. One process at a time owns it.
        data_dir: PathBuf = "./data", any;
        /// For how long messages and the memory of their ids are kept. Below 8 days a bridge that retries for 7 may be accepted twice.
        retention: Duration = "30d", |d| between(*d, Duration::from_secs(1), Duration::from_secs(36_500 * 86_400));
        /// Allows a retention below 8 days.
        allow_short_retention: bool = "false", any;
        /// Memory for blocks read from disk.
        store_cache: ByteSize = "32MiB", |s| between(*s, ByteSize::mib(1), ByteSize::gib(64));
        /// Memory for what is accepted and not yet in a table on disk. As much again may wait for being written there.
        store_memtable: ByteSize = "24MiB", |s| between(*s, ByteSize::kib(64), ByteSize::gib(4));
        /// For how long a call waits for the store before it is answered 503.
        store_deadline: Duration = "5s", |d| positive(*d);
    }
    "Limits" {
        /// The largest body of a submission.
        body_limit: ByteSize = "256KiB", |s| between(*s, ByteSize::kib(1), ByteSize::mib(16));
        /// For how long a client may take to send its request's headers.
        header_timeout: Duration = "10s", |d| positive(*d);
        /// For how long a client may take to send its request's body.
        body_timeout: Duration = "30s", |d| positive(*d);
        /// Submissions that may wait for the store at once; one more is answered 503.
        max_in_flight: usize = "4096", |n| at_least(*n, 1);
        /// Submissions a second of one organisation and environment, with a burst of as many; 0 for no limit.
        rate_limit_per_org: u32 = "0", any;
        /// Accepts media URLs on private hosts such as localhost. For development only: internal services will fetch these URLs.
        allow_private_media_hosts: bool = "false", any;
    }
    "Keys" {
        /// A file of API keys that exist beside those of the store; read again when it changes.
        keys_file: Option<PathBuf> = "", any;
    }
    "Process" {
        /// After a signal to stop: for how long requests are still taken, until load balancers have noticed.
        drain_delay: Duration = "0s", any;
        /// After a signal to stop: by when the process has ended, whatever is left.
        shutdown_deadline: Duration = "25s", |d| positive(*d);
        /// Threads that serve requests; 0 for one a core.
        worker_threads: usize = "0", |n| between(*n, 0, 1024);
        /// How logs are written to stderr: auto (human on a terminal, else json), human or json.
        log_format: LogFormat = "auto", any;
        /// Which logs are written: error, warn, info, debug, trace, or directives such as 'info,message_webhook::store=debug'.
        log_level: LogFilter = "info", any;
    }
}

//! THE table of settings.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use bytesize::ByteSize;

use super::{
    backend::{Consistency, Keyspace, Node, Secret, StoreKind},
    load::{Given, Mistakes},
    value::{LogFilter, Origin, Value, at_least, between, positive},
};
use crate::{domain::Extension, telemetry::LogFormat};

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

/// The section of settings that only the embedded store has.
pub const EMBEDDED_SECTION: &str = "Embedded store";
/// The section of settings that only a store on ScyllaDB has.
pub const SCYLLA_SECTION: &str = "ScyllaDB store";

macro_rules! settings {
    ($($section:literal { $($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:literal, $check:expr;)+ })+) => {
        /// The checked settings.
        #[derive(Debug, Clone)]
        pub struct Config {
            $($($(#[doc = $doc])+ pub $name: $type,)+)+
            /// The password of `scylla_user`, from the environment alone: a flag is seen by every user of the machine.
            pub scylla_password: Option<Secret>,
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
                Some(Self { $($($name: $name?,)+)+ scylla_password: None })
            }

            /// Every setting at its default.
            pub(super) fn defaults() -> Option<Self> {
                Self::from_given(&[], &mut Mistakes::default())
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
        /// For how long a connection of HTTP or gRPC stays open without a request. Longer than whatever is in front keeps its own, or that meets closed ones.
        idle_timeout: Duration = "75s", |d| between(*d, Duration::from_secs(1), Duration::from_secs(86_400));
        /// Web pages of these origins may call the webhook from a browser. In the environment and as a flag: parted by commas.
        cors_origins: Vec<Origin> = "", any;
    }
    "Store" {
        /// Which store keeps the messages: embedded, on this machine; or scylla, in a cluster of ScyllaDB or Apache Cassandra, for any number of replicas.
        store: StoreKind = "embedded", any;
        /// For how long messages and the memory of their ids are kept. Below 8 days a bridge that retries for 7 may be accepted twice.
        retention: Duration = "30d", |d| between(*d, Duration::from_secs(1), Duration::from_secs(36_500 * 86_400));
        /// Allows a retention below 8 days.
        allow_short_retention: bool = "false", any;
        /// For how long a call waits for the store before it is answered 503.
        store_deadline: Duration = "5s", |d| positive(*d);
    }
    "Embedded store" {
        /// The directory of the embedded store; made if absent. One process at a time owns it.
        data_dir: PathBuf = "./data", any;
        /// For how long reads go on when the store can accept nothing any more, as after a failed sync. Then the process ends with status 1, so that a supervisor restarts it.
        store_failure_exit: Duration = "30s", any;
    }
    "ScyllaDB store" {
        /// Contact points; the other nodes are found through them. Port 9042 where none is named.
        scylla_nodes: Vec<Node> = "", any;
        /// The keyspace. 'message-webhook migrate' makes it and its tables.
        scylla_keyspace: Keyspace = "message_webhook", any;
        /// The data centre whose nodes are asked; none for that of the first contact point.
        scylla_datacenter: Option<String> = "", any;
        /// Copies of each row in a keyspace that 'migrate' makes; 0 for 3, or for as many as the data centre has nodes up if those are fewer.
        scylla_replication_factor: u16 = "0", |n| between(*n, 0, 9);
        /// Where it is decided that a message is new: serial, among all data centres; local-serial, in one, which every replica then names. Of one keyspace for ever.
        scylla_consistency: Consistency = "serial", any;
        /// The user to log in as, where the database asks; none to log in as nobody.
        scylla_user: Option<String> = "", any;
        /// A file that holds the user's password, in its first line. Or give it as MESSAGE_WEBHOOK_SCYLLA_PASSWORD; it has no flag and no place in the file.
        scylla_password_file: Option<PathBuf> = "", any;
        /// Encrypts the connections, and trusts the authorities whose certificates (PEM) are in this file; none for plain connections.
        scylla_ca_file: Option<PathBuf> = "", any;
        /// The client's certificate chain (PEM), where the database asks for one.
        scylla_client_cert_file: Option<PathBuf> = "", any;
        /// The private key (PEM) of that certificate.
        scylla_client_key_file: Option<PathBuf> = "", any;
        /// Parts of the feed, each read and resolved by itself. Of one keyspace for ever.
        scylla_shards: u16 = "64", |n| between(*n, 1, 1024);
        /// Groups of shards, each resolved by one replica at a time. Of one keyspace for ever.
        scylla_slots: u16 = "8", |n| between(*n, 1, 1024);
        /// How far behind the clocks an unfinished submission is settled. Of one keyspace for ever.
        scylla_window: Duration = "10s", |d| between(*d, Duration::from_millis(100), Duration::from_secs(600));
        /// For how long one attempt to accept a message tries to write what must precede it; shorter than scylla_window. Of one keyspace for ever.
        scylla_reference_window: Duration = "3s", |d| between(*d, Duration::from_millis(10), Duration::from_secs(600));
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
        /// Image URLs may end in these, too, e.g. .webp, and where 'none' is among them in a name without a dot. Consumers meet them.
        image_extensions: Vec<Extension> = "", any;
        /// Audio URLs may end in these, too, e.g. .opus or .m4a, and where 'none' is among them in a name without a dot.
        audio_extensions: Vec<Extension> = "", any;
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
        /// So many organisations have their submissions counted by name in the metrics, each environment for itself; the others together. 0 for none.
        metrics_per_org: usize = "0", |n| between(*n, 0, 1000);
        /// Which logs are written: error, warn, info, debug, trace, or directives such as 'info,message_webhook::store=debug'.
        log_level: LogFilter = "info", any;
    }
}

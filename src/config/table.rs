//! THE table of settings.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use bytesize::ByteSize;
use ipnet::IpNet;

use super::{
    backend::{Consistency, Keyspace, Node, Secret, StoreKind},
    bounds::{Any, at_least, between, positive},
    load::{Given, Mistakes},
    schema,
    value::{LogFilter, Value},
};
use crate::{
    domain::{Extension, Origin, Rate},
    telemetry::LogFormat,
};

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
                $($(let $name = super::load::last::<$type>(stringify!($name), $default, given, &$check, mistakes);)+)+
                Some(Self { $($($name: $name?,)+)+ scylla_password: None })
            }

            /// Every setting at its default.
            pub(super) fn defaults() -> Option<Self> {
                Self::from_given(&[], &mut Mistakes::default())
            }

            /// Every setting and the JSON Schema of its values, in the order of the table.
            pub(super) fn schemas() -> Vec<(&'static Setting, serde_json::Value)> {
                let of: &[fn(&Setting) -> serde_json::Value] = &[$($(|setting| schema::of::<$type>(setting, &$check),)+)+];
                SETTINGS.iter().zip(of).map(|(setting, of)| (setting, of(setting))).collect()
            }

            /// Every setting's name and its value as TOML, in the order of the table.
            pub(super) fn values(&self) -> Vec<(&'static Setting, String)> {
                let values = [$($(self.$name.to_toml(),)+)+];
                SETTINGS.iter().zip(values).collect()
            }
        }
    };
}

settings! {
    "Listeners" {
        /// Where the webhook listens. Plain HTTP unless http_tls_cert_file is set: else reach it through something that speaks TLS.
        http_addr: SocketAddr = "127.0.0.1:8080", Any;
        /// Where gRPC listens, for internal services.
        grpc_addr: SocketAddr = "127.0.0.1:9090", Any;
        /// Where /livez, /readyz and /metrics listen.
        admin_addr: SocketAddr = "127.0.0.1:9464", Any;
        /// Maximum number of open connections, for HTTP and gRPC each; further ones wait in the kernel's queue. One client address, or one /64 of IPv6, has at most 8 of 9; further ones of it are closed, unless it is in trusted_proxies.
        max_connections: usize = "20000", at_least(1);
        /// Age at which a gRPC connection is closed gracefully, so that clients reconnect and spread over replicas; 0s disables.
        grpc_max_connection_age: Duration = "1h", Any;
        /// How long calls in progress may continue on a gRPC connection that has reached grpc_max_connection_age. Feed streams are then cut, and their readers resume from their cursors.
        grpc_connection_grace: Duration = "1m", Any;
        /// How long an HTTP or gRPC connection stays open without a request. Set it longer than the proxy or load balancer in front keeps idle connections.
        idle_timeout: Duration = "75s", between(Duration::from_secs(1), Duration::from_secs(86_400));
        /// Networks of trusted proxies: from these the client address in X-Forwarded-For or Forwarded, or in a PROXY protocol v2 header, is believed. For HTTP and gRPC; separated by commas in the environment and in the flag.
        trusted_proxies: Vec<IpNet> = "", Any;
        /// Origins whose web pages may call the webhook from a browser; separated by commas in the environment and in the flag.
        cors_origins: Vec<Origin> = "", Any;
    }
    "TLS" {
        /// Has the webhook speak TLS 1.2 and 1.3, with the certificate chain (PEM) in this file, the server's own first. Read again when it changes, as all files here are.
        http_tls_cert_file: Option<PathBuf> = "", Any;
        /// The private key (PEM) of the certificate in http_tls_cert_file.
        http_tls_key_file: Option<PathBuf> = "", Any;
        /// Has gRPC speak TLS 1.2 and 1.3, with the certificate chain (PEM) in this file, the server's own first.
        grpc_tls_cert_file: Option<PathBuf> = "", Any;
        /// The private key (PEM) of the certificate in grpc_tls_cert_file.
        grpc_tls_key_file: Option<PathBuf> = "", Any;
        /// Has gRPC take clients' certificates of the authorities (PEM) in this file. Their names stand for keys where the keys file names them under identities.
        grpc_tls_client_ca_file: Option<PathBuf> = "", Any;
        /// Refuses clients of gRPC without a certificate of the authorities in grpc_tls_client_ca_file; else they need a key, as everybody.
        grpc_tls_client_required: bool = "false", Any;
        /// Has the admin port speak TLS 1.2 and 1.3, with the certificate chain (PEM) in this file, the server's own first. Its probes then need the scheme HTTPS.
        admin_tls_cert_file: Option<PathBuf> = "", Any;
        /// The private key (PEM) of the certificate in admin_tls_cert_file.
        admin_tls_key_file: Option<PathBuf> = "", Any;
    }
    "Store" {
        /// Where messages are stored: embedded, on this machine; or scylla, in a ScyllaDB or Apache Cassandra cluster, for any number of replicas.
        store: StoreKind = "embedded", Any;
        /// How long messages and their ids are kept. Below 8 days, a message that a bridge retries for 7 days may be accepted twice.
        retention: Duration = "30d", between(Duration::from_secs(1), Duration::from_secs(36_500 * 86_400));
        /// Allows a retention below 8 days.
        allow_short_retention: bool = "false", Any;
        /// How long a call waits for the store before it is answered with 503.
        store_deadline: Duration = "5s", positive();
    }
    "Embedded store" {
        /// Directory of the embedded store; created if absent. Only one process at a time can use it.
        data_dir: PathBuf = "./data", Any;
        /// How long reads continue after the store has stopped accepting, for example after a failed sync. The process then exits with status 1, for a supervisor to restart it.
        store_failure_exit: Duration = "30s", Any;
    }
    "ScyllaDB store" {
        /// Contact points; the other nodes are discovered through them. The port defaults to 9042.
        scylla_nodes: Vec<Node> = "", Any;
        /// Keyspace; 'message-webhook migrate' creates it and its tables.
        scylla_keyspace: Keyspace = "message_webhook", Any;
        /// Data centre whose nodes are queried; defaults to that of the first contact point.
        scylla_datacenter: Option<String> = "", Any;
        /// Copies of each row, for 'migrate' when it creates the keyspace; it waits until the data centre has that many nodes. Below 3, losing one node stops the service or loses messages; 'serve' reports a keyspace that has fewer copies.
        scylla_replication_factor: u16 = "3", between(1, 9);
        /// Where it is decided whether a message is new: serial, across all data centres; local-serial, within one, which every replica must then name. Fixed when the keyspace is created.
        scylla_consistency: Consistency = "serial", Any;
        /// User name, if the database requires one.
        scylla_user: Option<String> = "", Any;
        /// File whose first line is the password of scylla_user. Alternatively, set the environment variable MESSAGE_WEBHOOK_SCYLLA_PASSWORD; there is no flag for it.
        scylla_password_file: Option<PathBuf> = "", Any;
        /// File with the certificates (PEM) of trusted authorities; turns on TLS for connections to the database.
        scylla_ca_file: Option<PathBuf> = "", Any;
        /// Client certificate chain (PEM), if the database requires one.
        scylla_client_cert_file: Option<PathBuf> = "", Any;
        /// Private key (PEM) of the certificate in scylla_client_cert_file.
        scylla_client_key_file: Option<PathBuf> = "", Any;
        /// Number of parts of the feed, each read and resolved independently. Fixed when the keyspace is created.
        scylla_shards: u16 = "64", between(1, 1024);
        /// Number of groups of shards, each resolved by one replica at a time. Fixed when the keyspace is created.
        scylla_slots: u16 = "8", between(1, 1024);
        /// Age at which an unfinished submission is settled. Fixed when the keyspace is created.
        scylla_window: Duration = "10s", between(Duration::from_millis(100), Duration::from_secs(600));
        /// How long one attempt to accept a message tries to write its references; must be shorter than scylla_window. Fixed when the keyspace is created.
        scylla_reference_window: Duration = "3s", between(Duration::from_millis(10), Duration::from_secs(600));
    }
    "Limits" {
        /// Maximum size of a submission's body.
        body_limit: ByteSize = "256KiB", between(ByteSize::kib(1), ByteSize::mib(16));
        /// How long a client may take to send a request's headers.
        header_timeout: Duration = "10s", positive();
        /// How long a client may take to send a request's body.
        body_timeout: Duration = "30s", positive();
        /// Maximum number of calls that wait for the store; further ones are answered with 503. When places run short, reads are refused before submissions, dev before prod, and whoever holds most before the others.
        max_in_flight: usize = "4096", at_least(1);
        /// Maximum number of open feed streams; further ones are answered with UNAVAILABLE. A fifth is kept for platform keys and a fifth for organisations, and whoever holds most is refused before the others. A stream whose reader is slow holds up to 256 KiB of memory.
        max_streams: usize = "2048", at_least(1);
        /// Maximum rate of submissions for one organisation and environment: 50/s, 600/min or 1000/h, each with a burst of the same size or, as in '50/s burst 200', of another; 0 disables the limit.
        rate_limit_per_org: Option<Rate> = "0", Any;
        /// Maximum rate of submissions by one API key or client certificate: 50/s, 600/min or 1000/h, each with a burst of the same size or, as in '50/s burst 200', of another; 0 disables the limit.
        rate_limit_per_key: Option<Rate> = "0", Any;
        /// Maximum rate of submissions of one end user (from_id) of an organisation and environment: 50/s, 600/min or 1000/h, each with a burst of the same size or, as in '50/s burst 200', of another; 0 disables the limit.
        rate_limit_per_sender: Option<Rate> = "0", Any;
        /// Maximum rate of requests without a valid key from one client address, or one /64 of IPv6; further ones are answered with 429 in place of 401. Requests with a valid key always pass and are not counted. 0 disables the limit.
        rate_limit_failed_auth: Option<Rate> = "10/s burst 100", Any;
        /// Maximum rate of submissions with one browser key that has no rate of its own, in place of rate_limit_per_key: everybody may have it, and must leave the organisation's other keys their part of rate_limit_per_org. 0 leaves it to rate_limit_per_key.
        browser_rate_limit_per_key: Option<Rate> = "50/s burst 200", Any;
        /// Maximum rate of submissions of one end user (from_id) under one browser key, which everybody may have; 0 disables the limit.
        browser_rate_limit_per_sender: Option<Rate> = "60/min burst 20", Any;
        /// Maximum rate of submissions from one client address under one browser key; 0 disables the limit. Of IPv6 a network of 64 bits counts as one. Behind a proxy it needs trusted_proxies: else all users come from the proxy's address.
        browser_rate_limit_per_address: Option<Rate> = "600/min burst 100", Any;
        /// Further extensions that image URLs may have, e.g. .webp; 'none' allows names without one. Consumers must be able to handle them.
        image_extensions: Vec<Extension> = "", Any;
        /// Further extensions that audio URLs may have, e.g. .opus or .m4a; 'none' allows names without one.
        audio_extensions: Vec<Extension> = "", Any;
        /// Accepts media URLs on private hosts such as localhost. For development only: internal services fetch these URLs.
        allow_private_media_hosts: bool = "false", Any;
    }
    "Keys" {
        /// File with API keys in addition to those in the store; reloaded when it changes.
        keys_file: Option<PathBuf> = "", Any;
    }
    "Process" {
        /// How long requests are still accepted after a signal to stop, until load balancers have noticed.
        drain_delay: Duration = "0s", Any;
        /// How long after a signal to stop the process exits at the latest.
        shutdown_deadline: Duration = "25s", positive();
        /// Number of threads that serve requests; 0 means one per core.
        worker_threads: usize = "0", between(0, 1024);
        /// Format of the logs on stderr: human, json, or auto (human on a terminal, otherwise json).
        log_format: LogFormat = "auto", Any;
        /// Maximum number of organisations with their own series; the rest count as `_other`; 0 disables.
        metrics_per_org: usize = "0", between(0, 1000);
        /// Log level: error, warn, info, debug, trace, or directives such as 'info,message_webhook::store=debug'.
        log_level: LogFilter = "info", Any;
    }
}

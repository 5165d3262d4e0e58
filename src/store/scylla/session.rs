//! The connection to the database: where to, how long to wait, how a statement is sent.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use scylla::{
    client::{
        execution_profile::{ExecutionProfile, ExecutionProfileHandle},
        session::Session,
        session_builder::SessionBuilder,
    },
    cluster::metadata::Strategy,
    policies::{
        load_balancing::{DefaultPolicy, LoadBalancingPolicy},
        retry::{DefaultRetryPolicy, FallthroughRetryPolicy},
    },
    statement::{Consistency, SerialConsistency},
};
use tokio::net::lookup_host;

use super::{
    connect_error::ConnectError,
    nodes::ToldNodes,
    options::{Options, Serial},
};

/// How long a new connection may take.
const CONNECT: Duration = Duration::from_secs(3);
/// A coordinator that hangs is noticed after these two; the driver's own, a minute, would keep submissions waiting.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(3);
/// Longer than the server's own 2 s, so that its typed error arrives.
const CLAIM: Duration = Duration::from_secs(3);
/// Until all nodes have the same schema. Cassandra's nodes ask for a change that did not reach them after a minute
/// (`cassandra.migration_delay_ms`), so less than that would fail wherever one node was slow for a moment.
const AGREEMENT: Duration = Duration::from_secs(100);
const REFERENCE: Duration = Duration::from_secs(1);
const READ: Duration = Duration::from_secs(2);

/// How statements are sent.
pub struct Profiles {
    /// Conditional writes: decided once, never repeated by the driver, at the server's own pace.
    pub claim: ExecutionProfileHandle,
    /// Plain writes that may be repeated.
    pub reference: ExecutionProfileHandle,
    /// Reads at quorum.
    pub read: ExecutionProfileHandle,
    /// Where conditional writes are decided.
    pub serial: SerialConsistency,
}

/// A session and the data centre that it asks.
pub struct Connection {
    /// The driver's session.
    pub session: Session,
    /// The data centre whose nodes are asked.
    pub datacenter: String,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// As [`ConnectError`] has them.
    pub async fn open(options: &Options) -> Result<Self, ConnectError> {
        let mistakes = options.mistakes();
        if !mistakes.is_empty() {
            return Err(ConnectError::Options(mistakes));
        }
        let mut builder = SessionBuilder::new()
            .known_nodes(&options.nodes)
            .connection_timeout(CONNECT)
            .keepalive_interval(KEEP_ALIVE)
            .keepalive_timeout(KEEP_ALIVE_ANSWER)
            .keyspaces_to_fetch([&options.keyspace])
            // `migrate` waits for agreement itself, once.
            .auto_await_schema_agreement(false)
            .schema_agreement_interval(Duration::from_millis(50))
            .schema_agreement_timeout(AGREEMENT);
        if let Some(login) = &options.login {
            builder = builder.authenticator_provider(Arc::new(login.clone()));
        }
        if let Some(tls) = &options.tls {
            builder = builder.tls_context(Some(tls.config()));
        }
        let session = builder.build().await.map_err(|error| ConnectError::unreachable(&options.nodes, &error))?;
        let datacenter = datacenter(&session, options).await?;
        Ok(Self { session, datacenter })
    }

    /// The profiles for this connection.
    pub fn profiles(&self, serial: Serial) -> Profiles {
        let (serial, quorum) = match serial {
            Serial::Everywhere => (SerialConsistency::Serial, Consistency::Quorum),
            Serial::Home => (SerialConsistency::LocalSerial, Consistency::LocalQuorum),
        };
        // Without preference for a rack: processes in different racks would contend for one key at two coordinators.
        let policy = DefaultPolicy::builder().prefer_datacenter(self.datacenter.clone()).build();
        let policy = Arc::new(ToldNodes::new(policy));
        let profile = |timeout| {
            ExecutionProfile::builder()
                .consistency(quorum)
                .serial_consistency(Some(serial))
                .load_balancing_policy(Arc::clone(&policy) as Arc<dyn LoadBalancingPolicy>)
                .speculative_execution_policy(None)
                .request_timeout(Some(timeout))
        };
        Profiles {
            claim: profile(CLAIM).retry_policy(Arc::new(FallthroughRetryPolicy::new())).build().into_handle(),
            reference: profile(REFERENCE).retry_policy(Arc::new(DefaultRetryPolicy::new())).build().into_handle(),
            read: profile(READ).retry_policy(Arc::new(DefaultRetryPolicy::new())).build().into_handle(),
            serial,
        }
    }

    /// How many nodes of the data centre have joined, and how many of them are up.
    pub fn nodes(&self) -> (usize, usize) {
        let state = self.session.get_cluster_state();
        let here = |node: &&Arc<scylla::cluster::Node>| node.datacenter.as_deref() == Some(&self.datacenter);
        let joined: Vec<_> = state.get_nodes_info().iter().filter(here).collect();
        (joined.len(), joined.iter().filter(|node| node.is_connected()).count())
    }

    /// What is to be said of a keyspace that has fewer copies of each row than `options` want.
    pub fn too_few_copies(&self, options: &Options) -> Option<String> {
        let (keyspace, wanted) = (&options.keyspace, options.replication_factor);
        let copies = self.copies(keyspace)?;
        let are_few = u32::try_from(copies).is_ok_and(|copies| copies < wanted);
        are_few.then(|| {
            format!(
                "the keyspace '{keyspace}' has a replication factor of {copies} in the data centre '{}', and {wanted} is \
                 wanted: the loss of one node may stop the service or lose messages; raise it with ALTER KEYSPACE and \
                 run 'nodetool repair' on every node, or ask for fewer by name (scylla_replication_factor)",
                self.datacenter
            )
        })
    }

    /// How many copies of each row `keyspace` has in the data centre; `None` where it is not there or does not tell.
    pub fn copies(&self, keyspace: &str) -> Option<usize> {
        let state = self.session.get_cluster_state();
        match &state.get_keyspace(keyspace)?.strategy {
            Strategy::NetworkTopologyStrategy { datacenter_repfactors } => {
                Some(datacenter_repfactors.get(&self.datacenter).copied().unwrap_or_default())
            }
            Strategy::SimpleStrategy { replication_factor } => Some(*replication_factor),
            Strategy::LocalStrategy | Strategy::Other { .. } => None,
            // Of a later driver.
            _ => None,
        }
    }
}

/// The data centre that is wanted, or that of the first contact point.
async fn datacenter(session: &Session, options: &Options) -> Result<String, ConnectError> {
    let state = session.get_cluster_state();
    let nodes = state.get_nodes_info();
    let mut known: Vec<String> = nodes.iter().filter_map(|node| node.datacenter.clone()).collect();
    known.sort_unstable();
    known.dedup();
    if let Some(wanted) = &options.datacenter {
        return if known.contains(wanted) {
            Ok(wanted.clone())
        } else {
            Err(ConnectError::NoDatacenter { wanted: Some(wanted.clone()), known })
        };
    }
    if let [only] = known.as_slice() {
        return Ok(only.clone());
    }
    if let Some(first) = options.nodes.first() {
        let addresses = addresses(first).await;
        let found = nodes.iter().find(|node| addresses.iter().any(|address| address.ip() == node.address.ip()));
        if let Some(datacenter) = found.and_then(|node| node.datacenter.clone()) {
            return Ok(datacenter);
        }
    }
    Err(ConnectError::NoDatacenter { wanted: None, known })
}

async fn addresses(node: &str) -> Vec<SocketAddr> {
    let found = lookup_host(node).await.map(Iterator::collect);
    match found {
        Ok(found) => found,
        // Without a port, which the driver adds itself.
        Err(_) => lookup_host((node, 9042)).await.map(Iterator::collect).unwrap_or_default(),
    }
}

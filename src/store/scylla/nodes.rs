//! Which node of the database each attempt of a statement went to, for spans and metrics: the driver tells that to the policy by
//! which it chooses nodes, and of failures to nobody else.

use std::{collections::HashMap, fmt, net::SocketAddr, sync::Arc, time::Duration};

use metrics::{Histogram, histogram};
use parking_lot::RwLock;
use scylla::{
    cluster::{ClusterState, Node, NodeRef},
    errors::RequestAttemptError,
    policies::load_balancing::{FallbackPlan, LoadBalancingPolicy, RoutingInfo},
    routing::Shard,
};

use crate::telemetry::{names, spans, trace};

/// A policy whose choices are told.
pub(super) struct ToldNodes {
    policy: Arc<dyn LoadBalancingPolicy>,
    nodes: RwLock<HashMap<SocketAddr, Arc<Told>>>,
}

/// What is told of one node. A cluster's nodes are few, and their addresses come back.
struct Told {
    ok: Histogram,
    error: Histogram,
}

impl ToldNodes {
    /// Chooses as `policy` does.
    pub(super) fn new(policy: Arc<dyn LoadBalancingPolicy>) -> Self {
        Self { policy, nodes: RwLock::default() }
    }

    /// Notes an attempt, in the span around this call, which is its statement's.
    fn tell(&self, node: &Node, latency: Duration, histogram: impl FnOnce(&Told) -> &Histogram) {
        let address = SocketAddr::new(node.address.ip(), node.address.port());
        let known = self.nodes.read().get(&address).cloned();
        let told = known
            .unwrap_or_else(|| Arc::clone(self.nodes.write().entry(address).or_insert_with(|| Told::new(address))));
        histogram(&told).record(latency);
        let span = trace::here();
        // Of several attempts the last, as is its outcome.
        trace::note(&span, spans::SERVER_ADDRESS, address.ip().to_string());
        trace::note(&span, spans::SERVER_PORT, i64::from(address.port()));
    }
}

impl Told {
    fn new(address: SocketAddr) -> Arc<Self> {
        let seconds = |outcome: &'static str| histogram!(names::CQL_ATTEMPT_DURATION_SECONDS, "node" => address.to_string(), "outcome" => outcome);
        Arc::new(Self { ok: seconds("ok"), error: seconds("error") })
    }
}

impl LoadBalancingPolicy for ToldNodes {
    fn pick<'a>(
        &'a self,
        request: &'a RoutingInfo<'_>,
        cluster: &'a ClusterState,
    ) -> Option<(NodeRef<'a>, Option<Shard>)> {
        self.policy.pick(request, cluster)
    }

    fn fallback<'a>(&'a self, request: &'a RoutingInfo<'_>, cluster: &'a ClusterState) -> FallbackPlan<'a> {
        self.policy.fallback(request, cluster)
    }

    fn on_request_success(&self, request: &RoutingInfo<'_>, latency: Duration, node: NodeRef<'_>) {
        self.policy.on_request_success(request, latency, node);
        self.tell(node, latency, |told| &told.ok);
    }

    fn on_request_failure(
        &self,
        request: &RoutingInfo<'_>,
        latency: Duration,
        node: NodeRef<'_>,
        error: &RequestAttemptError,
    ) {
        self.policy.on_request_failure(request, latency, node, error);
        self.tell(node, latency, |told| &told.error);
    }

    fn name(&self) -> String {
        self.policy.name()
    }
}

impl fmt::Debug for ToldNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ToldNodes").field(&self.policy).finish()
    }
}

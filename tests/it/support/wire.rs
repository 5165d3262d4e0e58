//! A proxy between a store and its database, which loses, delays and changes single frames.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use scylla::{client::session_builder::SessionBuilder, errors::DbError};
use scylla_proxy::{
    Condition, Node, Proxy, Reaction, RequestFrame, RequestOpcode, RequestReaction, RequestRule, ResponseFrame,
    ResponseOpcode, ResponseReaction, ResponseRule, RunningProxy, ShardAwareness,
};
use tokio::{
    net::lookup_host,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::{Instant, timeout_at},
};

/// A proxy for one node. A store that is given it finds the others, but reaches none of them: so whatever is to happen
/// once happens once. The node still asks the others. Or one for all nodes.
pub struct Wire {
    proxy: RunningProxy,
    addresses: Vec<SocketAddr>,
    real: SocketAddr,
    prepared: UnboundedReceiver<(RequestFrame, Option<u16>)>,
    statements: Vec<(String, Vec<u8>)>,
}

/// What happens to the answer of a statement that was carried out.
#[derive(Debug, Clone)]
pub enum Answer {
    /// It is lost.
    Lost,
    /// The connection breaks instead of it.
    Broken,
    /// It comes so late that nobody waits for it any more.
    Late(Duration),
    /// It is this error.
    Error(DbError),
}

impl Wire {
    /// A proxy for `node`.
    pub async fn before(node: &str) -> Self {
        let real = lookup_host(node).await.expect("an address").next().expect("an address");
        // The node's own address, for that is where the driver then looks for it. Another port than the node's, so that the
        // driver, which takes the contact point's for all, reaches no other.
        let free = TcpListener::bind((real.ip(), 0)).and_then(|free| free.local_addr());
        Self::at(free.expect("a port"), node).await
    }

    /// A proxy for `node` at `address`, where there was nothing.
    pub async fn at(address: SocketAddr, node: &str) -> Self {
        let real = lookup_host(node).await.expect("an address").next().expect("an address");
        Self::between(vec![(address, real)]).await
    }

    /// A proxy for all `nodes`, in their order. The driver takes one port for all.
    pub async fn before_all(nodes: &[String]) -> Self {
        let mut real = Vec::new();
        for node in nodes {
            real.push(lookup_host(node).await.expect("an address").next().expect("an address"));
        }
        let free = TcpListener::bind((real[0].ip(), 0)).and_then(|free| free.local_addr()).expect("a port").port();
        Self::between(real.into_iter().map(|real| (SocketAddr::from((real.ip(), free)), real)).collect()).await
    }

    /// A proxy at the first address of each pair for the second.
    async fn between(nodes: Vec<(SocketAddr, SocketAddr)>) -> Self {
        let (learn, prepared) = unbounded_channel();
        let rule = RequestRule(
            Condition::RequestOpcode(RequestOpcode::Prepare),
            RequestReaction::noop().with_feedback_when_performed(learn),
        );
        let node = |(address, real): &(SocketAddr, SocketAddr)| {
            Node::builder()
                .real_address(*real)
                .proxy_address(*address)
                .shard_awareness(ShardAwareness::QueryNode)
                .request_rules(vec![rule.clone()])
                .build()
        };
        let proxy = Proxy::new(nodes.iter().map(node)).run().await.expect("a proxy");
        let addresses = nodes.iter().map(|(address, _)| *address).collect();
        Self { proxy, addresses, real: nodes[0].1, prepared, statements: Vec::new() }
    }

    /// The contact points of a store that is to speak through the proxy.
    pub fn nodes(&self) -> Vec<String> {
        self.addresses.iter().map(SocketAddr::to_string).collect()
    }

    /// Learns the ids of the statements that were prepared so far.
    pub async fn learn(&mut self) {
        let session = SessionBuilder::new().known_node_addr(self.real).build().await.expect("a session");
        while let Ok((frame, _)) = self.prepared.try_recv() {
            let text = String::from_utf8_lossy(frame.body.get(4..).expect("a text")).into_owned();
            if self.statements.iter().any(|(known, _)| *known == text) {
                continue;
            }
            // The driver tries some that only the other engine knows.
            if let Ok(prepared) = session.prepare(text.as_str()).await {
                self.statements.push((text, prepared.get_id().to_vec()));
            }
        }
    }

    /// Requests of the one statement whose text has all these words; those of an import, which has TTLs, aside.
    pub fn requests_of(&self, words: &[&str]) -> Condition {
        let found: Vec<_> = self
            .statements
            .iter()
            .filter(|(text, _)| words.iter().all(|word| text.contains(word)) && !text.contains(" TTL "))
            .collect();
        assert_eq!(found.len(), 1, "statements with {words:?} of {:?}", self.statements);
        let id = found[0].1.clone().into_boxed_slice();
        Condition::RequestOpcode(RequestOpcode::Execute).and(Condition::BodyContainsCaseSensitive(id))
    }

    /// Counts for so long which prepared statements are sent, by their text; of those that were learned.
    pub async fn count(&mut self, time: Duration) -> BTreeMap<String, usize> {
        let (tell, mut told) = unbounded_channel();
        let all = Condition::RequestOpcode(RequestOpcode::Execute);
        self.on_requests(&all, &RequestReaction::noop().with_feedback_when_performed(tell));
        let mut counted = BTreeMap::new();
        let until = Instant::now() + time;
        while let Ok(Some((frame, _))) = timeout_at(until, told.recv()).await {
            let has = |id: &[u8]| frame.body.windows(id.len()).any(|part| part == id);
            let text = self.statements.iter().find(|(_, id)| has(id)).map_or("", |(text, _)| text);
            *counted.entry(text.to_owned()).or_default() += 1;
        }
        self.heal();
        counted
    }

    /// What happens to requests.
    pub fn on_requests(&mut self, condition: &Condition, reaction: &RequestReaction) {
        for node in &mut self.proxy.running_nodes {
            node.prepend_request_rules(vec![RequestRule(condition.clone(), reaction.clone())]);
        }
    }

    /// What happens to answers that have all these words.
    pub fn on_answers(&mut self, words: &[&[u8]], times: usize, answer: &Answer) {
        let has = words.iter().map(|word| Condition::BodyContainsCaseSensitive((*word).into()));
        let condition = Condition::ResponseOpcode(ResponseOpcode::Result)
            .and(Condition::all(has))
            // Evaluated last, so that only matching answers count.
            .and(Condition::TrueForLimitedTimes(times));
        for node in &mut self.proxy.running_nodes {
            node.prepend_response_rules(vec![ResponseRule(condition.clone(), answer.reaction())]);
        }
    }

    /// Changes answers that have all these words.
    pub fn change_answers(
        &mut self,
        words: &[&[u8]],
        change: impl Fn(ResponseFrame) -> ResponseFrame + Send + Sync + 'static,
    ) {
        let has = words.iter().map(|word| Condition::BodyContainsCaseSensitive((*word).into()));
        let condition = Condition::ResponseOpcode(ResponseOpcode::Result).and(Condition::all(has));
        let reaction = ResponseReaction::transform_frame(Arc::new(change));
        for node in &mut self.proxy.running_nodes {
            node.prepend_response_rules(vec![ResponseRule(condition.clone(), reaction.clone())]);
        }
    }

    /// Changes answers of the node of this number that have all these words.
    pub fn change_answers_of(
        &mut self,
        node: usize,
        words: &[&[u8]],
        change: impl Fn(ResponseFrame) -> ResponseFrame + Send + Sync + 'static,
    ) {
        let has = words.iter().map(|word| Condition::BodyContainsCaseSensitive((*word).into()));
        let condition = Condition::ResponseOpcode(ResponseOpcode::Result).and(Condition::all(has));
        let rule = ResponseRule(condition, ResponseReaction::transform_frame(Arc::new(change)));
        self.proxy.running_nodes[node].prepend_response_rules(vec![rule]);
    }

    /// From now on everything passes as it is.
    pub fn heal(&mut self) {
        self.proxy.turn_off_rules();
    }
}

impl Answer {
    fn reaction(&self) -> ResponseReaction {
        match self.clone() {
            Answer::Lost => ResponseReaction::drop_frame(),
            Answer::Broken => ResponseReaction::drop_connection(),
            Answer::Late(time) => ResponseReaction::delay(time),
            Answer::Error(error) => ResponseReaction::transform_frame(Arc::new(move |answer: ResponseFrame| {
                ResponseFrame::forged_error(answer.params, error.clone(), None).expect("an error")
            })),
        }
    }
}

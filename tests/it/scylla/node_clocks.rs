//! Clocks of the database's own nodes that are wrong.

use bytes::BytesMut;
use scylla_proxy::ResponseFrame;
use uuid::{Builder, Uuid};

use crate::support::{
    ServerProcess, eventually, get,
    ring::{self, Keyspace},
    wire::Wire,
};

/// The answer of a node that is asked for its time, a version 1 UUID at its end. Not that of the question's preparation.
const NOW: &[&[u8]] = &[b"system", b"local", b"now", &16_i32.to_be_bytes()];

/// Ten minutes, in ticks.
const AHEAD: u64 = 600 * 10_000_000;

/// `answer` of a node whose clock is ahead.
fn ahead(mut answer: ResponseFrame) -> ResponseFrame {
    let Some((rest, last)) = answer.body.split_last_chunk::<16>() else { return answer };
    let told = Uuid::from_bytes(*last);
    if told.get_version_num() != 1 {
        return answer;
    }
    let (ticks, counter) = told.get_timestamp().expect("of version 1").to_gregorian();
    let node = told.get_node_id().expect("of version 1");
    let told = Builder::from_gregorian_timestamp(ticks + AHEAD, counter, &node).into_uuid();
    let mut body = BytesMut::from(rest);
    body.extend_from_slice(told.as_bytes());
    answer.body = body.freeze();
    answer
}

/// A server on a database of whose nodes some are ahead by ten minutes.
async fn beside_wrong_nodes(nodes: &[String], wrong: std::ops::Range<usize>) -> (ServerProcess, Wire, Keyspace) {
    let keyspace = Keyspace::new(nodes.to_vec(), |_| {}).await;
    let mut wire = Wire::before_all(nodes).await;
    for node in wrong {
        wire.change_answers_of(node, NOW, ahead);
    }
    let server = ServerProcess::builder().on_scylla(&keyspace).replace("--scylla-nodes=", &wire.nodes().join(","));
    (server.start(), wire, keyspace)
}

async fn metrics(server: &ServerProcess) -> String {
    get(server.admin, "/metrics").await.expect("metrics").1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_of_three_with_a_wrong_clock_makes_no_replica_unready_and_is_named() {
    let Some(nodes) = ring::nodes().filter(|nodes| nodes.len() >= 3) else { return };
    let (server, wire, keyspace) = beside_wrong_nodes(&nodes[..3], 0..1).await;
    eventually("ready", async || (get(server.admin, "/readyz").await?.0 == 200).then_some(())).await;
    let address = &wire.nodes()[0];
    let series = format!("message_webhook_database_clock_offset_seconds{{node=\"{address}\"}} ");
    let offset = eventually("the node's clock to be told", async || {
        let metrics = metrics(&server).await;
        metrics.lines().find_map(|line| line.strip_prefix(&series)?.parse::<f64>().ok())
    })
    .await;
    assert!((599.0..601.0).contains(&offset), "{offset}");
    assert!(
        server.stderr().contains("a node of the database has a clock that is more than 2 s off"),
        "{}",
        server.stderr()
    );
    // Compared again and again, whichever node answers first.
    for _ in 0..100 {
        assert_eq!(get(server.admin, "/readyz").await.expect("an answer").0, 200);
        let own = metrics(&server).await;
        let own = own.lines().find_map(|line| line.strip_prefix("message_webhook_clock_offset_seconds "));
        assert!(own.expect("compared").parse::<f64>().expect("a number").abs() < 1.0, "{own:?}");
    }
    drop((server, wire, keyspace));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_all_nodes_agree_it_is_the_replica_whose_clock_is_wrong() {
    let Some(nodes) = ring::nodes() else { return };
    let (server, wire, keyspace) = beside_wrong_nodes(&nodes, 0..nodes.len()).await;
    eventually("unready", async || (get(server.admin, "/readyz").await?.0 == 503).then_some(())).await;
    let own = eventually("the clock to be told", async || {
        let metrics = metrics(&server).await;
        metrics.lines().find_map(|line| line.strip_prefix("message_webhook_clock_offset_seconds ")?.parse::<f64>().ok())
    })
    .await;
    assert!((-601.0..-599.0).contains(&own), "{own}");
    drop((server, wire, keyspace));
}

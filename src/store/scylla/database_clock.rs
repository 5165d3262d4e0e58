//! What time it is in the database: by the middle of several of its nodes' clocks, so that one which is wrong decides
//! nothing, and is named.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use scylla::{
    client::session::Session,
    policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy},
    value::CqlTimeuuid,
};
use tokio::time::timeout;

use super::{
    error::Failed,
    prepared::Prepared,
    ticks::{self, Ticks},
    time::{Fixed, TOLERATED},
};

/// So many nodes are asked, always the same ones as long as they are up.
const ASKED: usize = 5;
/// A node that takes longer is left out.
const ANSWER: Duration = Duration::from_secs(1);

/// What one node said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The node's address.
    pub node: String,
    /// Its time.
    pub ticks: Ticks,
    /// When it was asked and when it had answered, by the time since boot.
    pub between: (Duration, Duration),
}

/// The database's time, and how far each node is from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    /// The time.
    pub fixed: Fixed,
    /// By how much each node is ahead, and whether that is certainly too far.
    pub nodes: Vec<(String, Ticks, bool)>,
}

/// Asks some nodes of `datacenter` for their time. `now` is [`super::cql::NOW`].
///
/// # Errors
/// When most of them do not answer.
pub async fn ask(
    session: &Session,
    datacenter: &str,
    now: &Prepared,
    since_boot: impl Fn() -> Duration,
) -> Result<Vec<Told>, Failed> {
    let state = session.get_cluster_state();
    let here = state.get_nodes_info().iter().filter(|node| node.datacenter.as_deref() == Some(datacenter));
    let mut nodes: Vec<_> = here.filter(|node| node.is_connected()).collect();
    nodes.sort_unstable_by_key(|node| node.host_id);
    nodes.truncate(ASKED);
    let since_boot = &since_boot;
    let asking = nodes.iter().map(|node| async move {
        let mut statement = now.statement.clone();
        let target = NodeIdentifier::Node(Arc::clone(node));
        statement.set_load_balancing_policy(Some(SingleTargetLoadBalancingPolicy::new(target, None)));
        let asked = since_boot();
        let rows = timeout(ANSWER, now.send(session, &statement, ())).await.ok()?.ok()?.into_rows_result().ok()?;
        let (told,) = rows.single_row::<(CqlTimeuuid,)>().ok()?;
        Some(Told { node: node.address.to_string(), ticks: ticks::of(told.into()), between: (asked, since_boot()) })
    });
    let told: Vec<_> = join_all(asking).await.into_iter().flatten().collect();
    if told.len() <= nodes.len() / 2 {
        return Err(Failed::unclear(format!("{} of {} nodes tell their time", told.len(), nodes.len())));
    }
    Ok(told)
}

/// What time it is by what the nodes said. Of an even number `own`, this process's time at a time since boot, decides.
pub fn agree(told: &[Told], own: (Ticks, Duration)) -> Option<Agreed> {
    // When the clock that nobody can set was at 0, by each of the others.
    let origin = |ticks: Ticks, at: Duration| ticks.saturating_sub(span(at));
    let of_node = |told: &Told| {
        let (asked, answered) = told.between;
        let took = answered.saturating_sub(asked);
        (origin(told.ticks, asked.saturating_add(took / 2)), span(took) / 2)
    };
    let mut all: Vec<_> = told.iter().map(of_node).collect();
    if told.is_empty() {
        return None;
    }
    if told.len().is_multiple_of(2) {
        all.push((origin(own.0, own.1), 0));
    }
    all.sort_unstable();
    let (middle, uncertainty) = all.get(all.len() / 2).copied()?;
    let fixed = Fixed { database: middle.saturating_add(span(own.1)), since_boot: own.1, uncertainty };
    let node = |told: &Told| {
        let (origin, unsure) = of_node(told);
        let ahead = origin.saturating_sub(middle);
        let is_off = ahead.saturating_abs().saturating_sub(unsure).saturating_sub(uncertainty) > TOLERATED;
        (told.node.clone(), ahead, is_off)
    };
    Some(Agreed { fixed, nodes: told.iter().map(node).collect() })
}

fn span(duration: Duration) -> Ticks {
    i64::try_from(duration.as_nanos() / 100).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: Ticks = 1_000_000 * ticks::PER_SECOND;

    /// What nodes say at 10 s since boot that are so many seconds ahead of [`BEGIN`] and 10 s.
    fn told(ahead: &[i64]) -> Vec<Told> {
        let between = (Duration::from_millis(9_900), Duration::from_millis(10_100));
        let node = |(number, ahead): (usize, &i64)| Told {
            node: number.to_string(),
            ticks: BEGIN + (10 + ahead) * ticks::PER_SECOND,
            between,
        };
        ahead.iter().enumerate().map(node).collect()
    }

    /// By how many seconds the database is ahead, and which nodes are off.
    fn agreed(ahead: &[i64], own: i64) -> (i64, Vec<String>) {
        let at = Duration::from_secs(11);
        let agreed = agree(&told(ahead), (BEGIN + (11 + own) * ticks::PER_SECOND, at)).expect("told");
        assert_eq!(agreed.fixed.since_boot, at);
        let off = agreed.nodes.into_iter().filter(|(.., is_off)| *is_off).map(|(node, ..)| node);
        ((agreed.fixed.database - BEGIN) / ticks::PER_SECOND - 11, off.collect())
    }

    #[test]
    fn one_node_with_a_wrong_clock_decides_nothing_and_is_named() {
        for wrong in [-864_000, -3, 3, 3_456_000] {
            assert_eq!(agreed(&[0, wrong, 0], 0), (0, vec!["1".to_owned()]));
            assert_eq!(agreed(&[wrong, 0, 0, 1, 0], 0), (0, vec!["0".to_owned()]));
            // Whether our own clock is right or wrong does not matter then.
            assert_eq!(agreed(&[0, 0, wrong], wrong), (0, vec!["2".to_owned()]));
        }
    }

    #[test]
    fn of_two_nodes_that_differ_the_one_is_believed_that_our_own_clock_agrees_with() {
        assert_eq!(agreed(&[0, 600], 0), (0, vec!["1".to_owned()]));
        assert_eq!(agreed(&[600, 0], 0), (0, vec!["0".to_owned()]));
        assert_eq!(agreed(&[0, 0], 600), (0, Vec::new()));
        assert_eq!(agreed(&[7], 0), (7, Vec::new()));
        assert_eq!(agree(&[], (0, Duration::ZERO)), None);
    }

    #[test]
    fn what_the_question_took_is_not_held_against_a_node() {
        let mut told = told(&[0, 0, 0]);
        told[2].between.0 = Duration::ZERO;
        let agreed = agree(&told, (BEGIN, Duration::ZERO)).expect("told");
        // Asked long before the others, it may have looked at its clock at any time since.
        assert!(agreed.nodes.iter().all(|(.., is_off)| !is_off), "{agreed:?}");
    }
}

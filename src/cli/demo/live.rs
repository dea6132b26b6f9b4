//! The line per second: what each node says of itself.
//!
//! Howdah is not asked: the nodes' own counters show where transactions went.

use std::fmt::Write;
use std::time::{Duration, Instant};

use super::binaries::Binaries;
use super::postgres::{Login, Server, query};

/// One look at all nodes.
#[derive(Clone, Debug)]
pub(super) struct Look {
    at: Instant,
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq)]
struct Node {
    name: &'static str,
    /// `None` when it did not answer.
    facts: Option<Facts>,
}

#[derive(Clone, Debug, PartialEq)]
struct Facts {
    role: Role,
    /// Transactions in database `demo` since the server started.
    transactions: u64,
    /// Where its WAL ends, or how far it is replayed.
    position: u64,
    /// What a primary knows of its standbys: name and replay lag in milliseconds.
    lags: Vec<(String, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Primary,
    Replica,
}

/// Asks every node at once.
pub(super) async fn look(nodes: &[Server], binaries: &Binaries, login: &Login) -> Look {
    let [first, second, third] = [0, 1, 2].map(|index| Box::pin(ask(nodes.get(index), binaries, login)));
    let (first, second, third) = tokio::join!(first, second, third);
    Look { at: Instant::now(), nodes: [first, second, third].into_iter().flatten().collect() }
}

async fn ask(node: Option<&Server>, binaries: &Binaries, login: &Login) -> Option<Node> {
    let node = node?;
    let answer = query(binaries, login, node.port, "postgres", QUESTION).await;
    Some(Node { name: node.name, facts: answer.ok().and_then(|answer| parse(answer.trim())) })
}

/// `f|1234|50331648|pg2=0.4,pg3=0`.
fn parse(answer: &str) -> Option<Facts> {
    let mut fields = answer.split('|');
    let role = if fields.next()? == "t" { Role::Replica } else { Role::Primary };
    let transactions = fields.next()?.parse().ok()?;
    let position = fields.next()?.parse().ok()?;
    let lags = fields.next()?.split(',').filter_map(|lag| {
        let (name, milliseconds) = lag.split_once('=')?;
        Some((name.to_owned(), milliseconds.parse().ok()?))
    });
    Some(Facts { role, transactions, position, lags: lags.collect() })
}

/// What is printed for two looks one after the other.
pub(super) fn line(elapsed: Duration, before: &Look, now: &Look) -> String {
    let seconds = elapsed.as_secs();
    let mut line = format!("{:02}:{:02}", seconds / 60, seconds % 60);
    let between = now.at.saturating_duration_since(before.at).as_secs_f64().max(0.001);
    let primary = now.nodes.iter().filter_map(|node| node.facts.as_ref()).find(|facts| facts.role == Role::Primary);
    for node in &now.nodes {
        let earlier = before.nodes.iter().find(|earlier| earlier.name == node.name);
        let earlier = earlier.and_then(|earlier| earlier.facts.as_ref());
        // Writing to a String cannot fail.
        let _ = write!(line, "  |  {} {}", node.name, describe(node, earlier, primary, between));
    }
    line
}

fn describe(node: &Node, earlier: Option<&Facts>, primary: Option<&Facts>, seconds: f64) -> String {
    let Some(facts) = &node.facts else {
        return "down".to_owned();
    };
    let grown = earlier.map_or(0, |earlier| facts.transactions.saturating_sub(earlier.transactions));
    #[allow(clippy::cast_precision_loss, reason = "a rate on a screen")]
    let rate = grown as f64 / seconds;
    match (facts.role, primary) {
        (Role::Primary, _) => format!("primary {rate:>5.0} tx/s"),
        (Role::Replica, None) => format!("replica {rate:>5.0} tx/s  lag ?"),
        (Role::Replica, Some(primary)) => {
            let bytes = primary.position.saturating_sub(facts.position);
            let lag = primary.lags.iter().find(|(name, _)| name == node.name);
            let time = lag.map_or_else(|| "not streaming".to_owned(), |(_, lag)| format!("{lag:.1} ms"));
            format!("replica {rate:>5.0} tx/s  lag {time}, {bytes} B")
        }
    }
}

/// One row; `pg_stat_replication` knows the replay lag of standbys that are behind, and NULL of those that are not.
const QUESTION: &str = "SELECT pg_is_in_recovery(), \
     (SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'demo'), \
     CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END - '0/0', \
     (SELECT coalesce(string_agg(application_name || '=' || coalesce(extract(epoch FROM replay_lag) * 1000, 0), ','), '') \
      FROM pg_stat_replication)";

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at: Instant, answers: [Option<&str>; 3]) -> Look {
        let nodes = ["pg1", "pg2", "pg3"].into_iter().zip(answers);
        Look { at, nodes: nodes.map(|(name, answer)| Node { name, facts: answer.and_then(parse) }).collect() }
    }

    #[test]
    fn a_line_shows_rates_and_lags() {
        let start = Instant::now();
        let before = look(start, [Some("f|100|1000|"), Some("t|0|1000|"), None]);
        let now = look(
            start + Duration::from_secs(2),
            [Some("f|120|5000|pg2=1.25,pg3=0.000"), Some("t|500|4000|"), Some("t|7|5000|")],
        );
        assert_eq!(
            line(Duration::from_secs(61), &before, &now),
            "01:01  |  pg1 primary    10 tx/s  |  pg2 replica   250 tx/s  lag 1.2 ms, 1000 B  |  \
             pg3 replica     0 tx/s  lag 0.0 ms, 0 B"
        );
    }

    #[test]
    fn a_line_without_a_primary() {
        let now = look(Instant::now(), [None, Some("t|5|1|"), Some("nonsense")]);
        assert_eq!(
            line(Duration::ZERO, &now, &now),
            "00:00  |  pg1 down  |  pg2 replica     0 tx/s  lag ?  |  pg3 down"
        );
    }

    #[test]
    fn a_standby_that_lost_its_primary_shows() {
        let now = look(Instant::now(), [Some("f|1|900|pg2=0"), Some("t|5|900|"), Some("t|5|100|")]);
        assert!(line(Duration::ZERO, &now, &now).ends_with("pg3 replica     0 tx/s  lag not streaming, 800 B"));
    }
}

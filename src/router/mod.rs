//! Where a statement goes: [`route`] takes what is asked and the cluster as it is, and answers
//! with a node or with what to wait for.
//!
//! Pure: no clock, no socket, no chance of its own. It does not know what a session is; the client
//! loop says whether a statement is bound to a transaction or a pin.

pub mod balance;
pub mod consistency;
pub mod reason;
pub mod view;

use std::time::Instant;

use crate::config::model::{Reads, Routing};
use crate::sql::classify::ReadOnly;
use consistency::{Candidates, Fresh};
use reason::Reason;
use view::needs::{Bar, CatchUp, Needs};
use view::{Out, View};

/// What is to be routed.
#[derive(Debug)]
pub enum Ask<'a> {
    /// Something for the primary, and why.
    Primary(Reason),
    /// A read.
    Read {
        /// That it is one.
        proof: ReadOnly,
        /// The settings it is routed by.
        routing: &'a Routing,
        /// What it must have seen.
        needs: Needs,
        /// Why it may go to a replica.
        reason: Reason,
    },
}

/// Where something goes.
#[derive(Debug)]
pub enum Target {
    /// The primary, as an index into the view's nodes.
    Primary(usize),
    /// A replica that has seen enough.
    Replica(Fresh),
}

impl Target {
    /// The node, as an index into the view's nodes.
    pub const fn node(&self) -> usize {
        match self {
            Self::Primary(node) => *node,
            Self::Replica(fresh) => fresh.node(),
        }
    }
}

/// The answer.
#[derive(Debug)]
pub enum Verdict {
    /// It goes there.
    Go {
        /// Where.
        target: Target,
        /// Why.
        reason: Reason,
    },
    /// A replica may have seen enough soon: wait (`Cluster::catch_up`) and ask again with the
    /// proof; when `routing.wait` is over, ask for the primary with [`Reason::WaitExpired`].
    Wait {
        /// The proof, given back.
        proof: ReadOnly,
        /// What to wait for.
        wait: CatchUp,
    },
    /// It needs a primary and there is none: wait (`Cluster::hold`) and ask again.
    NoPrimary {
        /// The proof, given back when there was one.
        proof: Option<ReadOnly>,
        /// Why it needs the primary.
        reason: Reason,
    },
}

/// Decides where `ask` goes. `random` is a number that the caller drew.
pub fn route(ask: Ask<'_>, view: &View, now: Instant, random: u64) -> Verdict {
    match ask {
        Ask::Primary(reason) => to_primary(view, reason, None),
        Ask::Read { proof, routing, needs, reason } => match routing.reads {
            Reads::Primary => to_primary(view, Reason::ReadsDisabled, Some(proof)),
            Reads::Replicas | Reads::Any => {
                let bar = Bar::new(needs, routing.max_lag, now);
                read(proof, routing, &bar, reason, view, random)
            }
        },
    }
}

fn read(proof: ReadOnly, routing: &Routing, bar: &Bar, reason: Reason, view: &View, random: u64) -> Verdict {
    let candidates = Candidates::new(view, bar);
    let mut choice = candidates.fresh;
    if let (Reads::Any, Some(primary)) = (routing.reads, view.primary) {
        if bar.needs.anywhere && candidates.behind.is_some() && view.wants_sample(bar) {
            return Verdict::Wait { proof, wait: CatchUp { bar: *bar, epoch: view.epoch } };
        }
        // Who has read from the primary must wait for a replica: that is not for each second read.
        if bar.needs.seen.is_none_or(|seen| !choice.contains(seen.node)) {
            choice.insert(primary);
        }
    }
    let Some(node) = balance::pick(view, choice, routing.balance, random) else {
        return without_replica(proof, routing, &candidates, bar, view);
    };
    if view.primary == Some(node) {
        return Verdict::Go { target: Target::Primary(node), reason };
    }
    match candidates.mint(proof, node) {
        Ok(fresh) => Verdict::Go { target: Target::Replica(fresh), reason },
        Err(proof) => to_primary(view, Reason::NoReplica, Some(proof)),
    }
}

/// No replica passes: is it worth waiting for one?
fn without_replica(proof: ReadOnly, routing: &Routing, found: &Candidates<'_>, bar: &Bar, view: &View) -> Verdict {
    match found.behind {
        // What has been behind for longer than we would wait is not expected to make it.
        Some(behind) if behind < routing.wait => {
            Verdict::Wait { proof, wait: CatchUp { bar: *bar, epoch: view.epoch } }
        }
        Some(_) => to_primary(view, Reason::TooFarBehind, Some(proof)),
        None => {
            let reason = match found.out {
                Out::NotReplica | Out::Unavailable => Reason::NoReplica,
                Out::Paused => Reason::ReplicasPaused,
                Out::Lagging => Reason::ReplicasLagging,
            };
            to_primary(view, reason, Some(proof))
        }
    }
}

fn to_primary(view: &View, reason: Reason, proof: Option<ReadOnly>) -> Verdict {
    match view.primary {
        Some(primary) => Verdict::Go { target: Target::Primary(primary), reason },
        None => Verdict::NoPrimary { proof, reason },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::view::needs::Seen;
    use super::view::sketch::Clock;
    use super::view::{Role, State};
    use super::*;
    use crate::config::model::{Balance, Consistency, Scope, Transactions};
    use crate::sql::catalog::Catalog;
    use crate::sql::classify::Classifier;
    use crate::types::Lsn;

    fn proof() -> ReadOnly {
        ReadOnly::of(&Classifier::default().analyse(b"select 1", &Catalog::empty())).unwrap()
    }

    fn routing(reads: Reads) -> Routing {
        Routing {
            reads,
            consistency: Consistency::Database,
            scope: Scope::Client,
            tables: false,
            wait: Duration::from_millis(20),
            max_lag: Duration::from_secs(10),
            transactions: Transactions::Primary,
            balance: Balance::LeastOutstanding,
        }
    }

    fn ask(clock: Clock, view: &View, reads: Reads, round: u64) -> Verdict {
        let needs = Needs { round, ..Needs::NONE };
        let routing = routing(reads);
        route(Ask::Read { proof: proof(), routing: &routing, needs, reason: Reason::Read }, view, clock.at(2500), 0)
    }

    fn say(verdict: &Verdict) -> String {
        match verdict {
            Verdict::Go { target: Target::Primary(node), reason } => format!("primary {node} {}", reason.as_str()),
            Verdict::Go { target: Target::Replica(fresh), reason } => {
                format!("replica {} {}", fresh.node(), reason.as_str())
            }
            Verdict::Wait { .. } => "wait".to_owned(),
            Verdict::NoPrimary { proof, reason } => {
                assert!(proof.is_some());
                format!("no primary {}", reason.as_str())
            }
        }
    }

    const SAMPLES: [(u64, u64, u64); 3] = [(1, 0, 100), (2, 1000, 200), (3, 2000, 300)];

    #[test]
    fn reads_go_to_replicas_that_have_seen_enough() {
        for (nodes, round, expected) in [
            ("P S@300+2000", 0, "replica 1 read"),
            ("P S@300+2000", 3, "replica 1 read"),
            ("P S@200+2000 S@300+2000", 3, "replica 2 read"),
            ("P S@300+2000", 4, "wait"),
            ("P S@200+2010", 3, "wait"),
            ("P S@200+2030", 3, "primary 0 too_far_behind"),
            ("P S@200+2030 S@250+2000", 3, "wait"),
            ("P", 0, "primary 0 no_replica"),
            ("P -", 0, "primary 0 no_replica"),
            ("P S@300+2000:paused -", 0, "primary 0 replicas_paused"),
            ("P S@200+14000 S@300+2000:paused", 3, "primary 0 replicas_lagging"),
            ("- S@300+2000", 3, "replica 1 read"),
            ("- S@300+2000", 4, "no primary replicas_lagging"),
            ("- -", 0, "no primary no_replica"),
            ("P:down S@300+2000:down", 0, "no primary no_replica"),
        ] {
            let clock = Clock(Instant::now());
            let verdict = ask(clock, &clock.sketch(nodes, &SAMPLES), Reads::Replicas, round);
            assert_eq!(say(&verdict), expected, "{nodes} round {round}");
        }
    }

    #[test]
    fn settings_and_hints_decide_first() {
        let clock = Clock(Instant::now());
        let view = clock.sketch("P S@300+2000", &SAMPLES);
        assert_eq!(say(&ask(clock, &view, Reads::Primary, 0)), "primary 0 reads_disabled");
        let verdict = route(Ask::Primary(Reason::Transaction), &view, clock.at(2500), 0);
        assert_eq!(say(&verdict), "primary 0 transaction");
        let busy = view.nodes[1].load.begin();
        assert_eq!(say(&ask(clock, &view, Reads::Any, 0)), "primary 0 read");
        assert_eq!(say(&ask(clock, &view, Reads::Replicas, 0)), "replica 1 read");
        drop(busy);
    }

    #[test]
    fn a_client_stays_where_it_reads_until_it_looks_around() {
        let clock = Clock(Instant::now());
        let view = clock.sketch("P S@300+2000 S@300+2000", &SAMPLES);
        let go = |needs, random| {
            let routing = routing(Reads::Any);
            let asked = Ask::Read { proof: proof(), routing: &routing, needs, reason: Reason::Read };
            say(&route(asked, &view, clock.at(2500), random))
        };
        let seen = |node| Some(Seen { node, incarnation: 0, round: 4 });
        for random in 0..50_u64 {
            let random = random.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            assert_eq!(go(Needs { seen: seen(1), ..Needs::NONE }, random), "replica 1 read");
            assert_eq!(go(Needs { seen: seen(0), ..Needs::NONE }, random), "primary 0 read");
            assert_eq!(go(Needs { seen: seen(Seen::NOWHERE), ..Needs::NONE }, random), "primary 0 read");
            assert_eq!(go(Needs { round: 4, anywhere: true, ..Needs::NONE }, random), "wait");
            assert_ne!(go(Needs { round: 3, anywhere: true, ..Needs::NONE }, random), "wait");
        }
    }

    #[test]
    fn a_wait_of_zero_is_none() {
        let clock = Clock(Instant::now());
        let view = clock.sketch("P S@200+2000", &SAMPLES);
        let routing = Routing { wait: Duration::ZERO, ..routing(Reads::Replicas) };
        let needs = Needs { round: 3, ..Needs::NONE };
        let verdict = route(
            Ask::Read { proof: proof(), routing: &routing, needs, reason: Reason::Read },
            &view,
            clock.at(2500),
            0,
        );
        assert_eq!(say(&verdict), "primary 0 too_far_behind");
    }

    #[test]
    fn a_wait_ends_when_a_replica_passes_or_hope_is_gone() {
        let clock = Clock(Instant::now());
        let view = clock.sketch("P S@200+2000", &SAMPLES);
        let Verdict::Wait { wait, .. } = ask(clock, &view, Reads::Replicas, 3) else { panic!("no wait") };
        for (nodes, epoch, ends) in [
            ("P S@200+2000", 1, false),
            ("P S@299+2500", 1, false),
            ("P S@300+2500", 1, true),
            ("P S@200+2500:paused", 1, true),
            ("P -", 1, true),
            ("P S@200+2000", 2, true),
        ] {
            let view = View { epoch, ..clock.sketch(nodes, &SAMPLES) };
            assert_eq!(view.ends(&wait), ends, "{nodes} in epoch {epoch}");
        }
    }

    fn word() -> impl Strategy<Value = String> {
        let trait_ = prop_oneof![
            6 => Just(""),
            1 => Just(":paused"),
            1 => Just(":draining"),
            1 => Just(":down"),
            1 => Just(":timeline2"),
            1 => Just(":weight0"),
        ];
        prop_oneof![
            1 => Just("-".to_owned()),
            1 => Just("S".to_owned()),
            8 => (0_u64..600, 0_u64..5000, trait_)
                .prop_map(|(lsn, millis, trait_)| format!("S@{lsn}+{millis}{trait_}")),
        ]
    }

    proptest! {
        /// Judged from the raw facts: a replica that gets a read has all that was asked for.
        #[test]
        fn no_read_reaches_a_replica_that_lacks_something(
            words in proptest::collection::vec(word(), 1..5),
            primary in prop_oneof![4 => Just("P"), 1 => Just("-")],
            samples in proptest::collection::vec((1_u64..3, 1_u64..1500, 0_u64..100), 0..8),
            round in 0_u64..12,
            min_lsn in prop_oneof![Just(0), 0_u64..500],
            (max_lag, now) in (0_u64..6000, 0_u64..8000),
            any in any::<bool>(),
            random in any::<u64>(),
        ) {
            let mut sum = (0, 0, 100);
            let samples: Vec<_> = samples.into_iter().map(|(rounds, millis, bytes)| {
                sum = (sum.0 + rounds, sum.1 + millis, sum.2 + bytes);
                sum
            }).collect();
            let clock = Clock(Instant::now());
        let view = clock.sketch(&format!("{primary} {}", words.join(" ")), &samples);
            let routing = Routing {
                max_lag: Duration::from_millis(max_lag),
                ..routing(if any { Reads::Any } else { Reads::Replicas })
            };
            let needs = Needs { round, min_lsn: Lsn(min_lsn), ..Needs::NONE };
            let asked = Ask::Read { proof: proof(), routing: &routing, needs, reason: Reason::Read };
            match route(asked, &view, clock.at(now), random) {
                Verdict::Go { target: Target::Replica(fresh), .. } => {
                    let node = &view.nodes[fresh.node()];
                    prop_assert_eq!((node.role, node.state, node.timeline), (Role::Replica, State::Up, view.timeline));
                    prop_assert!(node.weight > 0);
                    let lsn = node.replay.unwrap().lsn;
                    prop_assert_eq!(fresh.lsn(), lsn);
                    prop_assert!(lsn.0 >= min_lsn);
                    let recent = samples.iter().any(|&(_, millis, at)| at <= lsn.0 && millis + max_lag >= now);
                    prop_assert!(recent, "older than max_lag");
                    let covering = samples.iter().any(|&(number, _, at)| number >= round && at <= lsn.0);
                    prop_assert!(round == 0 || covering, "a write is missing");
                }
                Verdict::Go { target: Target::Primary(node), .. } => prop_assert_eq!(view.primary, Some(node)),
                Verdict::Wait { wait, .. } => prop_assert!(!view.ends(&wait)),
                Verdict::NoPrimary { proof, .. } => prop_assert!(view.primary.is_none() && proof.is_some()),
            }
        }

        /// Replaying more never takes a read away, and needing more never admits one.
        #[test]
        fn standing_is_monotone(lsn in 0_u64..400, more in 0_u64..100, round in 0_u64..5, higher in 0_u64..3) {
            let fresh = |lsn: u64, round| {
                let clock = Clock(Instant::now());
        let view = clock.sketch(&format!("P S@{lsn}+2000"), &SAMPLES);
                matches!(ask(clock, &view, Reads::Replicas, round), Verdict::Go { target: Target::Replica(_), .. })
            };
            prop_assert!(!fresh(lsn, round) || fresh(lsn + more, round));
            prop_assert!(!fresh(lsn, round + higher) || fresh(lsn, round) || round == 0);
        }
    }
}

//! Who is the primary: what each node says of itself in, roles out. Pure.
//!
//! Nothing is configured. A node of another system identifier is refused; of several that claim to
//! be the primary the one on the highest timeline is, and the others get no traffic; a tie means
//! that nobody is. A timeline once seen is never gone back from.

use crate::types::Timeline;

/// `pg_control_system().system_identifier`: which cluster a data directory belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SystemId(pub(super) u64);

/// What a node says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// The cluster it belongs to.
    pub(super) system: SystemId,
    /// What it is.
    pub(super) kind: Kind,
    /// The timeline it is on, as far as it can tell.
    pub(super) timeline: Option<Timeline>,
}

/// `pg_is_in_recovery()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Not in recovery.
    Primary,
    /// In recovery.
    Standby,
}

/// What is known of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Observation {
    /// It has not been asked yet.
    Pending,
    /// It does not answer.
    Silent,
    /// It answered.
    Says(Claim),
}

/// What a node counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nobody knows.
    Unknown,
    /// The primary.
    Primary,
    /// A standby.
    Replica,
    /// It gets no traffic.
    Refused(Refusal),
}

/// Why a node gets no traffic though it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("it belongs to another cluster: its system identifier is {}, the others' is {}", .own.0, .ours.0)]
    ForeignSystem { own: SystemId, ours: SystemId },
    #[error("it is a primary on timeline {own}, but timeline {highest} exists: it was overtaken by a promotion")]
    Overtaken { own: Timeline, highest: Timeline },
    #[error("several nodes are primaries on timeline {0}: stop the wrong one")]
    Tie(Timeline),
    #[error("it is a primary but does not say on which timeline")]
    NoTimeline,
}

/// What outlives one decision.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memory {
    /// The cluster that this is.
    system: Option<SystemId>,
    /// The highest timeline that any of its nodes has been on.
    highest: Option<Timeline>,
}

impl Memory {
    /// What each node counts as, given what all of them say.
    pub(super) fn decide(&mut self, nodes: &[Observation]) -> Vec<Verdict> {
        self.identify(nodes);
        let Some(ours) = self.system else { return vec![Verdict::Unknown; nodes.len()] };
        let member = |claim: &&Claim| claim.system == ours;
        let highest = claims(nodes).filter(member).filter_map(|claim| claim.timeline).max();
        self.highest = self.highest.max(highest);
        let claimants = claims(nodes).filter(member).filter(|claim| self.leads(claim)).count();
        nodes
            .iter()
            .map(|node| match node {
                Observation::Pending | Observation::Silent => Verdict::Unknown,
                Observation::Says(claim) if claim.system != ours => {
                    Verdict::Refused(Refusal::ForeignSystem { own: claim.system, ours })
                }
                Observation::Says(claim) => self.judge(claim, claimants),
            })
            .collect()
    }

    fn leads(&self, claim: &Claim) -> bool {
        claim.kind == Kind::Primary && claim.timeline.is_some() && claim.timeline == self.highest
    }

    fn judge(&self, claim: &Claim, claimants: usize) -> Verdict {
        match (claim.kind, claim.timeline, self.highest) {
            (Kind::Standby, _, _) => Verdict::Replica,
            (Kind::Primary, Some(own), Some(highest)) if own < highest => {
                Verdict::Refused(Refusal::Overtaken { own, highest })
            }
            (Kind::Primary, Some(own), _) if claimants > 1 => Verdict::Refused(Refusal::Tie(own)),
            (Kind::Primary, Some(_), _) => Verdict::Primary,
            (Kind::Primary, None, _) => Verdict::Refused(Refusal::NoTimeline),
        }
    }

    /// Settles which cluster this is: as soon as most configured nodes agree or all were asked, the one
    /// that most of them belong to, the earlier in the configuration when even. It stays, unless
    /// every node answers and none belongs to it any more (the cluster was rebuilt or upgraded).
    fn identify(&mut self, nodes: &[Observation]) {
        let votes = |system: SystemId| claims(nodes).filter(|claim| claim.system == system).count();
        let all_asked = nodes.iter().all(|node| *node != Observation::Pending);
        let all_answered = claims(nodes).count() == nodes.len();
        if self.system.is_some_and(|ours| votes(ours) > 0 || !all_answered) {
            return;
        }
        let mut winner: Option<SystemId> = None;
        for claim in claims(nodes) {
            if winner.is_none_or(|leading| votes(claim.system) > votes(leading)) {
                winner = Some(claim.system);
            }
        }
        let settled = winner.is_some_and(|system| all_asked || votes(system) * 2 > nodes.len());
        if settled && winner != self.system {
            *self = Self { system: winner, highest: None };
        }
    }
}

fn claims(nodes: &[Observation]) -> impl Iterator<Item = &Claim> {
    nodes.iter().filter_map(|node| match node {
        Observation::Says(claim) => Some(claim),
        Observation::Pending | Observation::Silent => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `P1`, `S1`: primary or standby on timeline 1 of our cluster; `p1`, `s1` of another; `S?` knows no
    /// timeline; `-` is silent, `.` pending. Answers in the same manner, `x` being refused.
    fn observe(text: &str) -> Vec<Observation> {
        text.split_whitespace()
            .map(|word| match word {
                "." => Observation::Pending,
                "-" => Observation::Silent,
                word => {
                    let kind = if word.to_uppercase().starts_with('P') { Kind::Primary } else { Kind::Standby };
                    let system = SystemId(if word.to_uppercase() == word { 7 } else { 8 });
                    Observation::Says(Claim { system, kind, timeline: word[1..].parse().ok().map(Timeline) })
                }
            })
            .collect()
    }

    fn show(verdicts: &[Verdict]) -> String {
        let words = verdicts.iter().map(|verdict| match verdict {
            Verdict::Unknown => "-",
            Verdict::Primary => "P",
            Verdict::Replica => "S",
            Verdict::Refused(_) => "x",
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// Runs a story of observations and expects a verdict after each.
    fn check(story: &[(&str, &str)]) {
        let mut memory = Memory::default();
        for (nodes, expected) in story {
            assert_eq!(show(&memory.decide(&observe(nodes))), *expected, "after {nodes} in {story:?}");
        }
    }

    #[test]
    fn roles_are_what_nodes_say() {
        check(&[(". . .", "- - -"), ("P1 . .", "- - -"), ("P1 S1 .", "P S -"), ("P1 S1 S1", "P S S")]);
        check(&[(".", "-"), ("P1", "P")]);
        check(&[("S1 S1", "S S"), ("S1 P2", "S P")]);
        check(&[("S? P1", "S P"), ("P?", "x")]);
    }

    #[test]
    fn the_higher_timeline_wins_and_is_never_gone_back_from() {
        check(&[
            ("P1 S1 S1", "P S S"),
            ("P1 P2 S1", "x P S"),
            ("P1 - S1", "x - S"),
            ("- P2 S2", "- P S"),
            ("S2 P2 S2", "S P S"),
        ]);
        check(&[("P1 - S2", "x - S")]);
    }

    #[test]
    fn a_tie_means_no_primary() {
        check(&[("P1 S1 S1", "P S S"), ("- P2 P2", "- x x"), ("- P2 -", "- P -")]);
        check(&[("P1 P1", "x x")]);
    }

    #[test]
    fn another_cluster_is_refused() {
        check(&[("P1 s9 S1", "P x S")]);
        // The first to answer does not decide, unless the others never do.
        check(&[("p1 . .", "- - -"), ("p1 S1 .", "- - -"), ("p1 S1 P1", "x S P")]);
        check(&[("p1 - -", "P - -"), ("p1 S1 P1", "P x x")]);
        // Even: the configuration's order.
        check(&[("P1 p1", "P x")]);
    }

    #[test]
    fn a_cluster_that_was_replaced_as_a_whole_is_accepted() {
        check(&[("P3 S3", "P S"), ("p1 -", "x -"), ("p1 s1", "P S")]);
    }

    fn node() -> impl Strategy<Value = Observation> {
        prop_oneof![
            Just(Observation::Pending),
            Just(Observation::Silent),
            (7_u64..9, any::<bool>(), proptest::option::of(1_u32..5)).prop_map(|(system, primary, timeline)| {
                let kind = if primary { Kind::Primary } else { Kind::Standby };
                Observation::Says(Claim { system: SystemId(system), kind, timeline: timeline.map(Timeline) })
            }),
        ]
    }

    proptest! {
        #[test]
        fn there_is_never_a_second_primary_nor_a_way_back(
            story in proptest::collection::vec(proptest::collection::vec(node(), 3), 1..12)
        ) {
            let mut memory = Memory::default();
            let mut reached: Option<(Option<SystemId>, Timeline)> = None;
            for nodes in story {
                let verdicts = memory.decide(&nodes);
                let primaries: Vec<_> = (0..3).filter(|at| verdicts[*at] == Verdict::Primary).collect();
                prop_assert!(primaries.len() <= 1);
                if let Some(at) = primaries.first() {
                    let Observation::Says(claim) = nodes[*at] else { panic!("a silent primary") };
                    prop_assert_eq!(claim.kind, Kind::Primary);
                    let timeline = claim.timeline.unwrap();
                    if let Some((system, before)) = reached {
                        prop_assert!(system != memory.system || timeline >= before);
                    }
                    reached = Some((memory.system, timeline));
                }
            }
        }
    }
}

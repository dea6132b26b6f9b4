//! What was found, by corpus.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use howdah::sql::Class;

/// Of the SELECTs of the mappers that a standby answers alike, this share must be taken for reads, in percent.
pub(crate) const OFFLOAD: f64 = 95.0;

/// What a standby made of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The same rows.
    Same,
    /// A refusal, because it is a standby.
    Refused,
    /// Another error than the primary's.
    Failed,
    /// Other rows, and the primary gives the same ones twice.
    Differs,
    /// Other rows, but so does the primary.
    Unstable,
    /// An error on both.
    Wrong,
    /// Not asked, or it cannot know.
    Unseen(Why),
}

/// Why a standby's answer says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    /// It sees what its own transaction has written.
    Written,
    /// Its session has temporary objects, and the answer is another one without them.
    Temporary,
    /// Its transaction is serializable, which no standby's can be.
    Serializable,
    /// The standby cannot be set as the session is: settings, or a role that came and went.
    Settings,
    /// Its transaction has failed, and so does it.
    Failed,
    /// The session did not say how it stands.
    Unknown,
}

impl Why {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Written, "own writes"),
        (Self::Temporary, "temporary objects"),
        (Self::Serializable, "serializable"),
        (Self::Settings, "settings or role"),
        (Self::Failed, "failed block"),
        (Self::Unknown, "state not told"),
    ];
}

/// Where a statement came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Outside of transaction blocks.
    Alone,
    /// In one.
    Block,
}

/// The statements of one corpus.
pub(crate) struct Ledger {
    name: &'static str,
    /// The share of offloaded SELECTs that is promised.
    promised: Option<f64>,
    statements: u64,
    selects: u64,
    reads: u64,
    /// SELECTs that a standby answers alike, and those of them that are taken for reads.
    accepted: u64,
    offloaded: u64,
    /// Those of the latter that came in a transaction block.
    in_blocks: u64,
    /// Messages of the extended protocol, which are not looked at.
    pub(crate) parsed: u64,
    /// Reads for which no standby's answer counts.
    unseen: BTreeMap<Why, u64>,
    /// Reads that a standby refused or that changed something, and reads with other results.
    misroutes: u64,
    differences: u64,
    /// Statements whose reach is known, and those that touched a relation beyond it.
    narrow: u64,
    beyond: u64,
    unstable: BTreeMap<String, u64>,
    kept: BTreeMap<String, (u64, String)>,
}

/// One statement and what was found.
pub(crate) struct Entry<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) class: Class,
    pub(crate) culprit: Option<String>,
    pub(crate) is_select: bool,
    pub(crate) place: Place,
    pub(crate) verdict: Verdict,
    /// What a read left behind.
    pub(crate) changed: Option<&'static str>,
    pub(crate) said: String,
}

impl Ledger {
    pub(crate) fn new(name: &'static str, promised: Option<f64>) -> Self {
        Self {
            name,
            promised,
            statements: 0,
            selects: 0,
            reads: 0,
            accepted: 0,
            offloaded: 0,
            in_blocks: 0,
            parsed: 0,
            unseen: BTreeMap::new(),
            misroutes: 0,
            differences: 0,
            narrow: 0,
            beyond: 0,
            unstable: BTreeMap::new(),
            kept: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, entry: &Entry<'_>) {
        self.statements += 1;
        self.selects += u64::from(entry.is_select);
        let is_read = entry.class == Class::Read;
        self.reads += u64::from(is_read);
        let text = String::from_utf8_lossy(entry.text).split_whitespace().collect::<Vec<_>>().join(" ");
        let text: String = text.chars().take(300).collect();
        if is_read {
            match (entry.changed, entry.verdict) {
                (Some(what), _) => {
                    self.misroutes += 1;
                    eprintln!("MISROUTED ({}), {what}: {text}", self.name);
                }
                (None, Verdict::Refused) => {
                    self.misroutes += 1;
                    eprintln!("MISROUTED ({}), {}: {text}", self.name, entry.said);
                }
                (None, Verdict::Failed | Verdict::Differs) => {
                    self.differences += 1;
                    eprintln!("OTHER RESULT ({}), {}: {text}", self.name, entry.said);
                }
                (None, Verdict::Unstable) => *self.unstable.entry(text.clone()).or_default() += 1,
                (None, Verdict::Unseen(why)) => *self.unseen.entry(why).or_default() += 1,
                (None, Verdict::Same | Verdict::Wrong) => {}
            }
        }
        if !entry.is_select || entry.verdict != Verdict::Same {
            return;
        }
        self.accepted += 1;
        self.offloaded += u64::from(is_read);
        self.in_blocks += u64::from(is_read && entry.place == Place::Block);
        if let Class::Write(reason) = entry.class {
            let why = entry
                .culprit
                .as_deref()
                .map_or_else(|| reason.as_str().into(), |it| format!("{}: {it}", reason.as_str()));
            self.kept.entry(why).or_insert((0, text)).0 += 1;
        }
    }

    /// A statement whose reach is known has run; it touched a relation that it was not held to reach.
    pub(crate) fn reached(&mut self, text: &[u8], beyond: Option<&str>) {
        self.narrow += 1;
        if let Some(relation) = beyond {
            self.beyond += 1;
            eprintln!("BEYOND ({}), {relation}: {:.300}", self.name, String::from_utf8_lossy(text));
        }
    }

    fn offload(&self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "counts of statements are small")]
        let share = self.offloaded as f64 * 100.0 / self.accepted.max(1) as f64;
        share
    }

    /// Whether nothing went where it must not, and enough of what may.
    pub(crate) fn is_good(&self) -> bool {
        let is_complete = self.accepted > 0;
        is_complete
            && self.misroutes == 0
            && self.differences == 0
            && self.beyond == 0
            && self.promised.is_none_or(|share| self.offload() >= share)
    }

    fn details(&self) -> String {
        const MOST: usize = 15;
        let mut text = String::new();
        let mut kept: Vec<_> = self.kept.iter().collect();
        kept.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        for (why, (count, example)) in kept.iter().take(MOST) {
            let _ = writeln!(text, "{count:>6} on the primary without need ({}), {why}: {example:.100}", self.name);
        }
        for (example, count) in self.unstable.iter().take(MOST) {
            let _ = writeln!(text, "{count:>6} not the same twice ({}): {example:.100}", self.name);
        }
        text
    }
}

/// What the figures are made of.
pub(crate) fn details(ledgers: &[Ledger]) -> String {
    ledgers.iter().map(Ledger::details).collect()
}

/// The figures of all corpora.
pub(crate) fn table(ledgers: &[Ledger]) -> String {
    let mut text = String::new();
    let columns = [
        "corpus",
        "statements",
        "SELECTs",
        "reads",
        "not compared",
        "misrouted",
        "other result",
        "answered alike",
        "offloaded",
        "share",
        "in blocks",
    ];
    let _ = writeln!(text, "| {} |\n|---{}|", columns.join(" | "), "|---:".repeat(columns.len() - 1));
    for ledger in ledgers {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {:.1} % | {} |",
            ledger.name,
            ledger.statements,
            ledger.selects,
            ledger.reads,
            ledger.unseen.values().sum::<u64>(),
            ledger.misroutes,
            ledger.differences,
            ledger.accepted,
            ledger.offloaded,
            ledger.offload(),
            ledger.in_blocks,
        );
    }
    let reasons: Vec<&str> = Why::ALL.into_iter().map(|(_, label)| label).collect();
    let _ = writeln!(text, "\n| not compared | {} |\n|---{}|", reasons.join(" | "), "|---:".repeat(reasons.len()));
    for ledger in ledgers {
        let count = |(why, _)| ledger.unseen.get(&why).copied().unwrap_or_default().to_string();
        let _ = writeln!(text, "| {} | {} |", ledger.name, Why::ALL.map(count).join(" | "));
    }
    for ledger in ledgers {
        let Ledger { name, narrow, beyond, .. } = ledger;
        let _ = writeln!(text, "{name}: of {narrow} statements whose reach is known, {beyond} went beyond it");
    }
    for ledger in ledgers.iter().filter(|ledger| ledger.parsed > 0) {
        let _ = writeln!(text, "{}: {} Parse messages are not in it", ledger.name, ledger.parsed);
    }
    text
}

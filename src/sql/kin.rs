//! Which relations change, or are read, together: partitions and heirs with their parents, and whom foreign keys change.
//!
//! Names are without schema: relations of one name pass for one.

use std::collections::{HashMap, HashSet};

use super::catalog::Row;
use super::functions::{Said, said};
use super::reach::Reach;

/// What must be asked of the primary; [`Kin::new`] takes the answer. Rows say what one relation is to another, or that nobody
/// knows what writing to it changes: triggers and rules do what they like, and so do volatile functions in defaults, constraints
/// and policies. What `initdb` made has an object identifier below 16384 (`FirstNormalObjectId`, src/include/access/transam.h).
pub(super) const QUERY: &str = "SELECT 'child', c.relname, p.relname FROM pg_catalog.pg_inherits i \
     JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid JOIN pg_catalog.pg_class p ON p.oid = i.inhparent \
     WHERE c.relkind IN ('r', 'p', 'f') \
     UNION ALL SELECT 'cascade', r.relname, c.relname FROM pg_catalog.pg_constraint k \
     JOIN pg_catalog.pg_class r ON r.oid = k.confrelid JOIN pg_catalog.pg_class c ON c.oid = k.conrelid \
     WHERE k.contype = 'f' AND (k.confdeltype IN ('c', 'n', 'd') OR k.confupdtype IN ('c', 'n', 'd')) \
     UNION ALL SELECT 'unclear', c.relname, NULL FROM pg_catalog.pg_class c WHERE c.relkind = 'f' \
     OR c.oid IN (SELECT t.tgrelid FROM pg_catalog.pg_trigger t WHERE NOT t.tgisinternal) \
     OR c.oid IN (SELECT r.ev_class FROM pg_catalog.pg_rewrite r WHERE r.ev_type <> '1' AND r.oid >= 16384) \
     UNION ALL SELECT DISTINCT 'calls', c.relname, p.proname FROM pg_catalog.pg_proc p \
     JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.refobjid = p.oid \
     LEFT JOIN pg_catalog.pg_attrdef a ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND a.oid = d.objid \
     LEFT JOIN pg_catalog.pg_constraint k ON d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND k.oid = d.objid \
     LEFT JOIN pg_catalog.pg_policy y ON d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND y.oid = d.objid \
     JOIN pg_catalog.pg_class c ON c.oid IN (a.adrelid, k.conrelid, y.polrelid) \
     WHERE p.oid >= 16384 AND p.provolatile = 'v'";

/// Who changes together with whom.
#[derive(Debug, Default)]
pub(super) struct Kin {
    /// Of each relation that has parents or children, which of its family stands for all of them.
    heads: HashMap<String, String>,
    /// By the head of a family: the relations that foreign keys change when it changes.
    cascades: HashMap<String, Vec<String>>,
    /// Heads of families of which nobody knows what changes with them.
    unclear: HashSet<String>,
}

impl Kin {
    /// What the answer to [`QUERY`] says, where nobody knows what comes of writing to some `doubtful` relations.
    pub(super) fn new<'a>(rows: &'a [Row], doubtful: impl Iterator<Item = &'a str>) -> Self {
        let of = |wanted: &'static str| {
            rows.iter().filter_map(move |row| match row.as_slice() {
                [Some(what), Some(one), other] if what == wanted => {
                    Some((one.as_str(), other.as_deref().unwrap_or_default()))
                }
                _ => None,
            })
        };
        let mut kin = Self::default();
        for (child, parent) in of("child") {
            kin.unite(child, parent);
        }
        for (changed, with_it) in of("cascade") {
            let head = kin.head(changed).to_owned();
            kin.cascades.entry(head).or_default().push(with_it.to_owned());
        }
        let calls = of("calls").filter(|(_, function)| said(function) != Said::Plain);
        let unclear = of("unclear").chain(calls).map(|(name, _)| name);
        for unclear in unclear.chain(doubtful) {
            let head = kin.head(unclear).to_owned();
            kin.unclear.insert(head);
        }
        kin
    }

    fn head<'a>(&'a self, name: &'a str) -> &'a str {
        self.heads.get(name).map_or(name, String::as_str)
    }

    fn unite(&mut self, child: &str, parent: &str) {
        let (old, head) = (self.head(child).to_owned(), self.head(parent).to_owned());
        for other in self.heads.values_mut().filter(|other| **other == old) {
            other.clone_from(&head);
        }
        self.heads.insert(child.to_owned(), head.clone());
        self.heads.insert(old, head.clone());
        self.heads.insert(head.clone(), head);
    }

    /// What is read with the table `name`.
    pub(super) fn read_with(&self, name: &str) -> Reach {
        Reach::of(self.head(name))
    }

    /// What changes when the table `name` is written to.
    pub(super) fn written_with(&self, name: &str) -> Reach {
        let (mut reach, mut seen, mut open) = (Reach::NOTHING, HashSet::new(), vec![name]);
        while let Some(name) = open.pop() {
            let head = self.head(name);
            if self.unclear.contains(head) || reach.is_everything() {
                return Reach::EVERYTHING;
            }
            if seen.insert(head) {
                reach = reach.with(Reach::of(head));
                open.extend(self.cascades.get(head).into_iter().flatten().map(String::as_str));
            }
        }
        reach
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_and_cascades() {
        let row = |values: [&str; 3]| values.iter().map(|value| Some((*value).to_owned())).collect();
        let rows: Vec<Row> = [
            ["child", "events_1", "events"],
            ["child", "events_1_a", "events_1"],
            ["child", "grown", "old"],
            ["child", "old", "ancient"],
            ["cascade", "orders", "items"],
            ["cascade", "items", "events_1"],
            ["cascade", "events", "orders"],
            ["cascade", "users", "audited"],
            ["unclear", "audited", ""],
            ["calls", "marked", "uuid_generate_v4"],
            ["calls", "logged", "log_it"],
        ]
        .into_iter()
        .map(row)
        .collect();
        let kin = Kin::new(&rows, ["typed"].into_iter());
        let of = |names: &[&str]| names.iter().fold(Reach::NOTHING, |reach, name| reach.with(kin.read_with(name)));
        for family in [["events", "events_1", "events_1_a"], ["grown", "old", "ancient"]] {
            assert!(family.iter().all(|name| kin.read_with(name) == kin.read_with(family[0])), "{family:?}");
        }
        for (written, changed) in [
            ("alone", of(&["alone"])),
            ("old", of(&["grown"])),
            ("orders", of(&["orders", "items", "events"])),
            ("events_1_a", of(&["orders", "items", "events"])),
            ("users", Reach::EVERYTHING),
            ("audited", Reach::EVERYTHING),
            ("marked", of(&["marked"])),
            ("logged", Reach::EVERYTHING),
            ("typed", Reach::EVERYTHING),
        ] {
            assert_eq!(kin.written_with(written), changed, "{written}");
        }
    }
}

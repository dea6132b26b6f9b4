//! What one database contains, as far as it decides where a statement may run: a value, made of rows that
//! somebody else has asked the primary for.
//!
//! Names without a schema are judged over all schemas, functions by all that take as many arguments, and the strictest judgement
//! counts: what `search_path` says need not be known. A function's body is trusted by its declared volatility. A replica's refusal (25006) is the net below.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::ops::RangeInclusive;
use std::sync::Arc;

use foldhash::quality::FixedState;

use super::classify;
use super::hidden::Hidden;
use super::kin::{self, Kin};
use super::reach::Reach;
use super::types::{self, Types};

/// What is known of one database.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    version: u64,
    /// Tells this catalog from others, of other databases too; the same for the same contents.
    seed: u64,
    /// By name.
    functions: HashMap<String, Vec<Overload>>,
    /// By name: whether the relation may be read anywhere.
    relations: HashMap<String, Vec<(String, Trust)>>,
    /// Operators whose function is volatile.
    operators: HashSet<String>,
    /// By name: what is read with a relation; everything where nothing is said.
    read: HashMap<String, Reach>,
    /// By name: what changes when a relation is written to; everything where nothing is said.
    written: HashMap<String, Reach>,
    /// Functions that may be called as if they were columns: `t.f` is `f(t)`.
    attributes: HashSet<String>,
    /// Functions that may look up whatever they like.
    searching: HashSet<String>,
    /// Operators whose function may.
    searching_operators: HashSet<String>,
    /// What runs code without calling it.
    types: Types,
    /// What functions and triggers leave in the session.
    hidden: Arc<Hidden>,
}

/// What a thing may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Nothing but read, and the same on every node.
    Plain,
    /// More, or nobody knows.
    Doubtful,
}

impl Trust {
    /// What one of two may do, of which nobody knows which.
    pub(super) fn or(self, other: Self) -> Self {
        if self == Self::Doubtful { self } else { other }
    }
}

/// Functions of one name in one schema that take as many arguments.
#[derive(Clone, Debug)]
struct Overload {
    schema: String,
    trust: Trust,
    arguments: RangeInclusive<usize>,
}

impl Overload {
    /// Whether it may be meant by a call with `arguments`.
    fn takes(&self, arguments: Option<usize>) -> bool {
        arguments.is_none_or(|count| self.arguments.contains(&count))
    }
}

/// Where relations come from, in queries. Of the system's own its tables, which every node has as the primary has them, and such of its
/// views as read nothing else; the other views show the node or the session that they are read on. What `initdb` made has an
/// object identifier below 16384 (`FirstNormalObjectId`, src/include/access/transam.h).
macro_rules! relations {
    () => {
        "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT LIKE 'pg\\_t%' \
         AND (c.relkind <> 'v' OR c.oid >= 16384 OR n.nspname = 'information_schema' OR c.relname IN ('pg_group', \
         'pg_indexes', 'pg_matviews', 'pg_policies', 'pg_publication_tables', 'pg_roles', 'pg_rules', 'pg_seclabels', \
         'pg_shadow', 'pg_stats', 'pg_stats_ext', 'pg_stats_ext_exprs', 'pg_tables', 'pg_user', 'pg_user_mappings', 'pg_views'))"
    };
}

/// The kind of a relation, in queries: `relkind`, or `s` for one of the system's views.
macro_rules! kind {
    () => {
        "CASE WHEN c.relkind = 'v' AND c.oid < 16384 THEN 's' ELSE c.relkind::pg_catalog.text END"
    };
}

/// The persistence of a relation, in queries: `relpersistence`, or `u` where some of its rows are in an unlogged or foreign table
/// that inherits from it.
macro_rules! persistence {
    () => {
        "CASE WHEN c.oid IN (WITH RECURSIVE parents AS (SELECT i.inhparent FROM pg_catalog.pg_inherits i \
         JOIN pg_catalog.pg_class k ON k.oid = i.inhrelid WHERE k.relpersistence = 'u' OR k.relkind = 'f' \
         UNION SELECT i.inhparent FROM parents p JOIN pg_catalog.pg_inherits i ON i.inhrelid = p.inhparent) \
         SELECT p.inhparent FROM parents p) THEN 'u' ELSE c.relpersistence::pg_catalog.text END"
    };
}

/// Where among [`QUERIES`] the relations are.
pub const RELATIONS: usize = 1;

/// The relations without definitions: what has one is given out as a view, which is doubtful as long as its text is not known.
pub const UNDEFINED: &str = concat!(
    "SELECT n.nspname, c.relname, CASE WHEN c.relrowsecurity THEN 'v' ELSE ",
    kind!(),
    " END, ",
    persistence!(),
    ", NULL, NULL ",
    relations!()
);

/// For how long the queries may wait for a lock. PostgreSQL locks what a view reads to give out the view's text, and keeps that
/// locked until the query ends: whoever alters one of these meanwhile waits for us, and must not be made to wait for longer than
/// their `deadlock_timeout` (1 s), lest theirs be the statement that is ended.
pub const PATIENCE: &str = "SET lock_timeout = '50ms'";

/// What must be asked of the primary, in this order; `build` takes the answers. PostgreSQL 13 and newer.
pub const QUERIES: &[&str] = &[
    // Functions: schema, name, whether volatile, whether immutable; one is as volatile as the functions that an aggregate is made of,
    // and as what its arguments' defaults call (`funcid`, src/include/nodes/primnodes.h). Whether it is a user's that takes a row, and
    // so may be called as if it were a column (`ParseFuncOrColumn`, src/backend/parser/parse_func.c). How many arguments it takes at least,
    // and at most, if there is a most.
    "WITH parts(whole, part) AS (SELECT p.oid, p.oid FROM pg_catalog.pg_proc p \
     UNION ALL SELECT a.aggfnoid, f FROM pg_catalog.pg_aggregate a, pg_catalog.unnest(ARRAY[a.aggtransfn::pg_catalog.oid, \
     a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn]) f \
     UNION ALL SELECT p.oid, m[1]::pg_catalog.oid FROM pg_catalog.pg_proc p, \
     pg_catalog.regexp_matches(p.proargdefaults::pg_catalog.text, ':(?:op)?funcid (\\d+)', 'g') m) \
     SELECT n.nspname, p.proname, bool_or(f.provolatile = 'v'), bool_and(f.provolatile = 'i'), \
     bool_or(p.oid >= 16384 AND p.pronargs >= 1 AND p.pronargs - p.pronargdefaults <= 1 AND y.typtype IN ('c', 'd', 'p')), \
     p.pronargs - p.pronargdefaults, CASE WHEN p.provariadic = 0 THEN p.pronargs END \
     FROM parts JOIN pg_catalog.pg_proc p ON p.oid = whole JOIN pg_catalog.pg_proc f ON f.oid = part \
     JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace LEFT JOIN pg_catalog.pg_type y ON y.oid = p.proargtypes[0] \
     GROUP BY 1, 2, 6, 7",
    // Relations: schema, name, kind, persistence, a view's text, the conditions of row-level policies.
    concat!(
        "SELECT n.nspname, c.relname, ",
        kind!(),
        ", ",
        persistence!(),
        ", CASE WHEN c.relkind = 'v' AND c.oid >= 16384 THEN pg_catalog.pg_get_viewdef(c.oid) END, \
         CASE WHEN c.relrowsecurity THEN (SELECT pg_catalog.string_agg('(' || pg_catalog.pg_get_expr(p.polqual, p.polrelid) \
         || ')', ' AND ') FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid AND p.polqual IS NOT NULL) END ",
        relations!()
    ),
    // Operators of the system's types with a function that is volatile, or stable and not the system's: whether it is volatile.
    // Those of other types are a matter of the type.
    "SELECT o.oprname, bool_or(p.provolatile = 'v') FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode \
     WHERE o.oprleft < 16384 AND o.oprright < 16384 AND (p.provolatile = 'v' OR (p.provolatile = 's' AND p.oid >= 16384)) GROUP BY 1",
    kin::QUERY,
    types::QUERY,
];

/// A hash of what `ALTER ROLE | DATABASE … SET` gives new sessions of the database, and where the WAL ends that has
/// all of it.
pub const DEFAULTS: &str = "SELECT pg_catalog.hashtextextended(coalesce(pg_catalog.string_agg( \
     pg_catalog.concat_ws(' ', s.setdatabase, s.setrole, s.setconfig), ',' ORDER BY s.setdatabase, s.setrole), ''), 0), \
     pg_catalog.pg_current_wal_lsn() FROM pg_catalog.pg_db_role_setting s WHERE s.setdatabase IN \
     (0, (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()))";

/// A row of text values.
pub type Row = Vec<Option<String>>;

/// A relation that is judged by the text of its definition.
struct Defined {
    schema: String,
    name: String,
    /// What is read when it is read.
    text: String,
}

/// Relations and what is read with them, out of an answer to [`QUERIES`]`[`[`RELATIONS`]`]`: views' texts, policies' conditions.
#[must_use]
pub fn definitions(relations: &[Row]) -> Vec<[String; 2]> {
    let defined = relations.iter().flat_map(|row| {
        let (name, texts) = (row.get(1).cloned().flatten(), row.get(4..).unwrap_or_default());
        texts.iter().flatten().filter_map(move |text| Some([name.clone()?, text.clone()]))
    });
    defined.collect()
}

/// Makes a catalog of the answers to [`QUERIES`], and of what functions and triggers hide, which bears a mark of its own.
#[must_use]
pub fn build(answers: &[Vec<Row>], (hidden, mark): (Arc<Hidden>, &str), version: u64) -> Catalog {
    let seed = FixedState::default().hash_one((answers, mark));
    let mut catalog = Catalog { version, seed, hidden, ..Catalog::default() };
    let rows = |index: usize| answers.get(index).map(Vec::as_slice).unwrap_or_default();
    let text = |row: &Row, column: usize| row.get(column).cloned().flatten();
    for row in rows(2) {
        catalog.searching_operators.extend(text(row, 0));
        if text(row, 1).as_deref() != Some("f") {
            catalog.operators.extend(text(row, 0));
        }
    }
    for row in rows(0) {
        if let (Some(schema), Some(name)) = (text(row, 0), text(row, 1)) {
            if schema != "pg_catalog" && text(row, 3).as_deref() != Some("t") {
                catalog.searching.insert(name.clone());
            }
            if text(row, 4).as_deref() == Some("t") {
                catalog.attributes.insert(name.clone());
            }
            let trust = if text(row, 2).as_deref() == Some("f") { Trust::Plain } else { Trust::Doubtful };
            let number = |column| text(row, column).and_then(|count| count.parse().ok());
            let arguments = number(5).unwrap_or(0)..=number(6).unwrap_or(usize::MAX);
            catalog.functions.entry(name).or_default().push(Overload { schema, trust, arguments });
        }
    }
    catalog.types = Types::new(rows(4));
    let kin = Kin::new(rows(3), catalog.types.doubtful());
    let mut defined = Vec::new();
    for row in rows(1) {
        let (Some(schema), Some(name)) = (text(row, 0), text(row, 1)) else { continue };
        let kind = text(row, 2).unwrap_or_default();
        let permanent = text(row, 3).as_deref() == Some("p");
        let system = matches!(schema.as_str(), "pg_catalog" | "information_schema");
        let written = match kind.as_str() {
            "r" | "p" if !system => kin.written_with(&name),
            _ => Reach::EVERYTHING,
        };
        join(&mut catalog.written, &name, written);
        let read = match kind.as_str() {
            "r" | "p" | "m" if !system => kin.read_with(&name),
            "v" => Reach::NOTHING,
            _ => Reach::EVERYTHING,
        };
        join(&mut catalog.read, &name, read);
        let plain = permanent && matches!(kind.as_str(), "r" | "p" | "m" | "s");
        let reads = match (text(row, 4), text(row, 5)) {
            (Some(view), _) if permanent => Some(view),
            (None, Some(policy)) if plain => Some(format!("SELECT 1 WHERE {policy}")),
            _ => None,
        };
        // Judged later, and doubtful until then.
        let trust = if plain && reads.is_none() { Trust::Plain } else { Trust::Doubtful };
        defined.extend(reads.map(|text| Defined { schema: schema.clone(), name: name.clone(), text }));
        catalog.relations.entry(name).or_default().push((schema, trust));
    }
    catalog.judge(defined);
    catalog
}

impl Catalog {
    /// Nothing is known: only statements that touch no function and no relation are reads.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Which load it comes from; 0 before the first.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// What its shapes' hashes are salted with: shapes judged by another catalog are not found.
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// Whether a schema besides the system's has a volatile function of this name that takes so many arguments.
    pub(super) fn has_doubtful_beyond_system(&self, name: &str, arguments: Option<usize>) -> bool {
        let mut overloads = self.functions.get(name).into_iter().flatten().filter(|function| function.takes(arguments));
        overloads.any(|function| function.schema != "pg_catalog" && function.trust == Trust::Doubtful)
    }

    /// What functions and triggers leave in the session.
    pub(super) fn hidden(&self) -> &Hidden {
        &self.hidden
    }

    /// What runs code without calling it.
    pub(super) const fn types(&self) -> &Types {
        &self.types
    }

    /// Whether nothing has been loaded.
    pub(super) const fn is_unknown(&self) -> bool {
        self.version == 0
    }

    /// Judges definitions by what they read, until no more of them turn out to be plain: views may read views.
    fn judge(&mut self, mut open: Vec<Defined>) {
        loop {
            let before = open.len();
            let judged = open.into_iter().map(|defined| {
                let read = classify::plain_read(&defined.text, self);
                (defined, read)
            });
            let (plain, rest): (Vec<_>, Vec<_>) = judged.partition(|(_, read)| read.is_some());
            open = rest.into_iter().map(|(defined, _)| defined).collect();
            for (defined, read) in plain {
                join(&mut self.read, &defined.name, read.unwrap_or(Reach::EVERYTHING));
                let entries = self.relations.entry(defined.name).or_default();
                for (_, trust) in entries.iter_mut().filter(|(schema, _)| *schema == defined.schema) {
                    *trust = Trust::Plain;
                }
            }
            if open.len() == before {
                return;
            }
        }
    }

    /// A function, the strictest of those that a call with so many arguments may mean; `None` when there is none.
    pub(super) fn function(&self, schema: Option<&str>, name: &str, arguments: Option<usize>) -> Option<Trust> {
        let overloads = self.functions.get(name)?.iter().filter(|function| function.takes(arguments));
        strictest(overloads.map(|function| (function.schema.as_str(), function.trust)), schema)
    }

    /// Whether a function of this name may be called as if it were a column.
    pub(super) fn is_attribute(&self, name: &str) -> bool {
        self.attributes.contains(name)
    }

    /// A relation; `None` when there is none of that name.
    pub(super) fn relation(&self, schema: Option<&str>, name: &str) -> Option<Trust> {
        let named = self.relations.get(name)?.iter();
        strictest(named.map(|(schema, trust)| (schema.as_str(), *trust)), schema)
    }

    /// What is read with a relation that may be read.
    pub(super) fn read_with(&self, name: &str) -> Reach {
        self.read.get(name).copied().unwrap_or(Reach::EVERYTHING)
    }

    /// What changes when a relation is written to.
    pub(super) fn written_with(&self, name: &str) -> Reach {
        self.written.get(name).copied().unwrap_or(Reach::EVERYTHING)
    }

    /// What a function reads that changes nothing.
    pub(super) fn looked_up_by(&self, function: &str) -> Reach {
        // The system's tables are everybody's, and of many databases at once.
        let of_system = ["pg_", "has_", "to_reg"].iter().any(|prefix| function.starts_with(prefix));
        if of_system || self.searching.contains(function) { Reach::EVERYTHING } else { Reach::NOTHING }
    }

    /// What an operator reads that changes nothing.
    pub(super) fn looked_up_by_operator(&self, operator: &str) -> Reach {
        if self.searching_operators.contains(operator) { Reach::EVERYTHING } else { Reach::NOTHING }
    }

    /// Whether an operator, as written, may do more than read.
    pub(super) fn doubts_operator(&self, operator: &str) -> bool {
        self.operators.contains(operator)
    }
}

/// Adds `reach` to what is known of `name`.
fn join(all: &mut HashMap<String, Reach>, name: &str, reach: Reach) {
    let known = all.entry(name.to_owned()).or_default();
    *known = known.with(reach);
}

/// The strictest of those in `schema`, or in any where none is given.
fn strictest<'a>(named: impl Iterator<Item = (&'a str, Trust)>, schema: Option<&str>) -> Option<Trust> {
    let meant = named.filter(|(its, _)| schema.is_none_or(|schema| schema == *its));
    meant.map(|(_, trust)| trust).reduce(Trust::or)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn row(values: &[&str]) -> Row {
        values.iter().map(|value| (*value != "-").then(|| (*value).to_owned())).collect()
    }

    fn immutable(function: &str) -> &'static str {
        if matches!(function, "fixed" | "lower" | "count" | "sum") { "t" } else { "f" }
    }

    /// Functions that differ in their arguments.
    const OVERLOADS: [[&str; 7]; 4] = [
        ["public", "sized", "f", "f", "f", "1", "1"],
        ["public", "sized", "t", "f", "f", "2", "3"],
        ["public", "sized", "t", "f", "f", "5", "-"],
        ["public", "floor", "t", "f", "f", "1", "1"],
    ];

    /// Types that run code, and what has to do with them.
    const TYPES: [[&str; 3]; 7] = [
        ["checks", "20000", "t"],
        ["_checks", "20001", "t"],
        ["checked", "20002", "t"],
        ["Odd one", "20003", "t"],
        ["weighs", "-", "t"],
        ["looks", "20004", "f"],
        ["listed", "20005", "f"],
    ];

    /// A small database: tables a, b and an unlogged one, views good and bad, a policy, functions.
    pub(in crate::sql) fn sample() -> Catalog {
        let functions = [
            ["pg_catalog", "lower", "f"],
            ["pg_catalog", "count", "f"],
            ["pg_catalog", "now", "f"],
            ["pg_catalog", "last_value", "f"],
            ["pg_catalog", "generate_series", "f"],
            ["pg_catalog", "random", "t"],
            ["pg_catalog", "nextval", "t"],
            ["public", "writes", "t"],
            ["public", "reads", "f"],
            ["other", "lower", "f"],
            ["public", "both", "f"],
            ["other", "both", "t"],
            ["pg_catalog", "sum", "f"],
            ["public", "fixed", "f"],
            ["public", "weighs", "f"],
            ["pg_catalog", "ceil", "f"],
            ["pg_catalog", "floor", "f"],
            ["pg_catalog", "query_to_xml", "t"],
        ];
        let relations = [
            ["public", "a", "r", "p", "-", "-"],
            ["public", "b", "p", "p", "-", "-"],
            ["public", "quick", "r", "u", "-", "-"],
            ["public", "far", "f", "p", "-", "-"],
            ["public", "m", "m", "p", "-", "-"],
            ["public", "good", "v", "p", " SELECT a.x FROM a;", "-"],
            ["public", "nested", "v", "p", " SELECT good.x FROM good;", "-"],
            ["public", "bad", "v", "p", " SELECT nextval('s'::regclass) AS n;", "-"],
            ["public", "worse", "v", "p", " SELECT bad.n FROM bad;", "-"],
            ["public", "secret", "r", "p", "-", "(writes(x) = 1)"],
            ["public", "guarded", "r", "p", "-", "(owner = CURRENT_USER)"],
            ["public", "dated", "v", "p", " SELECT CURRENT_DATE AS today;", "-"],
            ["pg_catalog", "pg_class", "r", "p", "-", "-"],
            ["pg_catalog", "pg_roles", "s", "p", "-", "-"],
            ["information_schema", "tables", "s", "p", "-", "-"],
            ["public", "heap", "p", "p", "-", "-"],
            ["public", "grown", "r", "p", "-", "-"],
            ["public", "watched", "r", "p", "-", "-"],
            ["public", "parent", "r", "p", "-", "-"],
            ["public", "owner", "r", "p", "-", "-"],
            ["public", "checked", "r", "p", "-", "-"],
            ["public", "listed", "r", "p", "-", "-"],
            ["public", "keyed", "r", "p", "-", "-"],
            ["public", "casts", "v", "p", " SELECT '1'::checks AS x;", "-"],
        ];
        let kin = [
            ["child", "grown", "heap"],
            ["unclear", "watched", "-"],
            ["cascade", "parent", "a"],
            ["cascade", "owner", "watched"],
            ["cascade", "keyed", "checked"],
        ];
        let answers = [
            functions
                .iter()
                .map(|values| {
                    let takes_row = if ["writes", "reads"].contains(&values[1]) { "t" } else { "f" };
                    row(&[&values[..], &[immutable(values[1]), takes_row]].concat())
                })
                .chain(OVERLOADS.map(|values| row(&values)))
                .collect(),
            relations.iter().map(|values| row(values)).collect(),
            vec![row(&["@@", "t"]), row(&["~~~", "f"])],
            kin.iter().map(|values| row(values)).collect(),
            TYPES.iter().map(|values| row(values)).collect(),
        ];
        let hidden = Hidden::new(&[], &[], &definitions(&answers[RELATIONS]));
        build(&answers, (Arc::new(hidden), ""), 1)
    }

    #[test]
    fn definitions_are_judged_by_what_they_read() {
        let catalog = sample();
        for (name, expected) in [
            ("a", Some(Trust::Plain)),
            ("b", Some(Trust::Plain)),
            ("m", Some(Trust::Plain)),
            ("good", Some(Trust::Plain)),
            ("nested", Some(Trust::Plain)),
            ("guarded", Some(Trust::Plain)),
            ("quick", Some(Trust::Doubtful)),
            ("far", Some(Trust::Doubtful)),
            ("bad", Some(Trust::Doubtful)),
            ("worse", Some(Trust::Doubtful)),
            ("secret", Some(Trust::Doubtful)),
            ("nowhere", None),
        ] {
            assert_eq!(catalog.relation(None, name), expected, "{name}");
        }
        assert_eq!(catalog.relation(Some("other"), "a"), None);
        assert_eq!(catalog.function(None, "both", Some(1)), Some(Trust::Doubtful));
        assert_eq!(catalog.function(Some("public"), "both", None), Some(Trust::Plain));
    }
}

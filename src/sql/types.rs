//! Types whose values run a user's code without calling it by name: domains with checks, casts, operators that the grammar
//! uses, input and output.
//!
//! What type an expression has is not known here. But a value of such a type comes from somewhere, and that has a name in the
//! text: the type itself, a relation with a column of it (which is a type, too), or a function that takes or gives it.

use std::collections::HashMap;

use super::catalog::{Row, Trust};
use super::scan::Scanner;

/// What must be asked of the primary; [`Types::new`] takes the answer: names of types and functions, a type's object identifier,
/// whether something volatile may run. Without a name it is a matter of the system's own types, and may happen anywhere.
///
/// It begins with the code that types run, if it is volatile, or stable, a user's and not in C, which reads settings rather than
/// tables (languages 12 and 13, `src/include/catalog/pg_language.dat`): the functions of input and output, of
/// domains' checks (`funcid` and `opfuncid` in src/include/nodes/primnodes.h), of casts, operators and operator classes. Of two types
/// one suffices, for both must be there: a user's own, and of these the one that is cast to. From there it goes on to all that
/// depends on the type, arrays, composites, relations, domains, functions. What `initdb` made has an object identifier below
/// 16384 (`FirstNormalObjectId`, src/include/access/transam.h).
pub(super) const QUERY: &str = "WITH RECURSIVE code(type, function) AS ( \
     SELECT t.oid, f FROM pg_catalog.pg_type t, pg_catalog.unnest(ARRAY[t.typinput::pg_catalog.oid, t.typoutput, \
     t.typreceive, t.typsend]) f WHERE t.oid >= 16384 \
     UNION ALL SELECT k.contypid, m[1]::pg_catalog.oid FROM pg_catalog.pg_constraint k, \
     pg_catalog.regexp_matches(k.conbin::pg_catalog.text, ':(?:op)?funcid (\\d+)', 'g') m WHERE k.contypid <> 0 AND k.oid >= 16384 \
     UNION ALL SELECT CASE WHEN c.casttarget >= 16384 THEN c.casttarget WHEN c.castsource >= 16384 THEN c.castsource ELSE 0 END, \
     c.castfunc FROM pg_catalog.pg_cast c WHERE c.oid >= 16384 \
     UNION ALL SELECT CASE WHEN o.oprright >= 16384 THEN o.oprright WHEN o.oprleft >= 16384 THEN o.oprleft ELSE 0 END, \
     o.oprcode FROM pg_catalog.pg_operator o WHERE o.oid >= 16384 AND (o.oprright >= 16384 OR o.oprleft >= 16384 \
     OR o.oprname IN ('=', '<>', '<', '<=', '>', '>=', '~~', '!~~', '~~*', '!~~*', '~', '!~')) \
     UNION ALL SELECT CASE WHEN a.amprocrighttype >= 16384 THEN a.amprocrighttype WHEN a.amproclefttype >= 16384 \
     THEN a.amproclefttype ELSE 0 END, a.amproc FROM pg_catalog.pg_amproc a WHERE a.oid >= 16384), \
     seeds(type, volatile) AS (SELECT c.type, p.provolatile = 'v' FROM code c JOIN pg_catalog.pg_proc p ON p.oid = c.function \
     WHERE p.provolatile = 'v' OR (p.provolatile = 's' AND p.oid >= 16384 AND p.prolang NOT IN (12, 13))), \
     edges(fromclass, fromobject, class, object) AS (SELECT d.refclassid, d.refobjid, d.classid, d.objid FROM pg_catalog.pg_depend d \
     WHERE d.classid IN ('pg_catalog.pg_type'::pg_catalog.regclass, 'pg_catalog.pg_class'::pg_catalog.regclass, \
     'pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_constraint'::pg_catalog.regclass) \
     UNION ALL SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, k.oid, 'pg_catalog.pg_type'::pg_catalog.regclass, k.contypid \
     FROM pg_catalog.pg_constraint k WHERE k.contypid <> 0 \
     UNION ALL SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, c.oid, 'pg_catalog.pg_type'::pg_catalog.regclass, c.reltype \
     FROM pg_catalog.pg_class c WHERE c.relkind = 'c'), \
     reached(class, object, volatile) AS (SELECT 'pg_catalog.pg_type'::pg_catalog.regclass::pg_catalog.oid, type, volatile FROM seeds \
     UNION SELECT e.class, e.object, r.volatile FROM reached r JOIN edges e ON e.fromclass = r.class AND e.fromobject = r.object) \
     SELECT t.typname, t.oid, pg_catalog.bool_or(r.volatile) FROM reached r JOIN pg_catalog.pg_type t ON t.oid = r.object \
     WHERE r.class = 'pg_catalog.pg_type'::pg_catalog.regclass GROUP BY 1, 2 \
     UNION ALL SELECT p.proname, NULL, pg_catalog.bool_or(r.volatile) FROM reached r JOIN pg_catalog.pg_proc p ON p.oid = r.object \
     WHERE r.class = 'pg_catalog.pg_proc'::pg_catalog.regclass GROUP BY 1 \
     UNION ALL SELECT NULL, NULL, s.volatile FROM seeds s WHERE s.type = 0";

/// They take the name of a type as a value, and run what it runs on input.
const BY_NAME: [&str; 2] = ["pg_input_is_valid", "pg_input_error_info"];

/// Names that stand for types which run code: doubtful, or reading what nobody knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Types {
    names: HashMap<String, Trust>,
    identifiers: HashMap<u32, Trust>,
    /// What any text may do, since the system's own types run code of a user.
    anywhere: Option<Trust>,
}

/// What a text may do through types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Through {
    /// Nothing.
    Nothing,
    /// It may read what nobody knows.
    Reads,
    /// Anything, because of this.
    Anything(String),
}

impl Types {
    /// What the answer to [`QUERY`] says.
    pub(super) fn new(rows: &[Row]) -> Self {
        let mut types = Self::default();
        for row in rows {
            let [name, identifier, volatile] = row.as_slice() else { continue };
            let trust = if volatile.as_deref() == Some("f") { Trust::Plain } else { Trust::Doubtful };
            let Some(name) = name else {
                types.anywhere = Some(types.anywhere.map_or(trust, |known| known.or(trust)));
                continue;
            };
            types.add(name, trust);
            if let Some(identifier) = identifier.as_deref().and_then(|text| text.parse().ok()) {
                types.identifiers.insert(identifier, trust);
            }
        }
        if let Some(strictest) = types.names.values().copied().reduce(Trust::or) {
            for function in BY_NAME {
                types.add(function, strictest);
            }
        }
        types
    }

    fn add(&mut self, name: &str, trust: Trust) {
        let known = self.names.entry(name.to_owned()).or_insert(trust);
        *known = known.or(trust);
    }

    /// The names of all that is doubtful, relations among them.
    pub(super) fn doubtful(&self) -> impl Iterator<Item = &str> {
        let doubtful = self.names.iter().filter(|(_, trust)| **trust == Trust::Doubtful);
        doubtful.map(|(name, _)| name.as_str())
    }

    /// What `text` may do through the types that it names.
    pub(super) fn through(&self, text: &[u8]) -> Through {
        let mut through = match self.anywhere {
            Some(Trust::Doubtful) => {
                return Through::Anything("a cast or an operator of the system's types".to_owned());
            }
            Some(Trust::Plain) => Through::Reads,
            None => Through::Nothing,
        };
        if self.names.is_empty() {
            return through;
        }
        for name in Scanner::new(text).filter_map(|token| token.identifier(text)) {
            match self.names.get(&name) {
                Some(Trust::Doubtful) => return Through::Anything(name),
                Some(Trust::Plain) => through = Through::Reads,
                None => {}
            }
        }
        through
    }

    /// What values of the types with these object identifiers may do when they are sent as parameters.
    pub(super) fn of_parameters(&self, identifiers: impl Iterator<Item = u32>) -> Option<Trust> {
        if self.identifiers.is_empty() {
            return None;
        }
        let known = identifiers.filter_map(|identifier| self.identifiers.get(&identifier).copied());
        known.reduce(Trust::or)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(rows: &[[Option<&str>; 3]]) -> Types {
        let rows: Vec<Row> =
            rows.iter().map(|row| row.iter().map(|value| value.map(str::to_owned)).collect()).collect();
        Types::new(&rows)
    }

    #[test]
    fn the_strictest_type_counts() {
        let some = |name| [Some(name), Some(if name == "reads" { "2" } else { "1" }), Some("f")];
        let types = types(&[some("reads"), some("both"), [Some("both"), Some("1"), Some("t")]]);
        for (text, expected) in [
            ("select 1", Through::Nothing),
            ("select 'both'", Through::Nothing),
            ("select 1::reads", Through::Reads),
            ("select \"BOTH\"", Through::Nothing),
            ("select 1::reads, 1::BOTH", Through::Anything("both".to_owned())),
        ] {
            assert_eq!(types.through(text.as_bytes()), expected, "{text}");
        }
        for (identifiers, expected) in
            [(&[][..], None), (&[3], None), (&[3, 2], Some(Trust::Plain)), (&[1, 2], Some(Trust::Doubtful))]
        {
            assert_eq!(types.of_parameters(identifiers.iter().copied()), expected, "{identifiers:?}");
        }
    }

    #[test]
    fn what_system_types_run_may_happen_anywhere() {
        let reads = types(&[[None, None, Some("f")]]);
        assert_eq!(reads.through(b"select 1"), Through::Reads);
        let writes = types(&[[None, None, Some("t")], [None, None, Some("f")]]);
        assert!(matches!(writes.through(b"select 1"), Through::Anything(_)));
        assert_eq!(types(&[]).through(b"select 1"), Through::Nothing);
    }
}

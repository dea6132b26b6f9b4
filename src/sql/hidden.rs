//! What functions, triggers, views and policies leave behind in the session that comes upon them, and what they ask of it, as far as
//! the words of their code tell.
//!
//! Code is searched, not understood (`body`), so a function may be here that does nothing of the kind: the session then
//! asks the server in vain. For the same reason a view is taken for read wherever its name stands. What code in C does, and what is
//! called by name only at run time, is not seen.

use std::collections::{HashMap, HashSet};

use super::Effects;
use super::body;
use super::scan::{Scanner, Token};
use super::split::Cursor;

/// The effects of functions, of relations for those who write to them, and of views and relations with policies, by name
/// without schema.
#[derive(Clone, Debug, Default)]
pub struct Hidden {
    functions: HashMap<String, Effects>,
    relations: HashMap<String, Effects>,
    views: HashMap<String, Effects>,
}

/// One value that changes whenever an answer to [`QUERIES`], the text of a view or the condition of a policy might. To be
/// asked for before these.
pub const VERSION: &str = "SELECT pg_catalog.hashtextextended(coalesce(pg_catalog.string_agg(o, ',' ORDER BY o), ''), 0) FROM \
     (SELECT pg_catalog.concat_ws(' ', p.oid, p.xmin) FROM pg_catalog.pg_proc p WHERE p.oid >= 16384 \
     UNION ALL SELECT pg_catalog.concat_ws(' ', t.oid, t.xmin) FROM pg_catalog.pg_trigger t WHERE NOT t.tgisinternal \
     UNION ALL SELECT pg_catalog.concat_ws(' ', r.oid, r.xmin) FROM pg_catalog.pg_rewrite r WHERE r.oid >= 16384 \
     UNION ALL SELECT pg_catalog.concat_ws(' ', p.oid, p.xmin) FROM pg_catalog.pg_policy p \
     UNION ALL SELECT pg_catalog.concat_ws(' ', d.oid, d.xmin) FROM pg_catalog.pg_attrdef d \
     UNION ALL SELECT pg_catalog.concat_ws(' ', a.attrelid, a.attnum) FROM pg_catalog.pg_attribute a WHERE a.attidentity <> '') AS a(o)";

/// Where functions come from that were not there from the beginning (`FirstNormalObjectId`, src/include/access/transam.h), in queries.
macro_rules! functions {
    () => {
        "FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang \
         WHERE p.oid >= 16384 AND l.lanname NOT IN ('internal', 'c') AND pg_catalog.length(p.prosrc) <= 65536"
    };
}

/// The functions without code that is no string: what is asked where the tables that such code reads are locked.
pub const STRINGS: &str = concat!("SELECT p.proname, p.prosrc ", functions!());

/// Where among [`QUERIES`] the functions are.
pub const FUNCTIONS: usize = 0;

/// What must be asked of the primary, in this order; [`Hidden::new`] takes the answers.
pub const QUERIES: [&str; 2] = [
    // Functions and their code, which is in their definition where it is no string (`BEGIN ATOMIC`).
    concat!(
        "SELECT p.proname, CASE WHEN p.prosrc = '' AND p.prokind IN ('f', 'p') THEN pg_catalog.pg_get_functiondef(p.oid) \
         ELSE p.prosrc END ",
        functions!()
    ),
    // What is called when relations are written to. The functions of their triggers; `nextval`, where a column is an identity or
    // has a default that calls it (its OID is fixed, src/include/catalog/pg_proc.dat).
    "SELECT c.relname, p.proname FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid \
     JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid WHERE NOT t.tgisinternal \
     UNION ALL SELECT c.relname, 'nextval' FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid \
     LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
     WHERE NOT a.attisdropped AND (a.attidentity <> '' OR d.adbin::text LIKE '%:funcid 1574 %')",
];

/// What moves a sequence on behalf of a column.
const NEXTVAL: &str = "nextval";

/// A function or a relation, by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Thing {
    Called(String),
    Written(String),
    Read(String),
}

impl Hidden {
    /// What the answers to [`QUERIES`] say, functions and their code and relations and what writing to them calls, and the
    /// definitions of views and policies, by relation.
    #[must_use]
    pub fn new(functions: &[[String; 2]], called_by_writes: &[[String; 2]], definitions: &[[String; 2]]) -> Self {
        let mut hidden = Self::default();
        // Who has the effects of whom.
        let mut users: HashMap<Thing, HashSet<Thing>> = HashMap::new();
        let mut open = Vec::new();
        let views: HashSet<&str> = definitions.iter().map(|[name, _]| name.as_str()).collect();
        let called = functions.iter().map(|[name, code]| (Thing::Called(name.clone()), code));
        for (own, code) in called.chain(definitions.iter().map(|[name, text]| (Thing::Read(name.clone()), text))) {
            let effects = body::effects(code.as_bytes());
            for thing in things(code.as_bytes(), |name| views.contains(name)) {
                users.entry(thing).or_default().insert(own.clone());
            }
            open.push((own, effects));
        }
        for [relation, function] in called_by_writes {
            let written = Thing::Written(relation.to_ascii_lowercase());
            users.entry(Thing::Called(function.clone())).or_default().insert(written);
        }
        open.push((Thing::Called(NEXTVAL.to_owned()), Effects::MOVES_SEQUENCE));
        while let Some((thing, effects)) = open.pop() {
            if hidden.add(&thing, effects) {
                let known = hidden.of(&thing);
                open.extend(users.get(&thing).into_iter().flatten().map(|user| (user.clone(), known)));
            }
        }
        hidden
    }

    /// Whether that is news.
    fn add(&mut self, thing: &Thing, effects: Effects) -> bool {
        let before = self.of(thing);
        let after = before.with(effects);
        if after == before {
            return false;
        }
        match thing {
            Thing::Called(name) => self.functions.insert(name.clone(), after),
            Thing::Written(name) => self.relations.insert(name.clone(), after),
            Thing::Read(name) => self.views.insert(name.clone(), after),
        };
        true
    }

    fn of(&self, thing: &Thing) -> Effects {
        let known = match thing {
            Thing::Called(name) => self.functions.get(name),
            Thing::Written(name) => self.relations.get(name),
            Thing::Read(name) => self.views.get(name),
        };
        known.copied().unwrap_or_default()
    }

    /// What `text` has besides the effects that its own words tell.
    pub(super) fn effects(&self, text: &[u8]) -> Effects {
        if self.functions.is_empty() && self.relations.is_empty() && self.views.is_empty() {
            return Effects::default();
        }
        things(text, |name| self.views.contains_key(name))
            .iter()
            .fold(Effects::default(), |effects, thing| effects.with(self.of(thing)))
    }
}

/// What `text` calls and writes to, and the views that it mentions.
fn things(text: &[u8], is_view: impl Fn(&str) -> bool) -> HashSet<Thing> {
    let tokens: Vec<Token> = Scanner::new(text).collect();
    let mut found = HashSet::new();
    for (at, token) in tokens.iter().enumerate() {
        let rest = &tokens[at + 1..];
        if let Some(name) = token.identifier(text) {
            if is_view(&name) {
                found.insert(Thing::Read(name.clone()));
            }
            if rest.first().is_some_and(|next| next.is_mark(text, "(")) {
                found.insert(Thing::Called(name));
            }
        }
        if writes(text, &tokens[..at], token)
            && let Some(name) = relation(Cursor::new(text, rest))
        {
            found.insert(Thing::Written(name));
        }
    }
    found
}

/// Whether the name of a relation follows `token` that is written to.
fn writes(text: &[u8], before: &[Token], token: &Token) -> bool {
    let deletes = || before.last().is_some_and(|last| last.is_word(text, "delete"));
    ["into", "update", "copy", "truncate"].iter().any(|word| token.is_word(text, word))
        || (token.is_word(text, "from") && deletes())
}

/// The last part of the relation's name, in lower case.
fn relation(mut cursor: Cursor<'_>) -> Option<String> {
    cursor.word("table");
    cursor.word("only");
    let name = cursor.dotted_name()?;
    name.rsplit('.').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[[&str; 2]]) -> Vec<[String; 2]> {
        pairs.iter().map(|pair| pair.map(str::to_owned)).collect()
    }

    fn sample() -> Hidden {
        let functions = pairs(&[
            ["locks", "BEGIN PERFORM pg_advisory_lock(1); END"],
            ["calls", "SELECT 1 FROM app.locks()"],
            ["calls_calls", "BEGIN IF calls() THEN RETURN; END IF; INSERT INTO quiet VALUES (1); END"],
            ["plain", "SELECT 1"],
            ["numbers", "INSERT INTO numbered DEFAULT VALUES"],
            ["writes", "BEGIN DELETE FROM app.watched; END"],
            ["makes", "BEGIN CREATE TEMP TABLE x (); END"],
            ["itself", "BEGIN PERFORM itself(); END"],
            ["trigger", "BEGIN PERFORM makes(); RETURN NEW; END"],
            ["looks", "SELECT count(*) FROM shop.recent"],
            ["stamps", "SELECT now()"],
        ]);
        let definitions = pairs(&[
            ["recent", " SELECT o.id FROM orders o WHERE (o.day = CURRENT_DATE);"],
            ["over recent", " SELECT recent.id FROM shop.recent;"],
            ["counted", " SELECT shop.looks() AS n;"],
            ["stamped", " SELECT shop.stamps() AS t;"],
            ["tenants", "(until > now())"],
            ["still", " SELECT o.id FROM orders o;"],
        ]);
        let called = pairs(&[["watched", "trigger"], ["quiet", "plain"], ["numbered", "nextval"]]);
        Hidden::new(&functions, &called, &definitions)
    }

    #[test]
    fn views_and_policies_that_ask_for_the_time_are_found() {
        let hidden = sample();
        for (text, expected) in [
            ("select * from recent", true),
            ("select 1 from orders o, shop.\"recent\" r", true),
            ("select * from \"over recent\"", true),
            ("select looks()", true),
            ("select * from counted", true),
            ("table stamped", true),
            ("select id from tenants", true),
            ("select * from still", false),
            ("select * from \"Recent\"", false),
            ("select 'recent' from orders", false),
        ] {
            let expected = if expected { Effects::NOW } else { Effects::default() };
            assert_eq!(hidden.effects(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn effects_are_found_through_calls_and_triggers() {
        let (hidden, none) = (sample(), Effects::default());
        for (text, expected) in [
            ("select plain()", none),
            ("select itself()", none),
            ("select locks from t", none),
            ("select locks()", Effects::ADVISORY_LOCK),
            ("select app.\"locks\" ()", Effects::ADVISORY_LOCK),
            ("call calls_calls()", Effects::ADVISORY_LOCK),
            ("select writes()", Effects::TEMPORARY),
            ("select * from watched", none),
            ("insert into watched values (1)", Effects::TEMPORARY),
            ("update only app.watched set x = 1", Effects::TEMPORARY),
            (
                "with a as (delete from watched returning x) select locks()",
                Effects::TEMPORARY.with(Effects::ADVISORY_LOCK),
            ),
            ("truncate table watched", Effects::TEMPORARY),
            ("insert into quiet values (1)", none),
            ("insert into app.numbered default values", Effects::MOVES_SEQUENCE),
            ("copy numbered from stdin", Effects::MOVES_SEQUENCE),
            ("select numbers()", Effects::MOVES_SEQUENCE),
            ("select * from numbered", none),
        ] {
            assert_eq!(hidden.effects(text.as_bytes()), expected, "{text}");
        }
    }
}

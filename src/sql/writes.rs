//! What a statement that is no read may change: relations that it names, and what changes with them. Where that is not
//! certain, everything.

use std::collections::HashSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    CopySource, CopyTarget, Delete, Expr, FromTable, Insert, Merge, ObjectName, Query, Select, Statement, TableFactor,
    TableObject, TableWithJoins, Update, Visit, Visitor,
};

use super::call::{Call, Factor, operator};
use super::catalog::{Catalog, Trust};
use super::functions::{Said, said};
use super::reach::Reach;
use super::scan::Token;
use super::split;
use super::types::Through;
use super::walk::{given, parts};

/// First words of statements that concern the session or its transaction, and change no relation.
const QUIET: [&str; 18] = [
    "begin",
    "start",
    "commit",
    "end",
    "rollback",
    "abort",
    "savepoint",
    "release",
    "set",
    "reset",
    "show",
    "listen",
    "unlisten",
    "notify",
    "close",
    "deallocate",
    "discard",
    "lock",
];

/// Built-in functions that are no reads, and change no relation that can be read elsewhere.
const HARMLESS: [&str; 14] = [
    "nextval",
    "currval",
    "lastval",
    "setval",
    "set_config",
    "current_setting",
    "pg_notify",
    "pg_backend_pid",
    "pg_advisory_lock",
    "pg_advisory_xact_lock",
    "pg_try_advisory_lock",
    "pg_try_advisory_xact_lock",
    "pg_advisory_unlock",
    "pg_advisory_unlock_all",
];

/// What `text` may change, of which the parser has made `parsed`.
pub(super) fn reach(text: &[u8], parsed: &[Statement], catalog: &Catalog) -> Reach {
    if matches!(catalog.types().through(text), Through::Anything(_)) {
        return Reach::EVERYTHING;
    }
    let texts = split::statements(text);
    let mut reach = Reach::NOTHING;
    for (at, _) in texts.iter().enumerate().filter(|(_, tokens)| !is_quiet(text, tokens)) {
        let statement = parsed.get(at).filter(|_| parsed.len() == texts.len());
        reach = reach.with(statement.map_or(Reach::EVERYTHING, |statement| of(statement, catalog)));
    }
    reach
}

fn is_quiet(text: &[u8], tokens: &[Token]) -> bool {
    let first = |first: &Token| QUIET.iter().any(|word| first.is_word(text, word));
    // COMMIT PREPARED, ROLLBACK PREPARED.
    tokens.first().is_none_or(first) && !tokens.iter().any(|token| token.is_word(text, "prepared"))
}

fn of(statement: &Statement, catalog: &Catalog) -> Reach {
    let mut found = Found { catalog, reach: Reach::NOTHING, local: HashSet::new(), called: None };
    let flow = match statement {
        Statement::Explain { statement, .. } => return of(statement, catalog),
        Statement::Copy { source: CopySource::Table { table_name, .. }, to: false, target, .. }
            if !matches!(target, CopyTarget::Program { .. }) =>
        {
            found.writes_to(table_name)
        }
        Statement::Query(_)
        | Statement::Insert(_)
        | Statement::Update(_)
        | Statement::Delete(_)
        | Statement::Merge(_) => statement.visit(&mut found),
        _ => ControlFlow::Break(()),
    };
    match flow {
        ControlFlow::Break(()) => Reach::EVERYTHING,
        ControlFlow::Continue(()) => found.reach,
    }
}

/// Goes over a statement until it finds what may change anything.
struct Found<'a> {
    catalog: &'a Catalog,
    reach: Reach,
    /// Names that WITH gives.
    local: HashSet<String>,
    /// A function in FROM whose name will be visited as a relation's.
    called: Option<ObjectName>,
}

type Flow = ControlFlow<()>;

/// The table, where there is only one.
fn only(table: &TableWithJoins) -> Option<&ObjectName> {
    match &table.relation {
        TableFactor::Table { name, .. } if table.joins.is_empty() => Some(name),
        _ => None,
    }
}

fn go_on(if_harmless: Option<()>) -> Flow {
    if_harmless.map_or(ControlFlow::Break(()), ControlFlow::Continue)
}

impl Found<'_> {
    fn writes_to(&mut self, relation: &ObjectName) -> Flow {
        let Some((_, name)) = parts(relation) else { return ControlFlow::Break(()) };
        self.reach = self.reach.with(self.catalog.written_with(&name));
        ControlFlow::Continue(())
    }

    /// Whether nothing comes of reading a relation: of views that call something something may.
    fn reads(&self, relation: &ObjectName) -> Flow {
        let Some((schema, name)) = parts(relation) else { return ControlFlow::Break(()) };
        let is_table = !self.catalog.written_with(&name).is_everything();
        let is_plain = self.catalog.relation(schema.as_deref(), &name) == Some(Trust::Plain);
        go_on((is_table || is_plain || self.local.contains(&name)).then_some(()))
    }

    fn calls(&self, call: &Call) -> Flow {
        let Some((schema, name)) = parts(&call.name) else { return ControlFlow::Break(()) };
        let built_in = schema.as_deref().is_none_or(|schema| schema == "pg_catalog");
        let own = built_in && !self.catalog.has_doubtful_beyond_system(&name, call.arguments);
        let harmless = own && (said(&name) == Said::Plain || HARMLESS.contains(&name.as_str()));
        let known = || self.catalog.function(schema.as_deref(), &name, call.arguments);
        go_on((harmless || known() == Some(Trust::Plain)).then_some(()))
    }
}

impl Visitor for Found<'_> {
    type Break = ();

    fn pre_visit_statement(&mut self, statement: &Statement) -> Flow {
        let target = match statement {
            Statement::Query(_) => return ControlFlow::Continue(()),
            Statement::Insert(Insert { table: TableObject::TableName(name), .. })
            | Statement::Merge(Merge { table: TableFactor::Table { name, .. }, .. }) => Some(name),
            Statement::Update(Update { table, .. }) => only(table),
            Statement::Delete(Delete {
                from: FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables),
                ..
            }) => tables.first().filter(|_| tables.len() == 1).and_then(only),
            _ => None,
        };
        target.map_or(ControlFlow::Break(()), |name| self.writes_to(name))
    }

    fn pre_visit_query(&mut self, query: &Query) -> Flow {
        self.local.extend(given(query));
        go_on((query.for_clause.is_none() && query.settings.is_none() && query.pipe_operators.is_empty()).then_some(()))
    }

    fn pre_visit_select(&mut self, select: &Select) -> Flow {
        go_on(select.into.is_none().then_some(()))
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Flow {
        match Factor::of(factor) {
            Factor::Function(call) => {
                let flow = self.calls(&call);
                self.called = Some(call.name);
                flow
            }
            Factor::Rows => ControlFlow::Continue(()),
            Factor::Unknown => ControlFlow::Break(()),
        }
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> Flow {
        match self.called.take_if(|called| called == name) {
            Some(_) => ControlFlow::Continue(()),
            None => self.reads(name),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Flow {
        if let Some(call) = Call::of(expr, self.catalog) {
            return self.calls(&call);
        }
        let doubtful = operator(expr).is_some_and(|operator| self.catalog.doubts_operator(&operator));
        go_on((!doubtful).then_some(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::catalog::tests::sample;
    use crate::sql::classify::Classifier;

    fn check(cases: &[(&str, &str)]) {
        let (catalog, classifier) = (sample(), Classifier::default());
        let of = |names: &str| names.split_whitespace().fold(Reach::NOTHING, |reach, name| reach.with(Reach::of(name)));
        for (text, expected) in cases {
            let expected = of(&expected.replace("grown", "heap"));
            assert_eq!(classifier.analyse(text.as_bytes(), &catalog).reach, expected, "{text}");
        }
    }

    #[test]
    fn what_writes_change() {
        check(&[
            ("insert into a values (1)", "a"),
            ("insert into public.a select x from b returning *", "a"),
            ("insert into a values (1) on conflict do update set x = 2", "a"),
            ("insert into a values (nextval('s'), now(), random())", "a"),
            ("update a set x = 1 where y = 2", "a"),
            ("update a as t set x = b.x from b where b.y = t.y", "a"),
            ("delete from a", "a"),
            ("delete from a using b where a.x = b.x", "a"),
            ("delete from \"a\" where x in (select x from m)", "a"),
            ("merge into a using b on a.x = b.x when matched then delete", "a"),
            ("copy a from stdin", "a"),
            ("copy a (x, y) from stdin with (format csv)", "a"),
            ("explain analyze delete from a", "a"),
            ("begin; update a set x = 1; commit", "a"),
            ("update a set x = 1; delete from b", "a b"),
            ("with d as (delete from b returning *) insert into a select * from d join good using (x)", "a b"),
            ("with d as (select 1) insert into a select * from d", "a"),
            ("insert into quick select * from good", "quick"),
            ("insert into a select * from generate_series(1, 2)", "a"),
            ("insert into grown values (1)", "heap grown"),
            ("delete from heap", "heap"),
            ("delete from parent", "parent a"),
            ("select * from a for update", ""),
            ("select nextval('s')", ""),
            ("select pg_advisory_xact_lock(1)", ""),
            ("select * from quick", ""),
            ("commit", ""),
            ("set local work_mem = '1MB'", ""),
            ("savepoint s", ""),
        ]);
    }

    #[test]
    fn what_reads_read() {
        check(&[
            ("select 1", ""),
            ("select * from a", "a"),
            ("select * from good", "a"),
            ("select * from nested join b using (x)", "a b"),
            ("with w as (select * from a) select * from w", "a"),
            ("select * from heap", "heap"),
            ("select * from grown", "heap"),
            ("select * from a where lower(x) = 'y' and fixed(1) = 1 and x in (select x from m)", "a m"),
            ("insert into a values (1::looks)", "a"),
            ("insert into listed select x from a", "listed"),
            ("select * from guarded", "guarded"),
            ("copy a to stdout", "a"),
        ]);
    }

    #[test]
    fn what_is_not_certain_is_everything() {
        let (catalog, classifier) = (sample(), Classifier::default());
        for text in [
            "insert into nowhere values (1)",
            "insert into good values (1)",
            "insert into watched values (1)",
            "delete from owner",
            "insert into far values (1)",
            "insert into a values (writes(1))",
            "insert into a select b.writes from b",
            "update a set x = (a).writes",
            "select a.reads from a",
            "insert into a select * from bad",
            "delete from a where x in (select n from worse)",
            "insert into a select * from unknown",
            "update a set x = (select 1 from pg_stat_activity)",
            "insert into a select * from writes(1)",
            "insert into pg_catalog.pg_class values (1)",
            "update a set x = y @@ z",
            "with b as (delete from a returning *) insert into w select * from b",
            "select writes(1)",
            "select * into c from a",
            "select query_to_xml('select 1')",
            "truncate a",
            "create table c (x int)",
            "alter table a add y int",
            "commit prepared 'x'",
            "prepare p as delete from a",
            "execute p",
            "call p()",
            "do $$ begin end $$",
            "refresh materialized view m",
            "copy a from program 'x'",
            "declare c cursor for select 1",
            "something else",
            "begin; something else",
            "insert into checked values (1)",
            "delete from keyed",
            "insert into a values (1::checks)",
            "update a set x = weighs(1)",
            // And reads.
            "select * from listed",
            "select 1::looks",
            "select * from pg_catalog.pg_class",
            "select reads(1) from a",
            "select pg_get_userbyid(1)",
            "select a.x ~~~ b.x from a, b",
        ] {
            assert!(classifier.analyse(text.as_bytes(), &catalog).reach.is_everything(), "{text}");
        }
    }
}

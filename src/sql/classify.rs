//! From a text to its class: a read only if everything in it is understood and known to change nothing.

use sqlparser::ast::{CopySource, CopyTarget, Statement};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

pub use super::cache::Classifier;
use super::catalog::Catalog;
use super::hint::{Hint, Route};
use super::reach::Reach;
use super::scan::{Kind, Scanner, Token};
use super::types::Through;
use super::walk::{Stop, Walk};
use super::{Analysis, Class, Effects, WriteReason, dialect, effects, normal, writes};

/// Proof that something changes nothing and gives the same answer on every node.
///
/// Made by the classifier, and by the two orders below; neither `Clone` nor `Copy`, so that one proof serves one run.
#[derive(Debug)]
pub struct ReadOnly(());

impl ReadOnly {
    /// The proof that `analysis` contains, if it does.
    #[must_use]
    pub fn of(analysis: &Analysis) -> Option<Self> {
        analysis.read_only()
    }

    pub(super) const fn of_a_read() -> Self {
        Self(())
    }

    /// The user vouches for it: a hint in the statement says `replica`.
    #[must_use]
    pub fn by_order(hint: &Hint) -> Option<Self> {
        (hint.route == Some(Route::Replica)).then_some(Self(()))
    }

    /// PostgreSQL vouches for it: the transaction was begun READ ONLY.
    #[must_use]
    pub const fn transaction() -> Self {
        Self(())
    }
}

/// Texts longer than this are not looked at.
const LONGEST: usize = 1 << 20;

/// How deep the parser may nest; deeper texts are writes.
const DEEPEST: usize = 100;

/// How many words and operators the parser is given: a chain of them (`1 + 1 + …`) makes a tree as deep as the chain is
/// long without nesting in the parser, and a tree is dropped recursively, on a worker's 2 MiB of stack.
const LONGEST_CHAIN: usize = 4000;

/// Whether a token can make the tree deeper: lists of literals, which may be long, are flat.
fn nests(token: &Token) -> bool {
    matches!(token.kind, Kind::Word | Kind::Quoted | Kind::Operator)
}

/// The analysis of a text that was not seen before.
pub(super) fn analyse(text: &[u8], fingerprint: u64, catalog: &Catalog) -> Analysis {
    let effects = effects(text, catalog);
    let statements = statements(text);
    let parsed = statements.as_deref().map_err(Clone::clone);
    let reason = match parsed.and_then(|statements| class(text, statements, catalog)) {
        Ok(reach) if !effects.concern_session() => return Analysis::read(effects, reach, fingerprint),
        // Whatever leaves something behind in the session belongs where the session is.
        Ok(_) => WriteReason::Session,
        Err(stop) => stop.reason,
    };
    let reach = writes::reach(text, statements.as_deref().unwrap_or_default(), catalog);
    Analysis { reach, ..Analysis::write(reason, effects, fingerprint) }
}

/// What a text leaves behind in the session, by its own words and through the functions and triggers that it sets off.
pub(super) fn effects(text: &[u8], catalog: &Catalog) -> Effects {
    effects::of(text).with(catalog.hidden().effects(text))
}

/// The function, relation or operator because of which `text` is not a read, if it is one of these.
#[must_use]
pub fn culprit(text: &[u8], catalog: &Catalog) -> Option<String> {
    statements(text).and_then(|statements| class(text, &statements, catalog)).err()?.culprit
}

/// What a definition in the catalog reads, if it does nothing else.
pub(super) fn plain_read(text: &str, catalog: &Catalog) -> Option<Reach> {
    let text = text.as_bytes();
    let silent = !effects::of(text).concern_session();
    silent.then(|| statements(text).and_then(|statements| class(text, &statements, catalog)).ok())?
}

/// The statements of a text, as far as the parser understands them.
fn statements(text: &[u8]) -> Result<Vec<Statement>, Stop> {
    if text.len() > LONGEST {
        return Err(WriteReason::TooLong.into());
    }
    let normal = normal::text(text).ok_or(WriteReason::Unparsed)?;
    if Scanner::new(normal.as_bytes()).filter(nests).nth(LONGEST_CHAIN).is_some() {
        return Err(WriteReason::TooLong.into());
    }
    let plain = dialect::translate(&normal);
    parse(plain.as_deref().unwrap_or(&normal)).ok_or_else(|| unparsed(&normal).into())
}

/// What the `statements` of a text read, if they do nothing else.
fn class(text: &[u8], statements: &[Statement], catalog: &Catalog) -> Result<Reach, Stop> {
    let mut reach = Reach::NOTHING;
    for statement in statements {
        reach = reach.with(read(statement, catalog)?);
    }
    match catalog.types().through(text) {
        Through::Nothing => Ok(reach),
        Through::Reads => Ok(Reach::EVERYTHING),
        Through::Anything(name) => Err(Stop { reason: WriteReason::Type, culprit: Some(name) }),
    }
}

fn parse(normal: &str) -> Option<Vec<Statement>> {
    let parser = Parser::new(&PostgreSqlDialect {}).with_recursion_limit(DEEPEST);
    parser.try_with_sql(normal).and_then(|mut parser| parser.parse_statements()).ok()
}

/// Commands that the parser does not know are still told apart, for whoever asks why.
fn unparsed(normal: &str) -> WriteReason {
    let first = normal.split(' ').next().unwrap_or_default();
    if super::command::FIRST_WORDS.contains(&first) { WriteReason::Session } else { WriteReason::Unparsed }
}

fn read(statement: &Statement, catalog: &Catalog) -> Result<Reach, Stop> {
    match statement {
        Statement::Query(query) => Walk::new(catalog).query(query),
        // With ANALYZE the statement runs, and is a read itself or not.
        Statement::Explain { statement, .. } => read(statement, catalog),
        Statement::Copy { source, to: true, target: CopyTarget::Stdout, .. } => match source {
            CopySource::Query(query) => Walk::new(catalog).query(query),
            CopySource::Table { table_name, .. } => Walk::new(catalog).relation(table_name),
        },
        other => {
            let words = other.to_string().to_ascii_lowercase();
            let first = words.split(' ').next().unwrap_or_default();
            let session = super::command::FIRST_WORDS.contains(&first);
            Err(if session { WriteReason::Session } else { WriteReason::Statement }.into())
        }
    }
}

impl Analysis {
    const fn read(effects: Effects, reach: Reach, fingerprint: u64) -> Self {
        Self { class: Class::Read, effects, reach, fingerprint, proven: true }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sql::catalog::tests::sample;

    fn check(catalog: &Catalog, expected: Class, texts: &[&str]) {
        let classifier = Classifier::default();
        for text in texts {
            // Twice: the second answer comes from the cache.
            for _ in 0..2 {
                let analysis = classifier.analyse(text.as_bytes(), catalog);
                assert_eq!(analysis.class(), expected, "{text}");
                assert_eq!(analysis.read_only().is_some(), expected == Class::Read, "{text}");
            }
        }
    }

    #[test]
    fn reads() {
        let texts = [
            "select 1",
            "SELECT x FROM a WHERE y = $1 AND z IN (1, 2, 3) ORDER BY 1 LIMIT 5 OFFSET 2",
            "select count(*), sum(x) filter (where x > 1) over (partition by y) from public.a",
            "select * from a join b using (x) left join lateral (select 1 from a a2 where a2.x = b.x) q on true",
            "with w as (select * from a), v as (select * from w) select * from v",
            "with recursive r(n) as (select 1 union all select n + 1 from r where n < 9) select * from r",
            "values (1, 'x'), (2, 'y')",
            "select * from a union select * from b except select x from m",
            "select last_value(x) over (order by y) from a",
            "select * from good, nested where lower(good.x) = 'y'",
            "select now(), current_timestamp, current_user, coalesce(x, 1), random() from a",
            "select * from generate_series(1, 10) g(i)",
            "select x::text, cast(y as int), extract(year from z) from a",
            "select case when exists (select 1 from b) then 1 else (select max_x from a) end",
            "explain select * from a",
            "explain (analyze, costs off) select * from a",
            "copy (select * from a) to stdout",
            "copy a to stdout",
            "select 'insert into t values (1)', $$ drop table x $$",
            "select \"x\" from \"public\".\"a\" as \"A\"",
            "select 1; select 2",
            "select * from guarded",
            "select reads(1)",
            "select oid::regclass from pg_catalog.pg_class where pg_table_is_visible(oid)",
            "select rolname from pg_roles union select table_name from information_schema.tables",
            "select pg_get_statisticsobjdef_columns(1), pg_relation_is_publishable(1) from pg_options_to_table(null)",
            "/* howdah: primary */ select x from a -- trailing",
            "select * from a*",
            "select * from only a join only b using (x)",
            "table a",
            "table only good",
            "with w as (table a) select * from w",
            "select lower(variadic array['x'])",
            "select (reads(1)).*",
            "select a.reads, (a).reads from a",
            "select xmlparse(content 'x'), json_value('{}'::jsonb, '$.x')",
            "select p.x from a* p where p.x > 1",
            "select * from listed where 'checks' = $$ checks $$ /* checks */",
            "select x::looks, \"Checks\" from a",
        ];
        check(&sample(), Class::Read, &texts);
    }

    #[test]
    fn writes_and_why() {
        use WriteReason::Statement;
        let catalog = sample();
        let is = |reason, texts: &[&str]| check(&catalog, Class::Write(reason), texts);
        is(
            Statement,
            &[
                "insert into a values (1)",
                "update a set x = 1",
                "delete from a",
                "create table c (x int)",
                "truncate a",
                "select 1; delete from a",
                "explain analyze delete from a",
                "explain insert into a values (1)",
                "merge into a using b on a.x = b.x when matched then delete",
                "grant select on a to public",
                "drop table a",
                "vacuum a",
                "call p()",
                "copy a from stdin",
                "copy (select 1) to '/tmp/x'",
                "analyze a",
            ],
        );
    }

    #[test]
    fn queries_that_write_and_why() {
        use WriteReason::{Into, ModifyingCte, RowLock};
        let catalog = sample();
        let is = |reason, texts: &[&str]| check(&catalog, Class::Write(reason), texts);
        is(
            RowLock,
            &[
                "select * from a for update",
                "select * from a where x in (select x from b for share)",
                "with w as (select * from a for update) select * from w",
                "select * from a for update skip locked",
            ],
        );
        is(Into, &["select * into c from a"]);
        is(
            ModifyingCte,
            &[
                "with w as (insert into a values (1) returning x) select * from w",
                "select * from (with w as (delete from a returning x) select x from w) q",
            ],
        );
    }

    #[test]
    fn what_queries_touch_makes_them_writes() {
        use WriteReason::{Function, Relation, Session};
        let catalog = sample();
        let is = |reason, texts: &[&str]| check(&catalog, Class::Write(reason), texts);
        is(
            Function,
            &[
                "select nextval('s')",
                "select currval('s')",
                "select writes(1)",
                "select a.writes from a",
                "select (a).\"writes\" from a",
                "select x from a where (select b from b).writes.y > 1",
                "select public.writes(1)",
                "select * from writes(1)",
                "select x from a where writes(x) > 1",
                "select pg_advisory_xact_lock(1)",
                "select pg_notify('a', 'b')",
                "select txid_current()",
                "select pg_is_in_recovery()",
                "select both()",
                "select lo_creat(1)",
                "select pg_current_wal_lsn()",
                "select unheard_of(1)",
                "select inet_server_addr()",
                "select pg_catalog.pg_backend_pid()",
                "copy (select writes(1)) to stdout",
                "explain analyze select writes(1)",
                "select x @@ 1 from a",
                "select current_setting('x')",
                "select 1 order by nextval('s')",
                "values (nextval('s'))",
                "select pg_export_snapshot()",
                "select pg_promote()",
                "select current_schema",
                "select current_schema()",
                "select current_schemas(true)",
            ],
        );
        is(
            Relation,
            &[
                "select * from bad",
                "select * from worse",
                "select * from quick",
                "select * from far",
                "select * from secret",
                "select * from unheard_of",
                "select * from pg_catalog.pg_locks",
                "select * from pg_stat_activity",
                "copy bad to stdout",
                "select * from other.a",
                "select * from public.w, (with w as (select 1) select 1) q",
            ],
        );
        is(
            Session,
            &[
                "begin",
                "set a = 1",
                "show a",
                "listen x",
                "declare c cursor for select 1",
                "prepare p as select 1",
                "deallocate all",
                "lock table a",
            ],
        );
        is(Function, &["select set_config('a', 'b', false)", "select setseed(0.5)", "select pg_try_advisory_lock(1)"]);
    }

    #[test]
    fn calls_are_judged_by_how_many_arguments_they_have() {
        let reads = ["select sized(1), sized(a => 1), ceil(1.5) from a", "select * from sized(1) s"];
        check(&sample(), Class::Read, &reads);
        let writes = [
            "select sized(1, 2)",
            "select sized(1, b => 2)",
            "select * from sized(1, 2, 3)",
            "select sized(*)",
            "select sized(a.*) from a",
            "select sized(1, 2, 3, 4, 5)",
            "select sized(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)",
            "select sized(1) within group (order by x) from a",
            "select floor(x) from a",
            // No such function.
            "select sized()",
            "select sized(1, 2, 3, 4)",
        ];
        check(&sample(), Class::Write(WriteReason::Function), &writes);
    }

    #[test]
    fn types_that_run_code_make_writes_of_queries() {
        let texts = [
            "select 1::checks",
            "select cast(x as public.\"checks\"[]) from a",
            "select checks '1'",
            "select (a).checks from a",
            "select \"Odd one\" '1' from a",
            "select * from checked",
            "table checked",
            "select weighs(1)",
            "select * from reads('{}') as t(x checks)",
            "select reads(null::checked, '{}')",
            "copy (select '1'::checks) to stdout",
            "explain analyze select '1'::checks",
            "select pg_input_is_valid('1', 'checks')",
        ];
        check(&sample(), Class::Write(WriteReason::Type), &texts);
        check(&sample(), Class::Write(WriteReason::Relation), &["select * from casts", "copy casts to stdout"]);
        check(&sample(), Class::Write(WriteReason::Function), &["select CHECKS('1')"]);
        assert_eq!(culprit(b"select 1::Checks", &sample()).as_deref(), Some("checks"));
    }

    #[test]
    fn other_words_for_it_change_nothing() {
        let catalog = sample();
        let relations =
            ["select * from only quick", "table quick", "(table a) union table bad", "select 1 from pg_sequences"];
        check(&catalog, Class::Write(WriteReason::Relation), &relations);
        let functions = [
            "select writes(1) from a*",
            "select writes(variadic array[1])",
            "select (writes(1)).*",
            "select table_to_xml('bad', true, true, '')",
            "select pg_my_temp_schema()",
        ];
        check(&catalog, Class::Write(WriteReason::Function), &functions);
    }

    #[test]
    fn what_is_not_understood_is_a_write() {
        let catalog = sample();
        for text in [
            "selec 1",
            "select",
            "",
            ";",
            "select 'unfinished",
            "select * from a where",
            "\0",
            "select U&\"x\" from a",
            "select 'a\\' from a",
            "select * from a for no key update",
            "select * from a pivot (sum(x) for y in (1))",
        ] {
            let analysis = Classifier::default().analyse(text.as_bytes(), &catalog);
            assert!(text.trim_matches(';').is_empty() || analysis.class() != Class::Read, "{text}");
        }
        let deep = format!("select {}1{}", "(".repeat(50_000), ")".repeat(50_000));
        assert_ne!(Classifier::default().analyse(deep.as_bytes(), &catalog).class(), Class::Read);
        let long = format!("select '{}'", "x".repeat(LONGEST));
        check(&catalog, Class::Write(WriteReason::TooLong), &[&long]);
    }

    #[test]
    fn nothing_is_assumed_of_an_unknown_database() {
        let catalog = Catalog::empty();
        check(&catalog, Class::Read, &["select 1", "select random(), coalesce(1, 2)"]);
        check(&catalog, Class::Write(WriteReason::CatalogUnknown), &["select * from a", "select lower('x')"]);
    }

    #[test]
    fn the_time_that_a_view_asks_for_is_noticed() {
        let (classifier, catalog) = (Classifier::default(), sample());
        let analysis = classifier.analyse(b"select d.today from dated d", &catalog);
        assert_eq!((analysis.class(), analysis.effects), (Class::Read, Effects::NOW));
        assert_eq!(classifier.analyse(b"select x from good", &catalog).effects, Effects::default());
    }

    #[test]
    fn what_made_it_a_write_is_named() {
        let catalog = sample();
        for (text, expected) in [
            ("select x from a where public.writes(x) > 1", Some("public.writes")),
            ("select * from a join bad using (x)", Some("bad")),
            ("select x @@ 1 from a", Some("@@")),
            ("select 1; select nextval('s')", Some("nextval")),
            ("select 1", None),
            ("delete from a", None),
        ] {
            assert_eq!(culprit(text.as_bytes(), &catalog).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_correction_lasts() {
        let (classifier, catalog) = (Classifier::default(), sample());
        let analysis = classifier.analyse(b"select reads(1)", &catalog);
        assert_eq!(analysis.class(), Class::Read);
        classifier.correct(analysis.fingerprint);
        assert_ne!(classifier.analyse(b"select reads(2)", &catalog).class(), Class::Read);
        assert_eq!(classifier.analyse(b"select lower('x')", &catalog).class(), Class::Read);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = analyse(&text, 0, &Catalog::empty());
        }

        #[test]
        fn no_word_makes_a_write_a_read(
            before in prop::sample::select(vec!["", "select 1;", "explain ", "/* x */", "(", "with q as (select 1) "]),
            after in prop::sample::select(vec!["", "; select 1", ")", " -- x", " for update"]),
        ) {
            let text = format!("{before}delete from a{after}");
            prop_assert_ne!(analyse(text.as_bytes(), 0, &sample()).class(), Class::Read);
        }
    }
}

//! What is a read and what is not: the lists of statements that a hot standby was tried with, and more.

mod functions;
mod heavy;
mod statements;

use proptest::prelude::*;

use super::*;
use crate::sql::catalog::{
    Facts, FirstArgument, FunctionFact, OperatorFact, Origin, Reach, Reached, RelationFact, Rows, Volatility,
};
use crate::sql::command::{Isolation, TransactionModes};

/// PostgreSQL's own functions that are not volatile.
const SYSTEM: &[&str] = &[
    "abs",
    "age",
    "array_agg",
    "btrim",
    "ceil",
    "concat",
    "count",
    "current_setting",
    "date_trunc",
    "floor",
    "format",
    "generate_series",
    "inet_server_addr",
    "int4",
    "json_agg",
    "json_build_object",
    "jsonb_array_elements",
    "length",
    "lower",
    "max",
    "min",
    "now",
    "percentile_cont",
    "pg_backend_pid",
    "pg_typeof",
    "pg_walfile_name",
    "rank",
    "row_number",
    "row_to_json",
    "string_agg",
    "substr",
    "substring",
    "sum",
    "table_to_xml",
    "to_char",
    "to_tsvector",
    "txid_current",
    "unnest",
    "upper",
    "version",
];

/// And those that are.
const SYSTEM_VOLATILE: &[&str] = &[
    "clock_timestamp",
    "currval",
    "gen_random_uuid",
    "lastval",
    "lo_get",
    "nextval",
    "pg_advisory_lock",
    "pg_database_size",
    "pg_is_in_recovery",
    "pg_notify",
    "pg_sleep",
    "random",
    "set_config",
    "setval",
];

/// Schema, name, volatility, arguments, what `t.name` can mean.
type UserFunction = (&'static str, &'static str, Volatility, (u16, u16), FirstArgument);
const USER: &[UserFunction] = {
    use FirstArgument::{Other, Row};
    use Volatility::{Immutable, Stable, Volatile};
    &[
        ("public", "f_reads", Stable, (0, 1), Other),
        ("public", "f_writes", Volatile, (0, 1), Other),
        ("public", "overloaded", Immutable, (1, 1), Other),
        ("public", "overloaded", Volatile, (2, 2), Other),
        ("other", "hidden", Volatile, (0, 9), Other),
        ("public", "hidden", Stable, (0, 9), Other),
        ("public", "clock_timestamp", Stable, (1, 1), Other),
        ("evil", "random", Volatile, (3, 3), Other),
        ("public", "touch", Volatile, (1, 1), Row),
        ("public", "status", Volatile, (1, 1), Other),
    ]
};

fn functions() -> Vec<FunctionFact> {
    let fact = |schema: &str, name: &str, volatility, origin| FunctionFact {
        oid: 0,
        schema: schema.to_owned(),
        name: name.to_owned(),
        min_arguments: 0,
        max_arguments: None,
        volatility,
        origin,
        argument: FirstArgument::Other,
    };
    let system = SYSTEM.iter().map(|name| fact("pg_catalog", name, Volatility::Stable, Origin::System));
    let volatile = SYSTEM_VOLATILE.iter().map(|name| fact("pg_catalog", name, Volatility::Volatile, Origin::System));
    let user = USER.iter().map(|(schema, name, volatility, (min, max), argument)| FunctionFact {
        min_arguments: *min,
        max_arguments: Some(*max),
        argument: *argument,
        ..fact(schema, name, *volatility, Origin::User)
    });
    let numbered = |(oid, function)| FunctionFact { oid, ..function };
    (100..).zip(system.chain(volatile).chain(user)).map(numbered).collect()
}

fn relations() -> Vec<RelationFact> {
    use Rows::{Bound, Replicated};
    let relations = [
        ("public", "t", Replicated),
        ("public", "u", Replicated),
        ("public", "unlogged", Bound),
        ("public", "v", Replicated),
        ("public", "v_writes", Replicated),
        ("public", "v_over_v_writes", Replicated),
        ("public", "v_unknown", Replicated),
        ("public", "v_locks", Replicated),
        ("public", "Mixed", Replicated),
        ("a", "twice", Replicated),
        ("b", "twice", Bound),
        ("public", "loop", Replicated),
        ("public", "pg_mine", Replicated),
    ];
    let fact = |(oid, (schema, name, rows)): (u32, (&str, &str, Rows))| RelationFact {
        oid,
        schema: schema.to_owned(),
        name: name.to_owned(),
        rows,
    };
    (1..).zip(relations).map(fact).collect()
}

/// A small database: what PostgreSQL has, and a schema with one of each kind of trouble.
fn catalog() -> Catalog {
    let functions = functions();
    let oid = |name: &str| functions.iter().find(|function| function.name == name).unwrap().oid;
    let operator = |name: &str, function| OperatorFact { name: name.to_owned(), function };
    Catalog::new(
        9,
        Facts {
            relations: relations(),
            reaches: vec![
                Reach { from: 4, to: Reached::Relation(1) },
                Reach { from: 4, to: Reached::Function(oid("lower")) },
                Reach { from: 5, to: Reached::Function(oid("f_writes")) },
                Reach { from: 6, to: Reached::Relation(5) },
                Reach { from: 7, to: Reached::Relation(999) },
                Reach { from: 8, to: Reached::RowLock },
                Reach { from: 12, to: Reached::Relation(12) },
            ],
            operators: vec![
                operator("+!+", oid("f_writes")),
                operator("->", oid("lower")),
                operator("~~", oid("lower")),
            ],
            functions,
        },
    )
}

fn class(text: &str, catalog: &Catalog) -> Class {
    analyse(text.as_bytes(), catalog, 0).class
}

/// Every text is a read.
fn reads(texts: &[&str]) {
    let catalog = catalog();
    for text in texts {
        assert_eq!(class(text, &catalog), Class::Read, "{text}");
        // Also with others of its kind, and never with a write beside it.
        let text = text.trim_end_matches(';');
        assert_eq!(class(&format!("{text}\n; SELECT 1;"), &catalog), Class::Read, "{text}");
        assert_ne!(class(&format!("{text}\n; DELETE FROM t"), &catalog), Class::Read, "{text}");
    }
}

/// Every text is a write for this reason.
fn writes(reason: WriteReason, texts: &[&str]) {
    let catalog = catalog();
    for text in texts {
        assert_eq!(class(text, &catalog), Class::Write(reason), "{text}");
        assert_ne!(class(&format!("SELECT 1; {text}"), &catalog), Class::Read, "{text}");
    }
}

/// Every text is a write; the reason is a matter of how far the parser comes.
fn not_reads(texts: &[&str]) {
    let catalog = catalog();
    for text in texts {
        assert_ne!(class(text, &catalog), Class::Read, "{text}");
    }
}

#[test]
fn doubt_is_a_write() {
    writes(
        WriteReason::Unparsed,
        &[
            "SELECT 1 FROM t WHERE",
            "SELECT 1 1 1",
            "SELECT 'abc",
            "SELECT \"abc",
            "SELECT /* abc",
            "SELECT $x$ abc",
            "SELECT 'a\\', 1",
            "SELECT U&\"a\" FROM t",
            "SELECT {d '2020-01-01'}",
            "SELECT a FROM t \\",
            "SELECT * EXCLUDE (a) FROM t",
            "SELECT TOP 5 * FROM t",
            "SELECT ((1)",
        ],
    );
    let invalid = b"SELECT \xff FROM t";
    assert_eq!(analyse(invalid, &catalog(), 0).class, Class::Write(WriteReason::Unparsed));
    assert_eq!(analyse(b"SELECT '\xff'", &catalog(), 0).class, Class::Read);
}

#[test]
fn without_a_catalog_only_constants_are_reads() {
    let empty = Catalog::empty();
    for text in
        ["SELECT 1", "SELECT 1 + 1 AS a", "VALUES (1)", "WITH x AS (SELECT 1) SELECT * FROM x", "", "SELECT $1::int"]
    {
        assert_eq!(class(text, &empty), Class::Read, "{text}");
    }
    for text in ["SELECT * FROM t", "SELECT lower('A')", "SELECT random()", "TABLE t"] {
        assert_eq!(class(text, &empty), Class::Write(WriteReason::CatalogUnknown), "{text}");
    }
    for (text, reason) in [
        ("SELECT nextval('s')", WriteReason::Function),
        ("SELECT * FROM pg_class", WriteReason::Relation),
        ("INSERT INTO t VALUES (1)", WriteReason::Statement),
    ] {
        assert_eq!(class(text, &empty), Class::Write(reason), "{text}");
    }
}

#[test]
fn proofs_come_from_reads_hints_and_read_only_transactions() {
    let catalog = catalog();
    assert!(analyse(b"SELECT 1", &catalog, 0).read_only().is_some());
    let mut forged = analyse(b"DELETE FROM t", &catalog, 0);
    assert!(forged.read_only().is_none());
    forged.class = Class::Read;
    assert!(forged.read_only().is_none());

    let hint = |text: &[u8]| crate::sql::hint::parse(text).unwrap();
    assert!(ReadOnly::by_order(&hint(b"/* howdah: replica */")).is_some());
    assert!(ReadOnly::by_order(&hint(b"/* howdah: primary */")).is_none());
    assert!(ReadOnly::by_order(&hint(b"/* howdah: consistency=strong */")).is_none());

    let modes = |read_only, isolation| TransactionModes { read_only, isolation, deferrable: None };
    assert!(ReadOnly::transaction(&modes(Some(true), None)).is_some());
    assert!(ReadOnly::transaction(&modes(Some(true), Some(Isolation::RepeatableRead))).is_some());
    assert!(ReadOnly::transaction(&modes(Some(true), Some(Isolation::Serializable))).is_none());
    assert!(ReadOnly::transaction(&modes(Some(false), None)).is_none());
    assert!(ReadOnly::transaction(&modes(None, None)).is_none());
}

/// Words that make SQL when strewn, more often than letters do.
const WORDS: &[&str] = &[
    "SELECT",
    "FROM",
    "t",
    "u",
    "WHERE",
    "a",
    "=",
    "1",
    "(",
    ")",
    ",",
    ";",
    "'x'",
    "\"a\"",
    "WITH",
    "AS",
    "x",
    "INSERT",
    "INTO",
    "DELETE",
    "UPDATE",
    "FOR",
    "UNION",
    "ALL",
    "lower",
    "f_writes",
    "nextval",
    ".",
    "*",
    "JOIN",
    "ON",
    "ORDER",
    "BY",
    "LIMIT",
    "CASE",
    "WHEN",
    "THEN",
    "END",
    "::",
    "int",
    "$1",
    "--",
    "\n",
    "/*",
    "*/",
    "VALUES",
    "TABLE",
    "EXPLAIN",
    "COPY",
    "TO",
    "STDOUT",
    "SET",
    "BEGIN",
    "RETURNING",
    "ARRAY",
    "[",
    "]",
    "NOT",
    "IN",
    "EXISTS",
    "LATERAL",
    "$$",
    "E'\\''",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn bytes_never_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = analyse(&text, &catalog(), 0);
    }

    #[test]
    fn strewn_words_never_panic_and_never_hide_a_write(
        words in proptest::collection::vec(proptest::sample::select(WORDS), 0..30),
    ) {
        let text = words.join(" ");
        let analysis = analyse(text.as_bytes(), &catalog(), 0);
        let _ = crate::sql::command::parse(text.as_bytes());
        if analysis.class == Class::Read {
            let mut tokens = Scanner::new(text.as_bytes()).peekable();
            while let Some(token) = tokens.next() {
                let call = tokens.peek().is_some_and(|next| next.is_mark(text.as_bytes(), "("));
                prop_assert!(!(call && (token.is_word(text.as_bytes(), "f_writes") || token.is_word(text.as_bytes(), "nextval"))), "{}", text);
            }
        }
    }

    #[test]
    fn mutated_queries_never_panic(at in any::<proptest::sample::Index>(), byte in any::<u8>(), which in 0..4_usize) {
        let text = [
            "WITH x AS (SELECT * FROM t WHERE a = 'b') SELECT lower(x.a), $1::int FROM x JOIN u USING (a) FOR UPDATE",
            "SELECT set_config('a.b', $1, true), E'a\\'b', $x$ y $x$ /* c /* d */ */ -- e",
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY; DECLARE c CURSOR FOR SELECT 1",
            "COPY (SELECT * FROM t ORDER BY a LIMIT 1) TO STDOUT WITH (FORMAT csv, DELIMITER ',')",
        ][which];
        let mut bytes = text.as_bytes().to_vec();
        let index = at.index(bytes.len());
        bytes[index] = byte;
        let _ = analyse(&bytes, &catalog(), 0);
        let _ = crate::sql::command::parse(&bytes);
        bytes.truncate(index);
        let _ = analyse(&bytes, &catalog(), 0);
        let _ = crate::sql::command::parse(&bytes);
    }
}

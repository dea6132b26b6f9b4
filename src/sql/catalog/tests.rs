//! How facts become verdicts.

use super::*;

fn function(oid: u32, schema: &str, name: &str, volatility: Volatility, origin: Origin) -> FunctionFact {
    FunctionFact {
        oid,
        schema: schema.to_owned(),
        name: name.to_owned(),
        min_arguments: 0,
        max_arguments: Some(1),
        volatility,
        origin,
        argument: FirstArgument::Other,
    }
}

fn relation(oid: u32, schema: &str, name: &str, rows: Rows) -> RelationFact {
    RelationFact { oid, schema: schema.to_owned(), name: name.to_owned(), rows }
}

#[test]
fn harmless_functions_are_harmless_only_from_those_who_wrote_them() {
    let volatile = Volatility::Volatile;
    let functions = vec![
        function(1, "pg_catalog", "random", volatile, Origin::System),
        function(2, "public", "uuid_generate_v4", volatile, Origin::System),
        function(3, "public", "gen_salt", volatile, Origin::User),
        function(4, "public", "other", volatile, Origin::System),
        function(5, "public", "nextval", Volatility::Immutable, Origin::User),
        function(6, "pg_catalog", "pg_stat_get_anything", Volatility::Stable, Origin::System),
    ];
    let catalog = Catalog::new(1, Facts { functions, ..Facts::default() });
    for (name, expect) in [
        ("random", Ok(())),
        ("uuid_generate_v4", Ok(())),
        ("gen_salt", Err(WriteReason::Function)),
        ("other", Err(WriteReason::Function)),
        ("nextval", Err(WriteReason::Function)),
        ("pg_stat_get_anything", Err(WriteReason::Function)),
        ("unknown", Err(WriteReason::Function)),
    ] {
        assert_eq!(catalog.function(None, name, None), expect, "{name}");
    }
    assert_eq!(catalog.function(Some("public"), "random", None), Err(WriteReason::Function));
    assert_eq!(catalog.function(Some("nowhere"), "random", None), Err(WriteReason::Function));
}

#[test]
fn what_leads_to_trouble_is_trouble_however_far() {
    let functions = vec![function(1, "public", "f", Volatility::Volatile, Origin::User)];
    let mut relations: Vec<_> = (10..20).map(|oid| relation(oid, "s", &format!("r{oid}"), Rows::Replicated)).collect();
    relations.push(relation(20, "s", "r20", Rows::Bound));
    let reach = |from, to| Reach { from, to };
    // 10 <- 11 <- 12 calls f; 13 <- 14 both ways without harm; 15 reads 20; 16 reads what nobody knows; 17 itself.
    let reaches = vec![
        reach(10, Reached::Relation(11)),
        reach(11, Reached::Relation(12)),
        reach(12, Reached::Function(1)),
        reach(13, Reached::Relation(14)),
        reach(14, Reached::Relation(13)),
        reach(15, Reached::Relation(20)),
        reach(16, Reached::Relation(99)),
        reach(17, Reached::Relation(17)),
        reach(18, Reached::Function(77)),
        reach(19, Reached::RowLock),
    ];
    let catalog = Catalog::new(1, Facts { functions, relations, reaches, ..Facts::default() });
    let refused: Vec<u32> = (10..=20).filter(|oid| catalog.relation(None, &format!("r{oid}")).is_err()).collect();
    assert_eq!(refused, [10, 11, 12, 15, 16, 18, 19, 20]);
}

#[test]
fn names_without_schema_are_judged_by_the_strictest() {
    let relations = vec![
        relation(1, "a", "t", Rows::Replicated),
        relation(2, "b", "t", Rows::Bound),
        relation(3, "c", "t", Rows::Replicated),
    ];
    let catalog = Catalog::new(1, Facts { relations, ..Facts::default() });
    assert_eq!(catalog.relation(None, "t"), Err(WriteReason::Relation));
    assert_eq!(catalog.relation(Some("a"), "t"), Ok(()));
    assert_eq!(catalog.relation(Some("b"), "t"), Err(WriteReason::Relation));
    assert_eq!(catalog.relation(Some("d"), "t"), Err(WriteReason::Relation));
}

#[test]
fn an_empty_catalog_knows_only_what_is_always_so() {
    let empty = Catalog::empty();
    assert_eq!((empty.version(), empty.is_loaded(), empty.len()), (0, false, (0, 0)));
    assert_eq!(empty.function(None, "lower", None), Err(WriteReason::CatalogUnknown));
    assert_eq!(empty.function(None, "nextval", None), Err(WriteReason::Function));
    assert_eq!(empty.relation(None, "t"), Err(WriteReason::CatalogUnknown));
    assert_eq!(empty.relation(None, "pg_class"), Err(WriteReason::Relation));
    assert_eq!(empty.attribute("a", FirstArgument::Other), Ok(()));
}

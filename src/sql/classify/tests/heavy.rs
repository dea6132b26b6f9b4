//! Texts that would cost a careless parser its stack or its time.

use super::*;

/// What a text can be made long or deep with, and what it then begins with.
const HEAVY: &[(&str, &str)] = &[
    ("+1", "SELECT 1"),
    (" IS NULL", "SELECT 1"),
    ("::int", "SELECT 1"),
    (" UNION SELECT 1", "SELECT 1"),
    (" UNION SELECT 1, 2", "SELECT 1, 2"),
    (" AND a", "SELECT a FROM t WHERE a"),
    (" COLLATE x", "SELECT 1"),
    (" NOTNULL", "SELECT 1"),
    (" AT TIME ZONE 'x'", "SELECT 1"),
    (" JOIN t ON true", "SELECT 1 FROM t"),
    (" JOIN t", "SELECT 1 FROM t"),
    (" JOIN (SELECT DISTINCT ON (1) 1)", "SELECT 1 FROM t"),
    (" CROSS JOIN t", "SELECT 1 FROM t"),
    (" || ARRAY[1, 2]", "SELECT ARRAY[1, 2]"),
    (" - ", "SELECT "),
    (" NOT ", "SELECT "),
    ("(", "SELECT "),
    ("(", "SELECT * FROM "),
    ("[", "SELECT ARRAY"),
    ("(SELECT ", "SELECT "),
    ("lower(", "SELECT "),
    (" CASE WHEN ", "SELECT "),
    ("EXPLAIN ", ""),
    ("[1]", "SELECT a"),
    (".a", "SELECT a"),
    (" IN (1)", "SELECT 1"),
    (" BETWEEN 1 AND 1", "SELECT 1"),
    (" LIKE 'x'", "SELECT 'x'"),
    ("WITH x AS (", ""),
    ("(SELECT * FROM ", "SELECT * FROM "),
    ("(VALUES ", "SELECT * FROM "),
    ("((SELECT lower(", "SELECT "),
    ("((t JOIN ", "SELECT * FROM "),
    ("CAST(", "SELECT "),
    ("EXISTS (SELECT CASE WHEN (", "SELECT "),
    ("x(a => ", "SELECT "),
    ("ARRAY[(", "SELECT "),
    ("json_object(", "SELECT "),
    ("interval (", "SELECT "),
    ("ROW(", "SELECT "),
    ("trim(both ", "SELECT "),
    ("position(", "SELECT "),
    ("extract(year from ", "SELECT "),
    ("date '1' + (", "SELECT "),
    ("unnest(", "SELECT * FROM "),
    ("LATERAL (SELECT * FROM ", "SELECT * FROM "),
    ("EXPLAIN (", ""),
    ("a IN (", "SELECT "),
    ("NOT (", "SELECT "),
    ("x'1' IS JSON AND (", "SELECT "),
    ("f(DISTINCT ", "SELECT "),
    ("grouping sets ((", "SELECT 1 GROUP BY "),
    (" DESC", "SELECT 1 ORDER BY 1"),
];

#[test]
fn long_and_deep_texts_cost_no_stack() {
    let catalog = catalog();
    let too_long = Class::Write(WriteReason::TooLong);
    assert_eq!(class(&format!("SELECT '{}'", "x".repeat(LENGTH_LIMIT)), &catalog), too_long);
    for (unit, start) in HEAVY {
        for count in [10, 20, 45, 100, 1000, 2000, 30_000] {
            let text = format!("{start}{}", unit.repeat(count));
            let class = class(&text, &catalog);
            if count == 30_000 && unit.trim() != "." {
                assert_ne!(class, Class::Read, "{start}{unit}");
            }
        }
    }
    let list = format!("SELECT * FROM t WHERE a IN ({}1)", "1, ".repeat(50_000));
    assert_eq!(class(&list, &catalog), Class::Read);
    let wide = format!("SELECT {}a FROM t", "lower(a) AS b, ".repeat(5_000));
    assert_eq!(class(&wide, &catalog), Class::Read);
    let conditions = format!("SELECT * FROM t WHERE {} true", "(a = 1 AND b IS NOT NULL) OR ".repeat(400));
    assert_eq!(class(&conditions, &catalog), Class::Read);
}

//! A database for benchmarks: the tables and functions that their statements name, and nothing volatile among them.

use howdah::sql::catalog::{self, Catalog};

const FUNCTIONS: [&str; 2] = ["count", "upper"];

const TABLES: [&str; 6] =
    ["pgbench_accounts", "shop_order", "shop_customer", "shop_address", "shop_orderline", "shop_refund"];

/// The catalog of that database.
pub(super) fn catalog() -> Catalog {
    let functions = FUNCTIONS.iter().map(|name| row(&["pg_catalog", name, "f"])).collect();
    let relations = TABLES.iter().map(|name| row(&["public", name, "r", "p"])).collect();
    catalog::build(&[functions, relations, Vec::new()], Default::default(), 1)
}

fn row(values: &[&str]) -> Vec<Option<String>> {
    values.iter().map(|value| Some((*value).to_owned())).collect()
}

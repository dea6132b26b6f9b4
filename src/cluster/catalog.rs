//! Loads what a database's own catalog says of its functions, relations and operators, and keeps it at hand.
//!
//! Here are the queries, the reading of their rows and the place where the result is published. Nothing here judges
//! (`sql::catalog` does) and nothing here connects: whoever holds a connection to the primary runs [`QUERIES`].

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::sql::catalog::{
    Catalog, Facts, FirstArgument, FunctionFact, OperatorFact, Origin, Reach, Reached, RelationFact, Rows, Volatility,
};
use crate::types::DatabaseName;

/// One query's rows, as the simple protocol gives them.
pub type Table = Vec<Vec<Option<String>>>;

/// What to ask the primary, in this order; `build` takes the answers in the same order. For PostgreSQL 13 to 18.
///
/// Run them in one REPEATABLE READ transaction, or DDL in between can make a fact point to nothing; such facts are
/// refused, so that the worst is that something goes to the primary until the next load.
pub const QUERIES: [&str; 4] = [FUNCTIONS, RELATIONS, REACHES, OPERATORS];

/// An aggregate's own volatility says nothing: its support functions' does. Only the name, the number of arguments
/// and the first argument's kind tell overloads apart.
const FUNCTIONS: &str = "\
WITH aggregates AS (\
  SELECT a.aggfnoid::pg_catalog.oid AS oid, \
    max(CASE s.provolatile WHEN 'v' THEN 3 WHEN 's' THEN 2 ELSE 1 END) AS volatility \
  FROM pg_catalog.pg_aggregate a \
    CROSS JOIN LATERAL pg_catalog.unnest(ARRAY[a.aggtransfn, a.aggfinalfn, a.aggmtransfn, a.aggminvtransfn, \
      a.aggmfinalfn]::pg_catalog.oid[]) AS f(oid) \
    JOIN pg_catalog.pg_proc s ON s.oid = f.oid \
  GROUP BY 1\
) \
SELECT p.oid, n.nspname, p.proname, \
  greatest(p.pronargs - p.pronargdefaults - CASE WHEN p.provariadic = 0 THEN 0 ELSE 1 END, 0), \
  CASE WHEN p.provariadic = 0 THEN p.pronargs END, \
  CASE WHEN p.prokind <> 'a' THEN p.provolatile::text \
    ELSE coalesce(pg_catalog.substr('isv', a.volatility, 1), 'v') END, \
  n.nspname = 'pg_catalog' OR l.lanname IN ('c', 'internal'), \
  coalesce(t.typtype IN ('c', 'p'), false) \
FROM pg_catalog.pg_proc p \
  JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
  JOIN pg_catalog.pg_language l ON l.oid = p.prolang \
  LEFT JOIN pg_catalog.pg_type t ON t.oid = p.proargtypes[0] \
  LEFT JOIN aggregates a ON a.oid = p.oid \
WHERE p.prokind <> 'p'";

/// PostgreSQL's own relations are judged without facts, and temporary ones concern one session only, which is pinned.
const RELATIONS: &str = "\
SELECT c.oid, n.nspname, c.relname, c.relkind IN ('r', 'p', 'v', 'm') AND c.relpersistence = 'p' \
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't' \
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'";

/// What views, row policies and partitioned tables lead to. `pg_depend` does not tell: it leaves out whatever is
/// PostgreSQL's own, `nextval` and the catalogs included. So the stored trees are searched for object ids.
/// A `current_setting` with a dot (byte 46) in its constant argument reads a setting of the application's own, which
/// follows the client to every node: it is taken out first. Row marks are a view's FOR UPDATE.
const REACHES: &str = "\
WITH trees AS (\
  SELECT r.ev_class AS relation, r.ev_action::text AS tree \
  FROM pg_catalog.pg_rewrite r \
    JOIN pg_catalog.pg_class c ON c.oid = r.ev_class \
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
  WHERE r.ev_type = '1' AND c.relkind <> 'm' AND c.relpersistence <> 't' \
    AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' \
  UNION ALL \
  SELECT p.polrelid, p.polqual::text \
  FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid \
  WHERE c.relrowsecurity AND p.polcmd IN ('*', 'r') AND p.polqual IS NOT NULL\
), nodes AS (\
  SELECT relation, pg_catalog.regexp_replace(tree, \
    ':funcid (2077|3294) [^{}]*:args \\(\\{CONST [^{}]*:constvalue \\d+ \\[[-0-9 ]* 46 [-0-9 ]*\\]', '', 'g') AS tree \
  FROM trees\
) \
SELECT relation, 'f', m[1]::pg_catalog.oid \
FROM nodes, pg_catalog.regexp_matches(tree, ':(?:funcid|aggfnoid|winfnoid) (\\d+)', 'g') m \
UNION SELECT relation, 'f', o.oprcode::pg_catalog.oid \
FROM nodes, pg_catalog.regexp_matches(tree, ':opno (\\d+)', 'g') m \
  JOIN pg_catalog.pg_operator o ON o.oid = m[1]::pg_catalog.oid \
UNION SELECT relation, 'r', m[1]::pg_catalog.oid \
FROM nodes, pg_catalog.regexp_matches(tree, ':relid (\\d+)', 'g') m \
WHERE m[1]::pg_catalog.oid NOT IN (0, relation) \
UNION SELECT relation, 'l', 0 FROM nodes WHERE tree ~ ':rowMarks \\(' \
UNION SELECT i.inhparent, 'r', i.inhrelid \
FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhparent AND c.relkind IN ('r', 'p', 'f')";

/// Operators of PostgreSQL's own are never volatile.
const OPERATORS: &str = "\
SELECT o.oprname, o.oprcode::pg_catalog.oid \
FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode \
WHERE p.provolatile = 'v'";

/// The server answered a catalog query with something else than it was asked for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unexpected row in the answer to catalog query {query}")]
pub struct UnexpectedRow {
    /// Which of [`QUERIES`], from 0.
    pub query: usize,
}

/// Reads the answers to [`QUERIES`]. `version` must be unlike that of any other catalog of this process.
pub fn build(tables: &[Table; 4], version: u64) -> Result<Catalog, UnexpectedRow> {
    let [functions, relations, reaches, operators] = tables;
    let facts = Facts {
        functions: read(functions, 0, function)?,
        relations: read(relations, 1, relation)?,
        reaches: read(reaches, 2, reach)?,
        operators: read(operators, 3, operator)?,
    };
    Ok(Catalog::new(version, facts))
}

fn read<T>(table: &Table, query: usize, fact: fn(&[Option<String>]) -> Option<T>) -> Result<Vec<T>, UnexpectedRow> {
    table.iter().map(|row| fact(row).ok_or(UnexpectedRow { query })).collect()
}

fn function(row: &[Option<String>]) -> Option<FunctionFact> {
    let [oid, schema, name, min, max, volatility, system, takes_row] = row else { return None };
    Some(FunctionFact {
        oid: oid.as_ref()?.parse().ok()?,
        schema: schema.clone()?,
        name: name.clone()?,
        min_arguments: min.as_ref()?.parse().ok()?,
        max_arguments: match max {
            Some(max) => Some(max.parse().ok()?),
            None => None,
        },
        volatility: match volatility.as_deref()? {
            "i" => Volatility::Immutable,
            "s" => Volatility::Stable,
            "v" => Volatility::Volatile,
            _ => return None,
        },
        origin: if boolean(system.as_ref())? { Origin::System } else { Origin::User },
        argument: if boolean(takes_row.as_ref())? { FirstArgument::Row } else { FirstArgument::Other },
    })
}

fn relation(row: &[Option<String>]) -> Option<RelationFact> {
    let [oid, schema, name, replicated] = row else { return None };
    Some(RelationFact {
        oid: oid.as_ref()?.parse().ok()?,
        schema: schema.clone()?,
        name: name.clone()?,
        rows: if boolean(replicated.as_ref())? { Rows::Replicated } else { Rows::Bound },
    })
}

fn reach(row: &[Option<String>]) -> Option<Reach> {
    let [from, kind, to] = row else { return None };
    let oid = to.as_ref()?.parse().ok()?;
    let to = match kind.as_deref()? {
        "f" => Reached::Function(oid),
        "r" => Reached::Relation(oid),
        "l" => Reached::RowLock,
        _ => return None,
    };
    Some(Reach { from: from.as_ref()?.parse().ok()?, to })
}

fn operator(row: &[Option<String>]) -> Option<OperatorFact> {
    let [name, function] = row else { return None };
    Some(OperatorFact { name: name.clone()?, function: function.as_ref()?.parse().ok()? })
}

fn boolean(value: Option<&String>) -> Option<bool> {
    match value?.as_str() {
        "t" => Some(true),
        "f" => Some(false),
        _ => None,
    }
}

/// The catalogs of a cluster's databases.
#[derive(Debug, Default)]
pub struct CatalogStore {
    databases: RwLock<HashMap<DatabaseName, Arc<DatabaseCatalog>>>,
    /// Shared by all databases: no two catalogs have one version.
    versions: Arc<AtomicU64>,
}

/// One database's catalog: read by clients, refreshed by one task.
#[derive(Debug)]
pub struct DatabaseCatalog {
    current: ArcSwap<Catalog>,
    /// A hash of the rows that `current` was built from.
    rows: AtomicU64,
    wanted: Notify,
    versions: Arc<AtomicU64>,
}

// === impl CatalogStore ===

impl CatalogStore {
    /// A store without databases. Catalog versions are drawn from `versions`, which every store of the process shares
    /// as long as one `sql::Classifier` serves several of them.
    #[must_use]
    pub fn new(versions: Arc<AtomicU64>) -> Self {
        Self { databases: RwLock::default(), versions }
    }

    /// The database's catalog, empty until it is loaded. Clients keep the handle.
    #[must_use]
    pub fn database(&self, name: &DatabaseName) -> Arc<DatabaseCatalog> {
        let known = self.databases.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        known.unwrap_or_else(|| {
            let mut databases = self.databases.write().unwrap_or_else(PoisonError::into_inner);
            let new = || Arc::new(DatabaseCatalog::new(Arc::clone(&self.versions)));
            Arc::clone(databases.entry(name.clone()).or_insert_with(new))
        })
    }

    /// Every database that was asked for.
    #[must_use]
    pub fn databases(&self) -> Vec<(DatabaseName, Arc<DatabaseCatalog>)> {
        let databases = self.databases.read().unwrap_or_else(PoisonError::into_inner);
        databases.iter().map(|(name, catalog)| (name.clone(), Arc::clone(catalog))).collect()
    }
}

// === impl DatabaseCatalog ===

impl DatabaseCatalog {
    fn new(versions: Arc<AtomicU64>) -> Self {
        Self {
            current: ArcSwap::from_pointee(Catalog::empty()),
            rows: AtomicU64::new(0),
            wanted: Notify::new(),
            versions,
        }
    }

    /// What is known now.
    #[must_use]
    pub fn current(&self) -> Arc<Catalog> {
        self.current.load_full()
    }

    /// Asks for a new load, because DDL went by. Asking again before it has begun changes nothing.
    pub fn request_refresh(&self) {
        self.wanted.notify_one();
    }

    /// Waits until a load is asked for. Cancel safe. For the one task that loads.
    pub async fn refresh_wanted(&self) {
        self.wanted.notified().await;
    }

    /// Publishes the answers to [`QUERIES`]. The catalog, and with it every remembered analysis, stays as it is when
    /// they are what they were.
    pub fn install(&self, tables: &[Table; 4]) -> Result<(), UnexpectedRow> {
        let rows = foldhash::quality::FixedState::with_seed(0).hash_one(tables);
        if self.current.load().is_loaded() && self.rows.load(Ordering::Relaxed) == rows {
            return Ok(());
        }
        let catalog = build(tables, self.versions.fetch_add(1, Ordering::Relaxed) + 1)?;
        self.rows.store(rows, Ordering::Relaxed);
        self.current.store(Arc::new(catalog));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::WriteReason;

    fn table(rows: &[&[&str]]) -> Table {
        let cell = |cell: &&str| (*cell != "NULL").then(|| (*cell).to_owned());
        rows.iter().map(|row| row.iter().map(cell).collect()).collect()
    }

    fn tables() -> [Table; 4] {
        [
            table(&[
                &["1", "pg_catalog", "lower", "1", "1", "i", "t", "f"],
                &["2", "pg_catalog", "nextval", "1", "1", "v", "t", "f"],
                &["3", "pg_catalog", "concat", "0", "NULL", "s", "t", "t"],
                &["4", "public", "f", "0", "2", "v", "f", "t"],
            ]),
            table(&[&["10", "public", "t", "t"], &["11", "public", "v", "t"], &["12", "public", "s", "f"]]),
            table(&[&["11", "r", "10"], &["11", "f", "2"]]),
            table(&[&["+!+", "4"]]),
        ]
    }

    #[test]
    fn rows_become_a_catalog() {
        let catalog = build(&tables(), 7).unwrap();
        assert_eq!((catalog.version(), catalog.is_loaded(), catalog.len()), (7, true, (4, 3)));
        assert_eq!(catalog.function(None, "lower", Some(1)), Ok(()));
        assert_eq!(catalog.function(None, "lower", Some(2)), Err(WriteReason::Function));
        assert_eq!(catalog.function(Some("public"), "lower", Some(1)), Err(WriteReason::Function));
        assert_eq!(catalog.function(Some("pg_catalog"), "concat", Some(99)), Ok(()));
        assert_eq!(catalog.function(None, "f", None), Err(WriteReason::Function));
        assert_eq!(catalog.attribute("f", FirstArgument::Row), Err(WriteReason::Function));
        assert_eq!(catalog.attribute("nextval", FirstArgument::Row), Ok(()));
        assert_eq!(catalog.attribute("nextval", FirstArgument::Other), Err(WriteReason::Function));
        assert_eq!(catalog.relation(None, "t"), Ok(()));
        assert_eq!(catalog.relation(None, "v"), Err(WriteReason::Relation));
        assert_eq!(catalog.relation(None, "s"), Err(WriteReason::Relation));
        assert_eq!(catalog.operator("+!+"), Err(WriteReason::Function));
        assert_eq!(catalog.operator("+"), Ok(()));
    }

    #[test]
    fn other_rows_are_refused() {
        for (query, row) in [
            (0, &["1", "a", "b", "0", "0", "x", "t", "t"][..]),
            (0, &["1", "a"]),
            (1, &["1", "a", "b", "yes"]),
            (1, &["NULL", "a", "b", "t"]),
            (2, &["1", "x", "2"]),
            (2, &["1", "f", "-2"]),
            (3, &["+", "NULL"]),
        ] {
            let mut tables = tables();
            tables[query].extend(table(&[row]));
            assert_eq!(build(&tables, 1).unwrap_err(), UnexpectedRow { query }, "{row:?}");
        }
    }

    #[tokio::test]
    async fn a_store_publishes_what_changes() {
        let versions = Arc::default();
        let (one, two) = (CatalogStore::new(Arc::clone(&versions)), CatalogStore::new(versions));
        let database = one.database(&"app".into());
        assert!(!database.current().is_loaded());
        let other = two.database(&"app".into());
        database.install(&tables()).unwrap();
        other.install(&tables()).unwrap();
        assert_ne!(database.current().version(), other.current().version());

        let before = database.current().version();
        database.install(&tables()).unwrap();
        assert_eq!(database.current().version(), before);
        let mut changed = tables();
        changed[1].pop();
        database.install(&changed).unwrap();
        assert!(database.current().version() > before);
        assert!(Arc::ptr_eq(&one.database(&"app".into()), &database));
        assert_eq!(one.databases().len(), 1);

        database.request_refresh();
        database.request_refresh();
        database.refresh_wanted().await;
        let idle = tokio::time::timeout(std::time::Duration::from_millis(10), database.refresh_wanted()).await;
        assert!(idle.is_err());
    }
}

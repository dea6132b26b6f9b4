//! What the server's own catalog says of functions, relations and operators, as a value.
//!
//! It knows no SQL to load the facts with, and no search path: a name without a schema is judged by the strictest thing
//! of that name in any schema. What it does not know is refused.
//!
//! Not looked at, because nobody writes such things on purpose: input and output functions of types, casts and
//! domain constraints that are volatile. A replica answers their writes with 25006, and the work is repeated.

use std::collections::{HashMap, HashSet};

use super::{WriteReason, functions};

/// `pg_proc.provolatile`; ordered from harmless to doubtful.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Volatility {
    /// Depends on its arguments alone.
    Immutable,
    /// Changes nothing, and gives one answer within a statement.
    Stable,
    /// May do anything.
    Volatile,
}

/// One row of `pg_proc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionFact {
    /// `pg_proc.oid`.
    pub oid: u32,
    /// The name of its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Arguments without defaults.
    pub min_arguments: u16,
    /// Most arguments; `None` when it is variadic.
    pub max_arguments: Option<u16>,
    /// Of an aggregate: the worst of its support functions.
    pub volatility: Volatility,
    /// Who wrote it.
    pub origin: Origin,
    /// What `t.name` can mean by it.
    pub argument: FirstArgument,
}

/// Who wrote a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// PostgreSQL or an extension: written in C, or in `pg_catalog`.
    System,
    /// A user, in SQL or a procedural language.
    User,
}

/// Whether PostgreSQL may read `t.name` as the call `name(t)` (`ParseFuncOrColumn` in `parse_func.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstArgument {
    /// The first argument takes a row: a composite or a polymorphic type.
    Row,
    /// It takes something else, or nothing.
    Other,
}

/// One row of `pg_class`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationFact {
    /// `pg_class.oid`.
    pub oid: u32,
    /// The name of its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Whether its own rows can be read on a replica.
    pub rows: Rows,
}

/// Whether the rows that a relation has itself are the same on a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Those of a permanent table or materialized view; also of a view, which has none.
    Replicated,
    /// Those of an unlogged or foreign table, or a sequence.
    Bound,
}

/// Something that reading a relation leads to: from a view's query, a row policy, a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The relation that is read.
    pub from: u32,
    /// What it leads to.
    pub to: Reached,
}

/// What reading a relation can lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// A call of this function.
    Function(u32),
    /// This relation.
    Relation(u32),
    /// `FOR UPDATE` and the like in a view.
    RowLock,
}

/// An operator and the function behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorFact {
    /// Its name, such as `->>`.
    pub name: String,
    /// `pg_operator.oprcode`.
    pub function: u32,
}

/// All that is loaded from a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Every function of the database.
    pub functions: Vec<FunctionFact>,
    /// Every relation that is neither PostgreSQL's own nor temporary.
    pub relations: Vec<RelationFact>,
    /// What their definitions lead to.
    pub reaches: Vec<Reach>,
    /// Operators; those whose function is not volatile may be left out.
    pub operators: Vec<OperatorFact>,
}

/// Whether a thing may be used by a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Reads,
    Refused,
}

#[derive(Debug)]
struct Overload {
    schema: u32,
    min: u16,
    max: Option<u16>,
    verdict: Verdict,
    argument: FirstArgument,
}

/// What is known of one database's functions, relations and operators.
#[derive(Debug, Default)]
pub struct Catalog {
    version: u64,
    loaded: bool,
    schemas: HashMap<Box<str>, u32>,
    functions: HashMap<Box<str>, Vec<Overload>>,
    relations: HashMap<Box<str>, Vec<(u32, Verdict)>>,
    operators: HashSet<Box<str>>,
}

// === impl Catalog ===

impl Catalog {
    /// Nothing is known yet: reads of constants are reads, the rest is [`WriteReason::CatalogUnknown`].
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Judges the facts. `version` must differ from that of any other catalog in this process, of this database or
    /// another, because analyses are remembered by it; 0 is [`Catalog::empty`].
    #[must_use]
    pub fn new(version: u64, facts: Facts) -> Self {
        let mut catalog = Self { version, loaded: true, ..Self::default() };
        let refused = refused_functions(&facts.functions);
        let bound = bound_relations(&facts, &refused);
        for fact in facts.operators {
            if refused.contains(&fact.function) {
                catalog.operators.insert(fact.name.into());
            }
        }
        for fact in facts.functions {
            let schema = catalog.schema_id(&fact.schema);
            let overload = Overload {
                schema,
                min: fact.min_arguments,
                max: fact.max_arguments,
                verdict: verdict(&refused, fact.oid),
                argument: fact.argument,
            };
            catalog.functions.entry(fact.name.into()).or_default().push(overload);
        }
        for fact in facts.relations {
            let schema = catalog.schema_id(&fact.schema);
            catalog.relations.entry(fact.name.into()).or_default().push((schema, verdict(&bound, fact.oid)));
        }
        catalog
    }

    /// Tells this catalog from every other.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Whether facts were loaded at all.
    #[must_use]
    pub const fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// How many functions and relations are known.
    #[must_use]
    pub fn len(&self) -> (usize, usize) {
        (self.functions.values().map(Vec::len).sum(), self.relations.values().map(Vec::len).sum())
    }

    /// Whether a read may call a function. `arguments` is their count where that is certain, to tell overloads
    /// apart.
    pub fn function(&self, schema: Option<&str>, name: &str, arguments: Option<u16>) -> Result<(), WriteReason> {
        if functions::is_bound(name) {
            return Err(WriteReason::Function);
        }
        if !self.loaded {
            return Err(WriteReason::CatalogUnknown);
        }
        let overloads = self.functions.get(name).map_or(&[][..], Vec::as_slice);
        let schema = schema.map(|schema| self.schemas.get(schema));
        let fits = |overload: &&Overload| {
            schema.is_none_or(|schema| schema == Some(&overload.schema))
                && arguments.is_none_or(|n| overload.min <= n && overload.max.is_none_or(|max| n <= max))
        };
        all_read(overloads.iter().filter(fits).map(|overload| overload.verdict)).ok_or(WriteReason::Function)
    }

    /// Whether `x.name` is sure to be no call of a function that a read may not call. `argument` is what `x` can be.
    pub fn attribute(&self, name: &str, argument: FirstArgument) -> Result<(), WriteReason> {
        let is_call = |overload: &&Overload| {
            overload.min <= 1
                && overload.max.is_none_or(|max| max >= 1)
                && (argument == FirstArgument::Other || overload.argument == FirstArgument::Row)
        };
        let mut overloads = self.functions.get(name).into_iter().flatten().filter(is_call);
        let refused = overloads.any(|overload| overload.verdict == Verdict::Refused);
        if refused { Err(WriteReason::Function) } else { Ok(()) }
    }

    /// Whether a read may read a relation.
    pub fn relation(&self, schema: Option<&str>, name: &str) -> Result<(), WriteReason> {
        // PostgreSQL's own catalogs are found before anything else of that name. They are replicated, but half of
        // them are views of the node's state, and nobody reads them often enough to be worth telling apart.
        let own = schema == Some("information_schema") || schema.unwrap_or(name).starts_with("pg_");
        if own {
            return Err(WriteReason::Relation);
        }
        if !self.loaded {
            return Err(WriteReason::CatalogUnknown);
        }
        let relations = self.relations.get(name).map_or(&[][..], Vec::as_slice);
        let schema = schema.map(|schema| self.schemas.get(schema));
        let fits = |(other, _): &&(u32, Verdict)| schema.is_none_or(|schema| schema == Some(other));
        all_read(relations.iter().filter(fits).map(|(_, verdict)| *verdict)).ok_or(WriteReason::Relation)
    }

    /// Whether any operator at all is refused.
    #[must_use]
    pub fn has_refused_operators(&self) -> bool {
        !self.operators.is_empty()
    }

    /// Whether a read may use the operators of a name.
    pub fn operator(&self, name: &str) -> Result<(), WriteReason> {
        if self.operators.contains(name) { Err(WriteReason::Function) } else { Ok(()) }
    }

    fn schema_id(&mut self, name: &str) -> u32 {
        if let Some(id) = self.schemas.get(name) {
            return *id;
        }
        let id = u32::try_from(self.schemas.len()).unwrap_or(u32::MAX);
        self.schemas.insert(name.into(), id);
        id
    }
}

/// `Some` when there is something, and all of it reads.
fn all_read(verdicts: impl Iterator<Item = Verdict>) -> Option<()> {
    let mut verdicts = verdicts.peekable();
    verdicts.peek()?;
    verdicts.all(|verdict| verdict == Verdict::Reads).then_some(())
}

fn verdict(refused: &HashSet<u32>, oid: u32) -> Verdict {
    if refused.contains(&oid) { Verdict::Refused } else { Verdict::Reads }
}

/// The functions that a read may not call.
fn refused_functions(facts: &[FunctionFact]) -> HashSet<u32> {
    let harmless = |fact: &FunctionFact| fact.origin == Origin::System && functions::is_harmless(&fact.name);
    let refused = |fact: &&FunctionFact| {
        functions::is_bound(&fact.name)
            || (fact.schema == "pg_catalog" && fact.name == "current_setting")
            || (fact.volatility == Volatility::Volatile && !harmless(fact))
    };
    facts.iter().filter(refused).map(|fact| fact.oid).collect()
}

/// The relations that a read may not read: by themselves, or by what their definitions lead to.
fn bound_relations(facts: &Facts, refused: &HashSet<u32>) -> HashSet<u32> {
    let functions: HashSet<u32> = facts.functions.iter().map(|fact| fact.oid).collect();
    let relations: HashSet<u32> = facts.relations.iter().map(|fact| fact.oid).collect();
    let own_rows = facts.relations.iter().filter(|fact| fact.rows == Rows::Bound);
    let mut bound: HashSet<u32> = own_rows.map(|fact| fact.oid).collect();
    let mut readers: HashMap<u32, Vec<u32>> = HashMap::new();
    for reach in &facts.reaches {
        match reach.to {
            Reached::Relation(oid) if relations.contains(&oid) => readers.entry(oid).or_default().push(reach.from),
            Reached::Function(oid) if functions.contains(&oid) && !refused.contains(&oid) => {}
            Reached::Relation(_) | Reached::Function(_) | Reached::RowLock => {
                bound.insert(reach.from);
            }
        }
    }
    let mut next: Vec<u32> = bound.iter().copied().collect();
    while let Some(oid) = next.pop() {
        for reader in readers.get(&oid).into_iter().flatten() {
            if bound.insert(*reader) {
                next.push(*reader);
            }
        }
    }
    bound
}

#[cfg(test)]
mod tests;

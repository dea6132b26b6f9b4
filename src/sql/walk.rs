//! A walk over a parsed query that stops at the first thing which is not known to only read.

use std::collections::HashSet;
use std::ops::ControlFlow;

use sqlparser::ast::{Expr, ObjectName, Query, Select, SetExpr, Statement, TableFactor, Visit, Visitor};

use super::WriteReason;
use super::call::{Call, Factor, operator};
use super::catalog::{Catalog, Trust};
use super::functions::{Said, said};
use super::reach::Reach;

pub(super) struct Walk<'a> {
    catalog: &'a Catalog,
    /// Names that WITH gives; they stand for relations that the database does not have.
    local: HashSet<String>,
    /// A function in FROM whose name will be visited as a relation's.
    called: Option<ObjectName>,
    /// The relations that it reads.
    reach: Reach,
}

/// Why a statement is not known to only read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    /// Why.
    pub(super) reason: WriteReason,
    /// The function, relation or operator that it is about, as the statement names it.
    pub(super) culprit: Option<String>,
}

type Flow = ControlFlow<Stop>;

impl From<WriteReason> for Stop {
    fn from(reason: WriteReason) -> Self {
        Self { reason, culprit: None }
    }
}

fn stop(reason: WriteReason) -> Flow {
    ControlFlow::Break(reason.into())
}

fn stop_at(reason: WriteReason, culprit: &impl ToString) -> Flow {
    ControlFlow::Break(Stop { reason, culprit: Some(culprit.to_string()) })
}

impl<'a> Walk<'a> {
    pub(super) fn new(catalog: &'a Catalog) -> Self {
        Self { catalog, local: HashSet::new(), called: None, reach: Reach::NOTHING }
    }

    /// What `query` reads, if it does nothing else.
    pub(super) fn query(mut self, query: &Query) -> Result<Reach, Stop> {
        match query.visit(&mut self) {
            ControlFlow::Continue(()) => Ok(self.reach),
            ControlFlow::Break(stop) => Err(stop),
        }
    }

    /// What is read with a relation, if that may be read anywhere.
    pub(super) fn relation(mut self, name: &ObjectName) -> Result<Reach, Stop> {
        match self.reads(name) {
            ControlFlow::Continue(()) => Ok(self.reach),
            ControlFlow::Break(stop) => Err(stop),
        }
    }

    fn reads(&mut self, name: &ObjectName) -> Flow {
        let Some((schema, name)) = parts(name) else { return stop_at(WriteReason::Unparsed, name) };
        self.reads_named(schema.as_deref(), &name)
    }

    fn reads_named(&mut self, schema: Option<&str>, name: &str) -> Flow {
        match self.catalog.relation(schema, name) {
            Some(Trust::Plain) => {
                self.reach = self.reach.with(self.catalog.read_with(name));
                ControlFlow::Continue(())
            }
            None if schema.is_none() && self.local.contains(name) => ControlFlow::Continue(()),
            None if self.catalog.is_unknown() => stop_at(WriteReason::CatalogUnknown, &full(schema, name)),
            // Doubtful, made since the catalog was loaded, or a system's: the primary has it in any case.
            Some(Trust::Doubtful) | None => stop_at(WriteReason::Relation, &full(schema, name)),
        }
    }

    fn calls(&mut self, call: &Call) -> Flow {
        let called = &call.name;
        let Some((schema, name)) = parts(called) else { return stop_at(WriteReason::Unparsed, called) };
        let built_in = schema.as_deref().is_none_or(|schema| schema == "pg_catalog");
        let known = self.catalog.function(schema.as_deref(), &name, call.arguments);
        self.reach = self.reach.with(self.catalog.looked_up_by(&name));
        match (said(&name), known) {
            (Said::Bound, _) => stop_at(WriteReason::Function, called),
            // A function of the user's own may bear a harmless name.
            (Said::Plain, _) if built_in && !self.catalog.has_doubtful_beyond_system(&name, call.arguments) => {
                ControlFlow::Continue(())
            }
            (_, Some(Trust::Plain)) => ControlFlow::Continue(()),
            (_, None) if self.catalog.is_unknown() => stop_at(WriteReason::CatalogUnknown, called),
            (_, Some(Trust::Doubtful) | None) => stop_at(WriteReason::Function, called),
        }
    }

    fn operator(&mut self, operator: &str) -> Flow {
        self.reach = self.reach.with(self.catalog.looked_up_by_operator(operator));
        if self.catalog.doubts_operator(operator) {
            return stop_at(WriteReason::Function, &operator);
        }
        ControlFlow::Continue(())
    }
}

impl Visitor for Walk<'_> {
    type Break = Stop;

    fn pre_visit_query(&mut self, query: &Query) -> Flow {
        if !query.locks.is_empty() {
            return stop(WriteReason::RowLock);
        }
        if query.for_clause.is_some() || query.settings.is_some() || !query.pipe_operators.is_empty() {
            return stop(WriteReason::Unparsed);
        }
        self.local.extend(given(query));
        body(&query.body, self)
    }

    fn pre_visit_select(&mut self, select: &Select) -> Flow {
        if select.into.is_some() {
            return stop(WriteReason::Into);
        }
        ControlFlow::Continue(())
    }

    /// A statement inside a query: WITH may hold INSERT, UPDATE, DELETE and MERGE.
    fn pre_visit_statement(&mut self, _: &Statement) -> Flow {
        stop(WriteReason::ModifyingCte)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Flow {
        match Factor::of(factor) {
            Factor::Function(call) => {
                let flow = self.calls(&call);
                self.called = Some(call.name);
                flow
            }
            Factor::Rows => ControlFlow::Continue(()),
            Factor::Unknown => stop(WriteReason::Unparsed),
        }
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> Flow {
        if self.called.take_if(|called| called == name).is_some() {
            return ControlFlow::Continue(());
        }
        self.reads(name)
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Flow {
        // Called without parentheses; the parser takes it for a column.
        if let Expr::Identifier(name) = expr
            && name.quote_style.is_none()
            && name.value == "current_schema"
        {
            return stop_at(WriteReason::Function, name);
        }
        match (Call::of(expr, self.catalog), operator(expr)) {
            (Some(call), _) => self.calls(&call),
            (None, Some(operator)) => self.operator(&operator),
            (None, None) => ControlFlow::Continue(()),
        }
    }
}

/// The names that a query's WITH gives.
pub(super) fn given(query: &Query) -> impl Iterator<Item = String> {
    query.with.iter().flat_map(|with| &with.cte_tables).map(|table| fold(&table.alias.name))
}

/// What a query is made of: SELECT, VALUES, TABLE, and sets of them.
fn body(expression: &SetExpr, walk: &mut Walk<'_>) -> Flow {
    match expression {
        SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) => ControlFlow::Continue(()),
        SetExpr::SetOperation { left, right, .. } => match body(left, walk) {
            ControlFlow::Continue(()) => body(right, walk),
            broken @ ControlFlow::Break(_) => broken,
        },
        SetExpr::Table(table) => match &table.table_name {
            Some(name) => walk.reads_named(table.schema_name.as_deref(), name),
            None => stop(WriteReason::Unparsed),
        },
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
            stop(WriteReason::ModifyingCte)
        }
    }
}

fn full(schema: Option<&str>, name: &str) -> String {
    schema.map_or_else(|| name.to_owned(), |schema| format!("{schema}.{name}"))
}

/// Schema and name; `None` for names of another form.
pub(super) fn parts(name: &ObjectName) -> Option<(Option<String>, String)> {
    let mut parts = name.0.iter().map(|part| part.as_ident().map(fold));
    match (parts.next()??, parts.next(), parts.next()) {
        (name, None, None) => Some((None, name)),
        (schema, Some(name), None) => Some((Some(schema), name?)),
        _ => None,
    }
}

/// A name as PostgreSQL folds it.
pub(super) fn fold(ident: &sqlparser::ast::Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_ascii_lowercase() }
}

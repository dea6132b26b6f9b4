//! Goes through a parsed statement and stops at the first thing that a read must not have.
//!
//! Every struct is taken apart by name and every enum arm that is not listed is refused, so that a newer
//! parser that understands more cannot let more through unseen. The tree was made from the normal form
//! (`normal`): unquoted names are in lower case already, and literals say nothing.

mod expression;
mod from;

use sqlparser::ast::{
    CopySource, CopyTarget, Cte, DescribeAlias, Distinct, Fetch, GroupByExpr, Ident, LimitClause,
    NamedWindowDefinition, NamedWindowExpr, ObjectName, OrderBy, OrderByExpr, OrderByKind, Query, Select, SelectFlavor,
    SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Statement, Table, Values, WildcardAdditionalOptions, With,
};

use super::WriteReason;
use super::catalog::Catalog;

/// Nothing found, or why the statement is a write.
type Found = Result<(), WriteReason>;

/// What the parser accepts and PostgreSQL does not, or this room does not know.
const UNKNOWN: WriteReason = WriteReason::Unparsed;

/// Judges one statement.
pub(super) fn statement(statement: &Statement, catalog: &Catalog) -> Found {
    let mut walk = Walk { catalog, locals: Vec::new() };
    match statement {
        Statement::Query(query) => walk.top(query),
        Statement::Explain {
            describe_alias: DescribeAlias::Explain,
            analyze: _,
            verbose: _,
            query_plan: false,
            estimate: false,
            statement,
            format: _,
            options: _,
        } => match statement.as_ref() {
            Statement::Query(query) => walk.top(query),
            _ => Err(WriteReason::Statement),
        },
        Statement::Copy { source, to: true, target: CopyTarget::Stdout, options: _, legacy_options: _, values: _ } => {
            match source {
                CopySource::Query(query) => walk.top(query),
                CopySource::Table { table_name, columns: _ } => walk.relation(table_name),
            }
        }
        _ => Err(WriteReason::Statement),
    }
}

/// One statement's walk.
struct Walk<'a> {
    catalog: &'a Catalog,
    /// Names of the WITH queries that are visible here, the innermost last.
    locals: Vec<&'a str>,
}

// === impl Walk ===

impl<'a> Walk<'a> {
    /// A query that is the statement: what it modifies is a statement's doing, not a WITH query's.
    fn top(&mut self, query: &'a Query) -> Found {
        match query.body.as_ref() {
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                Err(WriteReason::Statement)
            }
            _ => self.query(query),
        }
    }

    fn query(&mut self, query: &'a Query) -> Found {
        let Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            for_clause: None,
            settings: None,
            format_clause: None,
            pipe_operators,
        } = query
        else {
            return Err(UNKNOWN);
        };
        if !locks.is_empty() {
            return Err(WriteReason::RowLock);
        }
        if !pipe_operators.is_empty() {
            return Err(UNKNOWN);
        }
        let outer = self.locals.len();
        if let Some(with) = with {
            self.with(with)?;
        }
        self.set_expression(body)?;
        if let Some(OrderBy { kind, interpolate: None }) = order_by {
            let OrderByKind::Expressions(expressions) = kind else { return Err(UNKNOWN) };
            self.order_by(expressions)?;
        } else if order_by.is_some() {
            return Err(UNKNOWN);
        }
        self.limit(limit_clause.as_ref())?;
        if let Some(Fetch { with_ties: _, percent: false, quantity }) = fetch {
            self.optional(quantity.as_ref())?;
        } else if fetch.is_some() {
            return Err(UNKNOWN);
        }
        self.locals.truncate(outer);
        Ok(())
    }

    /// WITH: a query sees those before it, and itself and those after it only when RECURSIVE.
    fn with(&mut self, with: &'a With) -> Found {
        let With { with_token: _, recursive, cte_tables } = with;
        if *recursive {
            self.locals.extend(cte_tables.iter().map(|cte| cte.alias.name.value.as_str()));
        }
        for Cte { alias, query, from, materialized: _, closing_paren_token: _ } in cte_tables {
            if from.is_some() {
                return Err(UNKNOWN);
            }
            self.query(query)?;
            self.locals.push(&alias.name.value);
        }
        Ok(())
    }

    fn set_expression(&mut self, expression: &'a SetExpr) -> Found {
        let mut expression = expression;
        // `a UNION b UNION c` hangs to the left, as long as it likes.
        while let SetExpr::SetOperation { left, op: _, set_quantifier: _, right } = expression {
            self.set_expression(right)?;
            expression = left;
        }
        match expression {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Query(query) => self.query(query),
            SetExpr::Values(Values { explicit_row: false, value_keyword: false, rows }) => {
                rows.iter().try_for_each(|row| self.all(&row.content))
            }
            SetExpr::Table(table) => {
                let Table { table_name: Some(name), schema_name } = table.as_ref() else { return Err(UNKNOWN) };
                self.named_relation(schema_name.as_deref(), name)
            }
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                Err(WriteReason::ModifyingCte)
            }
            _ => Err(UNKNOWN),
        }
    }

    fn select(&mut self, select: &'a Select) -> Found {
        let Select {
            select_token: _,
            optimizer_hints,
            distinct,
            select_modifiers: None,
            top: None,
            top_before_distinct: _,
            projection,
            exclude: None,
            into,
            from,
            lateral_views,
            prewhere: None,
            selection,
            connect_by,
            group_by,
            cluster_by,
            distribute_by,
            sort_by,
            having,
            named_window,
            qualify: None,
            window_before_qualify: _,
            value_table_mode: None,
            flavor: SelectFlavor::Standard,
        } = select
        else {
            return Err(UNKNOWN);
        };
        if into.is_some() {
            return Err(WriteReason::Into);
        }
        let foreign = [cluster_by, distribute_by].iter().any(|list| !list.is_empty()) || !sort_by.is_empty();
        if foreign || !optimizer_hints.is_empty() || !lateral_views.is_empty() || !connect_by.is_empty() {
            return Err(UNKNOWN);
        }
        if let Some(Distinct::On(expressions)) = distinct {
            self.all(expressions)?;
        }
        from.iter().try_for_each(|table| self.joins(table))?;
        projection.iter().try_for_each(|item| self.item(item))?;
        self.optional(selection.as_ref())?;
        self.group_by(group_by)?;
        self.optional(having.as_ref())?;
        named_window.iter().try_for_each(|NamedWindowDefinition(_, window)| match window {
            NamedWindowExpr::NamedWindow(_) => Ok(()),
            NamedWindowExpr::WindowSpec(window) => self.window(window),
        })
    }

    fn item(&mut self, item: &'a SelectItem) -> Found {
        match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, alias: _ } => self.expression(expr),
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(_), options)
            | SelectItem::Wildcard(options) => plain_wildcard(options),
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(expr), options) => {
                plain_wildcard(options)?;
                self.expression(expr)
            }
            SelectItem::ExprWithAliases { .. } => Err(UNKNOWN),
        }
    }

    fn group_by(&mut self, group_by: &'a GroupByExpr) -> Found {
        match group_by {
            GroupByExpr::Expressions(expressions, modifiers) if modifiers.is_empty() => self.all(expressions),
            _ => Err(UNKNOWN),
        }
    }

    fn order_by(&mut self, list: &'a [OrderByExpr]) -> Found {
        list.iter().try_for_each(|OrderByExpr { expr, options: _, with_fill }| {
            if with_fill.is_some() {
                return Err(UNKNOWN);
            }
            self.expression(expr)
        })
    }

    fn limit(&mut self, limit: Option<&'a LimitClause>) -> Found {
        match limit {
            None => Ok(()),
            Some(LimitClause::LimitOffset { limit, offset, limit_by }) if limit_by.is_empty() => {
                self.optional(limit.as_ref())?;
                self.optional(offset.as_ref().map(|offset| &offset.value))
            }
            Some(_) => Err(UNKNOWN),
        }
    }

    /// A relation by its name in the tree.
    fn relation(&mut self, name: &'a ObjectName) -> Found {
        let (schema, name) = qualified(name).ok_or(WriteReason::Relation)?;
        self.named_relation(schema.map(|schema| schema.value.as_str()), &name.value)
    }

    fn named_relation(&mut self, schema: Option<&str>, name: &str) -> Found {
        if schema.is_none() && self.locals.contains(&name) {
            return Ok(());
        }
        self.catalog.relation(schema, name)
    }
}

/// `name` or `schema.name`; `None` for anything longer or stranger.
fn qualified(name: &ObjectName) -> Option<(Option<&Ident>, &Ident)> {
    match name.0.as_slice() {
        [name] => Some((None, name.as_ident()?)),
        [schema, name] => Some((Some(schema.as_ident()?), name.as_ident()?)),
        _ => None,
    }
}

/// `*` without what other databases let follow it.
fn plain_wildcard(options: &WildcardAdditionalOptions) -> Found {
    let WildcardAdditionalOptions {
        wildcard_token: _,
        opt_ilike: None,
        opt_exclude: None,
        opt_except: None,
        opt_replace: None,
        opt_rename: None,
        opt_alias: None,
    } = options
    else {
        return Err(UNKNOWN);
    };
    Ok(())
}

//! Expressions and function calls.

use sqlparser::ast::{
    AccessExpr, Array, CaseWhen, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArgumentList, FunctionArguments, Interval, ObjectName, Subscript, Value, ValueWithSpan, WindowFrame,
    WindowFrameBound, WindowSpec, WindowType,
};

use super::super::catalog::FirstArgument;
use super::super::{WriteReason, functions, normal};
use super::{Found, UNKNOWN, Walk, plain_wildcard, qualified};

impl<'a> Walk<'a> {
    pub(super) fn all(&mut self, list: &'a [Expr]) -> Found {
        list.iter().try_for_each(|expr| self.expression(expr))
    }

    pub(super) fn optional(&mut self, expr: Option<&'a Expr>) -> Found {
        expr.map_or(Ok(()), |expr| self.expression(expr))
    }

    pub(super) fn expression(&mut self, expr: &'a Expr) -> Found {
        let mut expr = expr;
        // Chains hang to the left, as long as the text likes: follow them without recursion.
        loop {
            expr = match expr {
                Expr::IsFalse(inner)
                | Expr::IsNotFalse(inner)
                | Expr::IsTrue(inner)
                | Expr::IsNotTrue(inner)
                | Expr::IsNull(inner)
                | Expr::IsNotNull(inner)
                | Expr::IsUnknown(inner)
                | Expr::IsNotUnknown(inner)
                | Expr::Nested(inner)
                | Expr::UnaryOp { op: _, expr: inner }
                | Expr::IsJson { expr: inner, kind: _, unique_keys: _, negated: _ }
                | Expr::IsNormalized { expr: inner, form: _, negated: _ }
                | Expr::Collate { expr: inner, collation: _ }
                | Expr::Extract { field: _, syntax: _, expr: inner }
                | Expr::Cast { kind: _, expr: inner, data_type: _, format: None } => inner,
                Expr::BinaryOp { left, op: _, right }
                | Expr::IsDistinctFrom(left, right)
                | Expr::IsNotDistinctFrom(left, right)
                | Expr::AnyOp { left, compare_op: _, right, is_some: _ }
                | Expr::AllOp { left, compare_op: _, right }
                | Expr::Position { expr: left, r#in: right }
                | Expr::AtTimeZone { timestamp: left, time_zone: right } => {
                    self.expression(right)?;
                    left
                }
                Expr::InList { expr: inner, list, negated: _ } => {
                    self.all(list)?;
                    inner
                }
                Expr::Between { expr: inner, negated: _, low, high } => {
                    self.expression(low)?;
                    self.expression(high)?;
                    inner
                }
                Expr::Like { negated: _, any: false, expr: inner, pattern, escape_char }
                | Expr::ILike { negated: _, any: false, expr: inner, pattern, escape_char }
                | Expr::SimilarTo { negated: _, expr: inner, pattern, escape_char } => {
                    self.expression(pattern)?;
                    self.optional(escape_char.as_deref())?;
                    inner
                }
                Expr::InSubquery { expr: inner, subquery, negated: _ } => {
                    self.query(subquery)?;
                    inner
                }
                other => return self.expression_without_chain(other),
            }
        }
    }

    fn expression_without_chain(&mut self, expr: &'a Expr) -> Found {
        match expr {
            Expr::Identifier(_)
            | Expr::Value(_)
            | Expr::TypedString(_)
            | Expr::Wildcard(_)
            | Expr::QualifiedWildcard(..) => Ok(()),
            // `t.name` may be a call of `name`.
            Expr::CompoundIdentifier(parts) => {
                parts.iter().skip(1).try_for_each(|part| self.catalog.attribute(&part.value, FirstArgument::Row))
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                access_chain.iter().try_for_each(|access| self.access(access))?;
                self.expression(root)
            }
            Expr::Exists { subquery, negated: _ } | Expr::Subquery(subquery) => self.query(subquery),
            Expr::Function(function) => self.function(function),
            Expr::Case { case_token: _, end_token: _, operand, conditions, else_result } => {
                self.optional(operand.as_deref())?;
                for CaseWhen { condition, result } in conditions {
                    self.expression(condition)?;
                    self.expression(result)?;
                }
                self.optional(else_result.as_deref())
            }
            Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => {
                sets.iter().try_for_each(|set| self.all(set))
            }
            Expr::Tuple(list) | Expr::Array(Array { elem: list, named: _ }) => self.all(list),
            Expr::Interval(Interval { value, .. }) => self.expression(value),
            other => self.special_call(other),
        }
    }

    /// Functions that SQL gives a syntax of their own. Those written with keywords between their arguments are always
    /// `pg_catalog`'s; the others are looked up like any function.
    fn special_call(&mut self, expr: &'a Expr) -> Found {
        match expr {
            Expr::Ceil { expr, field: _ } => {
                self.call(None, "ceil", Some(1))?;
                self.expression(expr)
            }
            Expr::Floor { expr, field: _ } => {
                self.call(None, "floor", Some(1))?;
                self.expression(expr)
            }
            Expr::Substring { expr, substring_from, substring_for, special, shorthand } => {
                if *special || *shorthand {
                    self.call(None, if *shorthand { "substr" } else { "substring" }, None)?;
                }
                self.expression(expr)?;
                self.optional(substring_from.as_deref())?;
                self.optional(substring_for.as_deref())
            }
            Expr::Trim { trim_where: _, trim_what, expr, trim_characters } => {
                self.expression(expr)?;
                self.optional(trim_what.as_deref())?;
                trim_characters.as_ref().map_or(Ok(()), |list| self.all(list))
            }
            Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
                self.expression(expr)?;
                self.expression(overlay_what)?;
                self.expression(overlay_from)?;
                self.optional(overlay_for.as_deref())
            }
            _ => Err(UNKNOWN),
        }
    }

    fn access(&mut self, access: &'a AccessExpr) -> Found {
        match access {
            // `(x).name` may be a call of `name`, whatever x is.
            AccessExpr::Dot(Expr::Identifier(name)) => self.catalog.attribute(&name.value, FirstArgument::Other),
            AccessExpr::Subscript(Subscript::Index { index }) => self.expression(index),
            AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, stride: None }) => {
                self.optional(lower_bound.as_ref())?;
                self.optional(upper_bound.as_ref())
            }
            _ => Err(UNKNOWN),
        }
    }

    fn function(&mut self, function: &'a Function) -> Found {
        let Function {
            name,
            uses_odbc_syntax: false,
            parameters: FunctionArguments::None,
            args,
            within_group,
            filter,
            null_treatment: _,
            over,
        } = function
        else {
            return Err(UNKNOWN);
        };
        match args {
            FunctionArguments::None => return bare_call(name),
            FunctionArguments::Subquery(query) => {
                self.subquery_call(name)?;
                self.query(query)?;
            }
            FunctionArguments::List(list) => {
                // An ordered-set aggregate takes what it orders by as further arguments.
                let count = if within_group.is_empty() { certain_count(&list.args) } else { None };
                if !reads_custom_setting(name, &list.args) {
                    self.named_call(name, count)?;
                }
                self.argument_list(list)?;
            }
        }
        self.order_by(within_group)?;
        self.optional(filter.as_deref())?;
        match over {
            Some(WindowType::WindowSpec(window)) => self.window(window),
            Some(WindowType::NamedWindow(_)) | None => Ok(()),
        }
    }

    /// Looks a function up by its name in the tree.
    pub(super) fn named_call(&mut self, name: &'a ObjectName, count: Option<u16>) -> Found {
        let (schema, name) = qualified(name).ok_or(WriteReason::Function)?;
        if schema.is_none() && name.quote_style.is_none() && functions::is_keyword(&name.value) {
            return Ok(());
        }
        self.call(schema.map(|schema| schema.value.as_str()), &name.value, count)
    }

    fn call(&mut self, schema: Option<&str>, name: &str, count: Option<u16>) -> Found {
        self.catalog.function(schema, name, count)
    }

    /// `ARRAY(SELECT …)`, or a function of one subquery.
    fn subquery_call(&mut self, name: &'a ObjectName) -> Found {
        match qualified(name) {
            Some((None, name)) if name.quote_style.is_none() && name.value == "array" => Ok(()),
            _ => self.named_call(name, Some(1)),
        }
    }

    fn argument_list(&mut self, list: &'a FunctionArgumentList) -> Found {
        let FunctionArgumentList { duplicate_treatment: _, args, clauses } = list;
        self.arguments(args)?;
        clauses.iter().try_for_each(|clause| match clause {
            FunctionArgumentClause::OrderBy(list) => self.order_by(list),
            FunctionArgumentClause::JsonNullClause(_) | FunctionArgumentClause::JsonReturningClause(_) => Ok(()),
            _ => Err(UNKNOWN),
        })
    }

    pub(super) fn arguments(&mut self, args: &'a [FunctionArg]) -> Found {
        args.iter().try_for_each(|arg| match arg {
            FunctionArg::Named { name: _, arg, operator: _ } | FunctionArg::Unnamed(arg) => self.argument(arg),
            FunctionArg::ExprNamed { name, arg, operator: _ } => {
                self.expression(name)?;
                self.argument(arg)
            }
        })
    }

    fn argument(&mut self, arg: &'a FunctionArgExpr) -> Found {
        match arg {
            FunctionArgExpr::Expr(expr) => self.expression(expr),
            FunctionArgExpr::QualifiedWildcard(_) | FunctionArgExpr::Wildcard => Ok(()),
            FunctionArgExpr::WildcardWithOptions(options) => plain_wildcard(options),
        }
    }

    pub(super) fn window(&mut self, window: &'a WindowSpec) -> Found {
        let WindowSpec { window_name: _, partition_by, order_by, window_frame } = window;
        self.all(partition_by)?;
        self.order_by(order_by)?;
        let Some(WindowFrame { units: _, start_bound, end_bound }) = window_frame else { return Ok(()) };
        self.bound(start_bound)?;
        end_bound.as_ref().map_or(Ok(()), |bound| self.bound(bound))
    }

    fn bound(&mut self, bound: &'a WindowFrameBound) -> Found {
        match bound {
            WindowFrameBound::CurrentRow => Ok(()),
            WindowFrameBound::Preceding(expr) | WindowFrameBound::Following(expr) => self.optional(expr.as_deref()),
        }
    }
}

/// A call without parentheses: one of SQL's own keywords.
fn bare_call(name: &ObjectName) -> Found {
    match qualified(name) {
        Some((None, name)) if name.quote_style.is_none() && functions::is_bare_keyword(&name.value) => Ok(()),
        _ => Err(WriteReason::Function),
    }
}

/// How many arguments a call has, where the text says so beyond doubt and the normal form keeps it.
pub(super) fn certain_count(args: &[FunctionArg]) -> Option<u16> {
    match args {
        [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)] => return Some(0),
        _ if args.len() >= normal::LIST_LIMIT => return None,
        _ => {}
    }
    let plain = |arg: &FunctionArg| matches!(arg, FunctionArg::Unnamed(FunctionArgExpr::Expr(_)));
    args.iter().all(plain).then(|| u16::try_from(args.len()).ok())?
}

/// Whether a call is `current_setting('application.own')`: such settings follow the client to every node.
fn reads_custom_setting(name: &ObjectName, args: &[FunctionArg]) -> bool {
    let named = match qualified(name) {
        Some((schema, name)) => {
            name.value == "current_setting" && schema.is_none_or(|schema| schema.value == "pg_catalog")
        }
        None => false,
    };
    let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(ValueWithSpan { value, span: _ })))) = args.first()
    else {
        return false;
    };
    let Value::SingleQuotedString(setting) = value else { return false };
    named && setting.as_str() == normal::CUSTOM_SETTING.trim_matches('\'')
}

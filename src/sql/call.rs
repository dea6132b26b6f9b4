//! What calls a function: expressions and tables that are calls, and some that only PostgreSQL takes for calls.

use sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, TableFactor,
};

use super::catalog::Catalog;
use super::normal::LIST_LIMIT;
use super::walk::fold;

/// A call of a function.
pub(super) struct Call {
    /// The function, as the statement names it.
    pub(super) name: ObjectName,
    /// How many arguments it is given; `None` where that is not certain.
    pub(super) arguments: Option<usize>,
}

/// What stands in FROM.
pub(super) enum Factor {
    /// A call, whose name the visitor will take for a relation's.
    Function(Call),
    /// A relation, or something in parentheses; the visitor sees what is in it.
    Rows,
    /// What PostgreSQL does not have.
    Unknown,
}

impl Factor {
    pub(super) fn of(factor: &TableFactor) -> Self {
        match factor {
            TableFactor::Table { name, args: Some(arguments), .. } => Self::function(name, &arguments.args),
            TableFactor::Function { name, args, .. } => Self::function(name, args),
            TableFactor::Table { .. }
            | TableFactor::Derived { .. }
            | TableFactor::UNNEST { .. }
            | TableFactor::NestedJoin { .. } => Self::Rows,
            _ => Self::Unknown,
        }
    }

    fn function(name: &ObjectName, arguments: &[FunctionArg]) -> Self {
        Self::Function(Call { name: name.clone(), arguments: count(arguments) })
    }
}

impl Call {
    /// The call that an expression is, if it is one.
    pub(super) fn of(expr: &Expr, catalog: &Catalog) -> Option<Self> {
        let special = |name: &str| Some(Self { name: ObjectName::from(vec![Ident::new(name)]), arguments: None });
        match expr {
            Expr::Function(Function { name, args, within_group, .. }) => {
                let arguments = match args {
                    FunctionArguments::List(list) if within_group.is_empty() => count(&list.args),
                    _ => None,
                };
                Some(Self { name: name.clone(), arguments })
            }
            // Functions like others, which the parser knows by name.
            Expr::Ceil { .. } => special("ceil"),
            Expr::Floor { .. } => special("floor"),
            Expr::Substring { .. } => special("substring"),
            Expr::Overlay { .. } => special("overlay"),
            Expr::Convert { .. } => special("convert"),
            Expr::Identifier(name) => attribute(name, catalog),
            Expr::CompoundIdentifier(names) => attribute(names.last()?, catalog),
            _ => None,
        }
    }
}

/// The call in the form of a column, `t.f` or `(t).f`. A bare name is what the visitor makes of the latter; that it is a column's in
/// most cases is no matter, for hardly any column is called as such a function.
fn attribute(name: &Ident, catalog: &Catalog) -> Option<Call> {
    catalog.is_attribute(&fold(name)).then(|| Call { name: ObjectName::from(vec![name.clone()]), arguments: Some(1) })
}

/// How many there are. The normal form shortens long lists of literals, and `*` may stand for none.
fn count(arguments: &[FunctionArg]) -> Option<usize> {
    let is_one = |argument: &FunctionArg| match argument {
        FunctionArg::Named { arg, .. } | FunctionArg::ExprNamed { arg, .. } | FunctionArg::Unnamed(arg) => {
            matches!(arg, FunctionArgExpr::Expr(_))
        }
    };
    (arguments.len() < LIST_LIMIT && arguments.iter().all(is_one)).then_some(arguments.len())
}

/// The operator of an expression that has one, without its schema.
pub(super) fn operator(expr: &Expr) -> Option<String> {
    match expr {
        Expr::BinaryOp { op, .. } | Expr::AnyOp { compare_op: op, .. } | Expr::AllOp { compare_op: op, .. } => match op
        {
            BinaryOperator::PGCustomBinaryOperator(parts) => Some(parts.last().cloned().unwrap_or_default()),
            op => Some(op.to_string()),
        },
        Expr::UnaryOp { op, .. } => Some(op.to_string()),
        _ => None,
    }
}

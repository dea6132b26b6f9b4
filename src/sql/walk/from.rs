//! FROM: relations, joins, functions in the place of relations.

use sqlparser::ast::{
    Expr, Join, JoinConstraint, JoinOperator, TableAlias, TableFactor, TableFunctionArgs, TableSample, TableSampleKind,
    TableSampleQuantity, TableWithJoins, XmlNamespaceDefinition, XmlPassingArgument, XmlPassingClause, XmlTableColumn,
    XmlTableColumnOption,
};

use super::expression::certain_count;
use super::{Found, UNKNOWN, Walk};

impl<'a> Walk<'a> {
    pub(super) fn joins(&mut self, table: &'a TableWithJoins) -> Found {
        let TableWithJoins { relation, joins } = table;
        self.factor(relation)?;
        joins.iter().try_for_each(|join| {
            let Join { relation, global: false, join_operator } = join else { return Err(UNKNOWN) };
            self.factor(relation)?;
            self.operator(join_operator)
        })
    }

    fn operator(&mut self, operator: &'a JoinOperator) -> Found {
        match operator {
            JoinOperator::Join(constraint)
            | JoinOperator::Inner(constraint)
            | JoinOperator::Left(constraint)
            | JoinOperator::LeftOuter(constraint)
            | JoinOperator::Right(constraint)
            | JoinOperator::RightOuter(constraint)
            | JoinOperator::FullOuter(constraint)
            | JoinOperator::CrossJoin(constraint) => match constraint {
                JoinConstraint::On(expr) => self.expression(expr),
                JoinConstraint::Using(_) | JoinConstraint::Natural | JoinConstraint::None => Ok(()),
            },
            _ => Err(UNKNOWN),
        }
    }

    fn factor(&mut self, factor: &'a TableFactor) -> Found {
        match factor {
            TableFactor::Table { .. } => self.table(factor),
            TableFactor::Derived { lateral: _, subquery, alias, sample } => {
                self.after(alias.as_ref(), sample.as_ref())?;
                self.query(subquery)
            }
            TableFactor::Function { lateral: _, name, args, with_ordinality: _, alias } => {
                self.after(alias.as_ref(), None)?;
                self.named_call(name, certain_count(args))?;
                self.arguments(args)
            }
            TableFactor::UNNEST {
                alias,
                array_exprs,
                with_offset: false,
                with_offset_alias: None,
                with_ordinality: _,
            } => {
                self.after(alias.as_ref(), None)?;
                self.all(array_exprs)
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                self.after(alias.as_ref(), None)?;
                self.joins(table_with_joins)
            }
            TableFactor::JsonTable { json_expr, json_path: _, columns: _, alias } => {
                self.after(alias.as_ref(), None)?;
                self.expression(json_expr)
            }
            TableFactor::XmlTable { namespaces, row_expression, passing, columns, alias } => {
                self.after(alias.as_ref(), None)?;
                self.xml_table(namespaces, row_expression, passing, columns)
            }
            _ => Err(UNKNOWN),
        }
    }

    /// A relation, or a function call: `FROM t`, `FROM f(…)`.
    fn table(&mut self, factor: &'a TableFactor) -> Found {
        let TableFactor::Table {
            name,
            alias,
            args,
            with_hints,
            version: None,
            with_ordinality: _,
            partitions,
            json_path: None,
            sample,
            index_hints,
        } = factor
        else {
            return Err(UNKNOWN);
        };
        if !with_hints.is_empty() || !partitions.is_empty() || !index_hints.is_empty() {
            return Err(UNKNOWN);
        }
        self.after(alias.as_ref(), sample.as_ref())?;
        match args {
            None => self.relation(name),
            Some(TableFunctionArgs { args, settings: None }) => {
                self.named_call(name, certain_count(args))?;
                self.arguments(args)
            }
            Some(_) => Err(UNKNOWN),
        }
    }

    /// What follows a relation.
    fn after(&mut self, alias: Option<&'a TableAlias>, sample: Option<&'a TableSampleKind>) -> Found {
        if alias.is_some_and(|alias| alias.at.is_some()) {
            return Err(UNKNOWN);
        }
        let Some(TableSampleKind::BeforeTableAlias(sample) | TableSampleKind::AfterTableAlias(sample)) = sample else {
            return Ok(());
        };
        let TableSample { modifier: _, name: _, quantity, seed: _, bucket: None, offset: None } = sample.as_ref()
        else {
            return Err(UNKNOWN);
        };
        let value = quantity.as_ref().map(|TableSampleQuantity { parenthesized: _, value, unit: _ }| value);
        self.optional(value)
    }

    fn xml_table(
        &mut self,
        namespaces: &'a [XmlNamespaceDefinition],
        row: &'a Expr,
        passing: &'a XmlPassingClause,
        columns: &'a [XmlTableColumn],
    ) -> Found {
        namespaces.iter().try_for_each(|XmlNamespaceDefinition { uri, name: _ }| self.expression(uri))?;
        self.expression(row)?;
        let XmlPassingClause { arguments } = passing;
        arguments.iter().try_for_each(|XmlPassingArgument { expr, alias: _, by_value: _ }| self.expression(expr))?;
        columns.iter().try_for_each(|XmlTableColumn { name: _, option }| match option {
            XmlTableColumnOption::NamedInfo { r#type: _, path, default, nullable: _ } => {
                self.optional(path.as_ref())?;
                self.optional(default.as_ref())
            }
            XmlTableColumnOption::ForOrdinality => Ok(()),
        })
    }
}

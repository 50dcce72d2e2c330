//! The small language of KPIs: `where` conditions, measures and derived formulas.
//!
//! The text is parsed with the SQL parser and walked onto an allow-list; whatever is not on it is
//! refused by name. What comes out are DataFusion expressions and [`Formula`]s, never text again.
//! Names keep their case as written. Start at [`condition`], [`measure`] and [`formula`].

use datafusion::common::Column;
use datafusion::functions::expr_fn as functions;
use datafusion::logical_expr::expr::{Case, InList, Like};
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator, lit};
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use thiserror::Error;

use crate::plain;
use crate::rewrite;

use super::plan::{Aggregate, Arithmetic, Formula, Leaf};

/// Longest text of one expression; a KPI is a line, not a program.
const EXPRESSION_BYTES_MAX: usize = 2 << 10;
/// Most tokens of one expression, so that its tree stays shallow enough for any stack.
const EXPRESSION_TOKENS_MAX: usize = 200;

/// Why a text is not an expression of the KPI language.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ExpressionError {
    /// The SQL parser does not understand it.
    #[error("cannot read {text:?}: {reason}")]
    Syntax {
        /// The text.
        text: String,
        /// What the parser says.
        reason: String,
    },
    /// It is longer than a KPI may be.
    #[error(
        "the expression is too long; at most {EXPRESSION_BYTES_MAX} bytes and {EXPRESSION_TOKENS_MAX} words and signs"
    )]
    TooLong,
    /// It uses something that is not part of the language.
    #[error("{0} cannot be used here; {1}")]
    NotAllowed(String, &'static str),
    /// A function is not known.
    #[error("no function {name:?}; there are {known}")]
    Function {
        /// Its name.
        name: String,
        /// Those there are.
        known: &'static str,
    },
    /// A function has the wrong number of arguments.
    #[error("{name} takes {wanted}, not {found}")]
    Arguments {
        /// The function.
        name: String,
        /// What it takes.
        wanted: &'static str,
        /// What it was given.
        found: usize,
    },
    /// A measure does not aggregate.
    #[error("{0:?} is not aggregated; write for example sum({0})")]
    NotAggregated(String),
}

const ROW_FUNCTIONS: &str = "abs, ceil, coalesce, concat, floor, length, lower, nullif, round, split_part, starts_with, upper";
const AGGREGATES: &str =
    "count, rate, sum, avg, min, max, p50, p90, p95, p99, distinct (or approx_distinct)";
const ROW_HINT: &str = "conditions are made of columns, literals, comparisons, and, or, not, in, between, like, is null, case, cast";
const MEASURE_HINT: &str = "measures are made of aggregates, numbers and + - * /";
const FORMULA_HINT: &str = "formulas are made of names of KPIs, numbers and + - * /";

/// Reads a condition over the columns of one event.
pub(crate) fn condition(text: &str) -> Result<Expr, ExpressionError> {
    row(&parse(text)?)
}

/// Reads a measure: arithmetic over aggregates.
pub(crate) fn measure(text: &str) -> Result<(Formula, Vec<Leaf>), ExpressionError> {
    let mut leaves = Vec::new();
    let formula = walk(&parse(text)?, MEASURE_HINT, &mut |expr| match expr {
        ast::Expr::Function(function) => aggregate(function, &mut leaves),
        ast::Expr::Identifier(_) => Err(ExpressionError::NotAggregated(expr.to_string())),
        other => Err(not_allowed(other, MEASURE_HINT)),
    })?;
    if leaves.is_empty() {
        return Err(ExpressionError::NotAggregated(text.to_owned()));
    }
    Ok((formula, leaves))
}

/// Reads a formula over names of KPIs.
pub(crate) fn formula(text: &str) -> Result<(Formula, Vec<String>), ExpressionError> {
    let mut names: Vec<String> = Vec::new();
    let formula = walk(&parse(text)?, FORMULA_HINT, &mut |expr| match expr {
        ast::Expr::Identifier(name) => {
            let known = names.iter().position(|known| *known == name.value);
            Ok(Formula::Input(known.unwrap_or_else(|| {
                names.push(name.value.clone());
                names.len() - 1
            })))
        }
        other => Err(not_allowed(other, FORMULA_HINT)),
    })?;
    Ok((formula, names))
}

fn parse(text: &str) -> Result<ast::Expr, ExpressionError> {
    let syntax = |reason: String| ExpressionError::Syntax {
        text: text.chars().take(200).collect(),
        reason,
    };
    if text.len() > EXPRESSION_BYTES_MAX {
        return Err(ExpressionError::TooLong);
    }
    let tokens = Tokenizer::new(&GenericDialect {}, text)
        .tokenize()
        .map_err(|error| syntax(plain::syntax(&error)))?;
    let words = tokens
        .iter()
        .filter(|token| !matches!(token, Token::Whitespace(_)));
    if words.count() > EXPRESSION_TOKENS_MAX {
        return Err(ExpressionError::TooLong);
    }
    let mut parser = Parser::new(&GenericDialect {}).with_tokens(tokens);
    let expr = parser
        .parse_expr()
        .map_err(|error| syntax(plain::syntax(&error)))?;
    match parser.next_token().token {
        Token::EOF => Ok(expr),
        rest => Err(syntax(format!("{rest} was not expected"))),
    }
}

fn not_allowed(what: &impl std::fmt::Display, hint: &'static str) -> ExpressionError {
    ExpressionError::NotAllowed(what.to_string().chars().take(80).collect(), hint)
}

/// Walks arithmetic; `leaf` reads whatever is neither arithmetic nor a number.
fn walk(
    expr: &ast::Expr,
    hint: &'static str,
    leaf: &mut impl FnMut(&ast::Expr) -> Result<Formula, ExpressionError>,
) -> Result<Formula, ExpressionError> {
    match expr {
        ast::Expr::Nested(inner) => walk(inner, hint, leaf),
        ast::Expr::UnaryOp {
            op: ast::UnaryOperator::Minus,
            expr,
        } => Ok(Formula::Negative(Box::new(walk(expr, hint, leaf)?))),
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Number(number, _) => number
                .parse()
                .map(Formula::Number)
                .map_err(|_| not_allowed(number, hint)),
            other => Err(not_allowed(other, hint)),
        },
        ast::Expr::BinaryOp { left, op, right } => {
            let operator = match op {
                ast::BinaryOperator::Plus => Arithmetic::Add,
                ast::BinaryOperator::Minus => Arithmetic::Subtract,
                ast::BinaryOperator::Multiply => Arithmetic::Multiply,
                ast::BinaryOperator::Divide => Arithmetic::Divide,
                other => return Err(not_allowed(other, hint)),
            };
            let left = Box::new(walk(left, hint, leaf)?);
            Ok(Formula::Binary(
                left,
                operator,
                Box::new(walk(right, hint, leaf)?),
            ))
        }
        other => leaf(other),
    }
}

/// The plain arguments of a function without frills; `*` stands for none.
fn arguments(function: &ast::Function) -> Result<Vec<&ast::Expr>, ExpressionError> {
    let plain = function.filter.is_none()
        && function.over.is_none()
        && function.null_treatment.is_none()
        && function.within_group.is_empty()
        && matches!(function.parameters, ast::FunctionArguments::None);
    let ast::FunctionArguments::List(list) = &function.args else {
        return Err(not_allowed(function, "write a plain call such as sum(x)"));
    };
    if !plain || list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
        return Err(not_allowed(function, "write a plain call such as sum(x)"));
    }
    let mut found = Vec::new();
    for argument in &list.args {
        match argument {
            ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => found.push(expr),
            ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Wildcard) => {}
            other => return Err(not_allowed(other, "write a plain call such as sum(x)")),
        }
    }
    Ok(found)
}

fn aggregate(function: &ast::Function, leaves: &mut Vec<Leaf>) -> Result<Formula, ExpressionError> {
    let name = function.name.to_string().to_lowercase();
    let arguments = arguments(function)?;
    let kind = match name.as_str() {
        "count" => Aggregate::Count,
        "rate" if arguments.is_empty() => Aggregate::Count,
        "sum" | "avg" | "rate" => Aggregate::Sum,
        "min" => Aggregate::Min,
        "max" => Aggregate::Max,
        "p50" => Aggregate::Quantile(0.5),
        "p90" => Aggregate::Quantile(0.9),
        "p95" => Aggregate::Quantile(0.95),
        "p99" => Aggregate::Quantile(0.99),
        "distinct" | "approx_distinct" => Aggregate::Distinct,
        _ => {
            let known = AGGREGATES;
            return Err(ExpressionError::Function { name, known });
        }
    };
    let argument = match (arguments.as_slice(), kind) {
        ([], Aggregate::Count) => None,
        ([one], _) => Some(row(one)?),
        (many, _) => {
            let wanted = if kind == Aggregate::Count {
                "at most one argument"
            } else {
                "one argument"
            };
            let found = many.len();
            return Err(ExpressionError::Arguments {
                name,
                wanted,
                found,
            });
        }
    };
    let mut leaf = |aggregate: Aggregate| {
        let leaf = Leaf {
            aggregate,
            argument: argument.clone(),
        };
        let known = leaves.iter().position(|known| *known == leaf);
        Formula::Input(known.unwrap_or_else(|| {
            leaves.push(leaf);
            leaves.len() - 1
        }))
    };
    if name == "avg" {
        let sum = Box::new(leaf(Aggregate::Sum));
        let count = Box::new(leaf(Aggregate::Count));
        return Ok(Formula::Binary(sum, Arithmetic::Divide, count));
    }
    if name == "rate" {
        let counted = Box::new(leaf(kind));
        let seconds = Box::new(Formula::Seconds);
        return Ok(Formula::Binary(counted, Arithmetic::Divide, seconds));
    }
    Ok(leaf(kind))
}

fn boxed(expr: &ast::Expr) -> Result<Box<Expr>, ExpressionError> {
    Ok(Box::new(row(expr)?))
}

/// An expression over the columns of one row.
fn row(expr: &ast::Expr) -> Result<Expr, ExpressionError> {
    Ok(match expr {
        ast::Expr::Nested(inner) => row(inner)?,
        ast::Expr::Identifier(name) => Expr::Column(Column::new_unqualified(&name.value)),
        ast::Expr::Value(value) => literal(&value.value)?,
        ast::Expr::UnaryOp { op, expr } => match op {
            ast::UnaryOperator::Not => Expr::Not(boxed(expr)?),
            ast::UnaryOperator::Minus => Expr::Negative(boxed(expr)?),
            ast::UnaryOperator::Plus => row(expr)?,
            other => return Err(not_allowed(other, ROW_HINT)),
        },
        ast::Expr::BinaryOp { left, op, right } => {
            Expr::BinaryExpr(BinaryExpr::new(boxed(left)?, operator(op)?, boxed(right)?))
        }
        ast::Expr::IsNull(inner) => Expr::IsNull(boxed(inner)?),
        ast::Expr::IsNotNull(inner) => Expr::IsNotNull(boxed(inner)?),
        ast::Expr::IsTrue(inner) => Expr::IsTrue(boxed(inner)?),
        ast::Expr::IsNotTrue(inner) => Expr::IsNotTrue(boxed(inner)?),
        ast::Expr::IsFalse(inner) => Expr::IsFalse(boxed(inner)?),
        ast::Expr::IsNotFalse(inner) => Expr::IsNotFalse(boxed(inner)?),
        ast::Expr::InList {
            expr,
            list,
            negated,
        } => {
            let list = list.iter().map(row).collect::<Result<_, _>>()?;
            Expr::InList(InList::new(boxed(expr)?, list, *negated))
        }
        ast::Expr::Between {
            expr,
            negated,
            low,
            high,
        } => Expr::Between(Between::new(
            boxed(expr)?,
            *negated,
            boxed(low)?,
            boxed(high)?,
        )),
        ast::Expr::Like {
            negated,
            any: false,
            expr,
            pattern,
            escape_char: None,
        } => Expr::Like(Like::new(
            *negated,
            boxed(expr)?,
            boxed(pattern)?,
            None,
            false,
        )),
        ast::Expr::ILike {
            negated,
            any: false,
            expr,
            pattern,
            escape_char: None,
        } => Expr::Like(Like::new(
            *negated,
            boxed(expr)?,
            boxed(pattern)?,
            None,
            true,
        )),
        ast::Expr::Case {
            operand,
            conditions,
            else_result,
            ..
        } => Expr::Case(Case::new(
            operand.as_deref().map(boxed).transpose()?,
            conditions
                .iter()
                .map(|when| Ok((boxed(&when.condition)?, boxed(&when.result)?)))
                .collect::<Result<_, ExpressionError>>()?,
            else_result.as_deref().map(boxed).transpose()?,
        )),
        ast::Expr::Cast {
            expr, data_type, ..
        } => cast(row(expr)?, data_type)?,
        ast::Expr::Floor { expr, .. } => functions::floor(row(expr)?),
        ast::Expr::Ceil { expr, .. } => functions::ceil(row(expr)?),
        ast::Expr::Function(function) => match rewrite::column_user(function).as_deref() {
            Some([name]) => Expr::Column(Column::new_unqualified(&name.value)),
            _ => row_function(function)?,
        },
        other => return Err(not_allowed(other, ROW_HINT)),
    })
}

fn literal(value: &ast::Value) -> Result<Expr, ExpressionError> {
    Ok(match value {
        ast::Value::Number(number, _) => match (number.parse::<i64>(), number.parse::<f64>()) {
            (Ok(integer), _) => lit(integer),
            (_, Ok(double)) => lit(double),
            _ => return Err(not_allowed(number, ROW_HINT)),
        },
        ast::Value::SingleQuotedString(text) => lit(text.as_str()),
        ast::Value::Boolean(value) => lit(*value),
        ast::Value::Null => lit(datafusion::common::ScalarValue::Null),
        other => return Err(not_allowed(other, ROW_HINT)),
    })
}

fn operator(operator: &ast::BinaryOperator) -> Result<Operator, ExpressionError> {
    Ok(match operator {
        ast::BinaryOperator::Eq => Operator::Eq,
        ast::BinaryOperator::NotEq => Operator::NotEq,
        ast::BinaryOperator::Lt => Operator::Lt,
        ast::BinaryOperator::LtEq => Operator::LtEq,
        ast::BinaryOperator::Gt => Operator::Gt,
        ast::BinaryOperator::GtEq => Operator::GtEq,
        ast::BinaryOperator::And => Operator::And,
        ast::BinaryOperator::Or => Operator::Or,
        ast::BinaryOperator::Plus => Operator::Plus,
        ast::BinaryOperator::Minus => Operator::Minus,
        ast::BinaryOperator::Multiply => Operator::Multiply,
        ast::BinaryOperator::Divide => Operator::Divide,
        ast::BinaryOperator::Modulo => Operator::Modulo,
        other => return Err(not_allowed(other, ROW_HINT)),
    })
}

fn cast(expr: Expr, to: &ast::DataType) -> Result<Expr, ExpressionError> {
    use datafusion::arrow::datatypes::DataType;
    let to = match to {
        ast::DataType::Text | ast::DataType::Varchar(None) | ast::DataType::String(None) => {
            DataType::Utf8View
        }
        ast::DataType::Int(None) | ast::DataType::BigInt(None) | ast::DataType::Integer(None) => {
            DataType::Int64
        }
        ast::DataType::Double(..) | ast::DataType::DoublePrecision | ast::DataType::Float(..) => {
            DataType::Float64
        }
        ast::DataType::Boolean | ast::DataType::Bool => DataType::Boolean,
        other => {
            return Err(not_allowed(
                other,
                "cast to text, bigint, double or boolean",
            ));
        }
    };
    // Data that do not fit become null: one odd event must not take a panel down.
    Ok(datafusion::logical_expr::try_cast(expr, to))
}

fn row_function(function: &ast::Function) -> Result<Expr, ExpressionError> {
    let name = function.name.to_string().to_lowercase();
    let mut arguments = arguments(function)?
        .into_iter()
        .map(row)
        .collect::<Result<Vec<_>, _>>()?;
    let found = arguments.len();
    let wrong = |wanted| ExpressionError::Arguments {
        name: name.clone(),
        wanted,
        found,
    };
    let one: Option<fn(Expr) -> Expr> = match name.as_str() {
        "abs" => Some(functions::abs),
        "length" => Some(functions::character_length),
        "lower" => Some(functions::lower),
        "upper" => Some(functions::upper),
        _ => None,
    };
    if let Some(call) = one {
        let (Some(argument), 1) = (arguments.pop(), found) else {
            return Err(wrong("one argument"));
        };
        return Ok(call(argument));
    }
    match (name.as_str(), found) {
        ("round", 1 | 2) => Ok(functions::round(arguments)),
        ("round", _) => Err(wrong("one or two arguments")),
        ("coalesce", 1..) => Ok(functions::coalesce(arguments)),
        ("concat", 1..) => Ok(functions::concat(arguments)),
        ("coalesce" | "concat", _) => Err(wrong("at least one argument")),
        ("nullif" | "starts_with", 2) => {
            let second = arguments.remove(1);
            let first = arguments.remove(0);
            Ok(if name == "nullif" {
                functions::nullif(first, second)
            } else {
                functions::starts_with(first, second)
            })
        }
        ("nullif" | "starts_with", _) => Err(wrong("two arguments")),
        ("split_part", 3) => {
            let third = arguments.remove(2);
            let second = arguments.remove(1);
            Ok(functions::split_part(arguments.remove(0), second, third))
        }
        ("split_part", _) => Err(wrong("three arguments")),
        _ => {
            let known = ROW_FUNCTIONS;
            Err(ExpressionError::Function { name, known })
        }
    }
}

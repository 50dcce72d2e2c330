//! Our own functions in SQL, put into DataFusion's words: `rate`, `p50` … `p99`.
//!
//! `p95(x)` becomes `quantile(x, 0.95)`, `rate(x)` a sum per second of the step that the same
//! SELECT buckets by. Column headings stay as written. Start at [`select`].

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Query, Select,
    SelectItem, SetExpr, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::functions::{Step, parse_step};
use crate::guard::Refused;
use crate::limits::Range;
use crate::plain;

/// Rewrites the calls of one SELECT; those of its subqueries have their turn later.
pub(crate) fn select(select: &mut Select, range: Option<Range>) -> Result<(), Refused> {
    let seconds = seconds(select, range);
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) = item {
            let heading = expr.to_string();
            if rewrite(expr, seconds)? {
                let alias = Ident::with_quote('"', heading);
                *item = SelectItem::ExprWithAlias {
                    expr: expr.clone(),
                    alias,
                };
            }
        }
    }
    rewrite(select, seconds)?;
    Ok(())
}

/// Rewrites the calls in the ORDER BY of a query, by the step of the SELECT that it orders.
pub(crate) fn order_by(query: &mut Query, range: Option<Range>) -> Result<(), Refused> {
    let SetExpr::Select(body) = query.body.as_mut() else {
        return Ok(());
    };
    let seconds = seconds(body, range);
    rewrite(&mut query.order_by, seconds).map(|_| ())
}

fn seconds(select: &mut Select, range: Option<Range>) -> Option<f64> {
    bucket_seconds(select).or_else(|| {
        range
            .map(|range| range.span_us() as f64 / 1e6)
            .filter(|seconds| *seconds > 0.0)
    })
}

fn rewrite(node: &mut impl VisitMut, seconds: Option<f64>) -> Result<bool, Refused> {
    let mut rewriter = Rewriter {
        seconds,
        changed: false,
    };
    match node.visit(&mut rewriter) {
        ControlFlow::Break(refused) => Err(*refused),
        ControlFlow::Continue(()) => Ok(rewriter.changed),
    }
}

struct Rewriter {
    seconds: Option<f64>,
    changed: bool,
}

impl VisitorMut for Rewriter {
    type Break = Box<Refused>;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        let Expr::Function(function) = &*expr else {
            return ControlFlow::Continue(());
        };
        if !is_plain(function) {
            // Left as it is, the guard refuses it by name.
            return ControlFlow::Continue(());
        }
        let tail = call_tail(function);
        let text = match (
            function.name.to_string().to_lowercase().as_str(),
            arguments(function),
        ) {
            (name @ ("p50" | "p90" | "p95" | "p99"), [argument]) => {
                format!("quantile({argument}, 0.{}){tail}", &name[1..])
            }
            ("rate", of) if of.len() < 2 => {
                let Some(seconds) = self.seconds else {
                    return ControlFlow::Break(Box::new(Refused::RateWithoutStep));
                };
                match of.first() {
                    None => format!("(CAST(count(*){tail} AS DOUBLE) / {seconds:?})"),
                    Some(argument) => {
                        format!("(CAST(sum({argument}){tail} AS DOUBLE) / {seconds:?})")
                    }
                }
            }
            _ => return ControlFlow::Continue(()),
        };
        match Parser::new(&GenericDialect {})
            .try_with_sql(&text)
            .and_then(|mut p| p.parse_expr())
        {
            Ok(new) => {
                *expr = new;
                self.changed = true;
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(Box::new(Refused::Syntax(plain::syntax(&error)))),
        }
    }
}

/// Whether a call has nothing but arguments and perhaps a FILTER, so that no part of it gets lost.
fn is_plain(function: &Function) -> bool {
    let has_plain_list = match &function.args {
        FunctionArguments::List(list) => {
            list.duplicate_treatment.is_none() && list.clauses.is_empty()
        }
        FunctionArguments::None | FunctionArguments::Subquery(_) => false,
    };
    has_plain_list
        && function.over.is_none()
        && function.within_group.is_empty()
        && function.null_treatment.is_none()
        && matches!(function.parameters, FunctionArguments::None)
}

/// The parts of the column that `user` means, or `o.user`: SQL has a function of that name which takes no
/// parentheses, and events have columns of it.
pub(crate) fn column_user(function: &Function) -> Option<Vec<Ident>> {
    let parts = function.name.0.iter().map(|part| part.as_ident().cloned());
    let parts: Vec<Ident> = parts.collect::<Option<_>>()?;
    let name = parts.last()?;
    let is_user = name.quote_style.is_none() && name.value.eq_ignore_ascii_case("user");
    (is_user && matches!(function.args, FunctionArguments::None)).then_some(parts)
}

/// What follows the arguments of a call: its FILTER.
fn call_tail(function: &Function) -> String {
    function
        .filter
        .as_ref()
        .map_or_else(String::new, |filter| format!(" FILTER (WHERE {filter})"))
}

fn arguments(function: &Function) -> &[FunctionArg] {
    match &function.args {
        FunctionArguments::List(list) => &list.args,
        FunctionArguments::None | FunctionArguments::Subquery(_) => &[],
    }
}

/// The step of the first `time_bucket` with a constant step, in seconds.
fn bucket_seconds(select: &mut Select) -> Option<f64> {
    let mut finder = Finder(None);
    let found = select
        .projection
        .iter_mut()
        .any(|item| item.visit(&mut finder).is_break());
    if !found && select.group_by.visit(&mut finder).is_continue() {
        return None;
    }
    finder.0
}

struct Finder(Option<f64>);

impl VisitorMut for Finder {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::Function(function) = expr else {
            return ControlFlow::Continue(());
        };
        if !function
            .name
            .to_string()
            .eq_ignore_ascii_case("time_bucket")
        {
            return ControlFlow::Continue(());
        }
        let step = match arguments(function).first() {
            Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(step))) => step,
            _ => return ControlFlow::Continue(()),
        };
        let text = match step {
            Expr::Value(value) => text_of(&value.value),
            Expr::Interval(interval) => match interval.value.as_ref() {
                Expr::Value(value) => {
                    text_of(&value.value).map(|text| match &interval.leading_field {
                        Some(field) => format!("{text} {field}"),
                        None => text,
                    })
                }
                _ => None,
            },
            _ => None,
        };
        if let Some(Step::Micros(step)) = text.and_then(|text| parse_step(&text)) {
            self.0 = Some(step as f64 / 1e6);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::SingleQuotedString(text) => Some(text.clone()),
        Value::Number(text, _) => Some(text.clone()),
        _ => None,
    }
}

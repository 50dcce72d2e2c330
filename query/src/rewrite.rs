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

/// What calls of `rate` in a SELECT count by; the whole range only where it does not bucket.
fn seconds(select: &mut Select, range: Option<Range>) -> Option<f64> {
    let mut finder = Finder {
        depth: 0,
        has_bucket: false,
    };
    let mut items = select.projection.iter_mut();
    let mut found = items.try_for_each(|item| item.visit(&mut finder));
    if found.is_continue() {
        found = select.group_by.visit(&mut finder);
    }
    match found {
        ControlFlow::Break(seconds) => Some(seconds),
        ControlFlow::Continue(()) if finder.has_bucket => None,
        ControlFlow::Continue(()) => range
            .map(|range| range.span_us() as f64 / 1e6)
            .filter(|seconds| *seconds > 0.0),
    }
}

fn rewrite(node: &mut impl VisitMut, seconds: Option<f64>) -> Result<bool, Refused> {
    let mut rewriter = Rewriter {
        seconds,
        depth: 0,
        has_calls: false,
    };
    match node.visit(&mut rewriter) {
        ControlFlow::Break(refused) => Err(*refused),
        ControlFlow::Continue(()) => Ok(rewriter.has_calls),
    }
}

struct Rewriter {
    seconds: Option<f64>,
    /// Within how many subqueries it is.
    depth: usize,
    /// Whether there are calls of ours, those of subqueries too: they change what a column is named.
    has_calls: bool,
}

impl VisitorMut for Rewriter {
    type Break = Box<Refused>;

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<Self::Break> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Self::Break> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

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
                Ok(format!("quantile({argument}, 0.{}){tail}", &name[1..]))
            }
            ("rate", of) if of.len() < 2 => {
                let sum = match of.first() {
                    None => format!("count(*){tail}"),
                    Some(argument) => format!("sum({argument}){tail}"),
                };
                let seconds = self.seconds.ok_or(Refused::RateWithoutStep);
                seconds.map(|seconds| format!("(CAST({sum} AS DOUBLE) / {seconds:?})"))
            }
            _ => return ControlFlow::Continue(()),
        };
        self.has_calls = true;
        if self.depth > 0 {
            // It is counted by the step of its own SELECT, which has its turn later.
            return ControlFlow::Continue(());
        }
        match text.and_then(|text| parse(&text)) {
            Ok(new) => {
                *expr = new;
                ControlFlow::Continue(())
            }
            Err(refused) => ControlFlow::Break(Box::new(refused)),
        }
    }
}

fn parse(text: &str) -> Result<Expr, Refused> {
    Parser::new(&GenericDialect {})
        .try_with_sql(text)
        .and_then(|mut parser| parser.parse_expr())
        .map_err(|error| Refused::Syntax(plain::syntax(&error)))
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

/// Looks for the first `time_bucket` with a constant step, and ends with its seconds.
struct Finder {
    /// Within how many subqueries it is: their steps are their own.
    depth: usize,
    /// Whether there is one at all, be its step a month, or not understood.
    has_bucket: bool,
}

impl VisitorMut for Finder {
    type Break = f64;

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<f64> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<f64> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<f64> {
        let Expr::Function(function) = expr else {
            return ControlFlow::Continue(());
        };
        let name = function.name.to_string();
        if self.depth > 0 || !name.eq_ignore_ascii_case("time_bucket") {
            return ControlFlow::Continue(());
        }
        self.has_bucket = true;
        match step_text(function).and_then(|text| parse_step(&text)) {
            Some(Step::Micros(step)) => ControlFlow::Break(step as f64 / 1e6),
            Some(Step::Months(_)) | None => ControlFlow::Continue(()),
        }
    }
}

/// The step of a call of `time_bucket`, as written.
fn step_text(function: &Function) -> Option<String> {
    let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(step))) = arguments(function).first()
    else {
        return None;
    };
    match step {
        Expr::Value(value) => text_of(&value.value),
        Expr::Interval(interval) => match interval.value.as_ref() {
            Expr::Value(value) => text_of(&value.value).map(|text| match &interval.leading_field {
                Some(field) => format!("{text} {field}"),
                None => text,
            }),
            _ => None,
        },
        _ => None,
    }
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::SingleQuotedString(text) => Some(text.clone()),
        Value::Number(text, _) => Some(text.clone()),
        _ => None,
    }
}

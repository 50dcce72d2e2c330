//! `$__range` and its kin, filled in token by token, so that text inside quotes is never touched.
//!
//! | macro | becomes |
//! | --- | --- |
//! | `$__range` | `("time" >= from AND "time" < to)` |
//! | `$__range_shifted('1 day')` | the same a day earlier |
//! | `$__from`, `$__to` | the two times |
//! | `$__interval` | a step that cuts the range into at most 300 pieces |

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};
use thiserror::Error;

use crate::calendar::rfc3339;
use crate::functions::{Step, parse_step};
use crate::limits::{Range, nice_step_us};

/// How many pieces `$__interval` cuts a range into at most.
const PIECES_MAX: usize = 300;

/// Why a macro cannot be filled in.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MacroError {
    /// The request named no range.
    #[error("{0} needs a time range; send from and to with the statement")]
    NoRange(String),
    /// There is no such macro.
    #[error(
        "no macro {0}; there are $__range, $__range_shifted('1 day'), $__from, $__to, $__interval"
    )]
    Unknown(String),
    /// The shift is missing or no span of time.
    #[error(
        "write $__range_shifted('1 day') with a span of seconds, minutes, hours, days or weeks"
    )]
    Shift,
}

/// Fills in all macros.
pub(crate) fn expand(
    tokens: Vec<TokenWithSpan>,
    range: Option<Range>,
) -> Result<Vec<TokenWithSpan>, MacroError> {
    let mut expanded = Vec::with_capacity(tokens.len());
    let mut rest = tokens.into_iter();
    while let Some(token) = rest.next() {
        let Token::Placeholder(name) = &token.token else {
            expanded.push(token);
            continue;
        };
        let known = range.ok_or_else(|| MacroError::NoRange(name.clone()));
        let text = match name.as_str() {
            "$__range" => within(known?),
            "$__from" => moment(known?.from_us),
            "$__to" => moment(known?.to_us),
            "$__interval" => {
                format!(
                    "INTERVAL '{} seconds'",
                    nice_step_us(known?, PIECES_MAX) / 1_000_000
                )
            }
            "$__range_shifted" => {
                let by = shift(&mut rest)?;
                let range = known?;
                within(Range {
                    from_us: range.from_us - by,
                    to_us: range.to_us - by,
                })
            }
            _ => return Err(MacroError::Unknown(name.clone())),
        };
        let inner = Tokenizer::new(&GenericDialect {}, &text)
            .tokenize()
            .map_err(|_| MacroError::Unknown(name.clone()))?;
        let inner = inner
            .into_iter()
            .filter(|token| !matches!(token, Token::Whitespace(_)));
        expanded.extend(inner.map(|inner| TokenWithSpan {
            token: inner,
            span: token.span,
        }));
    }
    Ok(expanded)
}

/// Reads `('1 day')`.
fn shift(rest: &mut impl Iterator<Item = TokenWithSpan>) -> Result<i64, MacroError> {
    let mut next = || rest.next().map(|token| token.token);
    match (next(), next(), next()) {
        (Some(Token::LParen), Some(Token::SingleQuotedString(text)), Some(Token::RParen)) => {
            match parse_step(&text) {
                Some(Step::Micros(by)) => Ok(by),
                _ => Err(MacroError::Shift),
            }
        }
        _ => Err(MacroError::Shift),
    }
}

fn within(range: Range) -> String {
    let (from, to) = (moment(range.from_us), moment(range.to_us));
    format!("(\"time\" >= {from} AND \"time\" < {to})")
}

fn moment(time_us: i64) -> String {
    format!(
        "arrow_cast('{}', 'Timestamp(Microsecond, Some(\"UTC\"))')",
        rfc3339(time_us)
    )
}

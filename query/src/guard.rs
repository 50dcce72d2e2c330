//! Looks at an ad-hoc statement before anything plans it, and refuses what must not run.
//!
//! First the text (length, tokens, operators in a row), which needs no recursion; then the tree:
//! one SELECT, functions from the allow-list, no table functions. On the way the macros become
//! tokens and our own functions become DataFusion's. The worker process is the real wall; this is
//! the friendly one, whose errors say what to do. Start at [`admit`].

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Query, Select, SetExpr, Statement, TableFactor, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};
use thiserror::Error;

use crate::allowed;
use crate::limits::{Limits, Range};
use crate::macros::{self, MacroError};
use crate::plain;
use crate::rewrite;

/// Most tokens of a statement; white space is not counted.
const TOKENS_MAX: usize = 2_000;
/// Most operators and keywords that can deepen the tree; each level costs stack in every later step.
const DEPTH_MAX: usize = 500;
/// The stack on which statements are looked at: 128 KiB for each level that may be.
const STACK_BYTES: usize = 64 << 20;

/// Why a statement was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    /// The text is too long.
    #[error("the statement is {found} bytes long, more than {max} (the limit query.sql_kib_max)")]
    TooLong {
        /// Its length.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// There are too many tokens.
    #[error(
        "the statement has {found} words and signs, more than {TOKENS_MAX} (fixed limit query.tokens)"
    )]
    TooManyTokens {
        /// How many.
        found: usize,
    },
    /// It nests or chains too deep.
    #[error(
        "the statement chains or nests {found} operators, more than {DEPTH_MAX} (fixed limit query.depth); use IN, BETWEEN or a join instead"
    )]
    TooDeep {
        /// How many.
        found: usize,
    },
    /// It is not SQL.
    #[error("cannot read the statement: {0}")]
    Syntax(String),
    /// There is none, or more than one.
    #[error("one statement at a time, please; found {0}")]
    NotOne(usize),
    /// It is something other than a query.
    #[error("{0} is not allowed: queries only read; write SELECT …")]
    NotAQuery(String),
    /// It uses a part of SQL that is not offered.
    #[error("{0} is not offered here; queries only read the tables of this server")]
    NotOffered(&'static str),
    /// It calls a function that is not on the list.
    #[error("function {name:?} is not offered{hint}")]
    Function {
        /// The function.
        name: String,
        /// Why, or what to use instead.
        hint: String,
    },
    /// It reads from a function or a file.
    #[error(
        "reading from {0} is not offered; queries read the tables of this server, see information_schema.tables"
    )]
    TableFunction(String),
    /// A macro cannot be filled in.
    #[error(transparent)]
    Macro(#[from] MacroError),
    /// `rate` has no step to count by.
    #[error(
        "rate() needs a time_bucket('…', time) in the same SELECT whose step has a constant length in one unit, such as '90 seconds', or no time_bucket and a request with from and to"
    )]
    RateWithoutStep,
}

impl Refused {
    /// The code under which the documentation explains it.
    pub fn code(&self) -> &'static str {
        match self {
            Refused::TooLong { .. } => "SER-SQL-002",
            Refused::TooManyTokens { .. } => "SER-SQL-003",
            Refused::TooDeep { .. } => "SER-SQL-004",
            Refused::Syntax(_) => "SER-SQL-005",
            Refused::NotOne(_) => "SER-SQL-006",
            Refused::NotAQuery(_) | Refused::NotOffered(_) => "SER-SQL-007",
            Refused::Function { .. } => "SER-SQL-008",
            Refused::TableFunction(_) => "SER-SQL-009",
            Refused::Macro(_) | Refused::RateWithoutStep => "SER-SQL-010",
        }
    }
}

/// A statement that may be planned.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// The query, with macros filled in and our functions rewritten.
    pub(crate) statement: Statement,
    /// The names of tables it reads, as written: `a` of `a` and `"a"`, both `b` and `a.b` of `a.b`.
    pub tables: BTreeSet<String>,
}

/// Lets a statement pass or says why not. Runs on a stack of its own that is deep enough.
pub fn admit(sql: &str, range: Option<Range>, limits: &Limits) -> Result<Admitted, Refused> {
    let tokens = tokens(sql, limits)?;
    let tokens = macros::expand(tokens, range)?;
    std::thread::scope(|scope| {
        let looking = std::thread::Builder::new()
            .name("sql-guard".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || look(tokens, range));
        let failed = |what: &str| Refused::Syntax(what.to_owned());
        match looking {
            Ok(looking) => looking
                .join()
                .unwrap_or_else(|_| Err(failed("the parser gave up"))),
            Err(_) => Err(failed(
                "no thread could be started to look at it; try again",
            )),
        }
    })
}

/// The text as tokens, when it is neither too long nor too deep.
fn tokens(sql: &str, limits: &Limits) -> Result<Vec<TokenWithSpan>, Refused> {
    if sql.len() > limits.sql_bytes_max {
        return Err(Refused::TooLong {
            found: sql.len(),
            max: limits.sql_bytes_max,
        });
    }
    let mut tokens = Tokenizer::new(&GenericDialect {}, sql)
        .tokenize_with_location()
        .map_err(|error| Refused::Syntax(plain::syntax(&error)))?;
    tokens.retain(|token| !matches!(token.token, Token::Whitespace(_)));
    if tokens.len() > TOKENS_MAX {
        return Err(Refused::TooManyTokens {
            found: tokens.len(),
        });
    }
    let found = tokens.iter().filter(|token| deepens(&token.token)).count();
    if found > DEPTH_MAX {
        return Err(Refused::TooDeep { found });
    }
    Ok(tokens)
}

/// Whether a token can make the tree deeper. Lists, names and literals only make it wider.
fn deepens(token: &Token) -> bool {
    match token {
        Token::Word(word) => !matches!(
            word.keyword,
            Keyword::NoKeyword
                | Keyword::AS
                | Keyword::ASC
                | Keyword::DESC
                | Keyword::TRUE
                | Keyword::FALSE
                | Keyword::WHEN
                | Keyword::THEN
                | Keyword::NULL
        ),
        Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::Comma
        | Token::Period
        | Token::LParen
        | Token::RParen
        | Token::SemiColon
        | Token::EOF => false,
        _ => true,
    }
}

/// What a statement begins with, where no query begins so: the parser may not know the rest of it.
fn other_verb(tokens: &[TokenWithSpan]) -> Option<String> {
    let Token::Word(word) = &tokens.first()?.token else {
        return None;
    };
    let is_of_queries = matches!(
        word.keyword,
        Keyword::NoKeyword
            | Keyword::SELECT
            | Keyword::WITH
            | Keyword::VALUES
            | Keyword::FROM
            | Keyword::TABLE
    );
    (!is_of_queries).then(|| word.value.to_uppercase())
}

fn look(tokens: Vec<TokenWithSpan>, range: Option<Range>) -> Result<Admitted, Refused> {
    let verb = other_verb(&tokens);
    let mut parser = Parser::new(&GenericDialect {}).with_tokens_with_locations(tokens);
    let mut statements = parser.parse_statements().map_err(|error| match verb {
        Some(verb) => Refused::NotAQuery(verb),
        None => Refused::Syntax(plain::syntax(&error)),
    })?;
    // The parser stops at a stray END and would leave what follows unread.
    let rest = parser.peek_token();
    if rest.token != Token::EOF {
        return Err(Refused::Syntax(format!(
            "there is no place for {}{}",
            rest.token, rest.span.start
        )));
    }
    let (Some(mut statement), true) = (statements.pop(), statements.is_empty()) else {
        // The last one was taken out above.
        return Err(Refused::NotOne(
            statements.len() + usize::from(!statements.is_empty()),
        ));
    };
    if !matches!(statement, Statement::Query(_)) {
        let kind: String = statement
            .to_string()
            .chars()
            .take_while(|c| !c.is_whitespace())
            .collect();
        return Err(Refused::NotAQuery(kind));
    }
    let mut looker = Looker {
        tables: BTreeSet::new(),
        range,
    };
    match statement.visit(&mut looker) {
        ControlFlow::Break(refused) => Err(*refused),
        ControlFlow::Continue(()) => Ok(Admitted {
            statement,
            tables: looker.tables,
        }),
    }
}

/// Walks the tree, refuses, notes tables, and rewrites.
struct Looker {
    tables: BTreeSet<String>,
    range: Option<Range>,
}

fn refuse<T>(refused: Refused) -> ControlFlow<Box<Refused>, T> {
    ControlFlow::Break(Box::new(refused))
}

impl VisitorMut for Looker {
    type Break = Box<Refused>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        let is_plain = query.locks.is_empty()
            && query.for_clause.is_none()
            && query.settings.is_none()
            && query.format_clause.is_none()
            && query.pipe_operators.is_empty();
        if !is_plain {
            return refuse(Refused::NotOffered(
                "FOR UPDATE, SETTINGS, FORMAT or a pipe",
            ));
        }
        if !only_reads(&query.body) {
            return refuse(Refused::NotOffered("writing within a query"));
        }
        match rewrite::order_by(query, self.range) {
            Ok(()) => ControlFlow::Continue(()),
            Err(refused) => refuse(refused),
        }
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Self::Break> {
        if select.into.is_some() {
            return refuse(Refused::NotOffered("SELECT … INTO"));
        }
        match rewrite::select(select, self.range) {
            Ok(()) => ControlFlow::Continue(()),
            Err(refused) => refuse(refused),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        match factor {
            TableFactor::Table {
                name, args: None, ..
            } => {
                let mut read = String::new();
                for part in name.0.iter().rev().filter_map(|part| part.as_ident()) {
                    let dot = if read.is_empty() { "" } else { "." };
                    read = format!("{}{dot}{read}", part.value);
                    self.tables.insert(read.clone());
                }
                ControlFlow::Continue(())
            }
            TableFactor::Derived { .. } | TableFactor::NestedJoin { .. } => {
                ControlFlow::Continue(())
            }
            other => refuse(Refused::TableFunction(
                other.to_string().chars().take(60).collect(),
            )),
        }
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        let Expr::Function(function) = expr else {
            return ControlFlow::Continue(());
        };
        if let Some(mut parts) = rewrite::column_user(function) {
            *expr = match parts.pop() {
                Some(column) if parts.is_empty() => Expr::Identifier(column),
                last => Expr::CompoundIdentifier(parts.into_iter().chain(last).collect()),
            };
            return ControlFlow::Continue(());
        }
        let name = function.name.to_string().to_lowercase();
        match allowed::check(&name) {
            Ok(()) => ControlFlow::Continue(()),
            Err(hint) => refuse(Refused::Function { name, hint }),
        }
    }
}

fn only_reads(body: &SetExpr) -> bool {
    match body {
        SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) => true,
        SetExpr::SetOperation { left, right, .. } => only_reads(left) && only_reads(right),
        SetExpr::Table(_)
        | SetExpr::Insert(_)
        | SetExpr::Update(_)
        | SetExpr::Delete(_)
        | SetExpr::Merge(_) => false,
    }
}

//! What the engine says of a statement, in the words of whoever wrote it.
//!
//! The engine speaks of coercion, signatures and `Utf8View`; here these become text, numbers and what to
//! write instead. What nobody has translated passes with its types translated and without the engine's
//! own names. Pure. Start at [`explain`].

use std::fmt::Display;

use arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use serin_lake::Snapshot;
use serin_wire::PoolError;
use serin_yaml::{meant, slip_of};

use crate::error::QueryError;
use crate::events::is_type_name;

/// Longest sentence of the engine that is passed on, in characters.
const CHARS_MAX: usize = 600;
/// Forms of a function that are shown where a call fits none.
const FORMS_MAX: usize = 3;

/// What a fault at the root of the engine's error means.
pub(crate) fn explain(root: &DataFusionError) -> QueryError {
    match root {
        DataFusionError::ArrowError(error, _) => arrow(error),
        DataFusionError::SchemaError(error, _) => schema(error),
        DataFusionError::External(error) => match error.downcast_ref::<PoolError>() {
            Some(odd) => QueryError::Value {
                message: odd.to_string(),
            },
            None => external(&root.strip_backtrace()),
        },
        _ => text(&without_head(&root.strip_backtrace())),
    }
}

/// The table that a statement names and that is not there, where that is what the root says.
pub(crate) fn missing_table(root: &DataFusionError, snapshot: &Snapshot) -> Option<QueryError> {
    let DataFusionError::Plan(said) = root else {
        return None;
    };
    let name = between(said, "table '", "' not found")
        .or_else(|| between(said, "Unsupported compound identifier '", "'"))?;
    let name = name.strip_prefix("serin.").unwrap_or(name);
    let name = name.strip_prefix("main.").unwrap_or(name);
    let known = || snapshot.tables.keys().map(String::as_str);
    Some(QueryError::NoTable {
        name: name.to_owned(),
        hint: meant(name, known()),
        is_to_come: is_type_name(name) && slip_of(name, known()).is_none(),
    })
}

/// What the parser says of a text, without its own name, and its places in words.
pub(crate) fn syntax(error: &impl Display) -> String {
    let said = error.to_string();
    let said = said.strip_prefix("sql parser error: ").unwrap_or(&said);
    let words = [
        ("Expected: ", "expected "),
        (", found: ", ", found "),
        ("found EOF", "found the end"),
        (" at Line: ", " in line "),
        (", Column: ", ", column "),
    ];
    let plain = words.into_iter();
    plain.fold(said.to_owned(), |said, (theirs, ours)| {
        said.replace(theirs, ours)
    })
}

fn arrow(error: &ArrowError) -> QueryError {
    let value = |message: String| QueryError::Value { message };
    match error {
        ArrowError::DivideByZero => value(String::from(
            "a division by zero; write x / nullif(y, 0), which is null there",
        )),
        ArrowError::ArithmeticOverflow(_) => value(too_large()),
        ArrowError::CastError(said) => {
            let text = between(said, "Cannot cast string '", "' to value")
                .or_else(|| between(said, "Cannot cast value '", "' to value"));
            let kind = between(said, "to value of ", " type").map(kind);
            match (text, kind) {
                (Some(text), Some(kind)) => value(format!(
                    "{:?} is no {kind}; try_cast(x AS …) makes null of what does not fit",
                    cut(text)
                )),
                _ => value(plain(said)),
            }
        }
        ArrowError::ParseError(said) => {
            let time = between(said, "Error parsing timestamp from '", "'");
            let interval = between(said, "type interval: \"", "\"");
            match (time, interval) {
                (Some(time), _) => value(format!(
                    "{:?} is no time; write 2026-11-24 or 2026-11-24T03:00:00Z",
                    cut(time)
                )),
                (_, Some(interval)) => value(format!(
                    "{:?} is no interval; write for example interval '1 hour'",
                    cut(interval)
                )),
                _ => value(plain(said)),
            }
        }
        ArrowError::ComputeError(said) if said.contains("verflow") => value(too_large()),
        other => value(plain(&without_head(&other.to_string()))),
    }
}

fn too_large() -> String {
    String::from("a number grows beyond what its type holds; cast it to double first")
}

fn schema(error: &SchemaError) -> QueryError {
    match error {
        SchemaError::FieldNotFound {
            field,
            valid_fields,
        } => {
            let mut known: Vec<&str> = Vec::new();
            for column in valid_fields.iter().map(|column| column.name.as_str()) {
                if !known.contains(&column) {
                    known.push(column);
                }
            }
            let hint = meant(&field.name, known.iter().copied());
            let is_near = hint.starts_with("did you mean");
            let quotes = if is_near {
                ""
            } else {
                "; text stands in single quotes"
            };
            let table = field.relation.as_ref();
            let table = table.map_or_else(String::new, |table| format!(" in {:?}", table.table()));
            QueryError::NoColumn {
                name: field.name.clone(),
                table,
                hint: format!("{hint}{quotes}"),
            }
        }
        SchemaError::AmbiguousReference { field } => said(format!(
            "more than one table has the column {:?}; write the table and a dot before it",
            field.name
        )),
        SchemaError::DuplicateQualifiedField { name, .. }
        | SchemaError::DuplicateUnqualifiedField { name } => said(twice(name)),
    }
}

fn twice(name: &str) -> String {
    format!("two columns have the name {name:?}; give one of them another with AS")
}

fn external(whole: &str) -> QueryError {
    let inner = without_head(whole);
    match inner.rsplit_once("error: ") {
        Some((before, why)) if before.contains("regex parse error") => said(format!(
            "cannot read the regular expression: {}",
            plain(why)
        )),
        _ => text(&inner),
    }
}

fn said(message: String) -> QueryError {
    QueryError::Statement { message }
}

/// A sentence of the planner or of a function.
fn text(sentence: &str) -> QueryError {
    if let Some(call) = between(sentence, "given name and argument types '", "'") {
        return said(no_form(call, sentence));
    }
    if let Some((bug, _)) = sentence.split_once("This issue was likely caused by a bug") {
        return said(format!(
            "the engine failed on it ({}); write it in another way, and tell us: this is a bug",
            plain(bug)
        ));
    }
    if let Some(column) = between(sentence, "column \"", "\" must appear in the GROUP BY") {
        return said(format!(
            "the column {column} stands neither in GROUP BY nor in an aggregate; add it there, or write for example max({column})"
        ));
    }
    let unlike = between(
        sentence,
        "Cannot coerce arithmetic expression ",
        " to valid types",
    )
    .or_else(|| {
        sentence
            .split_once("type for comparison operation ")
            .map(|(_, types)| types)
    })
    .or_else(|| between(sentence, "common type to coerce ", " expression"));
    if let Some(types) = unlike {
        return said(format!(
            "these do not go together: {}; cast one of them, for example cast(x AS double)",
            plain(types)
        ));
    }
    if let Some(condition) = between(sentence, "non-boolean predicate '", "'") {
        return said(format!(
            "the condition {condition} is neither true nor false; compare it with something"
        ));
    }
    if sentence.starts_with("Projections require unique expression names") {
        let name = between(sentence, " AS ", "\" at position");
        return said(twice(name.unwrap_or("the same")));
    }
    if sentence.starts_with("Scalar subquery returned more than one row") {
        return said(String::from(
            "a subquery that stands for one value gave more than one row; add LIMIT 1, or an aggregate",
        ));
    }
    if sentence.starts_with("Overflow happened") {
        return QueryError::Value {
            message: too_large(),
        };
    }
    said(plain(sentence))
}

/// A call that fits no form of its function.
fn no_form(call: &str, sentence: &str) -> String {
    let listed = sentence.split_once("Candidate functions:");
    let listed = listed.map_or("", |(_, listed)| listed);
    let mut forms: Vec<String> = Vec::new();
    for form in listed.lines().map(plain) {
        if !form.is_empty() && !forms.contains(&form) && forms.len() < FORMS_MAX {
            forms.push(form);
        }
    }
    let there = match forms.is_empty() {
        true => String::new(),
        false => format!("; there is {}", forms.join(", ")),
    };
    format!(
        "no function takes {}{there}; cast what does not fit, for example cast(x AS double)",
        plain(call)
    )
}

/// Without the engine's names for where an error came from.
fn without_head(sentence: &str) -> String {
    const HEADS: [&str; 9] = [
        "Arrow error: ",
        "Error during planning: ",
        "Execution error: ",
        "External error: ",
        "Schema error: ",
        "Internal error: ",
        "SQL error: ",
        "Invalid or Unsupported Configuration: ",
        "Parquet error: ",
    ];
    let mut rest = sentence;
    while let Some(next) = HEADS.iter().find_map(|head| rest.strip_prefix(head)) {
        rest = next;
    }
    match rest.strip_prefix("This feature is not implemented: ") {
        Some(what) => format!("this is not offered: {what}"),
        None => rest.to_owned(),
    }
}

/// One line of bounded length, with types as people call them and without a stop at its end.
fn plain(sentence: &str) -> String {
    let line: Vec<&str> = sentence.split_whitespace().collect();
    let line = in_words(&line.join(" "));
    let line = line.trim_end_matches(['.', ' ', ',']);
    line.chars().take(CHARS_MAX).collect()
}

fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after)?.0)
}

/// What a type of the engine is called.
fn kind(name: &str) -> &str {
    let head = name.split('(').next().unwrap_or(name);
    match head {
        "Utf8" | "Utf8View" | "LargeUtf8" | "String" => "text",
        "Int8" | "Int16" | "Int32" | "Int64" | "UInt8" | "UInt16" | "UInt32" | "UInt64" => {
            "whole number"
        }
        "Float16" | "Float32" | "Float64" | "Decimal" | "Decimal128" | "Decimal256" => "number",
        "Boolean" => "truth value",
        "Timestamp" | "Date32" | "Date64" => "time",
        "Interval" | "Duration" => "interval",
        _ => name,
    }
}

/// The sentence with the engine's types translated: `Utf8View` is text, and `Int64(1)` is 1.
fn in_words(sentence: &str) -> String {
    let mut words = String::new();
    let mut rest = sentence;
    while let Some(at) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
        words.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        let name = kind(word);
        let inner = after
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'));
        match inner {
            _ if name == word => {
                words.push_str(word);
                rest = after;
            }
            // A type with its parameters, or a value with its type.
            Some((_, after)) if matches!(name, "time" | "interval") => {
                words.push_str(name);
                rest = after;
            }
            Some((value, after)) => {
                words.push_str(value);
                rest = after;
            }
            None => {
                words.push_str(name);
                rest = after;
            }
        }
    }
    words + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_names_that_people_use() {
        for (said, wanted) in [
            ("Utf8View + Int64", "text + whole number"),
            ("count(Int64(1)) of Utf8(\"a\")", "count(1) of \"a\""),
            ("Timestamp(µs, \"UTC\") - Utf8View", "time - text"),
            ("sum(Float64), nothing else.", "sum(number), nothing else"),
        ] {
            assert_eq!(plain(said), wanted);
        }
    }

    #[test]
    fn the_parser_is_not_named() {
        let said = "sql parser error: Expected: ), found: EOF at Line: 1, Column: 16";
        let wanted = "expected ), found the end in line 1, column 16";
        assert_eq!(syntax(&said), wanted);
    }

    #[test]
    fn the_engine_is_not_named() {
        let root = DataFusionError::NotImplemented(String::from("Could not plan it"));
        let said = explain(&root).to_string();
        assert_eq!(said, "this is not offered: Could not plan it");
    }
}

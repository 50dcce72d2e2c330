//! What the parser says of a file, in the words of people: what was found, and what would be right.
//!
//! The parser speaks of scalars, units and mapping starts; here these become text, nothing and keys. Its
//! places stay. Pure. Start at [`problem`].

use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{Error, Location};

use crate::place::{Written, glued};
use crate::problem::{Place, Problem, code, meant};
use crate::read::{DEPTH_MAX, LINKS_MAX, NODES_MAX, TEXT_BYTES_MAX};

/// Where an error is.
pub(crate) fn place(error: &Error) -> Place {
    Place::at(error.location().unwrap_or(Location::UNKNOWN))
}

/// The problem that an error of the parser is; `text` is what it read.
pub(crate) fn problem(file: &str, text: &str, error: &Error) -> Problem {
    let error = error.without_snippet();
    let place = place(error);
    let new = |code, message| Problem::new(file, place, code, message);
    let unlike = |written: Written<'_>, expected: &str| {
        if let Some(key) = glued(text, place) {
            return new(
                code::VALUE,
                format!("a blank is missing after the colon of {key:?}"),
            );
        }
        let key = written.key.map(|key| format!("{key:?}: "));
        let key = key.unwrap_or_default();
        new(
            code::VALUE,
            format!("{key}found {}, expected {expected}", written.found()),
        )
    };
    match error {
        Error::AliasError { error, .. } => problem(file, text, error),
        Error::SerdeUnknownField {
            field, expected, ..
        } => new(code::KEY, format!("unknown key {field:?}"))
            .hint(meant(field, expected.iter().copied())),
        Error::SerdeUnknownVariant {
            variant, expected, ..
        } => new(code::VALUE, format!("{variant:?} is not known here"))
            .hint(meant(variant, expected.iter().copied())),
        Error::SerdeMissingField { field, .. } => new(code::VALUE, format!("{field:?} is missing")),
        Error::SerdeInvalidType { expected, .. } | Error::SerdeInvalidValue { expected, .. } => {
            unlike(Written::from_key(text, place), kind(expected))
        }
        Error::Unexpected { expected, .. } => unlike(Written::at(text, place), kind(expected)),
        Error::InvalidScalar { ty, .. } => unlike(Written::at(text, place), kind(ty)),
        Error::NonFiniteFloat { .. } => unlike(Written::at(text, place), "a number"),
        Error::InvalidBooleanStrict { .. } => unlike(Written::at(text, place), "true or false"),
        Error::NullIntoString { .. } => unlike(Written::at(text, place), "text"),
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or("a key");
            new(code::TWICE, format!("{key:?} stands here twice"))
                .hint(String::from("remove or rename one"))
        }
        Error::Eof { .. } if is_empty(text) => new(code::VALUE, String::from("the file is empty")),
        Error::Budget { breach, .. } => new(code::YAML, too_much(breach)),
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => new(
            code::YAML,
            format!("aliases (*name) bring in more than the {NODES_MAX} values of one file"),
        ),
        Error::UnknownAnchor { .. } => new(
            code::YAML,
            String::from(
                "there is no anchor of the name after \"*\"; text that begins with it stands in quotes",
            ),
        ),
        Error::Message { msg, .. } => new(code::VALUE, msg.clone()),
        other => new(code::YAML, no_yaml(&other.to_string())),
    }
}

/// Whether the file is YAML, and only what one of its values is does not fit.
pub(crate) fn is_of_shape(error: &Error) -> bool {
    match error.without_snippet() {
        Error::AliasError { error, .. } => is_of_shape(error),
        Error::SerdeUnknownField { .. }
        | Error::SerdeUnknownVariant { .. }
        | Error::SerdeMissingField { .. }
        | Error::SerdeInvalidType { .. }
        | Error::SerdeInvalidValue { .. }
        | Error::Unexpected { .. }
        | Error::InvalidScalar { .. }
        | Error::NonFiniteFloat { .. }
        | Error::InvalidBooleanStrict { .. }
        | Error::NullIntoString { .. }
        | Error::DuplicateMappingKey { .. }
        | Error::Message { .. } => true,
        _ => false,
    }
}

/// Whether there is nothing but comments.
fn is_empty(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim);
    lines.all(|line| line.is_empty() || line.starts_with('#'))
}

/// The key that an error misses.
pub(crate) fn missing(error: &Error) -> Option<&'static str> {
    match error.without_snippet() {
        Error::SerdeMissingField { field, .. } => Some(*field),
        _ => None,
    }
}

/// What is expected, for people; what our own readers say is for them already.
fn kind(expected: &str) -> &str {
    match expected {
        "string scalar" | "a string" | "string" => "text",
        "sequence start" | "a sequence" => "a list",
        "mapping start" | "a map" => "keys with values (key: value)",
        "floating point" | "f32" | "f64" => "a number",
        "boolean" | "a boolean" | "bool" => "true or false",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        other if other.starts_with("struct ") => "keys with values (key: value)",
        other => other,
    }
}

fn too_much(breach: &BudgetBreach) -> String {
    match breach {
        BudgetBreach::Depth { .. } => format!("the file nests deeper than {DEPTH_MAX} levels"),
        BudgetBreach::Aliases { .. } | BudgetBreach::Anchors { .. } => {
            format!("the file has more than {LINKS_MAX} anchors (&name) or aliases (*name)")
        }
        BudgetBreach::Documents { .. } => {
            String::from("the file holds more than one document; remove the line ---")
        }
        BudgetBreach::ScalarBytes { .. } => {
            format!(
                "the file's values hold more than {} KiB",
                TEXT_BYTES_MAX >> 10
            )
        }
        _ => format!("the file holds more than {NODES_MAX} values"),
    }
}

/// What is no YAML at all: the parser's sentence, where we know none that says what to do.
fn no_yaml(said: &str) -> String {
    const KNOWN: [(&str, &str); 15] = [
        (
            "tab",
            "a tab stands where only spaces may; indent with spaces",
        ),
        ("unclosed bracket '{'", "\"{\" is never closed; add \"}\""),
        ("unclosed bracket '['", "\"[\" is never closed; add \"]\""),
        (
            "unclosed quote",
            "a quote is never closed; add the second one",
        ),
        (
            "misplaced bracket",
            "a bracket too many, or of the wrong kind",
        ),
        ("may not precede", "a blank is missing after the colon"),
        (
            "unexpected character",
            "no text may begin with this character; put it in quotes",
        ),
        (
            "parsing a flow mapping",
            "between \"{\" and \"}\" a comma is missing, or a value that holds \": \" stands without quotes",
        ),
        (
            "parsing a flow sequence",
            "between \"[\" and \"]\" a comma is missing, or a value that holds \": \" stands without quotes",
        ),
        (
            "parsing a block mapping",
            "this line is no key with a value, or is indented unlike those beside it",
        ),
        (
            "parsing a block collection",
            "this line is no item (\"- …\"), or is indented unlike those beside it",
        ),
        (
            "simple key",
            "a key without a colon after it; write key: value",
        ),
        (
            "mapping values are not allowed",
            "a colon too many in one line; a value that holds \": \" stands in quotes",
        ),
        (
            "invalid indentation",
            "this line is indented unlike those beside it",
        ),
        (
            "multiple",
            "the file holds more than one document; remove the line ---",
        ),
    ];
    let line = said.lines().next().unwrap_or(said);
    let line = line.split(" at line ").next().unwrap_or(line);
    let known = KNOWN.iter().find(|(part, _)| line.contains(part));
    known.map_or_else(
        || format!("cannot read the YAML: {line}"),
        |(_, words)| format!("cannot read the YAML: {words}"),
    )
}

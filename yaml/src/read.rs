//! From the text of a YAML file to a raw shape, or to one problem with its line and column.
//!
//! The parser is serde-saphyr with a budget for files that people write
//! (`docs/decisions/004-yaml.md`): hostile input is refused within milliseconds, before it grows.

use serde::de::DeserializeOwned;
use serde_saphyr::{Error, Location, Options};

use crate::problem::{Place, Problem, code, meant};

/// Longest file: some thousands of panels of a dashboard.
pub const FILE_BYTES_MAX: usize = 256 << 10;
/// Deepest nesting; a dashboard needs six.
const DEPTH_MAX: usize = 24;
/// Most values in one file, so that all copies made by aliases together stay small.
const NODES_MAX: usize = 40_000;
/// Most bytes of text in all values, aliases counted as often as they are used.
const TEXT_BYTES_MAX: usize = 1 << 20;

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 2 * NODES_MAX,
            max_nodes: NODES_MAX,
            max_depth: DEPTH_MAX,
            flow_nesting_limit: DEPTH_MAX,
            max_aliases: 200,
            max_anchors: 200,
            max_recorded_anchor_events: NODES_MAX,
            max_recorded_anchor_bytes: TEXT_BYTES_MAX,
            max_total_scalar_bytes: TEXT_BYTES_MAX,
            max_documents: 1,
            max_merge_keys: 200,
            max_inclusion_depth: 0,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: NODES_MAX,
            max_replay_stack_depth: 8,
            max_alias_expansions_per_anchor: 200,
        },
        with_snippet: false,
    }
}

/// Reads the text of one file into a raw shape; `file` names it in the problem.
pub fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Problem> {
    if text.len() > FILE_BYTES_MAX {
        let message = format!(
            "the file has {} KiB, more than {}; split it in two",
            text.len() >> 10,
            FILE_BYTES_MAX >> 10
        );
        return Err(Problem::new(file, Place::default(), code::FILE, message));
    }
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| problem(file, &error))
}

fn problem(file: &str, error: &Error) -> Problem {
    let error = error.without_snippet();
    let place = Place::at(error.location().unwrap_or(Location::UNKNOWN));
    let new = |code, message| Problem::new(file, place, code, message);
    match error {
        Error::AliasError { error, .. } => problem(file, error),
        Error::SerdeUnknownField {
            field, expected, ..
        } => new(code::KEY, format!("unknown key {field:?}"))
            .hint(meant(field, expected.iter().copied())),
        Error::SerdeUnknownVariant {
            variant, expected, ..
        } => new(code::VALUE, format!("{variant:?} is not known here"))
            .hint(meant(variant, expected.iter().copied())),
        Error::SerdeMissingField { field, .. } => new(code::VALUE, format!("{field:?} is missing")),
        Error::SerdeInvalidType {
            unexpected,
            expected,
            ..
        }
        | Error::SerdeInvalidValue {
            unexpected,
            expected,
            ..
        } => new(
            code::VALUE,
            format!("found {unexpected}, expected {expected}"),
        ),
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or("a key");
            new(code::TWICE, format!("{key:?} stands here twice"))
                .hint(String::from("remove or rename one"))
        }
        Error::Budget { breach, .. } => new(
            code::YAML,
            format!("the file holds more than one may ({breach:?})"),
        ),
        Error::Message { msg, .. } => new(code::VALUE, msg.clone()),
        other => new(
            code::YAML,
            format!(
                "cannot read the YAML: {}",
                without_place(&other.to_string())
            ),
        ),
    }
}

/// The first line, without the place: the problem itself says it.
fn without_place(text: &str) -> &str {
    let line = text.lines().next().unwrap_or(text);
    line.split(" at line ").next().unwrap_or(line)
}

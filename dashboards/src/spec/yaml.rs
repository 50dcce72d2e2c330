//! From the text of a YAML file to a raw shape, or to one problem with its line and column.
//!
//! The parser is serde-saphyr with a budget for files that people write
//! (`docs/decisions/004-yaml.md`): hostile input is refused within milliseconds, before it grows.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Error, Location, Options, Spanned};

use crate::problem::{Place, Problem, code, meant};

/// Longest file: some thousands of panels.
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

/// Reads one file.
pub(crate) fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Problem> {
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
            format!("the file holds more than a dashboard may ({breach:?})"),
        ),
        Error::Message { msg, .. } => new(code::VALUE, msg.clone()),
        other => new(
            code::YAML,
            format!("cannot read the YAML: {}", first_line(&other.to_string())),
        ),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or(text)
}

/// A mapping in the order it was written, with the place of every key.
#[derive(Debug, Clone)]
pub(crate) struct Entries<V>(pub(crate) Vec<(Spanned<String>, V)>);

impl<V> Default for Entries<V> {
    fn default() -> Entries<V> {
        Entries(Vec::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Entries<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entries<V>, D::Error> {
        struct InOrder<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for InOrder<V> {
            type Value = Entries<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<V>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(InOrder(PhantomData))
    }
}

/// One name, or a list of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Names(pub(crate) Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Names, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name or a list of names")
            }

            fn visit_str<E>(self, name: &str) -> Result<Names, E> {
                Ok(Names(vec![name.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = seq.next_element()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

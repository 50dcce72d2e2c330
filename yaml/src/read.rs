//! From the text of a YAML file to a raw shape, or to its problems with line and column.
//!
//! The parser is serde-saphyr with a budget for files that people write
//! (`docs/decisions/004-yaml.md`): hostile input is refused within milliseconds, before it grows. It stops
//! at the first fault; the others are found by reading again without the lines that have one.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_saphyr::{Error, Options};

use crate::fault::{self, is_of_shape};
use crate::place::{indent, key_of};
use crate::problem::{Place, Problem, code, nearest};

/// Longest file: some thousands of panels of a dashboard.
pub const FILE_BYTES_MAX: usize = 256 << 10;
/// Deepest nesting; a dashboard needs six.
pub(crate) const DEPTH_MAX: usize = 24;
/// Most values in one file, so that all copies made by aliases together stay small.
pub(crate) const NODES_MAX: usize = 40_000;
/// Most bytes of text in all values, aliases counted as often as they are used.
pub(crate) const TEXT_BYTES_MAX: usize = 1 << 20;
/// Most anchors, and most uses of them.
pub(crate) const LINKS_MAX: usize = 200;
/// How often a file with faults is read again for the next one; each costs as much as the first.
const READS_MAX: usize = 24;

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 2 * NODES_MAX,
            max_nodes: NODES_MAX,
            max_depth: DEPTH_MAX,
            flow_nesting_limit: DEPTH_MAX,
            max_aliases: LINKS_MAX,
            max_anchors: LINKS_MAX,
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

/// Reads the text of one file into a raw shape; `file` names it in the problems, of which there is one
/// at least. All faults of shape are told that stand on lines of their own, in the order of lines.
pub fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Vec<Problem>> {
    if text.len() > FILE_BYTES_MAX {
        let message = format!(
            "the file has {} KiB, more than {}; split it in two",
            text.len() >> 10,
            FILE_BYTES_MAX >> 10
        );
        let problem = Problem::new(file, Place::default(), code::FILE, message);
        return Err(vec![problem]);
    }
    parse(text).map_err(|first| faults::<T>(file, text, first))
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_saphyr::from_str_with_options(text, options())
}

/// The first fault, and those behind it.
fn faults<T: DeserializeOwned>(file: &str, text: &str, first: Error) -> Vec<Problem> {
    let mut problems = vec![fault::problem(file, text, &first)];
    if !is_of_shape(&first) {
        return problems;
    }
    let mut left = Left::of(text);
    let mut error = first;
    for _ in 0..READS_MAX {
        let is_of_all = fault::missing(&error).is_some() && fault::place(&error).column <= 1;
        if is_of_all || !left.without(fault::place(&error)) {
            break;
        }
        match parse::<T>(&left.lines.join("\n")) {
            Ok(_) => break,
            Err(next) => error = next,
        }
        // What is no YAML is told below, by the whole text.
        if !is_of_shape(&error) {
            break;
        }
        if !left.brought_about(&error) {
            problems.push(fault::problem(file, text, &error));
        }
    }
    if let Err(broken) = parse::<IgnoredAny>(text)
        && !is_of_shape(&broken)
    {
        let broken = fault::problem(file, text, &broken);
        problems.retain(|problem| problem.line != broken.line);
        problems.push(broken);
    }
    problems.sort();
    problems.dedup();
    problems
}

/// A text without some of its lines, whose places stay as they were.
struct Left<'a> {
    text: Vec<&'a str>,
    lines: Vec<&'a str>,
    /// The keys of lines that are gone, each with its line from 0.
    keys: Vec<(usize, &'a str)>,
}

impl<'a> Left<'a> {
    fn of(text: &'a str) -> Left<'a> {
        let lines: Vec<&str> = text.lines().collect();
        Left {
            text: lines.clone(),
            lines,
            keys: Vec::new(),
        }
    }

    /// Takes away the line of a place with all that is indented below it; whether there was one.
    fn without(&mut self, place: Place) -> bool {
        let at = usize::try_from(place.line).ok();
        let Some(at) = at.and_then(|line| line.checked_sub(1)) else {
            return false;
        };
        // A whole file of another shape is one fault.
        let is_within = |line: &&str| !line.is_empty() && !line.starts_with(['-', '{', '[']);
        if self.lines.get(at).filter(|line| is_within(line)).is_none() {
            return false;
        }
        for line in at..self.block_end(at) {
            let key = key_of(self.lines[line].trim());
            self.keys.extend(key.map(|(key, _)| (line, key)));
            self.lines[line] = "";
        }
        true
    }

    /// Where the lines end that are indented below a line.
    fn block_end(&self, at: usize) -> usize {
        let own = indent(self.text[at]);
        let rest = self.text[at + 1..].iter();
        let below = rest.take_while(|line| line.trim().is_empty() || indent(line) > own);
        at + 1 + below.count()
    }

    /// Whether two lines are keys of one mapping.
    fn are_beside(&self, a: usize, b: usize) -> bool {
        let own = indent(self.text[a]);
        let mut between = self.text[a.min(b)..=a.max(b)].iter();
        indent(self.text[b]) == own
            && between.all(|line| line.trim().is_empty() || indent(line) >= own)
    }

    /// Whether an error is there only because of what was taken away.
    fn brought_about(&self, error: &Error) -> bool {
        let place = fault::place(error);
        let at = usize::try_from(place.line).unwrap_or_default();
        let at = at.saturating_sub(1);
        if at >= self.text.len() {
            return true;
        }
        if let Some(key) = fault::missing(error) {
            // Also where it is there, mistyped.
            let is_meant = |gone: &str| nearest(gone, std::iter::once(key)).is_some();
            let mut gone = self.keys.iter();
            return gone.any(|(line, gone)| is_meant(gone) && self.are_beside(*line, at));
        }
        let below = at + 1..self.block_end(at);
        below
            .into_iter()
            .any(|line| self.lines[line] != self.text[line])
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::{Entries, Spanned};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only whether it can be read matters")]
    struct Shape {
        name: Spanned<String>,
        parts: Entries<Part>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only whether it can be read matters")]
    struct Part {
        size: u32,
        color: Option<String>,
    }

    fn said(text: &str) -> Vec<String> {
        match read::<Shape>("it.yaml", text) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(Problem::to_string).collect(),
        }
    }

    #[test]
    fn all_faults_of_shape_are_told_at_once() {
        let text = "name: [a]\nparts:\n  a: {size: -1}\n  b:\n    size: 2\n    colour: red\n  c:\n    size: many\n  d: {color: x}\n";
        assert_eq!(
            said(text),
            [
                "it.yaml:1:7: \"name\": found a list, expected text",
                "it.yaml:3:13: \"size\": found -1, expected a whole number, 0 or more",
                "it.yaml:6:5: unknown key \"colour\"; did you mean \"color\"?",
                "it.yaml:8:11: \"size\": found \"many\", expected a whole number, 0 or more",
                "it.yaml:9:7: \"size\" is missing",
            ]
        );
    }

    /// What follows from a fault that was told is not told.
    #[test]
    fn no_fault_brings_another_one_with_it() {
        assert_eq!(
            said("name: a\nparts:\n  a: {size: x}\n"),
            ["it.yaml:3:13: \"size\": found \"x\", expected a whole number, 0 or more"]
        );
        assert_eq!(
            said("nmae: a\nparts: {}\n"),
            ["it.yaml:1:1: unknown key \"nmae\"; did you mean \"name\"?",]
        );
        assert_eq!(
            said("name: {\n"),
            ["it.yaml:1:7: cannot read the YAML: \"{\" is never closed; add \"}\""]
        );
        assert_eq!(said(""), ["it.yaml:1:1: the file is empty"]);
    }
}

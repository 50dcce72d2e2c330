//! One setting after another: from what was written to a number within its bounds, or a problem.
//!
//! A [`Bound`] says what a setting is, how small and large it may be, and why. The [`Resolver`]
//! remembers each setting with its origin for `serin config explain`, and every problem, so that
//! all of them are told at once. A setting with a problem goes on as its default; nobody sees it.

use serde::Serialize;
use serin_yaml::{Problem, Spanned, code};

use super::FILE;
use super::raw::{Switch, Written};

/// A setting: its name, its unit, its bounds with their reasons.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) least: (u64, &'static str),
    pub(super) most: (u64, &'static str),
    pub(super) what: &'static str,
}

/// A setting as it is in force.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Entry {
    pub(crate) setting: String,
    /// A number, true or false; null where there is no limit.
    pub(crate) value: serde_json::Value,
    pub(crate) unit: &'static str,
    /// `default`, or `serin.yaml:LINE`.
    pub(crate) origin: String,
    pub(crate) bounds: &'static str,
    /// The least and the most it may be; absent where it is true or false.
    #[serde(skip)]
    pub(crate) within: Option<(u64, u64)>,
}

#[derive(Debug, Default)]
pub(super) struct Resolver {
    entries: Vec<Entry>,
    problems: Vec<Problem>,
}

impl Resolver {
    /// What was written if it is within its bounds, else the default.
    pub(super) fn number(&mut self, bound: Bound, raw: Option<&Written>, default: u64) -> u64 {
        self.optional(bound, raw, Some(default)).unwrap_or(default)
    }

    /// The same for a limit that need not be there.
    pub(super) fn optional(
        &mut self,
        bound: Bound,
        raw: Option<&Written>,
        default: Option<u64>,
    ) -> Option<u64> {
        self.named(bound.name.to_owned(), bound, raw, default)
    }

    /// The same for one table.
    pub(super) fn of_table(
        &mut self,
        bound: Bound,
        table: &str,
        raw: Option<&Written>,
        default: Option<u64>,
    ) -> Option<u64> {
        if let (Some(raw), Err(error)) = (raw, serin_wire::name::check_any_type(table)) {
            self.problem(raw, format!("{}: {error}", bound.name));
        }
        self.named(format!("{}.{table}", bound.name), bound, raw, default)
    }

    fn named(
        &mut self,
        setting: String,
        bound: Bound,
        raw: Option<&Written>,
        default: Option<u64>,
    ) -> Option<u64> {
        let mut value = default;
        if let Some(raw) = raw {
            let (least, most) = (bound.least, bound.most);
            match u64::try_from(raw.value) {
                Ok(number) if number > most.0 => self.problem(
                    raw,
                    format!(
                        "{setting} is {number}, must be at most {} ({})",
                        most.0, most.1
                    ),
                ),
                Ok(number) if number >= least.0 => value = Some(number),
                _ => self.problem(
                    raw,
                    format!(
                        "{setting} is {}, must be at least {} ({})",
                        raw.value, least.0, least.1
                    ),
                ),
            }
        }
        self.entries.push(Entry {
            setting,
            value: value.into(),
            unit: bound.unit,
            origin: origin(raw),
            bounds: bound.what,
            within: Some((bound.least.0, bound.most.0)),
        });
        value
    }

    /// Yes or no; no unless it was written.
    pub(super) fn switch(
        &mut self,
        setting: &str,
        raw: Option<&Switch>,
        what: &'static str,
    ) -> bool {
        let value = raw.is_some_and(|raw| raw.value);
        self.entries.push(Entry {
            setting: setting.to_owned(),
            value: value.into(),
            unit: "",
            origin: origin(raw),
            bounds: what,
            within: None,
        });
        value
    }

    /// Tells a problem with something written.
    pub(super) fn problem(&mut self, raw: &Written, message: String) {
        self.problems.push(Problem {
            file: FILE.to_owned(),
            line: raw.referenced.line(),
            column: raw.referenced.column(),
            code: code::VALUE,
            message,
            hint: None,
            is_warning: false,
        });
    }

    /// Every setting, or every problem in the order of the lines.
    pub(super) fn finish(mut self) -> Result<Vec<Entry>, Vec<Problem>> {
        self.problems.sort();
        match self.problems.is_empty() {
            true => Ok(self.entries),
            false => Err(self.problems),
        }
    }
}

/// Where a setting comes from.
fn origin<T>(raw: Option<&Spanned<T>>) -> String {
    raw.map_or_else(
        || String::from("default"),
        |raw| format!("{FILE}:{}", raw.referenced.line()),
    )
}

/// So many MiB in bytes; the bounds keep it far below the end of numbers.
pub(super) fn mib(number: u64) -> usize {
    usize::try_from(number << 20).unwrap_or(usize::MAX)
}

/// So many KiB in bytes.
pub(super) fn kib(number: u64) -> usize {
    usize::try_from(number << 10).unwrap_or(usize::MAX)
}

/// A number of things.
pub(super) fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

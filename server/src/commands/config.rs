//! `serin config explain`: every setting with value, unit, origin and what it bounds.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::Value;

use super::print;
use crate::cli::{Config, ConfigCommand, Global};
use crate::settings::{self, Entry, Settings};
use crate::table::Table;

pub(crate) fn run(global: &Global, config: &Config) -> Result<ExitCode> {
    let ConfigCommand::Explain { dir } = &config.command;
    if !dir.is_dir() {
        anyhow::bail!("{} is not a folder", dir.display());
    }
    let settings = Settings::load(dir).map_err(settings::in_words)?;
    match global.json {
        true => print(&serde_json::to_string(&settings.entries)?),
        false => print(explain(&settings.entries).trim_end()),
    }
    Ok(ExitCode::SUCCESS)
}

/// The settings as a table.
pub(crate) fn explain(entries: &[Entry]) -> String {
    let mut table = Table::new([
        ("setting", false),
        ("value", true),
        ("unit", false),
        ("origin", false),
        ("what it bounds", false),
    ]);
    for entry in entries {
        table.push([
            entry.setting.clone(),
            match &entry.value {
                Value::Null => String::from("none"),
                value => value.to_string(),
            },
            entry.unit.to_owned(),
            entry.origin.clone(),
            entry.bounds.to_owned(),
        ]);
    }
    table.to_text()
}

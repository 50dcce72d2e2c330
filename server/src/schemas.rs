//! JSON Schemas of the files people write, for their editors: printed by `serin schema`, served under
//! `/schema/`, and laid into `.serin/schema`, where files find them without a network.
//!
//! Those of dashboards and services stand beside their parsers, that of the settings is made from
//! their bounds; tests hold each against what its parser knows. Start at [`ALL`].

use std::fs;
use std::io;
use std::path::Path;

use crate::settings;

/// A schema.
pub(crate) struct Schema {
    /// As in `serin schema NAME`.
    pub(crate) name: &'static str,
    /// Which files it is of.
    pub(crate) files: &'static str,
    text: fn() -> String,
}

/// All of them.
pub(crate) const ALL: [Schema; 4] = [
    Schema {
        name: "kpis",
        files: "kpis/*.yaml",
        text: || serin_dashboards::schema::KPIS.to_owned(),
    },
    Schema {
        name: "dashboard",
        files: "dashboards/*.yaml",
        text: || serin_dashboards::schema::DASHBOARD.to_owned(),
    },
    Schema {
        name: "service",
        files: "services/*/service.yaml",
        text: || serin_control::service::SCHEMA.to_owned(),
    },
    Schema {
        name: "serin",
        files: settings::FILE,
        text: settings::schema,
    },
];

/// The folder of schemas under `.serin`.
const FOLDER: &str = "schema";

impl Schema {
    /// Itself.
    pub(crate) fn text(&self) -> String {
        (self.text)()
    }
}

/// The schema of a name.
pub(crate) fn find(name: &str) -> Option<&'static Schema> {
    ALL.iter().find(|schema| schema.name == name)
}

/// Lays the schemas of this version under `.serin`.
pub(crate) fn write(data: &Path) -> io::Result<()> {
    let folder = data.join(FOLDER);
    fs::create_dir_all(&folder)?;
    for schema in &ALL {
        let (file, text) = (folder.join(format!("{}.json", schema.name)), schema.text());
        // Editors watch their schemas.
        if fs::read_to_string(&file).is_ok_and(|there| there == text) {
            continue;
        }
        fs::write(file, text)?;
    }
    Ok(())
}

/// The line by which an editor finds the schema of a file so many folders below the project's.
pub(crate) fn line(name: &str, below: usize) -> String {
    let up = "../".repeat(below);
    format!("# yaml-language-server: $schema={up}.serin/{FOLDER}/{name}.json\n")
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod valid;

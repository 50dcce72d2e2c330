//! `serin schema`: what editors are told of the files people write.

use anyhow::{Result, anyhow};

use super::print;
use crate::cli::Schema;
use crate::schemas;
use crate::table::Table;

pub(crate) fn run(asked: &Schema) -> Result<()> {
    let Some(name) = &asked.name else {
        let mut table = Table::new([("schema", false), ("of", false)]);
        for schema in &schemas::ALL {
            table.push([schema.name.to_owned(), schema.files.to_owned()]);
        }
        print(table.to_text().trim_end());
        return Ok(());
    };
    let schema = schemas::find(name).ok_or_else(|| {
        let names = schemas::ALL.iter().map(|schema| schema.name);
        anyhow!(
            "there is no schema {name:?}; {}",
            serin_yaml::meant(name, names)
        )
    })?;
    print(schema.text().trim_end());
    Ok(())
}

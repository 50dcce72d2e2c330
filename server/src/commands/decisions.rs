//! `serin decisions`: what was decided and why, newest first.

use anyhow::Result;
use serde_json::Value;

use super::{print, remark, write_out};
use crate::cli::{Decisions, Global};
use crate::client::Client;
use crate::table::{self, Table};

pub(crate) async fn run(global: &Global, asked: &Decisions) -> Result<()> {
    let client = Client::find(global)?;
    let mut query = vec![("limit", asked.limit.to_string())];
    if let Some(name) = &asked.name {
        query.push(("name", name.clone()));
    }
    let decisions: Vec<Value> = client.get("/api/v1/decisions", &query).await?;
    if global.json {
        print(&Value::from(decisions).to_string());
        return Ok(());
    }
    if decisions.is_empty() {
        remark(&match &asked.name {
            Some(name) => format!("nothing was decided about {name:?} yet"),
            None => String::from(
                "nothing was decided yet; deploys are decisions, and rules: in kpis/*.yaml say what is watched",
            ),
        });
        return Ok(());
    }
    let columns = [
        ("time", false),
        ("rule", false),
        ("action", false),
        ("subject", false),
        ("kpi", false),
        ("value", true),
        ("bound", true),
        ("why", false),
    ];
    let mut table = Table::new(columns);
    for decision in &decisions {
        table.push(columns.map(|(name, _)| table::cell(&decision[name])));
    }
    write_out(table.to_text().as_bytes());
    Ok(())
}

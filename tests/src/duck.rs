//! Asks DuckDB about a Serin folder: a second reader that knows nothing of us.

use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::place;

/// The rows of a statement over the catalogue, which is attached as `lake`.
pub fn query(catalogue: &str, sql: &str) -> Result<Vec<Vec<Value>>> {
    let script = place::repository().join("tests/duck/ask.py");
    let output = place::python()
        .arg(script)
        .args([catalogue, sql])
        .stdin(Stdio::null())
        .output()
        .context("cannot start Python")?;
    if !output.status.success() {
        bail!(
            "DuckDB says: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    serde_json::from_slice(&output.stdout).context("ask.py prints an array of rows")
}

/// The one number a statement answers.
pub fn number(catalogue: &str, sql: &str) -> Result<i64> {
    let rows = query(catalogue, sql)?;
    let number = rows
        .first()
        .and_then(|row| row.first())
        .and_then(Value::as_i64);
    number.with_context(|| format!("no number from {sql}: {rows:?}"))
}

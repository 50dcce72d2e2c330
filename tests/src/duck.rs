//! Asks DuckDB about a Serin folder: a second reader that knows nothing of us.

use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::place;

/// What DuckDB says of a table that comes while it reads the catalogue: it opens the file anew for each
/// table of it, and so may find the totals of our table and, a moment before, none of its columns.
const TORN: &str = "Calling GetValueInternal on a value that is NULL";
const TRIES: u32 = 3;

/// The rows of a statement over the catalogue, which is attached as `lake`.
pub fn query(catalogue: &str, sql: &str) -> Result<Vec<Vec<Value>>> {
    let script = place::repository().join("tests/duck/ask.py");
    let mut round = 1;
    loop {
        let output = place::python()
            .arg(&script)
            .args([catalogue, sql])
            .stdin(Stdio::null())
            .output()
            .context("cannot start Python")?;
        if output.status.success() {
            return serde_json::from_slice(&output.stdout)
                .context("ask.py prints an array of rows");
        }
        let said = String::from_utf8_lossy(&output.stderr);
        if round == TRIES || !said.contains(TORN) {
            bail!("DuckDB says: {}", said.trim());
        }
        println!("DuckDB read a catalogue of two moments, and is asked again");
        round += 1;
    }
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

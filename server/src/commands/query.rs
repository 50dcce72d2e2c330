//! `serin query`: a statement, its answer as a table, JSON, CSV or Arrow.

use std::io::IsTerminal;

use anyhow::{Result, bail};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{print, remark, write_out};
use crate::cli::{Format, Global, Query, RangeArgs};
use crate::client::Client;
use crate::table::{self, Table};

#[derive(Deserialize)]
struct Answer {
    columns: Vec<Column>,
    rows: Vec<Vec<Value>>,
    #[serde(default)]
    truncated: bool,
    watermark: Option<String>,
}

#[derive(Deserialize)]
struct Column {
    name: String,
    #[serde(rename = "type")]
    kind: String,
}

pub(crate) async fn run(global: &Global, query: &Query) -> Result<()> {
    let format = format_of(global, query.format);
    let (from, to) = range_of(&query.range);
    let client = Client::find(global)?;
    let accept = match format {
        Format::Csv => "text/csv",
        Format::Arrow => "application/vnd.apache.arrow.stream",
        Format::Table | Format::Json => "application/json",
    };
    let request = client
        .request(Method::POST, "/api/v1/query")
        .header("accept", accept)
        .json(&json!({"sql": query.sql, "from": from, "to": to}));
    match format {
        Format::Csv | Format::Arrow => {
            let answer = client.send(request).await?;
            remark_cut(answer.headers().contains_key("serin-truncated"));
            write_out(&answer.bytes().await?);
        }
        Format::Json => {
            let answer: Answer = client.json(request).await?;
            remark_cut(answer.truncated);
            print(&objects(&answer));
        }
        Format::Table => {
            let answer: Answer = client.json(request).await?;
            remark_cut(answer.truncated);
            write_out(shown(&answer).as_bytes());
            if let Some(watermark) = answer.watermark
                && std::io::stderr().is_terminal()
            {
                remark(&format!("complete up to {watermark}"));
            }
        }
    }
    Ok(())
}

/// `--json` is `--format json`; on its own, a table.
pub(crate) fn format_of(global: &Global, format: Option<Format>) -> Format {
    match format {
        Some(format) => format,
        None if global.json => Format::Json,
        None => Format::Table,
    }
}

/// What the API calls the range, where one is given.
pub(crate) fn range_of(range: &RangeArgs) -> (Option<String>, Option<String>) {
    match &range.last {
        Some(span) => (Some(format!("now-{span}")), Some(String::from("now"))),
        None => (range.from.clone(), range.to.clone()),
    }
}

fn remark_cut(is_truncated: bool) {
    if is_truncated {
        remark("note: rows were cut off at the limit query.rows_max; ask for fewer with LIMIT");
    }
}

/// One array of row objects, their members in the order of the columns.
fn objects(answer: &Answer) -> String {
    let names = answer.columns.iter().map(|column| json!(column.name));
    let names: Vec<String> = names.map(|name| name.to_string()).collect();
    let rows = answer.rows.iter().map(|row| {
        let members = names.iter().zip(row);
        let members: Vec<String> = members
            .map(|(name, value)| format!("{name}:{value}"))
            .collect();
        format!("{{{}}}", members.join(","))
    });
    format!("[{}]", rows.collect::<Vec<_>>().join(","))
}

fn shown(answer: &Answer) -> String {
    let mut table = Table::new(answer.columns.iter().map(|column| {
        let is_number = matches!(column.kind.as_str(), "int" | "double");
        (column.name.as_str(), is_number)
    }));
    for row in &answer.rows {
        table.push(row.iter().map(table::cell));
    }
    table.to_text()
}

/// The bytes of a download, or what the server says against it.
pub(crate) async fn download(
    client: &Client,
    path: &str,
    query: &[(&str, String)],
) -> Result<Vec<u8>> {
    let answer = client
        .send(client.request(Method::GET, path).query(query))
        .await?;
    let bytes = answer.bytes().await?;
    if bytes.is_empty() {
        bail!("the server's answer to {path} is empty");
    }
    Ok(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_objects_in_the_order_of_the_columns() {
        let answer = Answer {
            columns: vec![
                Column {
                    name: "b".into(),
                    kind: "int".into(),
                },
                Column {
                    name: "a\"".into(),
                    kind: "text".into(),
                },
            ],
            rows: vec![vec![json!(1), json!("x")], vec![Value::Null, json!("y")]],
            truncated: false,
            watermark: None,
        };
        let printed = r#"[{"b":1,"a\"":"x"},{"b":null,"a\"":"y"}]"#;
        assert_eq!(objects(&answer), printed);
    }
}

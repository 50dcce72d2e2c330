//! Statements of our own over the tables of telemetry: conditions, values quoted, rows as objects.
//!
//! Values of a request become text literals here and nowhere else. A table that does not exist yet
//! has no rows; that is no error. Start at [`Conditions`] and [`ask`].

use std::sync::Arc;

use serde_json::{Map, Value};
use serin_lake::Snapshot;
use serin_query::{Range, SqlAnswer, render};

use super::App;
use super::error::ApiError;

/// A row by the names of its columns.
pub(crate) type Row = Map<String, Value>;

/// What rows must fulfil, all of it; begins with the range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conditions(Vec<String>);

impl Conditions {
    /// Within the range of the statement.
    pub(crate) fn within_range() -> Conditions {
        Conditions(vec![String::from("$__range")])
    }

    /// And also this.
    pub(crate) fn and(&mut self, condition: impl Into<String>) {
        self.0.push(condition.into());
    }

    /// And the column has this value, where one is asked for.
    pub(crate) fn and_is(&mut self, column: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.and(format!("{column} = {}", literal(value)));
        }
    }

    /// And the column holds this text in upper or lower case, where one is asked for.
    pub(crate) fn and_holds(&mut self, column: &str, text: Option<&str>) {
        if let Some(text) = text {
            let text = literal(&text.to_lowercase());
            self.and(format!("strpos(lower({column}), {text}) > 0"));
        }
    }
}

impl std::fmt::Display for Conditions {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0.join(" AND "))
    }
}

/// A text as a literal of SQL.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A moment as a value of SQL.
pub(crate) fn moment(time_us: i64) -> String {
    format!("to_timestamp_micros({time_us})")
}

/// The rows of a statement over this table. Pages look again and again: they wait with panels,
/// apart from what people ask.
pub(crate) async fn ask(
    app: &App,
    snapshot: &Arc<Snapshot>,
    table: &str,
    sql: &str,
    range: Range,
) -> Result<Vec<Row>, ApiError> {
    if !snapshot.tables.contains_key(table) {
        return Ok(Vec::new());
    }
    let answer = Box::pin(app.engine.panel_sql(snapshot, sql, range)).await?;
    Ok(rows(&answer))
}

fn rows(answer: &SqlAnswer) -> Vec<Row> {
    let Value::Array(rows) = render::json_objects(answer) else {
        return Vec::new();
    };
    let objects = rows.into_iter().filter_map(|row| match row {
        Value::Object(row) => Some(row),
        _ => None,
    });
    objects.collect()
}

/// Columns `<prefix>_<name>` become one object of those that have a value; without columns of their
/// own they are in the text `more`.
pub(crate) fn gather(row: &mut Row, prefix: &str) {
    let mut gathered = match row.remove("more") {
        Some(Value::String(text)) => serde_json::from_str::<Row>(&text).unwrap_or_default(),
        _ => Row::new(),
    };
    let names: Vec<String> = row.keys().cloned().collect();
    for name in names {
        let short = name
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_prefix('_'));
        if let Some(short) = short
            && let Some(value) = row.remove(&name)
            && !value.is_null()
        {
            gathered.insert(short.to_owned(), value);
        }
    }
    row.insert(prefix.to_owned(), Value::Object(gathered));
}

/// A parameter that says something.
pub(crate) fn given(parameter: &Option<String>) -> Option<&str> {
    parameter.as_deref().filter(|text| !text.is_empty())
}

/// The text of a column.
pub(crate) fn text<'a>(row: &'a Row, column: &str) -> &'a str {
    row.get(column).and_then(Value::as_str).unwrap_or_default()
}

/// The count in a column.
pub(crate) fn count(row: &Row, column: &str) -> u64 {
    row.get(column).and_then(Value::as_u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_cannot_break_out_of_its_quotes() {
        let mut conditions = Conditions::within_range();
        conditions.and_is("service", Some("it's"));
        conditions.and_is("instance", None);
        conditions.and_holds("message", Some("50%' OR 1=1"));
        assert_eq!(
            conditions.to_string(),
            "$__range AND service = 'it''s' AND strpos(lower(message), '50%'' or 1=1') > 0"
        );
    }

    #[test]
    fn columns_of_a_kind_become_one_object() {
        let row = json!({"name": "pay", "attributes_kind": "client", "attributes_x": null, "more": "{\"y\":1}"});
        let Value::Object(mut row) = row else { return };
        gather(&mut row, "attributes");
        assert_eq!(
            Value::Object(row),
            json!({"name": "pay", "attributes": {"kind": "client", "y": 1}})
        );
    }
}

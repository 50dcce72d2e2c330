//! Answers as text: JSON, CSV and Arrow IPC.
//!
//! Times are RFC 3339 in UTC; numbers that JSON cannot hold (not a number, infinities) are null.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::{Map, Value, json};

use crate::calendar::rfc3339;
use crate::engine::SqlAnswer;

/// One cell as JSON.
fn cell(column: &dyn Array, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Boolean => json!(column.as_boolean().value(row)),
        DataType::Int8 => json!(column.as_primitive::<Int8Type>().value(row)),
        DataType::Int16 => json!(column.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => json!(column.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => json!(column.as_primitive::<Int64Type>().value(row)),
        DataType::UInt8 => json!(column.as_primitive::<UInt8Type>().value(row)),
        DataType::UInt16 => json!(column.as_primitive::<UInt16Type>().value(row)),
        DataType::UInt32 => json!(column.as_primitive::<UInt32Type>().value(row)),
        DataType::UInt64 => json!(column.as_primitive::<UInt64Type>().value(row)),
        DataType::Float32 => json!(column.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => json!(column.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => json!(column.as_string::<i32>().value(row)),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            json!(rfc3339(
                column.as_primitive::<TimestampMicrosecondType>().value(row)
            ))
        }
        DataType::Timestamp(..) => {
            let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
            arrow::compute::cast(&column.slice(row, 1), &micros)
                .map_or(Value::Null, |time| cell(&time, 0))
        }
        _ => ArrayFormatter::try_new(column, &FormatOptions::default())
            .map_or(Value::Null, |shown| json!(shown.value(row).to_string())),
    }
}

/// An array of row objects, as `serin query --format json` prints it.
pub fn json_objects(answer: &SqlAnswer) -> Value {
    let mut rows = Vec::new();
    for batch in &answer.batches {
        for row in 0..batch.num_rows() {
            let mut object = Map::new();
            for (field, column) in answer.schema.fields().iter().zip(batch.columns()) {
                object.insert(field.name().clone(), cell(column, row));
            }
            rows.push(Value::Object(object));
        }
    }
    Value::Array(rows)
}

/// `{columns: [{name, type}], rows: [[…]], watermark, served_from}`, as the API answers.
pub fn json_table(answer: &SqlAnswer) -> Value {
    let columns: Vec<Value> = answer
        .schema
        .fields()
        .iter()
        .map(|field| json!({"name": field.name(), "type": type_name(field.data_type())}))
        .collect();
    let rows: Vec<Value> = answer.batches.iter().flat_map(rows).collect();
    json!({
        "columns": columns,
        "rows": rows,
        "truncated": answer.is_truncated,
        "watermark": answer.watermark_us.map(rfc3339),
        "served_from": "raw",
    })
}

fn rows(batch: &RecordBatch) -> impl Iterator<Item = Value> + '_ {
    (0..batch.num_rows()).map(|row| {
        batch
            .columns()
            .iter()
            .map(|column| cell(column, row))
            .collect::<Value>()
    })
}

/// A column's type in the words of the API.
fn type_name(kind: &DataType) -> &'static str {
    match kind {
        DataType::Boolean => "bool",
        kind if kind.is_integer() => "int",
        kind if kind.is_numeric() => "double",
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => "time",
        _ => "text",
    }
}

/// Comma-separated values with a header; a null is an empty field.
pub fn csv(answer: &SqlAnswer) -> String {
    let names = answer
        .schema
        .fields()
        .iter()
        .map(|field| quoted(field.name()));
    let mut text = names.collect::<Vec<_>>().join(",");
    text.push('\n');
    for batch in &answer.batches {
        for row in 0..batch.num_rows() {
            let cells = batch
                .columns()
                .iter()
                .map(|column| match cell(column, row) {
                    Value::Null => String::new(),
                    Value::String(text) => quoted(&text),
                    other => other.to_string(),
                });
            text.push_str(&cells.collect::<Vec<_>>().join(","));
            text.push('\n');
        }
    }
    text
}

/// Quotes a field where RFC 4180 wants it; an empty text is quoted so that it is not a null.
fn quoted(text: &str) -> String {
    let is_plain = !text.is_empty() && !text.contains(['"', ',', '\n', '\r']);
    if is_plain {
        text.to_owned()
    } else {
        format!("\"{}\"", text.replace('"', "\"\""))
    }
}

/// An Arrow IPC stream.
pub fn arrow_ipc(answer: &SqlAnswer) -> Result<Vec<u8>, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), &answer.schema)?;
    for batch in &answer.batches {
        writer.write(batch)?;
    }
    writer.into_inner()
}

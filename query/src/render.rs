//! Answers as text: JSON, CSV and Arrow IPC.
//!
//! Times are RFC 3339 in UTC; numbers that JSON cannot hold (not a number, infinities) are null.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema,
    SchemaRef, TimeUnit, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::{Map, Value, json};

use crate::calendar::rfc3339;
use crate::engine::SqlAnswer;

/// One cell as JSON.
pub(crate) fn cell(column: &dyn Array, row: usize) -> Value {
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
        kind if kind.is_numeric() => {
            arrow::compute::cast(&column.slice(row, 1), &DataType::Float64)
                .map_or(Value::Null, |number| cell(&number, 0))
        }
        _ => as_text(column, row),
    }
}

fn as_text(column: &dyn Array, row: usize) -> Value {
    ArrayFormatter::try_new(column, &FormatOptions::default())
        .map_or(Value::Null, |shown| json!(shown.value(row).to_string()))
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

/// The names and types of an answer's columns, in the words of the API.
pub fn columns(answer: &SqlAnswer) -> Vec<(String, &'static str)> {
    let fields = answer.schema.fields().iter();
    fields
        .map(|field| (field.name().clone(), type_name(field.data_type())))
        .collect()
}

/// The rows of an answer, made one after the other: as JSON they are many times as large.
pub fn rows(answer: &SqlAnswer) -> impl Iterator<Item = Vec<Value>> + '_ {
    answer.batches.iter().flat_map(|batch| {
        (0..batch.num_rows()).map(|row| {
            let columns = batch.columns().iter();
            columns.map(|column| cell(column, row)).collect()
        })
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
    let mut text = csv_head(&answer.schema);
    for batch in &answer.batches {
        (0..batch.num_rows()).for_each(|row| csv_row(batch, row, &mut text));
    }
    text
}

pub(crate) fn csv_head(schema: &Schema) -> String {
    let names = schema.fields().iter().map(|field| csv_field(field.name()));
    let mut text = names.collect::<Vec<_>>().join(",");
    text.push('\n');
    text
}

pub(crate) fn csv_row(batch: &RecordBatch, row: usize, text: &mut String) {
    for (index, column) in batch.columns().iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        let value = match column.data_type() {
            // Unlike JSON, text has room for all digits.
            kind if kind.is_decimal() && column.is_valid(row) => as_text(column, row),
            _ => cell(column, row),
        };
        match value {
            Value::Null => {}
            Value::String(value) => text.push_str(&csv_field(&value)),
            other => text.push_str(&other.to_string()),
        }
    }
    text.push('\n');
}

/// A text as a field: quoted where RFC 4180 wants it; an empty one too, so that it is not a null.
pub fn csv_field(text: &str) -> String {
    let is_plain = !text.is_empty() && !text.contains(['"', ',', '\n', '\r']);
    if is_plain {
        text.to_owned()
    } else {
        format!("\"{}\"", text.replace('"', "\"\""))
    }
}

/// The key of an Arrow schema under which stands up to when the data are complete, RFC 3339.
pub const ARROW_WATERMARK: &str = "serin.watermark";
/// The key of an Arrow schema that is there, and `true`, where rows were cut off.
pub const ARROW_TRUNCATED: &str = "serin.truncated";

/// The schema of an answer, with what is known of it beside its rows.
pub(crate) fn told_schema(answer: &SqlAnswer) -> SchemaRef {
    let mut schema = Schema::clone(&answer.schema);
    if let Some(watermark_us) = answer.watermark_us {
        let metadata = &mut schema.metadata;
        metadata.insert(ARROW_WATERMARK.to_owned(), rfc3339(watermark_us));
    }
    if answer.is_truncated {
        schema
            .metadata
            .insert(ARROW_TRUNCATED.to_owned(), String::from("true"));
    }
    Arc::new(schema)
}

/// An Arrow IPC stream.
pub fn arrow_ipc(answer: &SqlAnswer) -> Result<Vec<u8>, ArrowError> {
    let schema = told_schema(answer);
    let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
    for batch in &answer.batches {
        writer.write(batch)?;
    }
    writer.into_inner()
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Decimal128Array};

    use super::*;

    #[test]
    fn a_decimal_is_a_number_in_json_and_has_all_its_digits_in_csv() {
        let cents = Decimal128Array::from(vec![Some(1250), None, Some(-7)]);
        let cents = cents.with_precision_and_scale(12, 2).unwrap();
        let column: ArrayRef = Arc::new(cents);
        let batch = RecordBatch::try_from_iter([("amount", column)]).unwrap();
        let answer = SqlAnswer {
            schema: batch.schema(),
            batches: vec![batch],
            watermark_us: None,
            is_truncated: false,
        };
        assert_eq!(columns(&answer), [("amount".to_owned(), "double")]);
        let cells: Vec<Value> = rows(&answer).flatten().collect();
        assert_eq!(cells, [json!(12.5), Value::Null, json!(-0.07)]);
        assert_eq!(csv(&answer), "amount\n12.50\n\n-0.07\n");
    }
}

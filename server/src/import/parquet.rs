//! Parquet files, a batch at a time; each value becomes one that an event can have.
//!
//! Integers and decimals without a fraction stay exact, others become doubles; structures become
//! nested objects, which the lake flattens, and lists become arrays, which it keeps as JSON text.
//! Nothing becomes null that was not.

use std::borrow::Cow;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType, UInt64Type,
};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value};

use super::records::{Cell, Data, Head, Record, Take};
use super::source::Progress;
use super::time;
use super::time_column::TimeColumn;

const BATCH_ROWS: usize = 4_096;

pub(crate) fn read(
    path: &Path,
    time_column: TimeColumn<'_>,
    progress: &Progress,
    take: &mut Take<'_>,
) -> Result<()> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let builder =
        ParquetRecordBatchReaderBuilder::try_new(file).context("it is no whole Parquet file")?;
    let rows = builder.metadata().file_metadata().num_rows().max(1) as u64;
    let reader = builder.with_batch_size(BATCH_ROWS).build()?;
    let mut finder = time::Finder::new(time_column);
    let mut row = 0;
    for batch in reader {
        let batch = batch.context("it is damaged")?;
        if let Some(column) = time_column.asked()
            && batch.column_by_name(column).is_none()
        {
            bail!("there is no column {column:?}");
        }
        let columns = columns(&batch)?;
        for at in 0..batch.num_rows() {
            row += 1;
            take(row, record(&columns, at, &mut finder))?;
        }
        // Columns are read out of order, so rows tell how far we are.
        progress.set(u64::try_from(
            u128::from(bytes) * u128::from(row) / u128::from(rows),
        )?);
    }
    Ok(())
}

/// A column as one of the kinds an event can have.
struct Typed {
    name: String,
    values: ArrayRef,
}

fn columns(batch: &RecordBatch) -> Result<Vec<Typed>> {
    let schema = batch.schema();
    let fields = schema.fields().iter().zip(batch.columns());
    let typed = fields.map(|(field, values)| {
        let values =
            typed(values).with_context(|| format!("cannot read the column {:?}", field.name()))?;
        Ok(Typed {
            name: field.name().clone(),
            values,
        })
    });
    typed.collect()
}

/// The values in a kind that [`cell`] knows.
fn typed(values: &ArrayRef) -> Result<ArrayRef> {
    let Some(kind) = kind_of(values.data_type()) else {
        return Ok(Arc::clone(values));
    };
    let typed = cast(values, &kind)?;
    // Whole numbers that are too long for one.
    let is_cut = kind == DataType::Int64 && typed.null_count() > values.null_count();
    Ok(match is_cut {
        true => cast(values, &DataType::Utf8)?,
        false => typed,
    })
}

/// What a column is read as; `None` for what is taken as it is.
fn kind_of(data_type: &DataType) -> Option<DataType> {
    match data_type {
        // Values past 2^63 stay numbers; the lake keeps them in `_rest`.
        DataType::UInt64 => None,
        kind if kind.is_integer() => Some(DataType::Int64),
        DataType::Decimal32(_, 0)
        | DataType::Decimal64(_, 0)
        | DataType::Decimal128(_, 0)
        | DataType::Decimal256(_, 0) => Some(DataType::Int64),
        kind if kind.is_numeric() => Some(DataType::Float64),
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => {
            Some(DataType::Timestamp(TimeUnit::Microsecond, None))
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(DataType::Utf8),
        DataType::Dictionary(_, values) => Some(kind_of(values).unwrap_or((**values).clone())),
        DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            Some(DataType::List(Arc::clone(field)))
        }
        _ => None,
    }
}

fn record<'a>(
    columns: &'a [Typed],
    row: usize,
    finder: &mut time::Finder,
) -> Result<Record<'a>, String> {
    let time_of = |name: &str| {
        let column = columns.iter().find(|column| column.name == name)?;
        let values = &column.values;
        match values.data_type() {
            _ if values.is_null(row) => None,
            DataType::Timestamp(..) => {
                Some(values.as_primitive::<TimestampMicrosecondType>().value(row))
            }
            DataType::Utf8 => time::parse(values.as_string::<i32>().value(row)),
            DataType::Int64 => usual(values.as_primitive::<Int64Type>().value(row) as f64),
            DataType::UInt64 => usual(values.as_primitive::<UInt64Type>().value(row) as f64),
            DataType::Float64 => usual(values.as_primitive::<Float64Type>().value(row)),
            _ => None,
        }
    };
    let time_us = finder.find(time_of, columns.iter().map(|column| column.name.as_str()))?;
    let cells = columns.iter().map(|column| {
        let cell = cell(&column.values, row).map_err(|error| format!("{error:#}"))?;
        Ok((Cow::Borrowed(column.name.as_str()), cell))
    });
    Ok(Record {
        kind: None,
        time_us,
        head: Head::default(),
        data: Data::Cells(cells.collect::<Result<_, String>>()?),
    })
}

fn usual(number: f64) -> Option<i64> {
    time::from_number(number).filter(|time| time::is_usual(*time))
}

fn cell(values: &ArrayRef, row: usize) -> Result<Cell<'_>> {
    if values.is_null(row) {
        return Ok(Cell::Null);
    }
    Ok(match values.data_type() {
        DataType::Boolean => Cell::Bool(values.as_boolean().value(row)),
        DataType::Int64 => Cell::Int(values.as_primitive::<Int64Type>().value(row)),
        DataType::UInt64 => Cell::Whole(values.as_primitive::<UInt64Type>().value(row)),
        DataType::Float64 => {
            let value = values.as_primitive::<Float64Type>().value(row);
            // JSON has no word for what is not a number.
            match value.is_finite() {
                true => Cell::Double(value),
                false => Cell::Text(Cow::Owned(value.to_string())),
            }
        }
        DataType::Timestamp(..) => {
            let time_us = values.as_primitive::<TimestampMicrosecondType>().value(row);
            Cell::Text(Cow::Owned(serin_wire::time::to_rfc3339(time_us)))
        }
        DataType::Utf8 => Cell::Text(Cow::Borrowed(values.as_string::<i32>().value(row))),
        DataType::Struct(_) | DataType::List(_) | DataType::Map(..) => {
            Cell::Json(nested(values, row)?)
        }
        _ => Cell::Text(Cow::Owned(shown(values, row)?)),
    })
}

fn shown(values: &ArrayRef, row: usize) -> Result<String> {
    let shown = ArrayFormatter::try_new(values, &FormatOptions::default())?;
    Ok(shown.value(row).to_string())
}

/// A value of any depth. Below the first level values come in their own kinds.
fn nested(values: &ArrayRef, row: usize) -> Result<Value> {
    let one = typed(&values.slice(row, 1))?;
    if one.is_null(0) {
        return Ok(Value::Null);
    }
    Ok(match one.data_type() {
        DataType::Struct(fields) => {
            let columns = one.as_struct().columns();
            let members = fields.iter().zip(columns);
            let members =
                members.map(|(field, column)| Ok((field.name().clone(), nested(column, 0)?)));
            Value::Object(members.collect::<Result<Map<_, _>>>()?)
        }
        DataType::List(_) => {
            let items = one.as_list::<i32>().value(0);
            let items = (0..items.len()).map(|at| nested(&items, at));
            Value::Array(items.collect::<Result<_>>()?)
        }
        DataType::Map(..) => {
            let entries = one.as_map().value(0);
            let (keys, items) = (entries.column(0), entries.column(1));
            let members = (0..entries.len()).map(|at| Ok((shown(keys, at)?, nested(items, at)?)));
            Value::Object(members.collect::<Result<Map<_, _>>>()?)
        }
        _ => serde_json::to_value(cell(&one, 0)?)?,
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Decimal128Array, Int32Array, ListArray, StringArray, StructArray,
        TimestampMillisecondArray, UInt64Array,
    };
    use arrow::datatypes::{Field, Int64Type as Int64};
    use parquet::arrow::ArrowWriter;

    use super::*;

    fn rows(columns: Vec<(&str, ArrayRef)>) -> Vec<String> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let batch = RecordBatch::try_from_iter(columns).expect("a batch");
        let mut writer =
            ArrowWriter::try_new(file.reopen().expect("open"), batch.schema(), None).expect("new");
        writer.write(&batch).expect("written");
        writer.close().expect("closed");
        let mut out = Vec::new();
        let progress = Progress::default();
        read(
            file.path(),
            TimeColumn::Unknown,
            &progress,
            &mut |line, record| {
                let record = record.expect("good");
                let data = serde_json::to_string(&record.data).expect("values");
                out.push(format!("{line} {:?} {data}", record.time_us));
                Ok(())
            },
        )
        .expect("read");
        assert_eq!(
            progress.done(),
            file.path().metadata().expect("there").len()
        );
        out
    }

    #[test]
    fn rows_come_out_as_events() {
        assert_eq!(
            rows(vec![
                ("n", Arc::new(Int32Array::from(vec![Some(1), None]))),
                ("name", Arc::new(StringArray::from(vec!["a", "b"]))),
                (
                    "ts",
                    Arc::new(TimestampMillisecondArray::from(vec![1_431_857_100_000, 1])),
                ),
            ]),
            [
                r#"1 Some(1431857100000000) {"n":1,"name":"a","ts":"2015-05-17T10:05:00Z"}"#,
                r#"2 Some(1000) {"n":null,"name":"b","ts":"1970-01-01T00:00:00.001Z"}"#,
            ]
        );
    }

    #[test]
    fn large_numbers_decimals_structures_and_lists_keep_their_values() {
        let decimal = |digits, scale, value| -> ArrayRef {
            let values = Decimal128Array::from(vec![value]);
            Arc::new(
                values
                    .with_precision_and_scale(digits, scale)
                    .expect("fits"),
            )
        };
        let street: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
        let tags = ListArray::from_iter_primitive::<Int64, _, _>([Some([Some(1), None])]);
        let tags: ArrayRef = Arc::new(tags);
        let member = |name: &str, values: &ArrayRef| {
            Arc::new(Field::new(name, values.data_type().clone(), true))
        };
        let address = StructArray::from(vec![
            (member("street", &street), Arc::clone(&street)),
            (member("tags", &tags), Arc::clone(&tags)),
        ]);
        assert_eq!(
            rows(vec![
                ("hash", Arc::new(UInt64Array::from(vec![u64::MAX]))),
                ("count", decimal(18, 0, 123_456_789_012_345_678)),
                ("amount", decimal(12, 2, 1_999)),
                ("address", Arc::new(address)),
                ("list", tags),
            ]),
            [
                r#"1 None {"hash":18446744073709551615,"count":123456789012345678,"amount":19.99,"address":{"street":"a","tags":[1,null]},"list":[1,null]}"#
            ]
        );
    }
}

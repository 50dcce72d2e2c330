//! Parquet files, a batch at a time; each column is cast to one of the kinds an event can have.

use std::borrow::Cow;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::records::{Cell, Data, Record, Take};
use super::time;

const BATCH_ROWS: usize = 4_096;

pub(crate) fn read(path: &Path, time_column: Option<&str>, take: &mut Take<'_>) -> Result<()> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)
        .context("it is no whole Parquet file")?
        .with_batch_size(BATCH_ROWS)
        .build()?;
    let mut finder = time::Finder::new(time_column);
    let mut row = 0;
    for batch in reader {
        let batch = batch.context("it is damaged")?;
        if let Some(column) = time_column
            && batch.column_by_name(column).is_none()
        {
            bail!("there is no column {column:?}");
        }
        let columns = columns(&batch)?;
        for at in 0..batch.num_rows() {
            row += 1;
            take(row, record(&columns, at, &mut finder))?;
        }
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
    let typed = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, values)| {
            let kind = kind_of(field.data_type());
            let values = match kind {
                Some(kind) => cast(values, &kind)
                    .with_context(|| format!("cannot read the column {:?}", field.name()))?,
                None => Arc::clone(values),
            };
            Ok(Typed {
                name: field.name().clone(),
                values,
            })
        });
    typed.collect()
}

/// What a column is read as; `None` for lists and structures, which are shown as text.
fn kind_of(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Boolean => Some(DataType::Boolean),
        kind if kind.is_integer() => Some(DataType::Int64),
        kind if kind.is_numeric() => Some(DataType::Float64),
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => {
            Some(DataType::Timestamp(TimeUnit::Microsecond, None))
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(DataType::Utf8),
        DataType::Dictionary(_, values) => kind_of(values),
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
            DataType::Int64 => {
                time::from_number(values.as_primitive::<Int64Type>().value(row) as f64)
                    .filter(|time| time::is_usual(*time))
            }
            _ => None,
        }
    };
    let time_us = finder.find(time_of, columns.iter().map(|column| column.name.as_str()))?;
    let cells = columns.iter().map(|column| {
        Ok((
            Cow::Borrowed(column.name.as_str()),
            cell(&column.values, row)?,
        ))
    });
    Ok(Record {
        kind: None,
        time_us,
        data: Data::Cells(cells.collect::<Result<_, String>>()?),
    })
}

fn cell(values: &ArrayRef, row: usize) -> Result<Cell<'_>, String> {
    if values.is_null(row) {
        return Ok(Cell::Null);
    }
    Ok(match values.data_type() {
        DataType::Boolean => Cell::Bool(values.as_boolean().value(row)),
        DataType::Int64 => Cell::Int(values.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => {
            let value = values.as_primitive::<Float64Type>().value(row);
            // JSON has no word for what is not a number.
            if value.is_finite() {
                Cell::Double(value)
            } else {
                Cell::Null
            }
        }
        DataType::Timestamp(..) => {
            let time_us = values.as_primitive::<TimestampMicrosecondType>().value(row);
            Cell::Text(Cow::Owned(serin_wire::time::to_rfc3339(time_us)))
        }
        DataType::Utf8 => Cell::Text(Cow::Borrowed(values.as_string::<i32>().value(row))),
        _ => {
            let shown = ArrayFormatter::try_new(values, &FormatOptions::default())
                .map_err(|error| error.to_string())?;
            Cell::Text(Cow::Owned(shown.value(row).to_string()))
        }
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, StringArray, TimestampMillisecondArray};
    use parquet::arrow::ArrowWriter;

    use super::*;

    #[test]
    fn rows_come_out_as_events() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let columns: [(&str, ArrayRef); 3] = [
            ("n", Arc::new(Int32Array::from(vec![Some(1), None]))),
            ("name", Arc::new(StringArray::from(vec!["a", "b"]))),
            (
                "ts",
                Arc::new(TimestampMillisecondArray::from(vec![1_431_857_100_000, 1])),
            ),
        ];
        let batch = RecordBatch::try_from_iter(columns).expect("a batch");
        let mut writer =
            ArrowWriter::try_new(file.reopen().expect("open"), batch.schema(), None).expect("new");
        writer.write(&batch).expect("written");
        writer.close().expect("closed");
        let mut out = Vec::new();
        read(file.path(), None, &mut |line, record| {
            let record = record.expect("good");
            let data = serde_json::to_string(&record.data).expect("values");
            out.push(format!("{line} {:?} {data}", record.time_us));
            Ok(())
        })
        .expect("read");
        assert_eq!(
            out,
            [
                r#"1 Some(1431857100000000) {"n":1,"name":"a","ts":"2015-05-17T10:05:00Z"}"#,
                r#"2 Some(1000) {"n":null,"name":"b","ts":"1970-01-01T00:00:00.001Z"}"#,
            ]
        );
    }
}

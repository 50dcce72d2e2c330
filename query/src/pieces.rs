//! An answer in pieces of text, each made when it is sent: the whole is never in memory as text.
//!
//! 32 MiB of Arrow are many times that as JSON. Start at [`json`], [`csv`] and [`arrow`].

use std::sync::Arc;

use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use serde_json::{Value, json};

use crate::calendar::rfc3339;
use crate::engine::SqlAnswer;
use crate::render;

/// About how long a piece is: a few packets.
const PIECE_BYTES: usize = 64 << 10;

/// `{columns: [{name, type}], rows: [[…]], truncated, watermark, served_from}`, as the API answers.
pub fn json(answer: SqlAnswer) -> impl Iterator<Item = String> {
    let columns = render::columns(&answer).into_iter();
    let columns: Value = columns
        .map(|(name, kind)| json!({"name": name, "type": kind}))
        .collect();
    let head = format!("{{\"columns\":{columns},\"rows\":[");
    let tail = format!(
        "],\"truncated\":{},\"watermark\":{},\"served_from\":\"raw\"}}",
        answer.is_truncated,
        json!(answer.watermark_us.map(rfc3339)),
    );
    let mut is_first = true;
    let rows = pieces(answer, move |batch, row, text| {
        if !std::mem::take(&mut is_first) {
            text.push(',');
        }
        let columns = batch.columns().iter();
        let cells: Value = columns.map(|column| render::cell(column, row)).collect();
        text.push_str(&cells.to_string());
    });
    std::iter::once(head).chain(rows).chain([tail])
}

/// Comma-separated values with a header.
pub fn csv(answer: SqlAnswer) -> impl Iterator<Item = String> {
    let head = render::csv_head(&answer.schema);
    std::iter::once(head).chain(pieces(answer, render::csv_row))
}

/// An Arrow IPC stream, a batch a piece.
pub fn arrow(answer: SqlAnswer) -> impl Iterator<Item = Result<Vec<u8>, ArrowError>> {
    let schema = render::told_schema(&answer);
    let mut writer = None;
    // One step more than batches: the end of the stream.
    let mut batches = answer.batches.into_iter().map(Some).chain([None]);
    std::iter::from_fn(move || {
        let batch = batches.next()?;
        let mut write = || {
            if writer.is_none() {
                writer = Some(StreamWriter::try_new(Vec::new(), &Arc::clone(&schema))?);
            }
            let Some(writer) = &mut writer else {
                return Ok(Vec::new());
            };
            match &batch {
                Some(batch) => writer.write(batch)?,
                None => writer.finish()?,
            }
            Ok(std::mem::take(writer.get_mut()))
        };
        Some(write())
    })
}

/// Rows as text, many to a piece.
fn pieces(
    answer: SqlAnswer,
    mut write: impl FnMut(&arrow::record_batch::RecordBatch, usize, &mut String),
) -> impl Iterator<Item = String> {
    let (mut at, mut row) = (0, 0);
    std::iter::from_fn(move || {
        let mut text = String::new();
        while let Some(batch) = answer.batches.get(at) {
            if row == batch.num_rows() {
                (at, row) = (at + 1, 0);
                continue;
            }
            write(batch, row, &mut text);
            row += 1;
            if text.len() >= PIECE_BYTES {
                break;
            }
        }
        Some(text).filter(|text| !text.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, RecordBatch, StringArray};
    use arrow::ipc::reader::StreamReader;

    use super::*;

    fn answer(rows: usize) -> SqlAnswer {
        let numbers: Int64Array = (0..rows as i64).map(Some).collect();
        let texts: StringArray = (0..rows).map(|_| Some("\u{1}\"x,y")).collect();
        let batch = RecordBatch::try_from_iter([
            ("n", Arc::new(numbers) as _),
            ("text", Arc::new(texts) as _),
        ])
        .unwrap();
        SqlAnswer {
            schema: batch.schema(),
            batches: vec![
                batch.slice(0, rows / 2),
                batch.slice(rows / 2, rows - rows / 2),
            ],
            watermark_us: Some(1_000_000),
            is_truncated: true,
        }
    }

    #[test]
    fn pieces_are_small_and_make_up_the_whole() {
        let pieces: Vec<String> = json(answer(50_000)).collect();
        let longest = pieces.iter().map(String::len).max().unwrap();
        assert!(pieces.len() > 10 && longest < 2 * PIECE_BYTES, "{longest}");
        let whole: Value = serde_json::from_str(&pieces.concat()).unwrap();
        let rows = whole["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 50_000);
        assert_eq!(rows[49_999], json!([49_999, "\u{1}\"x,y"]));
        assert_eq!(whole["columns"][0], json!({"name": "n", "type": "int"}));
        assert_eq!(whole["watermark"], "1970-01-01T00:00:01Z");
        assert_eq!(whole["truncated"], true);
        let text: String = csv(answer(50_000)).collect();
        assert_eq!(text, render::csv(&answer(50_000)));
    }

    #[test]
    fn nothing_is_still_an_answer() {
        for rows in [0, 1] {
            let whole: String = json(answer(rows)).collect();
            let whole: Value = serde_json::from_str(&whole).unwrap();
            assert_eq!(whole["rows"].as_array().unwrap().len(), rows);
        }
    }

    #[test]
    fn arrow_says_what_is_known_of_its_rows() {
        let bytes: Vec<u8> = arrow(answer(10)).flat_map(Result::unwrap).collect();
        assert_eq!(bytes, render::arrow_ipc(&answer(10)).unwrap());
        let reader = StreamReader::try_new(bytes.as_slice(), None).unwrap();
        let schema = reader.schema();
        assert_eq!(
            schema.metadata[render::ARROW_WATERMARK],
            "1970-01-01T00:00:01Z"
        );
        assert_eq!(schema.metadata[render::ARROW_TRUNCATED], "true");
        assert_eq!(
            reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(),
            10
        );
    }
}

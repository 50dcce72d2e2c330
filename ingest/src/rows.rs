//! Rows of one table on their way into Arrow: values go straight into builders, column by column.
//!
//! A column is filled up with nulls only when a value or the end comes, so that a row costs what it
//! has and not what its type has. [`Rows::seal`] hands the builders over as a `RecordBatch`;
//! columns without a value in it are left out.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, RecordBatch,
    StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{Field as ArrowField, Schema};
use serin_lake::ColumnKind;
use serin_wire::Event;

use crate::json::{Field, Kind, unescape};
use crate::shape::{Cell, Misfit, Placed, REST, STANDARD, Shape, raw_path};

/// Bytes a value takes beside its own: an offset and a share of the null bits.
const TEXT_OVERHEAD: usize = 5;
const NUMBER_BYTES: usize = 8;

/// Open rows of one table.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    count: usize,
    bytes: usize,
    time: TimestampMicrosecondBuilder,
    /// `id` to `_arm`, in the order of [`STANDARD`].
    heads: [StringBuilder; 6],
    cells: Vec<Option<Cells>>,
    rest: StringBuilder,
    scratch: String,
}

/// The open values of one attribute.
#[derive(Debug)]
enum Cells {
    Bool(BooleanBuilder),
    Int(Int64Builder),
    Double(Float64Builder),
    Text(StringBuilder),
}

impl Rows {
    /// How many rows are open.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Bytes of the open rows, as Arrow will hold them.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends one event whose fields were placed by its type's shape. `misfits` hears of each value
    /// that went to `_rest`.
    pub(crate) fn append(
        &mut self,
        event: &Event<'_>,
        text: &str,
        fields: &[Field],
        placed: &[Placed],
        mut misfits: impl FnMut(Misfit),
    ) {
        self.head(event);
        let mut rest = std::mem::take(&mut self.scratch);
        rest.clear();
        for (at, (field, place)) in fields.iter().zip(placed).enumerate() {
            let misfit = match place.cell {
                Cell::Nothing => continue,
                Cell::Rest(misfit) => misfit,
                cell => match self.value(place.column as usize, cell, field.value.of(text)) {
                    true => continue,
                    false => Misfit::Repeated,
                },
            };
            misfits(misfit);
            rest.push(if rest.is_empty() { '{' } else { ',' });
            rest.push('"');
            raw_path(text, fields, at, &mut rest);
            rest.push_str("\":");
            let raw = field.value.of(text);
            match field.kind {
                Kind::Text { .. } => {
                    rest.push('"');
                    rest.push_str(raw);
                    rest.push('"');
                }
                _ => rest.push_str(raw),
            }
        }
        if rest.is_empty() {
            self.rest.append_null();
        } else {
            rest.push('}');
            self.rest.append_value(&rest);
            self.bytes += rest.len();
        }
        self.bytes += TEXT_OVERHEAD;
        self.scratch = rest;
        self.count += 1;
    }

    fn head(&mut self, event: &Event<'_>) {
        let mut hex = [0; 32];
        let trace = event.trace.map(|trace| hex_of(trace.trace_id, &mut hex));
        let arm = event.arm.as_ref().map(|arm| &*arm.0);
        let texts = [
            Some(&*event.id),
            Some(&*event.service),
            Some(&*event.version),
            Some(&*event.instance),
            trace,
            arm,
        ];
        self.time.append_value(event.time_us);
        self.bytes += NUMBER_BYTES;
        for (head, text) in self.heads.iter_mut().zip(texts) {
            let text = text.filter(|text| !text.is_empty());
            self.bytes += TEXT_OVERHEAD + text.map_or(0, str::len);
            head.append_option(text);
        }
    }

    /// Sets one attribute of the open row; `false` where the row has it already.
    fn value(&mut self, column: usize, cell: Cell, raw: &str) -> bool {
        if self.cells.len() <= column {
            self.cells.resize_with(column + 1, || None);
        }
        let cells = self.cells[column].get_or_insert_with(|| Cells::of(cell));
        if let (Cells::Int(ints), Cell::Double(_)) = (&mut *cells, cell) {
            *cells = Cells::Double(widened(ints));
        }
        let missing = match self.count.checked_sub(cells.len()) {
            Some(missing) => missing,
            None => return false,
        };
        cells.skip(missing);
        match (cells, cell) {
            (Cells::Bool(bools), Cell::Bool(value)) => {
                bools.append_value(value);
                self.bytes += 1;
                return true;
            }
            (Cells::Int(ints), Cell::Int(value)) => ints.append_value(value),
            (Cells::Double(doubles), Cell::Double(value)) => doubles.append_value(value),
            // The same event holds an integer and, repeated, the double that widened the column.
            (Cells::Double(doubles), Cell::Int(value)) => doubles.append_value(value as f64),
            (Cells::Text(texts), Cell::Text | Cell::Json) => {
                texts.append_value(raw);
                self.bytes += raw.len();
            }
            (Cells::Text(texts), Cell::Escaped) => {
                let mut plain = String::new();
                // A text with half a surrogate pair was placed in `_rest`.
                unescape(raw, &mut plain);
                texts.append_value(&plain);
                self.bytes += plain.len();
            }
            _ => return false,
        }
        self.bytes += NUMBER_BYTES;
        true
    }

    /// Takes all rows as one batch; `None` where there are none.
    pub(crate) fn seal(&mut self, shape: &Shape) -> Option<RecordBatch> {
        if self.count == 0 {
            return None;
        }
        let count = std::mem::take(&mut self.count);
        self.bytes = 0;
        let mut fields: Vec<ArrowField> = Vec::with_capacity(STANDARD.len() + self.cells.len() + 1);
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(fields.capacity());
        for (name, kind) in STANDARD {
            fields.push(ArrowField::new(name, kind.arrow(), true));
        }
        arrays.push(Arc::new(self.time.finish().with_timezone("UTC")));
        for head in &mut self.heads {
            arrays.push(Arc::new(head.finish()));
        }
        for (cells, column) in self.cells.iter_mut().zip(&shape.columns) {
            let Some(mut cells) = cells.take() else {
                continue;
            };
            cells.skip(count - cells.len());
            fields.push(ArrowField::new(&column.name, cells.kind().arrow(), true));
            arrays.push(cells.finish());
        }
        fields.push(ArrowField::new(REST, ColumnKind::Text.arrow(), true));
        arrays.push(Arc::new(self.rest.finish()));
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays);
        Some(batch.expect("every column was filled up to the count, with the type of its field"))
    }
}

impl Cells {
    fn of(cell: Cell) -> Cells {
        match cell {
            Cell::Bool(_) => Cells::Bool(BooleanBuilder::new()),
            Cell::Int(_) => Cells::Int(Int64Builder::new()),
            Cell::Double(_) => Cells::Double(Float64Builder::new()),
            _ => Cells::Text(StringBuilder::new()),
        }
    }

    fn kind(&self) -> ColumnKind {
        match self {
            Cells::Bool(_) => ColumnKind::Bool,
            Cells::Int(_) => ColumnKind::Int,
            Cells::Double(_) => ColumnKind::Double,
            Cells::Text(_) => ColumnKind::Text,
        }
    }

    fn len(&self) -> usize {
        match self {
            Cells::Bool(cells) => cells.len(),
            Cells::Int(cells) => cells.len(),
            Cells::Double(cells) => cells.len(),
            Cells::Text(cells) => cells.len(),
        }
    }

    fn skip(&mut self, missing: usize) {
        if missing == 0 {
            return;
        }
        match self {
            Cells::Bool(cells) => cells.append_nulls(missing),
            Cells::Int(cells) => cells.append_nulls(missing),
            Cells::Double(cells) => cells.append_nulls(missing),
            Cells::Text(cells) => cells.append_nulls(missing),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Cells::Bool(cells) => Arc::new(cells.finish()),
            Cells::Int(cells) => Arc::new(cells.finish()),
            Cells::Double(cells) => Arc::new(cells.finish()),
            Cells::Text(cells) => Arc::new(cells.finish()),
        }
    }
}

fn widened(ints: &mut Int64Builder) -> Float64Builder {
    let ints = ints.finish();
    let mut doubles = Float64Builder::with_capacity(ints.len() + 1);
    for value in &ints {
        doubles.append_option(value.map(|value| value as f64));
    }
    doubles
}

fn hex_of(value: u128, out: &mut [u8; 32]) -> &str {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (at, digit) in out.iter_mut().enumerate() {
        *digit = DIGITS[((value >> (124 - 4 * at)) & 0xf) as usize];
    }
    std::str::from_utf8(out).unwrap_or_default()
}

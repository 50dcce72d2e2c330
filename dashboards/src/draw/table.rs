//! Rows and columns of text; numbers stand right, what is too long is cut, what is left out is told.

use plotters::prelude::DrawingBackend;
use serde_json::Value;

use super::DrawError;
use super::canvas::{Align, Area, Canvas, Font};
use super::lines::shown_time;
use crate::format::format_value;
use crate::panel_data::{PanelData, TableColumn};
use crate::shape::plain;

const ROW_PX: f64 = 22.0;
const COLUMN_GAP_PX: f64 = 14.0;

/// How high a panel with so many rows likes to be, title and padding included.
pub(super) fn height_px(rows: usize) -> f64 {
    (rows as f64 + 1.0) * ROW_PX + 56.0
}

pub(super) fn draw<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    panel: &PanelData,
    columns: &[TableColumn],
    rows: &[Vec<Value>],
    area: Area,
) -> Result<(), DrawError>
where
    B::ErrorType: 'static,
{
    let font = canvas.font(11.5);
    let head = Font {
        is_bold: true,
        ..canvas.muted(11.0)
    };
    let fits = ((area.h / ROW_PX) as usize).saturating_sub(1);
    let shown = if rows.len() > fits {
        fits.saturating_sub(1)
    } else {
        rows.len()
    };
    let texts: Vec<Vec<String>> = rows[..shown]
        .iter()
        .map(|row| cells(panel, columns, row))
        .collect();
    let widths = widths(canvas, columns, &texts, area.w, font, head);
    let mut y = area.y + ROW_PX / 2.0;
    let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
    line(canvas, columns, &names, &widths, (area, y), head)?;
    let rule = area.y + ROW_PX;
    canvas.line(
        (area.x, rule),
        (area.right(), rule),
        canvas.theme.border,
        1.0,
    )?;
    for row in &texts {
        y += ROW_PX;
        line(canvas, columns, row, &widths, (area, y), font)?;
        let rule = y + ROW_PX / 2.0;
        canvas.line((area.x, rule), (area.right(), rule), canvas.theme.grid, 1.0)?;
    }
    if shown < rows.len() {
        let more = format!("{} more rows", rows.len() - shown);
        canvas.text((area.x, y + ROW_PX), &more, canvas.muted(11.0), Align::Left)?;
    }
    Ok(())
}

fn is_number(column: &TableColumn) -> bool {
    matches!(column.kind.as_str(), "int" | "double")
}

fn cells(panel: &PanelData, columns: &[TableColumn], row: &[Value]) -> Vec<String> {
    let unit_of = |column: &TableColumn| column.unit.clone().or_else(|| panel.unit.clone());
    let cell = |(column, value): (&TableColumn, &Value)| match column.kind.as_str() {
        "double" => format_value(value.as_f64(), unit_of(column).as_deref()),
        // What was not measured is a dash; a text that is missing says so.
        "int" | "time" if value.is_null() => format_value(None, None),
        "int" if column.unit.is_some() => format_value(value.as_f64(), column.unit.as_deref()),
        "time" => value.as_str().map_or_else(|| plain(value), shown_time),
        _ => plain(value),
    };
    columns.iter().zip(row).map(cell).collect()
}

/// Each column as wide as its longest text; where that is too much, the wide ones give way.
fn widths<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    columns: &[TableColumn],
    texts: &[Vec<String>],
    room: f64,
    font: Font,
    head: Font,
) -> Vec<f64>
where
    B::ErrorType: 'static,
{
    let mut widths: Vec<f64> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let cells = texts.iter().map(|row| canvas.width(&row[index], font));
            cells.fold(canvas.width(&column.name, head), f64::max)
        })
        .collect();
    let gaps = COLUMN_GAP_PX * columns.len().saturating_sub(1) as f64;
    let free = (room - gaps).max(10.0);
    // Lower the widest to a common width until all fit.
    while widths.iter().sum::<f64>() > free + 0.5 {
        let widest = widths.iter().copied().fold(0.0, f64::max);
        let next = widths
            .iter()
            .copied()
            .filter(|width| *width < widest)
            .fold(0.0, f64::max);
        let count = widths.iter().filter(|width| **width == widest).count() as f64;
        let excess = widths.iter().sum::<f64>() - free;
        let lowered = (widest - excess / count).max(next);
        for width in widths.iter_mut().filter(|width| **width == widest) {
            *width = lowered;
        }
    }
    // What is left goes to the first text column, so that numbers stand at the right edge.
    let left = free - widths.iter().sum::<f64>();
    let first_text = columns
        .iter()
        .position(|column| !is_number(column))
        .unwrap_or(0);
    if let Some(width) = widths.get_mut(first_text) {
        *width += left.max(0.0);
    }
    widths
}

fn line<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    columns: &[TableColumn],
    texts: &[String],
    widths: &[f64],
    (area, y): (Area, f64),
    font: Font,
) -> Result<(), DrawError>
where
    B::ErrorType: 'static,
{
    let mut x = area.x;
    for ((column, text), width) in columns.iter().zip(texts).zip(widths) {
        let text = canvas.cut(text, font, *width + 1.0);
        if is_number(column) {
            canvas.text((x + width, y), &text, font, Align::Right)?;
        } else {
            canvas.text((x, y), &text, font, Align::Left)?;
        }
        x += width + COLUMN_GAP_PX;
    }
    Ok(())
}

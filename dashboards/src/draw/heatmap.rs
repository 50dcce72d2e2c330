//! Coloured cells over two dimensions; a cell without a value stays empty, which is not a zero.

use plotters::prelude::DrawingBackend;

use super::DrawError;
use super::canvas::{Align, Area, Canvas};
use crate::format::format_value;
use crate::panel_data::{Axis, PanelData};

/// Height of the colour scale below the cells.
const SCALE_PX: f64 = 10.0;

pub(super) fn draw<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    panel: &PanelData,
    x: &Axis,
    y: &Axis,
    cells: &[Vec<Option<f64>>],
    area: Area,
) -> Result<(), DrawError>
where
    B::ErrorType: 'static,
{
    let font = canvas.muted(11.0);
    let unit = panel.unit.as_deref();
    let high = cells
        .iter()
        .flatten()
        .flatten()
        .copied()
        .fold(0.0, f64::max);
    let widest = y
        .labels
        .iter()
        .map(|label| canvas.width(label, font))
        .fold(0.0, f64::max);
    let widest = widest.min(area.w * 0.3);
    let plot = area.inset(widest + 8.0, 2.0, 0.0, 44.0);
    let (columns, rows) = (x.labels.len().max(1), y.labels.len().max(1));
    let (w, h) = (plot.w / columns as f64, plot.h / rows as f64);
    for (row, (label, values)) in y.labels.iter().zip(cells).enumerate() {
        let top = plot.y + h * row as f64;
        if h >= 11.0 || row % 2 == 0 {
            let label = canvas.cut(label, font, widest);
            canvas.text((plot.x - 6.0, top + h / 2.0), &label, font, Align::Right)?;
        }
        for (column, value) in values.iter().enumerate() {
            let left = plot.x + w * column as f64;
            let cell = Area {
                x: left,
                y: top,
                w: (w - 1.0).max(1.0),
                h: (h - 1.0).max(1.0),
            };
            if let Some(value) = value {
                let share = if high > 0.0 { value / high } else { 0.0 };
                canvas.fill(cell, canvas.theme.heat(share), 1.0)?;
            }
        }
    }
    x_labels(canvas, x, plot, w)?;
    let bottom = area.bottom() - SCALE_PX;
    canvas.text((plot.x, bottom + 4.0), &x.title, font, Align::Left)?;
    scale(
        canvas,
        (0.0, high),
        unit,
        Area {
            y: bottom,
            h: SCALE_PX,
            ..plot
        },
    )
}

fn x_labels<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    x: &Axis,
    plot: Area,
    w: f64,
) -> Result<(), DrawError>
where
    B::ErrorType: 'static,
{
    let font = canvas.muted(11.0);
    let widest = x
        .labels
        .iter()
        .map(|label| canvas.width(label, font))
        .fold(1.0, f64::max);
    let every = ((widest + 8.0) / w).ceil().max(1.0) as usize;
    for (column, label) in x.labels.iter().enumerate().step_by(every) {
        let middle = plot.x + w * (column as f64 + 0.5);
        let label = canvas.cut(label, font, w * every as f64);
        canvas.text((middle, plot.bottom() + 10.0), &label, font, Align::Center)?;
    }
    Ok(())
}

/// What the colours mean, at the right below the cells.
fn scale<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    (low, high): (f64, f64),
    unit: Option<&str>,
    area: Area,
) -> Result<(), DrawError>
where
    B::ErrorType: 'static,
{
    const STEPS: usize = 24;
    let font = canvas.muted(11.0);
    let (low, high) = (
        format_value(Some(low), unit),
        format_value(Some(high), unit),
    );
    let width = (area.w * 0.3).min(140.0);
    let right = area.right() - canvas.width(&high, font) - 6.0;
    let left = right - width;
    let middle = area.y + area.h / 2.0;
    canvas.text((area.right(), middle), &high, font, Align::Right)?;
    canvas.text((left - 6.0, middle), &low, font, Align::Right)?;
    let w = width / STEPS as f64;
    for step in 0..STEPS {
        let share = step as f64 / (STEPS - 1) as f64;
        let x = left + w * step as f64;
        // Each to the end, under those that follow: side by side they would leave seams.
        canvas.fill(
            Area {
                x,
                w: left + width - x,
                ..area
            },
            canvas.theme.heat(share),
            1.0,
        )?;
    }
    Ok(())
}

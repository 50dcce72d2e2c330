//! One bar per group, longest first, with its value beside it.

use plotters::prelude::DrawingBackend;

use super::DrawError;
use super::canvas::{Align, Area, Canvas};
use super::theme::crossed;
use crate::format::format_value;
use crate::panel_data::{BarItem, PanelData};

/// Highest row of one bar.
const ROW_PX_MAX: f64 = 28.0;
/// Lowest row that can still be read.
const ROW_PX_MIN: f64 = 17.0;

pub(super) fn draw<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    panel: &PanelData,
    bars: &[BarItem],
    area: Area,
) -> Result<(), DrawError>
where
    B::ErrorType: 'static,
{
    let shown = bars.len().min((area.h / ROW_PX_MIN) as usize).max(1);
    let row = (area.h / shown as f64).min(ROW_PX_MAX);
    let font = canvas.font(11.5);
    let bars = &bars[..shown.min(bars.len())];
    let unit = panel.unit.as_deref();
    let values: Vec<String> = bars
        .iter()
        .map(|bar| format_value(bar.value, unit))
        .collect();
    let widest = |texts: &mut dyn Iterator<Item = &str>| {
        texts
            .map(|text| canvas.width(text, font))
            .fold(0.0, f64::max)
    };
    let label_w = widest(&mut bars.iter().map(|bar| bar.label.as_str())).min(area.w * 0.45);
    let value_w = widest(&mut values.iter().map(String::as_str));
    let room = (area.w - label_w - value_w - 20.0).max(10.0);
    let largest = bars
        .iter()
        .filter_map(|bar| bar.value)
        .map(f64::abs)
        .fold(0.0, f64::max);
    for (index, (bar, value)) in bars.iter().zip(&values).enumerate() {
        let middle = area.y + row * (index as f64 + 0.5);
        let label = canvas.cut(&bar.label, font, label_w);
        canvas.text((area.x, middle), &label, font, Align::Left)?;
        let size = bar.value.unwrap_or(0.0);
        let color = match crossed(&panel.thresholds, size) {
            Some(threshold) => canvas.theme.threshold(&threshold.color),
            None => canvas.theme.series(0),
        };
        let x = area.x + label_w + 10.0;
        let track = Area {
            x,
            y: middle - row * 0.3,
            w: room,
            h: row * 0.6,
        };
        canvas.fill(track, canvas.theme.grid, 0.6)?;
        let share = if largest > 0.0 {
            size.abs() / largest
        } else {
            0.0
        };
        if share > 0.0 {
            canvas.fill(
                Area {
                    w: (room * share).max(1.0),
                    ..track
                },
                color,
                1.0,
            )?;
        }
        canvas.text((area.right(), middle), value, font, Align::Right)?;
    }
    Ok(())
}

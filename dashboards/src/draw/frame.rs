//! What every panel has: its title, and an honest word where there is nothing to draw.

use plotters::prelude::DrawingBackend;

use super::axis::moment;
use super::canvas::{Align, Area, Canvas, Font};
use super::{DrawError, bars, heatmap, lines, stat, table};
use crate::panel_data::{Data, PanelData, PanelState};
use serin_yaml::parse_time;

/// Space between the edge of a panel and what is in it.
const PAD_PX: f64 = 12.0;
/// Height of the title's line.
const TITLE_PX: f64 = 20.0;

/// Draws one panel into its place.
pub(super) fn panel<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    panel: &PanelData,
    area: Area,
) -> Result<(), DrawError>
where
    B::ErrorType: 'static,
{
    let area = area.inset(PAD_PX, PAD_PX, PAD_PX, PAD_PX);
    let note = note(panel);
    let room = area.w - canvas.width(&note, canvas.muted(11.0)) - 12.0;
    let title_font = Font {
        is_bold: true,
        ..canvas.font(13.0)
    };
    let title = canvas.cut(&panel.title, title_font, room);
    let middle = area.y + TITLE_PX / 2.0 - 2.0;
    canvas.text((area.x, middle), &title, title_font, Align::Left)?;
    canvas.text(
        (area.right(), middle),
        &note,
        canvas.muted(11.0),
        Align::Right,
    )?;
    let body = area.inset(0.0, TITLE_PX + 4.0, 0.0, 0.0);
    match (&panel.state, &panel.data) {
        (PanelState::Error, _) | (PanelState::Ok, None) => failed(canvas, panel, body),
        (PanelState::Empty, _) => empty(canvas, panel, body),
        (PanelState::Ok, Some(data)) => match data {
            Data::Series {
                stacked,
                series,
                step_s,
            } => lines::draw(canvas, panel, series, *stacked, *step_s, body),
            Data::Stat {
                value,
                compare,
                spark,
            } => stat::draw(canvas, panel, *value, *compare, spark, body),
            Data::Bars { bars } => bars::draw(canvas, panel, bars, body),
            Data::Table { columns, rows } => table::draw(canvas, panel, columns, rows, body),
            Data::Heatmap { x, y, cells } => heatmap::draw(canvas, panel, x, y, cells, body),
        },
    }
}

/// What is not shown, and what is not exact.
fn note(panel: &PanelData) -> String {
    let left_out = match (panel.series_dropped, panel.truncated) {
        (0, false) => None,
        (0, true) => Some(String::from("more rows not shown")),
        (dropped, _) => Some(format!("{dropped} more not shown")),
    };
    let is_rough = panel.approximate && panel.state == PanelState::Ok;
    let rough = is_rough.then(|| String::from("approximate"));
    let notes: Vec<String> = [rough, left_out].into_iter().flatten().collect();
    notes.join(" · ")
}

fn empty<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    panel: &PanelData,
    area: Area,
) -> Result<(), DrawError>
where
    B::ErrorType: 'static,
{
    let range = |text: &str| parse_time(text).map_or_else(|| text.to_owned(), moment);
    let (from, to) = (range(&panel.range.0), range(&panel.range.1));
    let (x, y) = (area.x + area.w / 2.0, area.y + area.h / 2.0);
    if area.h < 50.0 {
        return canvas.text((x, y), "no data", canvas.muted(13.0), Align::Center);
    }
    canvas.text((x, y - 9.0), "no data", canvas.muted(14.0), Align::Center)?;
    let range = canvas.cut(&format!("{from} – {to} UTC"), canvas.muted(11.0), area.w);
    canvas.text((x, y + 11.0), &range, canvas.muted(11.0), Align::Center)
}

fn failed<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    panel: &PanelData,
    area: Area,
) -> Result<(), DrawError>
where
    B::ErrorType: 'static,
{
    let (code, message) = match &panel.error {
        Some(error) => (error.code, error.message.as_str()),
        None => ("", "the panel has no data"),
    };
    let red = Font {
        color: canvas.theme.threshold("red"),
        is_bold: true,
        ..canvas.font(12.0)
    };
    canvas.text(
        (area.x, area.y + 9.0),
        &format!("error {code}"),
        red,
        Align::Left,
    )?;
    let lines_max = ((area.h - 22.0) / 16.0).max(1.0) as usize;
    let lines = canvas.wrap(message, canvas.font(12.0), area.w, lines_max);
    for (index, line) in lines.iter().enumerate() {
        let y = area.y + 28.0 + 16.0 * index as f64;
        canvas.text((area.x, y), line, canvas.font(12.0), Align::Left)?;
    }
    Ok(())
}

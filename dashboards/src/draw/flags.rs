//! What happened, as flags on a chart: a thin line, a word where there is room for it, and in an SVG
//! the whole sentence under the pointer.

use plotters::prelude::DrawingBackend;

use super::DrawError;
use super::canvas::{Align, Area, Canvas};
use super::lines::shown_time;
use crate::panel_data::Mark;
use serin_yaml::parse_time;

/// Half the width of what the pointer must hit.
const REACH_PX: f64 = 5.0;
/// Between a flag and its word.
const GAP_PX: f64 = 7.0;

/// Draws marks into `area`; `x` says where a time stands.
pub(super) fn draw<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    marks: &[Mark],
    area: Area,
    x: impl Fn(i64) -> f64,
) -> Result<(), DrawError>
where
    B::ErrorType: 'static,
{
    let placed = marks
        .iter()
        .filter_map(|mark| Some((x(parse_time(&mark.time)?), mark)));
    let mut placed: Vec<(f64, &Mark)> = placed.collect();
    placed.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    for (index, (x, mark)) in placed.iter().enumerate() {
        let (x, top, color) = (*x, area.y, canvas.theme.mark(&mark.kind));
        canvas.dashed(&[(x, top - 8.0), (x, area.bottom())], color, 1.0, 3.0)?;
        let flag = [(x, top - 8.0), (x + 7.0, top - 4.0), (x, top)];
        canvas.polygon(&flag, color, 1.0)?;
        let note = format!("{} · {}", shown_time(&mark.time), mark.text);
        let reach = Area {
            x: x - REACH_PX,
            y: top - REACH_PX,
            w: 2.0 * REACH_PX,
            h: area.bottom() - top + REACH_PX,
        };
        canvas.note(reach, note);
        if let Some(label) = &mark.label {
            let font = super::Font {
                color,
                ..canvas.font(9.0)
            };
            let ends = x + GAP_PX + 3.0 + canvas.width(label, font);
            let next = placed
                .get(index + 1)
                .map_or(area.right(), |(next, _)| *next);
            if ends < next {
                canvas.text((x + GAP_PX + 3.0, top - 4.0), label, font, Align::Left)?;
            }
        }
    }
    Ok(())
}

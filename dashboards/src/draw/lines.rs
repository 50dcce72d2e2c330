//! Lines, stacked areas and columns over time, with thresholds and flags for what happened.

use plotters::prelude::DrawingBackend;

use super::axis::{time_ticks, value_ticks};
use super::canvas::{Align, Area, Canvas};
use super::theme::Color;
use super::{DrawError, flags, moment};
use crate::format::format_value;
use crate::model::Draw;
use crate::panel_data::{NamedSeries, PanelData};
use serin_yaml::parse_time;

/// Height of one line of the legend.
const LEGEND_PX: f64 = 17.0;
/// Most lines of the legend; the rest is counted.
const LEGEND_LINES_MAX: usize = 2;

/// One series with times as numbers.
struct Line {
    color: Color,
    is_dashed: bool,
    /// Time, lower and upper end; the lower is 0 where nothing is stacked.
    points: Vec<(i64, Option<(f64, f64)>)>,
}

/// Where values and times stand in the picture.
struct Plot {
    area: Area,
    from_us: i64,
    to_us: i64,
    low: f64,
    high: f64,
}

impl Plot {
    fn x(&self, time_us: i64) -> f64 {
        let share = (time_us - self.from_us) as f64 / (self.to_us - self.from_us).max(1) as f64;
        self.area.x + share.clamp(0.0, 1.0) * self.area.w
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value - self.low) / (self.high - self.low);
        self.area.bottom() - share.clamp(0.0, 1.0) * self.area.h
    }
}

pub(super) fn draw<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    panel: &PanelData,
    series: &[NamedSeries],
    is_stacked: bool,
    step_s: f64,
    area: Area,
) -> Result<(), DrawError>
where
    B::ErrorType: 'static,
{
    let lines = lines(canvas, series, is_stacked);
    let legend = if series.len() > 1 {
        legend(canvas, series, &lines, area)?
    } else {
        0.0
    };
    let area = area.inset(0.0, legend, 0.0, 0.0);
    let step_us = (step_s * 1e6) as i64;
    let Some(plot) = frame(canvas, panel, &lines, step_us, area)? else {
        return Ok(());
    };
    if panel.draw == Draw::Bar {
        columns(canvas, &lines, is_stacked, step_us, &plot)?;
    } else {
        for line in lines.iter().rev() {
            let opacity = match (is_stacked, series.len()) {
                (true, _) => 0.75,
                (false, 1) => 0.12,
                (false, _) => 0.0,
            };
            path(canvas, line, opacity, step_us, &plot)?;
        }
    }
    for threshold in &panel.thresholds {
        let Some(bound) = threshold.above.or(threshold.below) else {
            continue;
        };
        if bound < plot.low || bound > plot.high {
            continue;
        }
        let (color, y) = (canvas.theme.threshold(&threshold.color), plot.y(bound));
        canvas.dashed(&[(plot.area.x, y), (plot.area.right(), y)], color, 1.0, 5.0)?;
        if let Some(name) = &threshold.name {
            let font = super::Font {
                color,
                ..canvas.font(10.0)
            };
            canvas.text((plot.area.right() - 2.0, y - 7.0), name, font, Align::Right)?;
        }
    }
    flags::draw(canvas, &panel.marks, plot.area, |time_us| plot.x(time_us))
}

fn lines<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    series: &[NamedSeries],
    is_stacked: bool,
) -> Vec<Line>
where
    B::ErrorType: 'static,
{
    let mut below: std::collections::BTreeMap<i64, f64> = std::collections::BTreeMap::new();
    let mut lines = Vec::new();
    // The first series ends on top, as in the browser.
    for one in series.iter().rev() {
        let mut points = Vec::new();
        for (time, value) in &one.points {
            let Some(time) = parse_time(time) else {
                continue;
            };
            let ends = value.map(|value| {
                let foot = below.entry(time).or_insert(0.0);
                let ends = if is_stacked {
                    (*foot, *foot + value)
                } else {
                    (0.0, value)
                };
                *foot = ends.1;
                ends
            });
            points.push((time, ends));
        }
        lines.push(Line {
            color: canvas.theme.series(one.look),
            is_dashed: one.dashed,
            points,
        });
    }
    lines.reverse();
    lines
}

/// Grid, labels and axes; `None` where there is no room for a plot.
fn frame<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    panel: &PanelData,
    lines: &[Line],
    step_us: i64,
    area: Area,
) -> Result<Option<Plot>, DrawError>
where
    B::ErrorType: 'static,
{
    if area.w < 80.0 || area.h < 50.0 {
        return Ok(None);
    }
    let values = || {
        lines
            .iter()
            .flat_map(|line| &line.points)
            .filter_map(|(_, ends)| *ends)
    };
    let high = values().map(|(_, high)| high).fold(0.0, f64::max);
    let low = values().map(|(_, high)| high).fold(0.0, f64::min);
    let bounds = panel.thresholds.iter().filter_map(|t| t.above.or(t.below));
    // A threshold far above the data would press them flat.
    let high = bounds
        .filter(|bound| *bound <= 2.0 * high)
        .fold(high, f64::max);
    let ticks = value_ticks(low, high, ((area.h / 38.0) as usize).clamp(2, 6));
    let font = canvas.muted(11.0);
    let labels: Vec<String> = ticks
        .iter()
        .map(|tick| format_value(Some(*tick), panel.unit.as_deref()))
        .collect();
    let widest = labels
        .iter()
        .map(|label| canvas.width(label, font))
        .fold(0.0, f64::max);
    let area = area.inset(widest + 8.0, 6.0, 8.0, 20.0);
    let times = lines
        .iter()
        .flat_map(|line| &line.points)
        .map(|(time, _)| *time);
    let (first, last) = times.fold((i64::MAX, i64::MIN), |(a, b), time| {
        (a.min(time), b.max(time))
    });
    let from_us = parse_time(&panel.range.0).unwrap_or(first);
    let to_us = parse_time(&panel.range.1).unwrap_or_else(|| last.saturating_add(step_us));
    let plot = Plot {
        area,
        from_us,
        to_us,
        low: ticks[0],
        high: ticks[ticks.len() - 1],
    };
    for (tick, label) in ticks.iter().zip(&labels) {
        let y = plot.y(*tick);
        let color = if *tick == 0.0 {
            canvas.theme.border
        } else {
            canvas.theme.grid
        };
        canvas.line((area.x, y), (area.right(), y), color, 1.0)?;
        canvas.text((area.x - 6.0, y), label, font, Align::Right)?;
    }
    for (time, label) in time_ticks(from_us, to_us, ((area.w / 75.0) as usize).max(2)) {
        let x = plot.x(time);
        let half = canvas.width(&label, font) / 2.0;
        canvas.line(
            (x, area.bottom()),
            (x, area.bottom() + 4.0),
            canvas.theme.border,
            1.0,
        )?;
        let x = x.clamp(
            area.x - widest + half,
            (area.right() + 8.0 - half).max(area.x),
        );
        canvas.text((x, area.bottom() + 12.0), &label, font, Align::Center)?;
    }
    Ok(Some(plot))
}

/// One line; a gap interrupts it, and a point alone is a dot.
fn path<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    line: &Line,
    opacity: f64,
    step_us: i64,
    plot: &Plot,
) -> Result<(), DrawError>
where
    B::ErrorType: 'static,
{
    let mut runs: Vec<Vec<(i64, (f64, f64))>> = vec![Vec::new()];
    for (time, ends) in &line.points {
        let is_near = |run: &Vec<(i64, _)>| {
            run.last()
                .is_none_or(|(before, _)| time - before <= step_us + step_us / 2)
        };
        match (ends, runs.last_mut()) {
            (Some(ends), Some(run)) if is_near(run) => run.push((*time, *ends)),
            (Some(ends), _) => runs.push(vec![(*time, *ends)]),
            (None, _) => runs.push(Vec::new()),
        }
    }
    for run in runs.iter().filter(|run| !run.is_empty()) {
        let top: Vec<(f64, f64)> = run
            .iter()
            .map(|(time, (_, high))| (plot.x(*time), plot.y(*high)))
            .collect();
        if let [only] = top[..] {
            canvas.dot(only, 2.0, line.color)?;
            continue;
        }
        if opacity > 0.0 && !line.is_dashed {
            let feet = run
                .iter()
                .rev()
                .map(|(time, (low, _))| (plot.x(*time), plot.y(*low)));
            let outline: Vec<(f64, f64)> = top.iter().copied().chain(feet).collect();
            canvas.polygon(&outline, line.color, opacity)?;
        }
        if line.is_dashed {
            canvas.dashed(&top, line.color, 1.0, 4.0)?;
        } else {
            canvas.path(&top, line.color, 1.5)?;
        }
    }
    Ok(())
}

fn columns<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    lines: &[Line],
    is_stacked: bool,
    step_us: i64,
    plot: &Plot,
) -> Result<(), DrawError>
where
    B::ErrorType: 'static,
{
    let slots = if is_stacked { 1 } else { lines.len().max(1) };
    for (index, line) in lines.iter().enumerate() {
        for (time, ends) in &line.points {
            let Some((low, high)) = ends else {
                continue;
            };
            let (left, right) = (plot.x(*time), plot.x(time.saturating_add(step_us)));
            let gap = if right - left > 4.0 { 1.0 } else { 0.0 };
            let w = (right - left - gap) / slots as f64;
            let x = left + w * if is_stacked { 0.0 } else { index as f64 };
            let (top, bottom) = (plot.y(high.max(*low)), plot.y(low.min(*high)));
            if bottom - top > 0.0 {
                canvas.fill(
                    Area {
                        x,
                        y: top,
                        w,
                        h: bottom - top,
                    },
                    line.color,
                    1.0,
                )?;
            }
        }
    }
    Ok(())
}

/// The names of the series above the plot; returns how high it is.
fn legend<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    series: &[NamedSeries],
    lines: &[Line],
    area: Area,
) -> Result<f64, DrawError>
where
    B::ErrorType: 'static,
{
    let font = canvas.muted(11.0);
    let (mut x, mut row) = (area.x, 0);
    for (index, (one, line)) in series.iter().zip(lines).enumerate() {
        let name = canvas.cut(&one.name, font, (area.w / 2.0).min(220.0));
        let width = canvas.width(&name, font) + 30.0;
        if x + width > area.right() && x > area.x {
            if row + 1 == LEGEND_LINES_MAX {
                let more = format!("+{}", series.len() - index);
                canvas.text(
                    (area.right(), area.y + LEGEND_PX * row as f64 + 6.0),
                    &more,
                    font,
                    Align::Right,
                )?;
                break;
            }
            (x, row) = (area.x, row + 1);
        }
        let y = area.y + LEGEND_PX * row as f64 + 6.0;
        if line.is_dashed {
            canvas.dashed(&[(x, y), (x + 12.0, y)], line.color, 2.0, 3.0)?;
        } else {
            canvas.fill(
                Area {
                    x,
                    y: y - 4.0,
                    w: 9.0,
                    h: 9.0,
                },
                line.color,
                1.0,
            )?;
        }
        canvas.text((x + 15.0, y), &name, font, Align::Left)?;
        x += width;
    }
    Ok(LEGEND_PX * (row + 1) as f64 + 2.0)
}

/// A time of the data as people write it.
pub(super) fn shown_time(text: &str) -> String {
    parse_time(text).map_or_else(|| text.to_owned(), moment)
}

//! One number, large, with how it came about below it.

use plotters::prelude::DrawingBackend;
use serin_yaml::parse_time;

use super::DrawError;
use super::canvas::{Align, Area, Canvas, Font};
use super::theme::{Color, crossed};
use crate::format::format_value;
use crate::panel_data::{PanelData, Point};

pub(super) fn draw<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    panel: &PanelData,
    value: Option<f64>,
    compare: Option<Option<f64>>,
    spark: &[Point],
    area: Area,
) -> Result<(), DrawError>
where
    B::ErrorType: 'static,
{
    let threshold = value.and_then(|value| crossed(&panel.thresholds, value));
    let color = threshold.map_or(canvas.theme.ink, |threshold| {
        canvas.theme.threshold(&threshold.color)
    });
    let text = format_value(value, panel.unit.as_deref());
    let mut font = Font {
        size: (area.h * 0.5).clamp(18.0, 44.0),
        color,
        is_bold: true,
    };
    while font.size > 12.0 && canvas.width(&text, font) > area.w * 0.7 {
        font.size -= 1.0;
    }
    let middle = area.y + font.size * 0.6;
    canvas.text((area.x, middle), &text, font, Align::Left)?;
    let beside = area.x + canvas.width(&text, font) + 10.0;
    if let Some(name) = threshold.and_then(|threshold| threshold.name.as_deref()) {
        let small = Font {
            color,
            ..canvas.font(12.0)
        };
        canvas.text((beside, middle + font.size * 0.2), name, small, Align::Left)?;
    }
    if let Some(before) = compare {
        let (text, color) = change(canvas, panel, value, before);
        let small = Font {
            color,
            ..canvas.font(12.0)
        };
        canvas.text((area.right(), middle), &text, small, Align::Right)?;
    }
    let top = area.y + font.size * 1.3;
    let spark_area = area.inset(0.0, top - area.y, 0.0, 0.0);
    if spark_area.h >= 12.0 {
        let color = threshold.map_or(canvas.theme.series(0), |_| color);
        sparkline(canvas, spark, color, spark_area)?;
        marks(canvas, panel, spark, spark_area)?;
    }
    Ok(())
}

/// "+3.1 % than before", green where it got better.
fn change<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    panel: &PanelData,
    value: Option<f64>,
    before: Option<f64>,
) -> (String, Color)
where
    B::ErrorType: 'static,
{
    let unit = panel.unit.as_deref();
    let (Some(value), Some(before)) = (value, before) else {
        return (
            format!("before: {}", format_value(before, unit)),
            canvas.theme.muted,
        );
    };
    let is_up = value > before;
    let color = match (panel.better, value == before) {
        (_, true) | (None, _) => canvas.theme.muted,
        (Some(better), _) if (better == "higher") == is_up => canvas.theme.threshold("green"),
        _ => canvas.theme.threshold("red"),
    };
    let arrow = if value == before {
        "="
    } else if is_up {
        "▲"
    } else {
        "▼"
    };
    if before == 0.0 {
        return (
            format!("{arrow} before: {}", format_value(Some(before), unit)),
            color,
        );
    }
    let share = format_value(Some((value / before - 1.0).abs()), Some("ratio"));
    (format!("{arrow} {share}"), color)
}

fn sparkline<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    spark: &[Point],
    color: Color,
    area: Area,
) -> Result<(), DrawError>
where
    B::ErrorType: 'static,
{
    let values = || spark.iter().filter_map(|(_, value)| *value);
    let (low, high) = (values().fold(0.0, f64::min), values().fold(0.0, f64::max));
    if high <= low || spark.len() < 2 {
        return Ok(());
    }
    let x = |index: usize| area.x + area.w * index as f64 / (spark.len() - 1) as f64;
    let y = |value: f64| area.bottom() - area.h * (value - low) / (high - low);
    let runs = spark
        .iter()
        .map(|(_, value)| *value)
        .enumerate()
        .collect::<Vec<_>>();
    for run in runs.split(|(_, value)| value.is_none()) {
        let top: Vec<(f64, f64)> = run
            .iter()
            .filter_map(|(index, value)| Some((x(*index), y((*value)?))))
            .collect();
        if let [first, .., last] = top[..] {
            let feet = [(last.0, y(0.0)), (first.0, y(0.0))];
            let outline: Vec<(f64, f64)> = top.iter().copied().chain(feet).collect();
            canvas.polygon(&outline, color, 0.15)?;
            canvas.path(&top, color, 1.5)?;
        } else if let [only] = top[..] {
            canvas.dot(only, 1.5, color)?;
        }
    }
    Ok(())
}

/// Decisions stand where they were made; what is older than the first point stands at the edge.
fn marks<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    panel: &PanelData,
    spark: &[Point],
    area: Area,
) -> Result<(), DrawError>
where
    B::ErrorType: 'static,
{
    let times: Vec<i64> = spark.iter().filter_map(|(at, _)| parse_time(at)).collect();
    let [first, .., last] = times[..] else {
        return Ok(());
    };
    let span = (last - first).max(1) as f64;
    for mark in &panel.marks {
        if let Some(time) = parse_time(&mark.time) {
            let x = area.x + area.w * ((time - first) as f64 / span).clamp(0.0, 1.0);
            let line = [(x, area.y), (x, area.bottom())];
            canvas.dashed(&line, canvas.theme.mark(&mark.kind), 1.0, 3.0)?;
        }
    }
    Ok(())
}

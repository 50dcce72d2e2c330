//! Draws panels without a browser: SVG and PNG with plotters, in the browser's colours and units.
//!
//! [`PanelData`] comes in, bytes go out. No clock, no disk, no network; the fonts are in the binary.

mod axis;
mod bars;
mod canvas;
mod flags;
mod frame;
mod heatmap;
mod lines;
mod stat;
mod table;
pub(crate) mod theme;

use std::collections::BTreeMap;

use plotters::coord::Shift;
use plotters::prelude::*;
use thiserror::Error;

use self::axis::moment;
use self::canvas::{Align, Area, Canvas, Font, Note};
pub use self::theme::{THRESHOLD_COLORS, ThemeName};
use crate::model::{Dashboard, Draw};
use crate::panel_data::{Data, PanelData};
use serin_yaml::parse_time;

/// A picture is painted this many times larger: for a PNG that is its smoothing, and in an SVG
/// plotters' whole numbers become halves of a pixel.
const SCALE: u32 = 2;
/// Smallest and largest side of a picture.
const SIDE_PX: std::ops::RangeInclusive<u32> = 80..=4_000;
/// Space between panels and around them.
const GAP_PX: f64 = 12.0;
/// Height of a dashboard's title.
const HEAD_PX: f64 = 52.0;

/// How large a picture is, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Across.
    pub width: u32,
    /// Down.
    pub height: u32,
}

/// Why a picture could not be drawn.
#[derive(Debug, Error)]
pub enum DrawError {
    /// plotters failed.
    #[error("cannot draw the picture")]
    Backend(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The PNG could not be packed.
    #[error("cannot pack the picture as PNG")]
    Png(#[from] png::EncodingError),
}

/// One panel as SVG.
pub fn panel_svg(panel: &PanelData, size: Size, theme: ThemeName) -> Result<String, DrawError> {
    svg(size, |root| paint_panel(root, panel, size, theme))
}

/// One panel as PNG.
pub fn panel_png(panel: &PanelData, size: Size, theme: ThemeName) -> Result<Vec<u8>, DrawError> {
    png(size, |root| paint_panel(root, panel, size, theme))
}

/// A whole dashboard as SVG, as high as its rows need.
pub fn dashboard_svg(
    dashboard: &Dashboard,
    panels: &[PanelData],
    width: u32,
    theme: ThemeName,
) -> Result<String, DrawError> {
    let page = Page::new(dashboard, panels, width);
    svg(page.size, |root| page.paint(root, theme))
}

/// A whole dashboard as PNG, as high as its rows need.
pub fn dashboard_png(
    dashboard: &Dashboard,
    panels: &[PanelData],
    width: u32,
    theme: ThemeName,
) -> Result<Vec<u8>, DrawError> {
    let page = Page::new(dashboard, panels, width);
    png(page.size, |root| page.paint(root, theme))
}

fn paint_panel<B: DrawingBackend>(
    root: &DrawingArea<B, Shift>,
    panel: &PanelData,
    size: Size,
    theme: ThemeName,
) -> Result<Vec<Note>, DrawError>
where
    B::ErrorType: 'static,
{
    let size = size.clamped();
    let canvas = Canvas::new(root, f64::from(SCALE), theme.theme());
    let area = Area {
        x: 0.0,
        y: 0.0,
        w: f64::from(size.width),
        h: f64::from(size.height),
    };
    canvas.fill(area, canvas.theme.surface, 1.0)?;
    frame::panel(&canvas, panel, area)?;
    Ok(canvas.into_notes())
}

impl Size {
    fn clamped(self) -> Size {
        Size {
            width: self.width.clamp(*SIDE_PX.start(), *SIDE_PX.end()),
            height: self.height.clamp(*SIDE_PX.start(), *SIDE_PX.end()),
        }
    }
}

/// A dashboard's panels in their places.
struct Page<'a> {
    title: &'a str,
    range: Option<(String, String)>,
    panels: Vec<(&'a PanelData, Area)>,
    size: Size,
}

impl<'a> Page<'a> {
    fn new(dashboard: &'a Dashboard, panels: &'a [PanelData], width: u32) -> Page<'a> {
        let width = width.clamp(320, *SIDE_PX.end());
        let by_name: BTreeMap<&str, &PanelData> = panels
            .iter()
            .map(|panel| (panel.panel.as_str(), panel))
            .collect();
        let mut placed = Vec::new();
        let mut y = HEAD_PX;
        for row in &dashboard.layout {
            let found: Vec<(&&PanelData, f64)> = row
                .iter()
                .filter_map(|(name, share)| Some((by_name.get(name.as_str())?, *share)))
                .collect();
            let Some(height) = found
                .iter()
                .map(|(panel, _)| height_px(panel))
                .reduce(f64::max)
            else {
                continue;
            };
            let shares: f64 = found.iter().map(|(_, share)| share).sum();
            let free = f64::from(width) - GAP_PX * (found.len() as f64 + 1.0);
            let mut x = GAP_PX;
            for (panel, share) in found {
                let w = free * share / shares;
                placed.push((*panel, Area { x, y, w, h: height }));
                x += w + GAP_PX;
            }
            y += height + GAP_PX;
        }
        let range = panels.first().map(|panel| panel.range.clone());
        let size = Size {
            width,
            height: y.ceil() as u32,
        }
        .clamped();
        Page {
            title: &dashboard.title,
            range,
            panels: placed,
            size,
        }
    }

    fn paint<B: DrawingBackend>(
        &self,
        root: &DrawingArea<B, Shift>,
        theme: ThemeName,
    ) -> Result<Vec<Note>, DrawError>
    where
        B::ErrorType: 'static,
    {
        let canvas = Canvas::new(root, f64::from(SCALE), theme.theme());
        let (w, h) = (f64::from(self.size.width), f64::from(self.size.height));
        canvas.fill(
            Area {
                x: 0.0,
                y: 0.0,
                w,
                h,
            },
            canvas.theme.page,
            1.0,
        )?;
        let range = self.range.as_ref().and_then(|(from, to)| {
            Some(format!(
                "{} – {} UTC",
                moment(parse_time(from)?),
                moment(parse_time(to)?)
            ))
        });
        let range = range.unwrap_or_default();
        let head = HEAD_PX / 2.0;
        let title = Font {
            is_bold: true,
            ..canvas.font(18.0)
        };
        let room = w - 3.0 * GAP_PX - canvas.width(&range, canvas.muted(12.0));
        let shown = canvas.cut(self.title, title, room);
        canvas.text((GAP_PX + 2.0, head), &shown, title, Align::Left)?;
        canvas.text(
            (w - GAP_PX - 2.0, head),
            &range,
            canvas.muted(12.0),
            Align::Right,
        )?;
        for (panel, area) in &self.panels {
            canvas.fill(*area, canvas.theme.surface, 1.0)?;
            canvas.frame(*area, canvas.theme.border)?;
            frame::panel(&canvas, panel, *area)?;
        }
        Ok(canvas.into_notes())
    }
}

/// How high a panel likes to be on a dashboard.
fn height_px(panel: &PanelData) -> f64 {
    match (&panel.draw, &panel.data) {
        (Draw::Stat, _) => 128.0,
        (_, Some(Data::Table { rows, .. })) => table::height_px(rows.len()).min(420.0),
        (_, Some(Data::Bars { bars })) => (bars.len() as f64 * 26.0 + 60.0).clamp(160.0, 420.0),
        (_, Some(Data::Heatmap { y, .. })) => {
            (y.labels.len() as f64 * 26.0 + 110.0).clamp(200.0, 420.0)
        }
        _ => 250.0,
    }
}

/// Paints at the larger scale into SVG text whose size is the picture's own.
fn svg(
    size: Size,
    paint: impl FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> Result<Vec<Note>, DrawError>,
) -> Result<String, DrawError> {
    let size = size.clamped();
    let (width, height) = (size.width * SCALE, size.height * SCALE);
    let mut text = String::new();
    let notes = {
        let root = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
        let notes = paint(&root)?;
        root.present()
            .map_err(|error| DrawError::Backend(error.to_string().into()))?;
        notes
    };
    let notes: String = notes.iter().map(Note::to_svg).collect();
    if let Some(end) = text.rfind("</svg>") {
        text.insert_str(end, &notes);
    }
    let painted = format!("width=\"{width}\" height=\"{height}\"");
    let shown = format!(
        "width=\"{}\" height=\"{}\" role=\"img\"",
        size.width, size.height
    );
    Ok(text.replacen(&painted, &shown, 1))
}

/// Paints at the larger scale and takes the mean of each square of pixels.
fn png(
    size: Size,
    paint: impl FnOnce(&DrawingArea<BitMapBackend<'_>, Shift>) -> Result<Vec<Note>, DrawError>,
) -> Result<Vec<u8>, DrawError> {
    let size = size.clamped();
    let (width, height) = (size.width * SCALE, size.height * SCALE);
    let mut large = vec![0; (width * height * 3) as usize];
    {
        let root = BitMapBackend::with_buffer(&mut large, (width, height)).into_drawing_area();
        // There is no pointer over a bitmap.
        drop(paint(&root)?);
        root.present()
            .map_err(|error| DrawError::Backend(error.to_string().into()))?;
    }
    let small = halve(&large, size);
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, size.width, size.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&small)?;
    writer.finish()?;
    Ok(bytes)
}

fn halve(large: &[u8], size: Size) -> Vec<u8> {
    let (scale, width) = (SCALE as usize, size.width as usize);
    let row_bytes = width * scale * 3;
    let mut small = Vec::with_capacity(width * size.height as usize * 3);
    for y in 0..size.height as usize {
        for x in 0..width {
            for part in 0..3 {
                let mut sum = 0u32;
                for dy in 0..scale {
                    for dx in 0..scale {
                        let at = (y * scale + dy) * row_bytes + (x * scale + dx) * 3 + part;
                        sum += u32::from(large[at]);
                    }
                }
                small.push((sum / (SCALE * SCALE)) as u8);
            }
        }
    }
    small
}

//! A small brush over any plotters backend: rectangles, lines, areas and text in logical pixels.
//!
//! `scale` multiplies everything: a PNG is painted at twice its size and halved, an SVG in halves of
//! a pixel. Text is drawn as text, never as markup.

use plotters::coord::Shift;
use plotters::element::Drawable;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, FontFamily, FontStyle, register_font};
use std::cell::RefCell;
use std::sync::Once;

use super::DrawError;
use super::theme::{Color, Theme};

/// The family that text is measured with; a browser takes its own.
const FAMILY: &str = "sans-serif";

/// A rectangle in logical pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Area {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) w: f64,
    pub(crate) h: f64,
}

/// Where a text stands relative to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Center,
    Right,
}

/// How a text looks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Font {
    pub(crate) size: f64,
    pub(crate) color: Color,
    pub(crate) is_bold: bool,
}

/// What is told under the pointer, where the picture has one; in painted pixels.
#[derive(Debug)]
pub(crate) struct Note {
    area: Area,
    text: String,
}

/// The brush.
pub(crate) struct Canvas<'a, B: DrawingBackend> {
    root: &'a DrawingArea<B, Shift>,
    scale: f64,
    pub(crate) theme: &'static Theme,
    notes: RefCell<Vec<Note>>,
}

impl Note {
    /// A place that shows nothing but its text to who points at it.
    pub(crate) fn to_svg(&self) -> String {
        let Area { x, y, w, h } = self.area;
        let text = printable(&self.text.replace('\n', " · "));
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        format!(
            "<rect x=\"{x:.0}\" y=\"{y:.0}\" width=\"{w:.0}\" height=\"{h:.0}\" fill=\"none\" pointer-events=\"all\"><title>{text}</title></rect>\n"
        )
    }
}

impl Area {
    pub(crate) fn right(&self) -> f64 {
        self.x + self.w
    }

    pub(crate) fn bottom(&self) -> f64 {
        self.y + self.h
    }

    /// The same without so much on each side: left, top, right, bottom.
    pub(crate) fn inset(&self, left: f64, top: f64, right: f64, bottom: f64) -> Area {
        Area {
            x: self.x + left,
            y: self.y + top,
            w: (self.w - left - right).max(1.0),
            h: (self.h - top - bottom).max(1.0),
        }
    }
}

fn register_fonts() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        let regular = register_font(FAMILY, FontStyle::Normal, dejavu::sans::regular());
        let bold = register_font(FAMILY, FontStyle::Bold, dejavu::sans::bold());
        // Both are parts of the binary; a test draws with them.
        debug_assert!(regular.is_ok() && bold.is_ok());
    });
}

impl<'a, B: DrawingBackend> Canvas<'a, B>
where
    B::ErrorType: 'static,
{
    pub(crate) fn new(
        root: &'a DrawingArea<B, Shift>,
        scale: f64,
        theme: &'static Theme,
    ) -> Canvas<'a, B> {
        register_fonts();
        Canvas {
            root,
            scale,
            theme,
            notes: RefCell::default(),
        }
    }

    /// Has a text told to who points at an area.
    pub(crate) fn note(&self, area: Area, text: String) {
        let scaled = |side: f64| side * self.scale;
        let area = Area {
            x: scaled(area.x),
            y: scaled(area.y),
            w: scaled(area.w),
            h: scaled(area.h),
        };
        self.notes.borrow_mut().push(Note { area, text });
    }

    pub(crate) fn into_notes(self) -> Vec<Note> {
        self.notes.into_inner()
    }

    pub(crate) fn font(&self, size: f64) -> Font {
        Font {
            size,
            color: self.theme.ink,
            is_bold: false,
        }
    }

    pub(crate) fn muted(&self, size: f64) -> Font {
        Font {
            size,
            color: self.theme.muted,
            is_bold: false,
        }
    }

    fn at(&self, (x, y): (f64, f64)) -> (i32, i32) {
        (
            (x * self.scale).round() as i32,
            (y * self.scale).round() as i32,
        )
    }

    fn draw<E>(&self, element: &E) -> Result<(), DrawError>
    where
        E: Drawable<B>,
        for<'b> &'b E: plotters::element::PointCollection<'b, (i32, i32)>,
    {
        self.root
            .draw(element)
            .map_err(|error| DrawError::Backend(error.to_string().into()))
    }

    pub(crate) fn fill(&self, area: Area, color: Color, opacity: f64) -> Result<(), DrawError> {
        let (left, top) = self.at((area.x, area.y));
        let (right, bottom) = self.at((area.right(), area.bottom()));
        // Neither backend paints the last column and row.
        let corners = [(left, top), (right.max(left + 1), bottom.max(top + 1))];
        self.draw(&Rectangle::new(corners, color.0.mix(opacity).filled()))
    }

    pub(crate) fn frame(&self, area: Area, color: Color) -> Result<(), DrawError> {
        let (x, y, right, bottom) = (area.x, area.y, area.right(), area.bottom());
        for (from, to) in [
            ((x, y), (right, y)),
            ((x, bottom), (right, bottom)),
            ((x, y), (x, bottom)),
            ((right, y), (right, bottom)),
        ] {
            self.line(from, to, color, 1.0)?;
        }
        Ok(())
    }

    pub(crate) fn line(
        &self,
        from: (f64, f64),
        to: (f64, f64),
        color: Color,
        width: f64,
    ) -> Result<(), DrawError> {
        self.path(&[from, to], color, width)
    }

    pub(crate) fn path(
        &self,
        points: &[(f64, f64)],
        color: Color,
        width: f64,
    ) -> Result<(), DrawError> {
        let stroke = (width * self.scale).round().max(1.0) as u32;
        let mut points: Vec<(i32, i32)> = points.iter().map(|point| self.at(*point)).collect();
        points.dedup();
        let mut from = 0;
        for at in 1..points.len() {
            // The bitmap backend draws a sharp corner as a spike far beyond it: begin anew there.
            let is_end = at + 1 == points.len();
            if is_end || is_sharp(points[at - 1], points[at], points[at + 1]) {
                let piece = points[from..=at].to_vec();
                self.draw(&PathElement::new(piece, color.0.stroke_width(stroke)))?;
                from = at;
            }
        }
        Ok(())
    }

    /// A path of dashes, `dash` long and as far apart.
    pub(crate) fn dashed(
        &self,
        points: &[(f64, f64)],
        color: Color,
        width: f64,
        dash: f64,
    ) -> Result<(), DrawError> {
        let (mut is_on, mut left) = (true, dash);
        for pair in points.windows(2) {
            let ((x, y), (x2, y2)) = (pair[0], pair[1]);
            let length = (x2 - x).hypot(y2 - y);
            let mut done = 0.0;
            while done < length {
                let step = left.min(length - done);
                if is_on {
                    let on = |at: f64| (x + (x2 - x) * at / length, y + (y2 - y) * at / length);
                    self.line(on(done), on(done + step), color, width)?;
                }
                done += step;
                left -= step;
                if left <= 1e-9 {
                    (is_on, left) = (!is_on, dash);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn polygon(
        &self,
        points: &[(f64, f64)],
        color: Color,
        opacity: f64,
    ) -> Result<(), DrawError> {
        let points: Vec<(i32, i32)> = points.iter().map(|point| self.at(*point)).collect();
        self.draw(&Polygon::new(points, color.0.mix(opacity)))
    }

    pub(crate) fn dot(&self, at: (f64, f64), radius: f64, color: Color) -> Result<(), DrawError> {
        let radius = (radius * self.scale).round() as i32;
        self.draw(&Circle::new(self.at(at), radius, color.0.filled()))
    }

    fn style(&self, font: Font) -> TextStyle<'static> {
        let style = if font.is_bold {
            FontStyle::Bold
        } else {
            FontStyle::Normal
        };
        let size = font.size * self.scale;
        let family = FontFamily::SansSerif;
        TextStyle {
            font: (family, size, style).into_font(),
            color: font.color.0.to_backend_color(),
            pos: Pos::default(),
        }
    }

    /// Writes one line; `at.1` is its middle.
    pub(crate) fn text(
        &self,
        at: (f64, f64),
        text: &str,
        font: Font,
        align: Align,
    ) -> Result<(), DrawError> {
        let horizontal = match align {
            Align::Left => HPos::Left,
            Align::Center => HPos::Center,
            Align::Right => HPos::Right,
        };
        let style = self.style(font).pos(Pos::new(horizontal, VPos::Center));
        let text = printable(text);
        self.draw(&Text::new(text, self.at(at), style))
    }

    pub(crate) fn width(&self, text: &str, font: Font) -> f64 {
        let size = self
            .root
            .estimate_text_size(&printable(text), &self.style(font));
        size.map_or(0.0, |(width, _)| f64::from(width) / self.scale)
    }

    /// The text, cut at its end with an ellipsis where it is wider than it may be.
    pub(crate) fn cut(&self, text: &str, font: Font, width: f64) -> String {
        /// No line of ours is longer; measuring more would be wasted.
        const CHARS_MAX: usize = 300;
        let chars: Vec<char> = text.chars().take(CHARS_MAX).collect();
        let whole: String = chars.iter().collect();
        if whole.len() == text.len() && self.width(text, font) <= width {
            return whole;
        }
        let (mut fits, mut too_many) = (0, chars.len() + 1);
        while fits + 1 < too_many {
            let middle = (fits + too_many) / 2;
            let tried: String = chars[..middle].iter().chain(&['…']).collect();
            if self.width(&tried, font) <= width {
                fits = middle
            } else {
                too_many = middle
            }
        }
        chars[..fits].iter().chain(&['…']).collect()
    }

    /// The text in lines of at most that width, broken between words.
    pub(crate) fn wrap(&self, text: &str, font: Font, width: f64, lines_max: usize) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for word in text.split_whitespace() {
            let is_full = lines.len() == lines_max;
            match lines.last_mut() {
                Some(line) if self.width(&format!("{line} {word}"), font) <= width => {
                    line.push(' ');
                    line.push_str(word);
                }
                Some(line) if is_full => {
                    line.push_str(" …");
                    break;
                }
                _ => lines.push(word.to_owned()),
            }
        }
        lines
            .iter()
            .map(|line| self.cut(line, font, width))
            .collect()
    }
}

/// Whether a path turns by more than 60 degrees.
fn is_sharp(a: (i32, i32), b: (i32, i32), c: (i32, i32)) -> bool {
    let (x, y) = (f64::from(b.0 - a.0), f64::from(b.1 - a.1));
    let (x2, y2) = (f64::from(c.0 - b.0), f64::from(c.1 - b.1));
    x * x2 + y * y2 < 0.5 * x.hypot(y) * x2.hypot(y2)
}

/// Control characters are not allowed in SVG, and have no look in a PNG.
fn printable(text: &str) -> String {
    let shown = |c: char| {
        let is_unprintable = c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}');
        if is_unprintable { '\u{fffd}' } else { c }
    };
    text.chars().map(shown).collect()
}

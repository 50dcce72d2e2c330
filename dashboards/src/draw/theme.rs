//! The colours, shared with the browser through `palette.json`.
//!
//! Every colour that carries meaning has a contrast of at least 3:1 to the surface, and the first
//! five of a series stay apart for people who do not tell red from green; tests hold both.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use plotters::style::RGBColor;
use serde::{Deserialize, Deserializer};

use crate::model::Threshold;

/// The names of colours that a threshold may have.
pub const THRESHOLD_COLORS: [&str; 6] = ["green", "yellow", "orange", "red", "blue", "grey"];

/// Light or dark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ThemeName {
    /// Dark on white.
    #[default]
    Light,
    /// Light on near black.
    Dark,
}

/// The colours of one theme.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Theme {
    pub(crate) page: Color,
    pub(crate) surface: Color,
    pub(crate) border: Color,
    pub(crate) ink: Color,
    pub(crate) muted: Color,
    pub(crate) grid: Color,
    series: Vec<Color>,
    threshold: BTreeMap<String, Color>,
    heat: Vec<Color>,
}

/// A colour, `#rrggbb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Color(pub(crate) RGBColor);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Palette {
    /// The names of the colours of decisions; those that are not named are blue.
    marks: BTreeMap<String, String>,
    light: Theme,
    dark: Theme,
}

static PALETTE: LazyLock<Palette> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../palette.json")).expect("a test reads the same file")
});

impl<'de> Deserialize<'de> for Color {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Color, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed = text.strip_prefix('#').filter(|digits| digits.len() == 6);
        let number = parsed.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let [_, r, g, b] = number
            .ok_or_else(|| serde::de::Error::custom("a colour is written #rrggbb"))?
            .to_be_bytes();
        Ok(Color(RGBColor(r, g, b)))
    }
}

impl ThemeName {
    /// Its colours.
    pub(crate) fn theme(self) -> &'static Theme {
        match self {
            ThemeName::Light => &PALETTE.light,
            ThemeName::Dark => &PALETTE.dark,
        }
    }

    /// Reads `light` or `dark`.
    pub fn parse(text: &str) -> Option<ThemeName> {
        match text {
            "light" => Some(ThemeName::Light),
            "dark" => Some(ThemeName::Dark),
            _ => None,
        }
    }
}

impl Theme {
    /// The colour of the series with that number; they come round again.
    pub(crate) fn series(&self, index: usize) -> Color {
        self.series[index % self.series.len()]
    }

    /// The colour of that name; ink where there is none.
    pub(crate) fn threshold(&self, name: &str) -> Color {
        self.threshold.get(name).copied().unwrap_or(self.ink)
    }

    /// The colour of the mark of a decision.
    pub(crate) fn mark(&self, action: &str) -> Color {
        let named = PALETTE.marks.get(action);
        self.threshold(named.map_or("blue", String::as_str))
    }

    /// The colour of a share, 0 to 1, of the greatest value.
    pub(crate) fn heat(&self, share: f64) -> Color {
        let at = share.clamp(0.0, 1.0) * (self.heat.len() - 1) as f64;
        let (low, high) = (at.floor() as usize, at.ceil() as usize);
        let (Color(a), Color(b)) = (self.heat[low], self.heat[high]);
        let between =
            |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * at.fract()) as u8;
        Color(RGBColor(
            between(a.0, b.0),
            between(a.1, b.1),
            between(a.2, b.2),
        ))
    }
}

/// The threshold that a value crosses furthest.
pub(crate) fn crossed(thresholds: &[Threshold], value: f64) -> Option<&Threshold> {
    let above = thresholds
        .iter()
        .filter(|threshold| threshold.above.is_some_and(|bound| value > bound))
        .max_by(|a, b| {
            a.above
                .partial_cmp(&b.above)
                .unwrap_or(std::cmp::Ordering::Equal)
        });
    let below = || {
        thresholds
            .iter()
            .filter(|threshold| threshold.below.is_some_and(|bound| value < bound))
            .min_by(|a, b| {
                a.below
                    .partial_cmp(&b.below)
                    .unwrap_or(std::cmp::Ordering::Equal)
            })
    };
    above.or_else(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn luminance(color: Color) -> f64 {
        let linear = |part: u8| {
            let part = f64::from(part) / 255.0;
            if part <= 0.03928 {
                part / 12.92
            } else {
                ((part + 0.055) / 1.055).powf(2.4)
            }
        };
        let RGBColor(r, g, b) = color.0;
        0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b)
    }

    fn contrast(a: Color, b: Color) -> f64 {
        let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
        a.max(b) / a.min(b)
    }

    #[test]
    fn what_carries_meaning_stands_out() {
        for theme in [ThemeName::Light.theme(), ThemeName::Dark.theme()] {
            for color in theme.series.iter().chain(theme.threshold.values()) {
                assert!(contrast(*color, theme.surface) >= 3.0, "{color:?}");
            }
            assert!(contrast(theme.ink, theme.surface) >= 7.0);
            assert!(contrast(theme.muted, theme.surface) >= 4.5);
            let names: Vec<&str> = theme.threshold.keys().map(String::as_str).collect();
            let mut wanted = THRESHOLD_COLORS;
            wanted.sort_unstable();
            assert_eq!(names, wanted);
            let known = |color: &String| theme.threshold.contains_key(color);
            assert!(PALETTE.marks.values().all(known));
        }
    }

    #[test]
    fn the_furthest_threshold_counts() {
        let bound = |above, below, color: &str| Threshold {
            above,
            below,
            color: color.to_owned(),
            name: None,
        };
        let thresholds = [
            bound(Some(0.01), None, "yellow"),
            bound(Some(0.05), None, "red"),
        ];
        let color = |value| crossed(&thresholds, value).map(|threshold| threshold.color.as_str());
        assert_eq!(
            (color(0.005), color(0.02), color(0.2)),
            (None, Some("yellow"), Some("red"))
        );
    }
}

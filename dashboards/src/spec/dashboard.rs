//! `dashboards/*.yaml`: one dashboard per file.

use serde::Deserialize;
use serin_yaml::{Entries, Names, Span, Spanned};

use super::range::DefaultRange;

/// A dashboard as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawDashboard {
    pub(crate) dashboard: Spanned<String>,
    pub(crate) title: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) range: Option<DefaultRange>,
    pub(crate) refresh: Option<Spanned<Span>>,
    pub(crate) marks_of: Option<Names>,
    #[serde(default)]
    pub(crate) variables: Entries<RawVariable>,
    pub(crate) panels: Entries<RawPanel>,
    #[serde(default)]
    pub(crate) layout: Vec<Entries<Spanned<f64>>>,
}

/// A variable as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawVariable {
    pub(crate) values_of: Spanned<String>,
    pub(crate) title: Option<String>,
    #[serde(default)]
    pub(crate) multi: bool,
}

/// A panel as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPanel {
    pub(crate) title: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) kpi: Option<Spanned<String>>,
    pub(crate) kpis: Option<Vec<Spanned<String>>>,
    pub(crate) sql: Option<Spanned<String>>,
    pub(crate) draw: Option<Spanned<RawDraw>>,
    pub(crate) by: Option<Spanned<Names>>,
    pub(crate) top: Option<Spanned<u32>>,
    pub(crate) stack: Option<Spanned<bool>>,
    pub(crate) compare: Option<Spanned<Span>>,
    #[serde(default)]
    pub(crate) thresholds: Vec<RawThreshold>,
    pub(crate) unit: Option<String>,
    #[serde(default)]
    pub(crate) units: Entries<Spanned<String>>,
    pub(crate) x: Option<Spanned<String>>,
    pub(crate) y: Option<Spanned<String>>,
    pub(crate) step: Option<Spanned<Span>>,
}

/// How a panel is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawDraw {
    Line,
    Bar,
    Stat,
    Table,
    Heatmap,
}

/// A bound with a colour.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawThreshold {
    pub(crate) above: Option<f64>,
    pub(crate) below: Option<f64>,
    pub(crate) color: Spanned<String>,
    pub(crate) name: Option<String>,
}

impl From<RawDraw> for crate::model::Draw {
    fn from(raw: RawDraw) -> crate::model::Draw {
        match raw {
            RawDraw::Line => crate::model::Draw::Line,
            RawDraw::Bar => crate::model::Draw::Bar,
            RawDraw::Stat => crate::model::Draw::Stat,
            RawDraw::Table => crate::model::Draw::Table,
            RawDraw::Heatmap => crate::model::Draw::Heatmap,
        }
    }
}

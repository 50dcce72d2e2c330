//! The shapes that leave by the API. Times are RFC 3339 UTC, gaps are null.

use std::collections::BTreeMap;

use serde::Serialize;
use serin_dashboards::Variable;

/// An error.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorBody {
    pub(crate) error: String,
    pub(crate) code: &'static str,
}

/// What became of posted events.
#[derive(Debug, Serialize)]
pub(crate) struct EventsBody {
    pub(crate) accepted: u64,
    pub(crate) duplicates: u64,
    pub(crate) refused: Vec<RefusedBody>,
    /// How many were refused in all; `refused` holds the first thousand.
    pub(crate) refused_total: usize,
    /// The first line not taken because the bus stopped in the middle of the body; no later one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) go_on_from: Option<u64>,
}

/// One refused event.
#[derive(Debug, Serialize)]
pub(crate) struct RefusedBody {
    pub(crate) line: u64,
    pub(crate) error: String,
}

/// Whether the browser is signed in.
#[derive(Debug, Serialize)]
pub(crate) struct SessionBody {
    pub(crate) user: &'static str,
    pub(crate) version: &'static str,
    /// A new name at each start of the server.
    pub(crate) instance: String,
    pub(crate) now: String,
}

/// A link to sign in is `/signin?code=CODE`.
#[derive(Debug, Serialize)]
pub(crate) struct CodeBody {
    pub(crate) code: String,
}

/// The tokens that outlive a start.
#[derive(Debug, Serialize)]
pub(crate) struct TokensBody {
    pub(crate) tokens: Vec<TokenBody>,
}

/// What is known of one.
#[derive(Debug, Serialize)]
pub(crate) struct TokenBody {
    pub(crate) name: String,
    pub(crate) created: String,
    /// Null for one without an end.
    pub(crate) expires: Option<String>,
    pub(crate) is_expired: bool,
}

/// A token was made; this is the one time that it is told.
#[derive(Debug, Serialize)]
pub(crate) struct MadeTokenBody {
    pub(crate) name: String,
    pub(crate) token: String,
    pub(crate) created: String,
    pub(crate) expires: Option<String>,
}

/// Done, with nothing more to say.
#[derive(Debug, Serialize)]
pub(crate) struct DoneBody {
    pub(crate) done: bool,
}

/// A KPI in the list of all.
#[derive(Debug, Serialize)]
pub(crate) struct KpiSummary {
    pub(crate) name: String,
    pub(crate) title: Option<String>,
    pub(crate) unit: Option<String>,
    pub(crate) better: Option<&'static str>,
    pub(crate) by: Vec<String>,
}

/// What a KPI answers.
#[derive(Debug, Serialize)]
pub(crate) struct KpiBody {
    pub(crate) name: String,
    pub(crate) unit: Option<String>,
    /// Null where one point stands for the whole range.
    pub(crate) step_s: Option<f64>,
    pub(crate) series: Vec<SeriesBody>,
    /// Share of the steps that could be measured.
    pub(crate) coverage: f64,
    pub(crate) samples: u64,
    pub(crate) series_dropped: usize,
    /// Whether the values are near the true ones: quantiles, distinct counts.
    pub(crate) approximate: bool,
    pub(crate) watermark: Option<String>,
    pub(crate) served_from: &'static str,
}

/// One line of it.
#[derive(Debug, Serialize)]
pub(crate) struct SeriesBody {
    pub(crate) by: BTreeMap<String, Option<String>>,
    pub(crate) points: Vec<(String, Option<f64>)>,
    /// Numerator and denominator of each point, for ratios.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parts: Option<Vec<(Option<f64>, Option<f64>)>>,
}

/// A dashboard in the list of all.
#[derive(Debug, Serialize)]
pub(crate) struct DashboardSummary {
    pub(crate) name: String,
    pub(crate) title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    /// It comes with Serin, and no file of the folder has its name.
    pub(crate) is_built_in: bool,
}

/// From when to when: RFC 3339, or relative to now where it is a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct RangeBody {
    pub(crate) from: String,
    pub(crate) to: String,
}

/// A dashboard's definition.
#[derive(Debug, Serialize)]
pub(crate) struct DashboardBody {
    pub(crate) name: String,
    pub(crate) title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    /// What it is shown with where nobody asks for another.
    pub(crate) range: RangeBody,
    /// What its file names, where that is longer because the data are young.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) own_range: Option<RangeBody>,
    /// When its data begin, where that makes its range shorter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data_from: Option<String>,
    pub(crate) refresh_s: f64,
    pub(crate) layout: Vec<Vec<PlaceBody>>,
    pub(crate) panels: BTreeMap<String, PanelBody>,
    pub(crate) variables: Vec<VariableBody>,
    pub(crate) is_built_in: bool,
    pub(crate) revision: u64,
    pub(crate) problems: Vec<ProblemBody>,
}

/// What a dashboard's readers choose.
#[derive(Debug, Serialize)]
pub(crate) struct VariableBody {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) is_multi: bool,
    /// The values there are within a range, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) values: Option<Vec<String>>,
}

impl VariableBody {
    pub(crate) fn of(variable: &Variable) -> VariableBody {
        VariableBody {
            name: variable.name.clone(),
            title: variable.title.clone(),
            is_multi: variable.is_multi,
            values: None,
        }
    }
}

/// A panel's place in a row.
#[derive(Debug, Serialize)]
pub(crate) struct PlaceBody {
    pub(crate) panel: String,
    pub(crate) share: f64,
}

/// A panel's definition.
#[derive(Debug, Serialize)]
pub(crate) struct PanelBody {
    pub(crate) title: String,
    pub(crate) draw: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    /// Its numbers are those of requests, whose traces can be looked at.
    pub(crate) has_traces: bool,
}

/// A built-in dashboard was copied.
#[derive(Debug, Serialize)]
pub(crate) struct CopiedBody {
    /// The new file, below the folder.
    pub(crate) file: String,
}

/// Something wrong in a YAML file.
#[derive(Debug, Serialize)]
pub(crate) struct ProblemBody {
    pub(crate) file: String,
    pub(crate) line: u64,
    pub(crate) column: u64,
    pub(crate) message: String,
}

/// The numbers of panels.
#[derive(Debug, Serialize)]
pub(crate) struct DataBody<T> {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) step_s: f64,
    pub(crate) panels: BTreeMap<String, T>,
    pub(crate) watermark: Option<String>,
    pub(crate) data_range: Option<RangeBody>,
}

/// The dashboard's definition has changed.
#[derive(Debug, Serialize)]
pub(crate) struct RevisionBody {
    pub(crate) revision: u64,
}

/// The line is alive.
#[derive(Debug, Serialize)]
pub(crate) struct TickBody {
    pub(crate) now: String,
    pub(crate) watermark: Option<String>,
}

/// A line of the answer to a dropped file.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum OpenBody {
    At {
        stage: &'static str,
        done: u64,
        total: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        waits: Option<String>,
    },
    Done {
        dashboard: String,
        from: String,
        to: String,
        events: u64,
        refused: u64,
        said: Vec<String>,
    },
    Failed {
        error: String,
    },
}

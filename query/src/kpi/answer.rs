//! What is asked of a KPI, and what it answers.

use crate::limits::Range;

/// What is asked of a KPI.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KpiRequest {
    /// From when to when, in the times that are shown.
    pub range: Range,
    /// The distance of points; `None` asks for one point over the whole range. Steps are aligned to
    /// round times (weeks to Monday); a range that is not aligned has shorter first and last steps.
    pub step_us: Option<i64>,
    /// Dimensions to split by: those of the definition, columns, `hour_of_day`, `day_of_week`.
    pub by: Vec<String>,
    /// Only events whose dimension has one of these values.
    pub filters: Vec<(String, Vec<String>)>,
    /// How far back the events are read that are shown in the range: one day compares with yesterday.
    pub shift_us: i64,
    /// How many series at most, greatest first; the others are dropped and counted.
    pub series_max: usize,
}

/// What a KPI answers.
#[derive(Debug, Clone, PartialEq)]
pub struct KpiAnswer {
    /// The KPI.
    pub name: String,
    /// What its values are counted in.
    pub unit: Option<String>,
    /// The distance of points; `None`: one point over the whole range.
    pub step_us: Option<i64>,
    /// One per combination of the dimensions, greatest first; one without dimensions.
    pub series: Vec<Series>,
    /// Share of the steps that could be measured, 0 to 1.
    pub coverage: f64,
    /// How many events are behind it; of a ratio, behind its denominator.
    pub samples: u64,
    /// Up to when the data are complete; `None` while nobody seals time.
    pub watermark_us: Option<i64>,
    /// How many series were left out.
    pub series_dropped: usize,
    /// What was read.
    pub served_from: ServedFrom,
}

/// One line of a chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The dimensions' values, in the order asked; `None` where an event had none.
    pub by: Vec<(String, Option<String>)>,
    /// Start of the step and value. `None` is a gap: not measured, which is not zero.
    pub points: Vec<(i64, Option<f64>)>,
    /// Numerator and denominator of each point, for ratios and funnels.
    pub parts: Option<Vec<(Option<f64>, Option<f64>)>>,
    /// How many events are behind it.
    pub samples: u64,
}

/// What was read for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServedFrom {
    /// The events themselves.
    Raw,
}

impl ServedFrom {
    /// As the API says it.
    pub fn as_str(self) -> &'static str {
        match self {
            ServedFrom::Raw => "raw",
        }
    }
}

//! A decision of the control loop, with what led to it; it travels as an event of type `serin.decision`.
//!
//! It says as much about what was *not* done as about what was: a decision without its inputs
//! cannot be answered for. Stored in the table `decisions`.

use serde::{Deserialize, Serialize};

use crate::time::Micros;

/// The event type of a decision.
pub const EVENT_TYPE: &str = "serin.decision";

/// What the control loop did, or refused to do, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Who decided: the name of the rule or policy.
    pub rule: String,
    /// What was decided: `notify`, `resolve`, later `scale`, `heal`, `promote`, `roll-back`, `hold`.
    pub action: String,
    /// The service it is about, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The KPI that was read.
    pub kpi: String,
    /// The series of that KPI, `{"country": "de"}` as JSON text; absent for the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Its value at the end of the window; absent when it could not be measured.
    pub value: Option<f64>,
    /// The bound it was held against.
    pub bound: f64,
    /// Beginning of the window that was judged.
    pub from_us: Micros,
    /// End of that window; never later than the watermark.
    pub to_us: Micros,
    /// The watermark at that moment.
    pub watermark_us: Micros,
    /// Share of the window that has data, 0 to 1.
    pub coverage: f64,
    /// `observe` or `act`.
    pub mode: String,
    /// One plain sentence.
    pub why: String,
}

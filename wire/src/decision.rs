//! What was decided, by a rule, the runtime or a person, with what led to it; it travels as an event of
//! type `serin.decision`.
//!
//! It says as much about what was *not* done as about what was: a decision without its inputs
//! cannot be answered for. Stored in the table `decisions`, and drawn as a mark on charts.

use serde::{Deserialize, Serialize};

use crate::time::Micros;

/// The event type of a decision.
pub const EVENT_TYPE: &str = "serin.decision";

/// What was done, or refused to be done, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Who decided: the name of the rule or policy; `person`, where somebody did by hand.
    pub rule: String,
    /// What was decided: `notify`, `resolve`; of a service `deploy`, `rollback`, `fail`, `replace`,
    /// `stop`, `remove`; later `scale`, `promote`, `hold`.
    pub action: String,
    /// The service it is about, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The version of that service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_version: Option<String>,
    /// The instance of that version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_instance: Option<String>,
    /// What was read, where something was.
    #[serde(flatten)]
    pub inputs: Option<Inputs>,
    /// `observe` or `act`.
    pub mode: String,
    /// One plain sentence.
    pub why: String,
}

/// What a decision was made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inputs {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_stand_beside_the_rest_and_may_be_missing() {
        let told = Decision {
            rule: String::from("person"),
            action: String::from("deploy"),
            subject: Some(String::from("cart")),
            subject_version: Some(String::from("v2")),
            subject_instance: None,
            inputs: None,
            mode: String::from("act"),
            why: String::from("v2 serves: deployed by hand"),
        };
        let text = serde_json::to_string(&told).expect("JSON");
        assert_eq!(
            text,
            r#"{"rule":"person","action":"deploy","subject":"cart","subject_version":"v2","mode":"act","why":"v2 serves: deployed by hand"}"#
        );
        assert_eq!(serde_json::from_str::<Decision>(&text).expect("read"), told);
        let inputs = Inputs {
            kpi: String::from("errors"),
            by: None,
            value: Some(0.5),
            bound: 0.1,
            from_us: 1,
            to_us: 2,
            watermark_us: 3,
            coverage: 1.0,
        };
        let told = Decision {
            inputs: Some(inputs),
            ..told
        };
        let value = serde_json::to_value(&told).expect("JSON");
        assert_eq!(value["kpi"], "errors");
        assert_eq!(
            serde_json::from_value::<Decision>(value).expect("read"),
            told
        );
    }
}

//! What follows from an observation: a function of values, without clock and without IO.
//!
//! A rule goes off when its bound is crossed in every step of the window, and is over when it is
//! crossed in none. A step that could not be measured decides nothing, either way: missing data are
//! neither good news nor bad. A quiet step, of which it is known that there was nothing to measure, is
//! passed over, so that a share can be judged where traffic is sparse. Start at [`judge`].

use std::fmt;

use serin_query::kpi::{Bound, Rule};
use serin_wire::Decision;
use serin_wire::decision::Inputs;

use crate::observe::Observation;

/// What was decided last by a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    /// Whether it went off and is not over.
    pub is_firing: bool,
    /// End of the last window that was judged; 0 before the first.
    pub to_us: i64,
}

/// What follows from an observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The rule goes off: tell people.
    Notify,
    /// It is over: tell people.
    Resolve,
    /// Nothing is decided.
    Hold(Held),
}

/// Why nothing is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// This window was judged before.
    Seen,
    /// Some steps could not be measured: missing steps, all steps.
    Missing(usize, usize),
    /// Nothing happened in any of so many steps.
    Quiet(usize),
    /// The bound is crossed in some steps only: crossed steps, all steps.
    Mixed(usize, usize),
    /// It went off before and still holds.
    StillOff,
    /// All is well, as before.
    StillWell,
}

impl State {
    /// The state after a decision with that action.
    pub fn after(action: &str, to_us: i64) -> State {
        State {
            is_firing: action == "notify",
            to_us,
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Held::Seen => f.write_str("judged before"),
            Held::Missing(missing, all) => {
                write!(f, "{missing} of {all} steps could not be measured")
            }
            Held::Quiet(all) => write!(f, "nothing to measure in {all} steps"),
            Held::Mixed(crossed, all) => write!(f, "crossed in {crossed} of {all} steps"),
            Held::StillOff => f.write_str("still crossed in every step"),
            Held::StillWell => f.write_str("crossed in no step"),
        }
    }
}

/// What follows from an observation, or why nothing does.
pub fn judge(rule: &Rule, state: &State, observation: &Observation) -> Verdict {
    if observation.to_us <= state.to_us {
        return Verdict::Hold(Held::Seen);
    }
    let all = observation.steps.len();
    let measured = observation.steps.iter().flatten().count();
    let missing = all.saturating_sub(measured + observation.quiet);
    if missing > 0 || all == 0 {
        return Verdict::Hold(Held::Missing(missing, all));
    }
    if measured == 0 {
        return Verdict::Hold(Held::Quiet(all));
    }
    let is_crossed = |value: &&f64| rule.bound.is_crossed_by(**value);
    let crossed = observation
        .steps
        .iter()
        .flatten()
        .filter(is_crossed)
        .count();
    match (crossed, state.is_firing) {
        (0, true) => Verdict::Resolve,
        (0, false) => Verdict::Hold(Held::StillWell),
        (crossed, true) if crossed == measured => Verdict::Hold(Held::StillOff),
        (crossed, false) if crossed == measured => Verdict::Notify,
        (crossed, _) => Verdict::Hold(Held::Mixed(crossed, measured)),
    }
}

/// The decision that follows from an observation, with its inputs; `None` where nothing changes.
pub fn decide(rule: &Rule, state: &State, observation: &Observation) -> Option<Decision> {
    let action = match judge(rule, state, observation) {
        Verdict::Notify => "notify",
        Verdict::Resolve => "resolve",
        Verdict::Hold(_) => return None,
    };
    Some(Decision {
        rule: rule.name.clone(),
        action: action.to_owned(),
        subject: None,
        subject_version: None,
        subject_instance: None,
        inputs: Some(Inputs {
            kpi: rule.kpi.clone(),
            by: None,
            value: observation.value,
            bound: rule.bound.value(),
            from_us: observation.from_us,
            to_us: observation.to_us,
            watermark_us: observation.watermark_us,
            coverage: observation.coverage,
        }),
        mode: String::from("act"),
        why: why(rule, action, observation),
    })
}

/// One plain sentence.
fn why(rule: &Rule, action: &str, observation: &Observation) -> String {
    let unit = observation.unit.as_deref();
    let side = match rule.bound {
        Bound::Above(_) => "above",
        Bound::Below(_) => "below",
    };
    let (bound, seconds) = (amount(rule.bound.value(), unit), rule.for_us as f64 / 1e6);
    let value = observation
        .value
        .map_or_else(|| String::from("unknown"), |value| amount(value, unit));
    let events = observation.samples;
    let mut why = if action == "notify" {
        format!(
            "{} was {side} {bound} for {seconds} s: {value} over {events} events",
            rule.kpi
        )
    } else {
        format!(
            "{} was not {side} {bound} for {seconds} s: {value} over {events} events",
            rule.kpi
        )
    };
    if let Some(message) = rule.message.as_deref().filter(|_| action == "notify") {
        why = format!("{message} ({why})");
    }
    why
}

fn amount(value: f64, unit: Option<&str>) -> String {
    // Two digits after the point are enough for a sentence; the number itself stands beside it.
    let rounded = |value: f64| (value * 100.0).round() / 100.0;
    match unit {
        Some("ratio") => format!("{} %", rounded(value * 100.0)),
        Some(unit) if unit != "count" => format!("{} {unit}", rounded(value)),
        _ => format!("{}", rounded(value)),
    }
}

#[cfg(test)]
mod tests;

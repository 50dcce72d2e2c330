//! What follows from an observation: a function of values, without clock and without IO.
//!
//! A rule goes off when its bound was crossed all through the time it names, and is over when it was
//! crossed in no step of such a time. A step that could not be measured decides nothing, either way:
//! missing data are neither good news nor bad. A quiet step, of which it is known that there was nothing
//! to measure, proves nothing either: the time is counted from one step with a value to another, and a
//! quiet stretch as long as the whole time ends it. Start at [`judge`].

use std::fmt;

use serin_query::kpi::{Bound, Rule};
use serin_wire::Decision;
use serin_wire::decision::Inputs;
use serin_wire::time::SET_BACK_US_MAX;

use crate::observe::{Observation, Step};

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
    /// It is so in every step that has a value, but these lie together: steps from the first of them to
    /// the last, steps of the time.
    Short(usize, usize),
    /// It went off before and still holds.
    StillOff,
    /// All is well, as before.
    StillWell,
}

impl State {
    /// The state for a window that ends then. Where the clock was set back, a window that was judged in
    /// a future that was none does not keep this one from being judged.
    pub fn before(self, to_us: i64) -> State {
        match self.to_us.saturating_sub(to_us) > SET_BACK_US_MAX {
            true => State { to_us: 0, ..self },
            false => self,
        }
    }

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
            Held::Short(lasted, all) => write!(f, "so for {lasted} of {all} steps as yet"),
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
    let count = |is_meant: &dyn Fn(&Step) -> bool| {
        let meant = observation.steps.iter().filter(|step| is_meant(step));
        meant.count()
    };
    let missing = count(&|step| *step == Step::Missing);
    if missing > 0 || all == 0 {
        return Verdict::Hold(Held::Missing(missing, all));
    }
    let measured = count(&|step| matches!(step, Step::Value(_)));
    let crossed = count(&|step| is_crossed(rule, step) == Some(true));
    let verdict = match (crossed, state.is_firing) {
        _ if measured == 0 => return Verdict::Hold(Held::Quiet(all)),
        (0, true) => Verdict::Resolve,
        (0, false) => return Verdict::Hold(Held::StillWell),
        (crossed, _) if crossed < measured => {
            return Verdict::Hold(Held::Mixed(crossed, measured));
        }
        (_, true) => return Verdict::Hold(Held::StillOff),
        (_, false) => Verdict::Notify,
    };
    match lasted(rule, observation) {
        lasted if lasted < all => Verdict::Hold(Held::Short(lasted, all)),
        _ => verdict,
    }
}

/// Whether the bound is crossed in a step; `None` where it has no value.
fn is_crossed(rule: &Rule, step: &Step) -> Option<bool> {
    match step {
        Step::Value(value) => Some(rule.bound.is_crossed_by(*value)),
        Step::Quiet | Step::Missing => None,
    }
}

/// For how many steps it has been as it is in the last step that has a value: from the first such step
/// to that one, over quiet steps, but over no quiet stretch as long as the rule's time.
fn lasted(rule: &Rule, observation: &Observation) -> usize {
    let steps = observation.earlier.iter().chain(&observation.steps).rev();
    let mut steps = steps.skip_while(|step| **step == Step::Quiet);
    let Some(now) = steps.next().and_then(|step| is_crossed(rule, step)) else {
        return 0;
    };
    let (mut lasted, mut quiet) = (1, 0);
    for step in steps {
        match is_crossed(rule, step) {
            Some(then) if then == now => {
                lasted += quiet + 1;
                quiet = 0;
            }
            None if *step == Step::Quiet && quiet + 1 < observation.steps.len() => quiet += 1,
            _ => break,
        }
    }
    lasted
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

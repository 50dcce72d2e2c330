//! The functions that ad-hoc statements may call, by name.
//!
//! A test compares this list with what DataFusion registers, so that an upgrade cannot slip a new
//! function in. Left out is what makes much from little ([`HELD_BACK`]) or tells about the machine.

/// Functions that may be called.
pub(crate) const ALLOWED: &[&str] = &[];

/// Functions DataFusion has and we hold back, each with what to say.
pub(crate) const HELD_BACK: &[(&str, &str)] = &[
    ("repeat", "it makes much from little"),
    ("lpad", "it makes much from little"),
    ("rpad", "it makes much from little"),
    ("generate_series", "it makes much from little"),
    ("range", "it makes much from little"),
];

/// Lets a function pass, or says why not.
pub(crate) fn check(name: &str) -> Result<(), String> {
    if let Some((_, why)) = HELD_BACK.iter().find(|(held, _)| *held == name) {
        return Err(format!(": {why}"));
    }
    if ALLOWED.contains(&name) {
        return Ok(());
    }
    let near = crate::kpi::nearest(name, ALLOWED.iter().copied());
    Err(near.map_or_else(String::new, |near| format!("; did you mean {near}?")))
}
